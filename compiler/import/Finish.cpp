// After the last node: outputs, constant scalars, dead code, and the one report of everything
// unsupported.
#include "compiler/dialect/OpSupport.h"
#include "compiler/import/Importer.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;

namespace amc::importer {

// "present.0.key", "present_key_values", "present0": not "presentation_logits".
static bool isCacheOutput(StringRef name) {
  return name.consume_front("present") && (name.empty() || !llvm::isAlpha(name.front()));
}

bool Importer::emitOutputs(Scope &scope) {
  const onnx::GraphProto &graph = model.proto.graph();
  if (graph.output_size() == 0) {
    error(fileLocation()) << "has no outputs";
    return false;
  }
  // The key-value caches that a decoder hands on are for inference.
  bool others = llvm::any_of(graph.output(),
                             [](const auto &output) { return !isCacheOutput(output.name()); });
  int64_t dropped = 0;
  std::set<std::string> seen;
  for (const onnx::ValueInfoProto &output : graph.output()) {
    Location location = NameLoc::get(builder.getStringAttr(output.name()),
                                     NameLoc::get(builder.getStringAttr("output"), fileLocation()));
    if (others && isCacheOutput(output.name())) {
      ++dropped;
      continue;
    }
    const Datum *datum = scope.find(output.name());
    if (!datum) {
      error(location) << "output is not made by any node";
    } else if (!seen.insert(output.name()).second) {
      error(location) << "output is defined twice";
    } else if (datum->kind == Datum::Sequence) {
      unsupported("output", "a sequence as output of the model", output.name());
    } else if (datum->kind == Datum::Absent) {
      unsupported("output", datum->lacking, output.name());
    } else if (datum->kind == Datum::Tensor) {
      train::OutputOp::create(builder, location, datum->value, builder.getStringAttr(output.name()),
                              /*sum=*/UnitAttr());
    }
  }
  if (dropped)
    remark(std::to_string(dropped) +
           " key-value cache outputs (present…) are not made: training has no use for them");
  if (options.standIns && body->getOps<train::OutputOp>().empty())
    return false;
  return !failed;
}

/// Scalars that follow from constants alone (an attention scale computed from a shape) become
/// constants; longer tensors, masks above all, stay as they are computed. Then what nobody reads
/// goes.
bool Importer::cleanUp() {
  llvm::DenseSet<Operation *> fromConstants;
  for (Operation &op : llvm::make_early_inc_range(*body)) {
    bool constant = isa<train::ConstantOp>(op);
    bool derived =
        isa<train::ComputeOpInterface>(op) && llvm::all_of(op.getOperands(), [&](Value operand) {
          return fromConstants.contains(operand.getDefiningOp());
        });
    if (constant || derived)
      fromConstants.insert(&op);
    if (!derived || op.getNumResults() != 1)
      continue;
    Value result = op.getResult(0);
    if (result.use_empty() || train::elementCount(train::shapeOf(result)) != 1)
      continue;
    const HostTensor *value = evaluator.get(result);
    if (!value)
      continue;
    OpBuilder at(&op);
    auto folded = train::ConstantOp::create(at, op.getLoc(), value->type, value->toAttr());
    result.replaceAllUsesWith(folded.getResult());
    fromConstants.insert(folded);
  }
  evaluator.clear();
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(*body)))
    if (op.use_empty() && !isa<train::OutputOp, train::InputOp>(op))
      op.erase();
  for (Operation &op : *body)
    for (Value result : op.getResults())
      if (train::elementCount(train::shapeOf(result)) == 0) {
        error(op.getLoc()) << "makes a tensor without elements ("
                           << train::shapeString(train::shapeOf(result))
                           << "), which a training step cannot hold";
        return false;
      }
  return true;
}

void Importer::reportUnsupported() {
  if (report.unsupported.empty())
    return;
  auto diagnostic = error(fileLocation());
  diagnostic << "needs what AMC does not have:";
  for (const UnsupportedOp &entry : report.unsupported)
    diagnostic << "\n  " << entry.op << ": " << entry.reason << " (" << entry.count
               << (entry.count == 1 ? " node, '" : " nodes, the first is '") << entry.firstNode
               << "')";
  diagnostic.attachNote() << "amc check lists the gradients that are missing, too";
}

} // namespace amc::importer
