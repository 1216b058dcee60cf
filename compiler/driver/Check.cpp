// What keeps a model from being trained; see Compile.h.
#include "compiler/driver/Compilation.h"

using namespace mlir;

namespace amc {

CheckReport check(const CompileOptions &given) {
  CompileOptions options = withEnvironment(given);
  CheckReport report;
  // derive-backward states what has no gradient as "train.sort has no gradient here (3 uses, …)",
  // one error for each kind of operation; everything else that it or another pass finds is passed
  // on as it is.
  MessageSink sink = [&](const Message &message) {
    if (message.severity != Message::Error)
      return;
    llvm::StringRef text = message.text;
    auto [op, rest] = text.split(" has no gradient here (");
    int64_t count = 0;
    if (!rest.empty() && !rest.consumeInteger(10, count))
      report.missingGradients.push_back({op.str(), "", message.where, count});
    else if (!text.starts_with("needs what AMC does not have")) // the importer's list, which
                                                                // `missingOperations` has
      report.otherErrors.push_back(message);
  };
  Compilation compilation(sink);
  ImportReport imported;
  FailureOr<OwningOpRef<ModuleOp>> module =
      compilation.import(options, imported, /*standIns=*/true);
  bool ok = succeeded(module);
  report.opset = imported.opset;
  report.nodes = imported.nodes;
  for (const auto &[name, count] : imported.opCounts)
    report.operations.emplace_back(name, count);
  for (const UnsupportedOp &op : imported.unsupported)
    report.missingOperations.push_back({op.op, op.reason, op.firstNode, op.count});
  const size_t own = report.otherErrors.size(); // what comes now may be the stand-ins' doing
  if (ok && failed(compilation.run(**module, options, "backward")) && report.trains())
    report.otherErrors.push_back(errorMessage("the model cannot be differentiated"));
  if (!ok && report.trains())
    report.otherErrors.push_back(errorMessage("the model cannot be read"));
  if (imported.unsupported.empty())
    return report;
  if (imported.unreached)
    report.notJudged.push_back(std::to_string(imported.unreached) +
                               (imported.unreached == 1 ? " node" : " nodes") +
                               " behind missing operations, first at " + imported.firstUnreached +
                               ": the model does not say the shapes of what these make "
                               "(onnx.shape_inference may add them)");
  if (!ok && report.otherErrors.empty())
    report.notJudged.push_back("gradients: no output of the model can be reached");
  for (size_t i = own; i < report.otherErrors.size(); ++i)
    report.notJudged.push_back("gradients: " + report.otherErrors[i].text);
  report.otherErrors.resize(own);
  return report;
}

} // namespace amc
