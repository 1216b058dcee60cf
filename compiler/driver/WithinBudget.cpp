// Second tries; see WithinBudget.h. What the first one said is held back until it is known to be the
// answer.
#include "compiler/driver/WithinBudget.h"

namespace amc {
namespace {

struct Try {
  CompileResult result;
  std::vector<Message> messages;
  bool overBudget = false; // and nothing else is wrong

  explicit Try(const CompileOptions &options) {
    unsigned others = 0;
    result = compile(options, [&](const Message &message) {
      messages.push_back(message);
      // PlanBudget's words; see there.
      bool budget = message.text.rfind("the memory budget is ", 0) == 0;
      overBudget = overBudget || budget;
      others += message.severity == Message::Error && !budget;
    });
    overBudget = overBudget && others == 0;
  }
  bool done() const { return result.code == Done; }
  void tell(const MessageSink &sink) const {
    for (const Message &message : messages)
      sink(message);
  }
};

} // namespace

CompileResult compileWithinBudget(const CompileOptions &options, const MessageSink &sink) {
  if (options.activationCheckpointing != "budget" && options.activationCheckpointing != "auto")
    return compile(options, sink);
  Try first(options);
  if (!first.overBudget) {
    first.tell(sink);
    return std::move(first.result);
  }
  CompileOptions other = options;
  if (options.tileMlp == "auto") {
    other.tileMlp = "on";
    if (Try tiled(other); tiled.done()) {
      tiled.tell(sink);
      sink({Message::Remark, options.model,
            "no plan keeps within the budget as the model is; feed-forward networks are tiled over "
            "tokens (--tile-mlp=auto)",
            {}});
      return std::move(tiled.result);
    }
  }
  first.tell(sink);
  if (options.lossImplementation == "unfused") {
    other.lossImplementation = "linear-cross-entropy";
    if (Try(other).done())
      sink({Message::Remark, options.model,
            "the budget is met with --loss-impl=linear-cross-entropy, which never has all logits in "
            "memory",
            {}});
  }
  return std::move(first.result);
}

} // namespace amc
