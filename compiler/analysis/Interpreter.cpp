// Evaluation of steps; see Interpreter.h. What an operation computes is its own business (ComputeOpInterface); this
// file knows order, sources and in-place updates only.
#include "compiler/analysis/Interpreter.h"
#include "compiler/dialect/StepSupport.h"

using namespace mlir;
using namespace amc::train;

namespace amc {

LogicalResult Interpreter::runSource(Operation *op, int64_t microBatch) {
  Value result = op->getResult(0);
  bool persists = isa<ParameterOp, StateOp>(op);
  if (persists && values.contains(result))
    return success();
  std::optional<HostTensor> tensor;
  if (auto constant = dyn_cast<ConstantOp>(op))
    tensor = HostTensor::fromAttr(constant.getValue());
  else
    tensor = sources(op, microBatch);
  if (!tensor)
    return op->emitError("value of the source is unknown");
  if (tensor->type != result.getType())
    return op->emitError("type of the source's value is ")
           << tensor->type << ", should be " << result.getType();
  values[result] = std::move(*tensor);
  return success();
}

LogicalResult Interpreter::runCompute(ComputeOpInterface op) {
  SmallVector<const HostTensor *> inputs;
  for (Value operand : operandSlots(op)) {
    if (!operand) {
      inputs.push_back(nullptr);
      continue;
    }
    auto found = values.find(operand);
    if (found == values.end())
      return op.emitError("operand ") << inputs.size() << " has not run";
    inputs.push_back(&found->second);
  }
  // What it writes: its results, or operands in place.
  SmallVector<Value> written(op->getResults());
  if (auto update = dyn_cast<UpdateOpInterface>(op.getOperation()))
    for (unsigned index : update.getUpdatedOperands())
      written.push_back(op->getOperand(index));
  SmallVector<HostTensor> outputs;
  for (Value value : written)
    outputs.emplace_back(cast<RankedTensorType>(value.getType()));
  if (failed(op.evaluate(inputs, outputs)))
    return op.emitError("operation is undefined for its operands' values");
  for (auto [value, tensor] : llvm::zip_equal(written, outputs))
    values[value] = std::move(tensor);
  return success();
}

void Interpreter::recordOutput(OutputOp output) {
  const HostTensor &tensor = get(output.getValue());
  auto [entry, first] = namedOutputs.try_emplace(output.getName(), tensor);
  if (first)
    return;
  if (!output.getSum()) {
    entry->second = tensor;
    return;
  }
  for (int64_t i = 0, n = tensor.size(); i < n; ++i)
    entry->second.set(i, entry->second.number(i) + tensor.number(i));
}

LogicalResult Interpreter::run(Operation *op, int64_t microBatch) {
  if (isa<SourceOpInterface>(op))
    return runSource(op, microBatch);
  if (auto compute = dyn_cast<ComputeOpInterface>(op))
    return runCompute(compute);
  return success(); // names and markers
}

LogicalResult Interpreter::runStep(StepOp step, int64_t microBatches) {
  Block &block = step.getBody().front();
  auto end = llvm::find_if(block, llvm::IsaPred<MicroBatchEndOp>);
  namedOutputs.clear();
  auto runRange = [&](Block::iterator first, Block::iterator last, int64_t microBatch) {
    for (Operation &op : llvm::make_range(first, last)) {
      if (failed(run(&op, microBatch)))
        return failure();
      if (auto output = dyn_cast<OutputOp>(op))
        recordOutput(output);
    }
    return success();
  };
  for (int64_t microBatch = 0; microBatch < microBatches; ++microBatch)
    if (failed(runRange(block.begin(), end, microBatch)))
      return failure();
  return runRange(end, block.end(), microBatches - 1);
}

} // namespace amc
