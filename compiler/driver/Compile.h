// The compiler as a library: amc::compile turns a model and options into a plan. tools/amc is a
// thin caller.
#ifndef AMC_COMPILER_DRIVER_COMPILE_H
#define AMC_COMPILER_DRIVER_COMPILE_H

#include "compiler/driver/Diagnostics.h"
#include "compiler/driver/Options.h"
#include "runtime/plan/plan.pb.h"
#include <memory>
#include <optional>

namespace amc {

// The tools' exit codes.
enum ExitCode { Done = 0, BadInput = 1, BadUsage = 2, MachineLimit = 3 };

struct CompileResult {
  ExitCode code = Done;
  // With emit = "plan", when code is Done.
  std::optional<plan::Plan> plan;
  // The stage's IR with any other emit; with "ptx" that.
  std::string text;
  // Within a memory budget: what the options left open and the budget decided otherwise than it is without one, as
  // "tiled MLP".
  std::vector<std::string> chosen = {};
};

// Compiles in memory: writes nothing. options.output and options.report are checked as if it did (a plan needs an output,
// "-" will do), and a report asks for the curve of budgets. Within a memory budget
// the variant of the step with the least modelled time is taken (Variants.h). Every message,
// also those of success (which weights are trained, tied weights found), goes to `sink`.
CompileResult compile(const CompileOptions &options, const MessageSink &sink = printMessage);

// One model compiled in several ways, into plans. It is imported and raised once, and the step up to
// its optimizer once for techniques in a row that differ only in what is kept for backward.
class Techniques {
public:
  /// `options`: the model, its shapes and what is trained, which all techniques share.
  Techniques(const CompileOptions &options, const MessageSink &sink);
  ~Techniques();
  /// Whether there is a model to compile; if not, `sink` has been told why.
  bool ready() const;
  CompileResult compile(const CompileOptions &options, const MessageSink &sink);
  /// Arenas of at most `points` plans of the step, from the smallest that is found to the one that
  /// keeps everything. Empty if there is none.
  std::vector<uint64_t> arenas(const CompileOptions &options, unsigned points,
                               const MessageSink &sink);

private:
  bool makeStep(const CompileOptions &options, const MessageSink &sink);
  struct State;
  std::unique_ptr<State> state;
};

// compile(), then writes the plan or the text to options.output (standard output when empty) and
// the report; files appear complete or not at all.
ExitCode compileToFile(const CompileOptions &options, const MessageSink &sink = printMessage);

// What keeps a model from being trained.
struct CheckReport {
  struct Missing {
    std::string what;   // "NonMaxSuppression", or "train.sort" for a gradient
    std::string reason; // empty, or which of its forms is missing
    std::string firstNode;
    int64_t count = 0;
  };
  int64_t opset = 0, nodes = 0;
  std::vector<std::pair<std::string, int64_t>> operations; // by name
  std::vector<Missing> missingOperations, missingGradients;
  std::vector<Message> otherErrors;
  // What missing operations keep from being looked at. Behind those whose outputs the model declares, operations and
  // gradients are judged all the same, the missing ones taken as differentiable.
  std::vector<std::string> notJudged;
  bool trains() const {
    return missingOperations.empty() && missingGradients.empty() && otherErrors.empty();
  }
};
CheckReport check(const CompileOptions &options);

// Writes beside `path` and renames, so that `path` is never half-written.
ExitCode writeFile(const std::string &path, const std::string &bytes, const MessageSink &sink);

} // namespace amc

#endif
