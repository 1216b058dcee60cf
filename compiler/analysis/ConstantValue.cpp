// Evaluation of constant values; see ConstantValue.h. What an operation computes is its own
// ComputeOpInterface's business; this file only walks operands first and reads parameters' bytes.
#include "compiler/analysis/ConstantValue.h"
#include "compiler/dialect/StepSupport.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

using namespace mlir;

namespace amc {

static int64_t elements(Value value) {
  return cast<RankedTensorType>(value.getType()).getNumElements();
}

/// The type that a parameter's bytes in the file have.
static Type storedType(train::ParameterOp parameter) {
  Type element = cast<RankedTensorType>(parameter.getType()).getElementType();
  std::optional<StringRef> stored = parameter.getSourceDtype();
  if (!stored)
    return element;
  MLIRContext *context = parameter.getContext();
  return llvm::StringSwitch<Type>(*stored)
      .Case("f32", Float32Type::get(context))
      .Case("f64", Float64Type::get(context))
      .Case("bf16", BFloat16Type::get(context))
      .Case("f16", Float16Type::get(context))
      .Default(Type());
}

std::optional<HostTensor> readParameter(train::ParameterOp parameter, int64_t maxElements) {
  train::FileSourceAttr source = parameter.getSourceAttr();
  auto type = cast<RankedTensorType>(parameter.getType());
  Type stored = storedType(parameter);
  if (!source || !stored || type.getNumElements() > maxElements)
    return std::nullopt;
  auto storedTensor = RankedTensorType::get(type.getShape(), stored);
  if (source.getLength() != train::byteSize(storedTensor))
    return std::nullopt;
  SmallString<256> path;
  if (auto module = parameter->getParentOfType<ModuleOp>())
    if (auto folder = module->getAttrOfType<StringAttr>("train.model_directory"))
      path = folder.getValue();
  llvm::sys::path::append(path, source.getPath());
  uint64_t size = 0;
  if (llvm::sys::fs::file_size(path, size) || source.getOffset() > size ||
      source.getLength() > size - source.getOffset())
    return std::nullopt;
  auto buffer = llvm::MemoryBuffer::getFileSlice(path, source.getLength(), source.getOffset());
  if (!buffer || (*buffer)->getBufferSize() != source.getLength())
    return std::nullopt;
  StringRef bytes = (*buffer)->getBuffer();
  ArrayRef<char> raw(bytes.data(), bytes.size());
  // i1 is a byte an element in files, which is not how a dense attribute keeps it.
  if (stored.isInteger(1)) {
    HostTensor tensor(type);
    for (int64_t i = 0; i < type.getNumElements(); ++i)
      tensor.ints[i] = raw[i] != 0;
    return tensor;
  }
  auto attr = DenseElementsAttr::getFromRawBuffer(storedTensor, raw);
  std::optional<HostTensor> tensor = HostTensor::fromAttr(attr);
  if (tensor)
    tensor->type = type;
  return tensor;
}

/// Floats as their type holds them, integers wrapped: operations are evaluated in double and 64 bits.
static void roundToType(HostTensor &tensor) {
  Type element = tensor.type.getElementType();
  if (element.isF32()) {
    for (double &x : tensor.floats)
      x = static_cast<float>(x);
  } else if (auto type = dyn_cast<FloatType>(element); type && !element.isF64()) {
    for (double &x : tensor.floats) {
      llvm::APFloat narrow(x);
      bool inexact;
      narrow.convert(type.getFloatSemantics(), llvm::APFloat::rmNearestTiesToEven, &inexact);
      x = narrow.convertToDouble();
    }
  } else if (auto type = dyn_cast<IntegerType>(element); type && type.getWidth() > 1 && type.getWidth() < 64) {
    for (int64_t &x : tensor.ints)
      x = type.isUnsigned() ? static_cast<int64_t>(x & llvm::maskTrailingOnes<uint64_t>(type.getWidth()))
                            : llvm::SignExtend64(static_cast<uint64_t>(x), type.getWidth());
  }
}

bool ConstantEvaluator::fits(Operation *op) const {
  for (Value result : op->getResults())
    if (elements(result) > maxElements)
      return false;
  return true;
}

/// Evaluates an operation whose operands are known. False: not constant.
bool ConstantEvaluator::evaluate(Operation *op, Results &results) {
  if (auto constant = dyn_cast<train::ConstantOp>(op)) {
    std::optional<HostTensor> tensor = HostTensor::fromAttr(constant.getValue());
    if (tensor)
      results.push_back(std::move(*tensor));
    return tensor.has_value();
  }
  if (auto parameter = dyn_cast<train::ParameterOp>(op)) {
    auto type = cast<RankedTensorType>(parameter.getResult().getType());
    if (parameter.getTrainable() || (!floatParameters && isa<FloatType>(type.getElementType())))
      return false;
    std::optional<HostTensor> tensor = readParameter(parameter, maxElements);
    if (tensor)
      results.push_back(std::move(*tensor));
    return tensor.has_value();
  }
  auto compute = cast<train::ComputeOpInterface>(op);
  SmallVector<const HostTensor *> inputs;
  for (Value operand : train::operandSlots(op)) {
    if (!operand) {
      inputs.push_back(nullptr);
      continue;
    }
    const auto &operandResults = known.find(operand.getDefiningOp())->second;
    inputs.push_back(&(*operandResults)[cast<OpResult>(operand).getResultNumber()]);
  }
  for (Type type : op->getResultTypes())
    results.emplace_back(cast<RankedTensorType>(type));
  if (failed(compute.evaluate(inputs, results)))
    return false;
  llvm::for_each(results, roundToType);
  return true;
}

const HostTensor *ConstantEvaluator::get(Value value) {
  Operation *root = value.getDefiningOp();
  if (!root)
    return nullptr;
  SmallVector<Operation *> stack{root};
  while (!stack.empty()) {
    Operation *op = stack.back();
    if (known.contains(op)) {
      stack.pop_back();
      continue;
    }
    bool source = isa<train::ConstantOp, train::ParameterOp>(op);
    bool possible = (source || isa<train::ComputeOpInterface>(op)) && fits(op);
    size_t before = stack.size();
    for (Value operand : op->getOperands()) {
      if (!possible)
        break;
      Operation *producer = operand.getDefiningOp();
      auto found = known.find(producer);
      if (!producer || (found != known.end() && !found->second))
        possible = false;
      else if (found == known.end())
        stack.push_back(producer);
    }
    if (!possible) {
      stack.truncate(before - 1);
      known[op] = nullptr;
      continue;
    }
    if (stack.size() > before)
      continue;
    auto results = std::make_unique<Results>();
    bool constant = evaluate(op, *results);
    known[op] = constant ? std::move(results) : nullptr;
    stack.pop_back();
  }
  const auto &results = known.find(root)->second;
  return results ? &(*results)[cast<OpResult>(value).getResultNumber()] : nullptr;
}

std::optional<double> ConstantEvaluator::scalar(Value value) {
  if (elements(value) != 1)
    return std::nullopt;
  const HostTensor *tensor = get(value);
  return tensor ? std::optional<double>(tensor->number(0)) : std::nullopt;
}

std::optional<HostTensor> constantValue(Value value, int64_t maxElements) {
  ConstantEvaluator evaluator(maxElements);
  const HostTensor *tensor = evaluator.get(value);
  return tensor ? std::optional<HostTensor>(*tensor) : std::nullopt;
}

} // namespace amc
