// See Harness.h. The cotangent is random, so one scalar objective sum(cotangent * result) checks the whole product.
#include "Harness.h"
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/StepSupport.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/Verifier.h"
#include <cmath>
#include <numeric>
#include <random>

using namespace mlir;
using namespace amc::train;

namespace amc::test {

Harness::Harness(MLIRContext &context, const char *name, const std::vector<const char *> &operands,
                 const char *attributes, double low, double high)
    : builder(&context) {
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    error += diagnostic.str() + "\n";
    return success();
  });
  build(name, operands, attributes, low, high);
  if (op && failed(verify(*module)))
    op = nullptr;
}

void Harness::build(const char *name, const std::vector<const char *> &operands, const char *attributes, double low,
                    double high) {
  Location loc = builder.getUnknownLoc();
  module = ModuleOp::create(loc);
  builder.setInsertionPointToEnd(module->getBody());
  step = StepOp::create(builder, loc, "step");
  builder.setInsertionPointToEnd(&step.getBody().emplaceBlock());

  OperationState state(loc, ("train." + Twine(name)).str());
  auto registered = state.name.getRegisteredInfo();
  auto dictionary = dyn_cast_or_null<DictionaryAttr>(parseAttribute(attributes, builder.getContext()));
  if (!registered || !dictionary) {
    error += "no such operation, or attributes that do not parse\n";
    return;
  }
  NamedAttrList list(dictionary);
  SmallVector<int32_t> segments;
  for (auto [slot, text] : llvm::enumerate(operands)) {
    segments.push_back(StringRef(text) != "-");
    if (!segments.back())
      continue;
    Value operand = buildOperand(text, low, high);
    if (!operand) {
      error += "operand does not parse: " + std::string(text) + "\n";
      return;
    }
    if (isa<FloatType>(elementOf(operand)))
      floatSlots.insert(slot);
    state.operands.push_back(operand);
  }
  if (registered->hasTrait<OpTrait::AttrSizedOperandSegments>())
    list.set("operandSegmentSizes", builder.getDenseI32ArrayAttr(segments));
  state.attributes = list;
  // Result types follow from properties, which only an operation has: infer on one that has no results yet.
  Operation *draft = Operation::create(state);
  LogicalResult inferred = success();
  if (auto infer = dyn_cast<InferTypeOpInterface>(draft))
    inferred = infer.inferReturnTypes(builder.getContext(), loc, draft->getOperands(), draft->getRawDictionaryAttrs(),
                                      draft->getPropertiesStorage(), draft->getRegions(), state.types);
  draft->destroy();
  if (succeeded(inferred))
    op = builder.create(state);
}

Value Harness::buildOperand(StringRef text, double low, double high) {
  Location loc = builder.getUnknownLoc();
  MLIRContext *context = builder.getContext();
  if (text.consume_front("state ")) {
    auto value = dyn_cast_or_null<ElementsAttr>(parseAttribute(text, context));
    auto tensor = value ? HostTensor::fromAttr(value) : std::nullopt;
    if (!tensor)
      return {};
    auto state = StateOp::create(builder, loc, tensor->type, "s" + std::to_string(inputs.size()), "p", "gradient", /*splits=*/mlir::ArrayAttr());
    inputs[state] = *tensor;
    return state.getResult();
  }
  if (text.starts_with("dense<")) {
    auto value = dyn_cast_or_null<ElementsAttr>(parseAttribute(text, context));
    return value ? ConstantOp::create(builder, loc, value.getType(), value).getResult() : Value();
  }
  auto [shape, range] = text.split(" in ");
  if (!range.empty() && (range.split(':').first.getAsDouble(low) || range.split(':').second.getAsDouble(high)))
    return {};
  std::string spelled = shape == "scalar" ? "tensor<f64>" : ("tensor<" + shape + "xf64>").str();
  auto type = dyn_cast_or_null<RankedTensorType>(parseType(spelled, context));
  if (!type)
    return {};
  auto input = InputOp::create(builder, loc, type, "x" + std::to_string(inputs.size()), "data");
  inputs[input] = random(type, low, high);
  return input.getResult();
}

HostTensor Harness::random(RankedTensorType type, double low, double high) {
  HostTensor tensor(type);
  std::mt19937_64 generator(seed++);
  std::vector<int64_t> order(tensor.size());
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), generator);
  // One number in each of n cells of the range, off their edges, so that neighbours stay apart.
  std::uniform_real_distribution<double> offset(0.2, 0.8);
  for (int64_t i = 0; i < tensor.size(); ++i) {
    double value = low + (high - low) * (order[i] + offset(generator)) / tensor.size();
    tensor.floats[i] = std::abs(value) < 1e-3 && low < high ? 1e-3 : value;
  }
  return tensor;
}

bool Harness::run(Interpreter &interpreter) {
  for (Operation &each : step.getBody().front()) {
    if (failed(interpreter.run(&each)))
      return false;
    if (isa<ComputeOpInterface>(each))
      evaluated.insert(each.getName().stripDialect().str());
  }
  return true;
}

static double dot(const HostTensor &a, const HostTensor &b) {
  return std::inner_product(a.floats.begin(), a.floats.end(), b.floats.begin(), 0.0);
}

double Harness::objective(const HostTensor &cotangent) {
  Interpreter interpreter([&](Operation *source, int64_t) { return inputs.lookup(source); });
  for (Operation *each = &step.getBody().front().front(); each != op->getNextNode(); each = each->getNextNode())
    if (failed(interpreter.run(each)))
      return std::nan("");
  return dot(cotangent, interpreter.get(op->getResult(0)));
}

std::optional<std::vector<HostTensor>> Harness::derive(const HostTensor &cotangent, ArrayRef<bool> needed) {
  Location loc = op->getLoc();
  builder.setInsertionPointAfter(op);
  auto input = InputOp::create(builder, loc, cotangent.type, "cotangent", "data");
  inputs[input] = cotangent;
  SmallVector<Value> cotangents(op->getNumResults()), gradients(op->getNumOperands());
  cotangents[0] = input.getResult();
  if (failed(cast<DifferentiableOpInterface>(op).buildVjp(builder, cotangents, needed, gradients))) {
    error += "buildVjp failed\n";
    refused = true;
    return std::nullopt;
  }
  if (failed(verify(*module))) {
    error += "gradient graph does not verify\n";
    return std::nullopt;
  }
  Interpreter interpreter([&](Operation *source, int64_t) { return inputs.lookup(source); });
  if (!run(interpreter)) {
    error += "gradient graph does not evaluate\n";
    refused = true;
    return std::nullopt;
  }
  std::vector<HostTensor> result;
  for (auto [operand, gradient] : llvm::zip_equal(op->getOperands(), gradients)) {
    auto type = tensorType(operand);
    if (gradient && gradient.getType() != type) {
      error += "gradient's type is not its operand's\n";
      return std::nullopt;
    }
    bool wanted = gradient && needed[result.size()];
    result.push_back(wanted ? interpreter.get(gradient) : HostTensor(type));
  }
  return result;
}

bool agrees(double gradient, double difference) {
  return std::abs(gradient - difference) <= 1e-6 * std::max(1.0, std::abs(difference));
}

std::string Harness::checkGradients() {
  ScopedDiagnosticHandler handler(builder.getContext(), [&](Diagnostic &diagnostic) {
    error += diagnostic.str() + "\n";
    return success();
  });
  HostTensor cotangent = random(tensorType(op->getResult(0)), -1, 1);
  SmallVector<unsigned> slotOf;
  for (auto [slot, value] : llvm::enumerate(operandSlots(op)))
    if (value)
      slotOf.push_back(slot);

  SmallVector<bool> needed = randomOperands();
  auto gradients = derive(cotangent, needed);
  if (!gradients)
    return error;
  for (unsigned i = 0; i < needed.size(); ++i) {
    if (!needed[i])
      continue;
    // Asked for alone it must be the same.
    SmallVector<bool> alone(needed.size(), false);
    alone[i] = true;
    auto again = derive(cotangent, alone);
    if (!again)
      return error;
    const HostTensor &gradient = (*gradients)[i];
    if ((*again)[i].floats != gradient.floats)
      return "gradient of operand " + std::to_string(i) + " depends on which others are needed";

    HostTensor &x = inputs.find(op->getOperand(i).getDefiningOp())->second;
    for (int64_t k = 0; k < x.size(); ++k) {
      double old = x.floats[k], h = 1e-5;
      x.floats[k] = old + h;
      double above = objective(cotangent);
      x.floats[k] = old - h;
      double below = objective(cotangent);
      x.floats[k] = old;
      double expected = (above - below) / (2 * h), have = gradient.floats[k];
      ++compared;
      if (!agrees(have, expected))
        return "gradient of operand " + std::to_string(i) + " at " + std::to_string(k) + " is " +
               std::to_string(have) + ", finite difference is " + std::to_string(expected);
    }
    checkedSlots.insert(slotOf[i]);
  }
  return error;
}

SmallVector<bool> Harness::randomOperands() {
  return llvm::map_to_vector(op->getOperands(),
                             [&](Value operand) { return inputs.contains(operand.getDefiningOp()); });
}

std::string Harness::checkGradientGraph() {
  ScopedDiagnosticHandler handler(builder.getContext(), [&](Diagnostic &diagnostic) {
    error += diagnostic.str() + "\n";
    return success();
  });
  auto result = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  if (!isa<DifferentiableOpInterface>(op) || !isa<FloatType>(result.getElementType()) ||
      result.getNumElements() > 100000)
    return "";
  HostTensor cotangent = random(result, -1, 1);
  return derive(cotangent, randomOperands()) || refused ? "" : error;
}

std::string Harness::checkValues(const std::vector<const char *> &expected) {
  ScopedDiagnosticHandler handler(builder.getContext(), [&](Diagnostic &diagnostic) {
    error += diagnostic.str() + "\n";
    return success();
  });
  Interpreter interpreter([&](Operation *source, int64_t) { return inputs.lookup(source); });
  if (!run(interpreter))
    return error + "does not evaluate";
  SmallVector<Value> written(op->getResults());
  if (auto update = dyn_cast<UpdateOpInterface>(op))
    for (unsigned index : update.getUpdatedOperands())
      written.push_back(op->getOperand(index));
  if (written.size() != expected.size())
    return "number of results is " + std::to_string(written.size());
  for (auto [value, text] : llvm::zip_equal(written, expected)) {
    auto attr = dyn_cast_or_null<ElementsAttr>(parseAttribute(text, builder.getContext()));
    auto want = attr ? HostTensor::fromAttr(attr) : std::nullopt;
    if (!want || want->type != value.getType())
      return "expected value does not parse or has another type: " + std::string(text);
    const HostTensor &have = interpreter.get(value);
    for (int64_t i = 0; i < have.size(); ++i) {
      double a = have.number(i), b = want->number(i);
      bool same = a == b || (std::isnan(a) && std::isnan(b)) || std::abs(a - b) <= 1e-6 * std::max(1.0, std::abs(b));
      if (!same)
        return "element " + std::to_string(i) + " is " + std::to_string(a) + ", should be " + std::to_string(b);
    }
  }
  return "";
}

} // namespace amc::test
