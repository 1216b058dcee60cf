// Every operation of the dialect that has a gradient is compared with finite differences, every one that computes is
// evaluated at least once. The lists of operations come from the dialect's registry: an operation without a case
// fails, and so does a case without an operation.
#include "Harness.h"
#include "compiler/dialect/Train.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Parser/Parser.h"
#include <cmath>
#include <gtest/gtest.h>
#include <iostream>
#include <map>

using namespace mlir;
using namespace amc::test;
using namespace amc::train;

namespace {

struct Environment {
  Environment() { context.loadDialect<TrainDialect>(); }
  MLIRContext context{MLIRContext::Threading::DISABLED};
};

std::vector<Case> allCases() {
  std::vector<Case> cases = elementwiseCases();
  for (const auto &more : {tensorCases(), modelCases()})
    cases.insert(cases.end(), more.begin(), more.end());
  return cases;
}

/// Floating-point operands that no gradient flows to, by their operation's definition, or that a case cannot check.
struct Exclusion {
  const char *op;
  unsigned slot;
  const char *reason;
};
constexpr Exclusion noGradient[] = {
    {"attention", 4, "a mask: the operation's description says that it has no gradient"},
    {"cross_entropy", 2, "class weights are settings of the loss, without a gradient"},
    {"linear_cross_entropy", 4, "the same"},
    {"rotary", 1, "a table of cosines: no gradient by description"},
    {"rotary", 2, "a table of sines: no gradient by description"},
};

std::set<std::string> operationsWith(MLIRContext &context, auto predicate) {
  std::set<std::string> names;
  for (RegisteredOperationName name : context.getRegisteredOperationsByDialect("train"))
    if (predicate(name))
      names.insert(name.stripDialect().str());
  return names;
}

std::string described(const char *op, const std::vector<const char *> &operands, const char *attributes) {
  std::string text = "train." + std::string(op) + "(";
  for (const char *operand : operands)
    text += std::string(operand) + (operand == operands.back() ? "" : ", ");
  return text + ") " + attributes;
}

// A case for every differentiable operation and each of its floating-point operands; no stale case.
TEST(Gradients, MatchFiniteDifferences) {
  Environment environment;
  MLIRContext &context = environment.context;
  auto differentiable =
      operationsWith(context, [](auto name) { return name.template hasInterface<DifferentiableOpInterface>(); });
  ASSERT_GT(differentiable.size(), 40u);
  std::map<std::string, std::set<unsigned>> seen, checked;
  int64_t compared = 0;
  for (const Case &each : allCases()) {
    SCOPED_TRACE(described(each.op, each.operands, each.attributes));
    if (!differentiable.count(each.op)) {
      ADD_FAILURE() << "case of an operation that has no gradient";
      continue;
    }
    Harness harness(context, each.op, each.operands, each.attributes, each.low, each.high);
    if (!harness.op) {
      ADD_FAILURE() << harness.error;
      continue;
    }
    EXPECT_EQ(harness.checkGradients(), "");
    compared += harness.compared;
    seen[each.op].insert(harness.floatSlots.begin(), harness.floatSlots.end());
    checked[each.op].insert(harness.checkedSlots.begin(), harness.checkedSlots.end());
  }
  std::cout << allCases().size() << " cases of " << differentiable.size() << " operations, " << compared
            << " derivatives compared\n";
  for (const Exclusion &each : noGradient) {
    EXPECT_TRUE(seen[each.op].count(each.slot)) << "stale exclusion: " << each.op << " " << each.slot;
    EXPECT_TRUE(checked[each.op].insert(each.slot).second) << "stale exclusion: " << each.op << " " << each.slot;
  }
  for (const std::string &op : differentiable) {
    EXPECT_TRUE(checked.count(op) && !checked[op].empty()) << "no gradient case for train." << op;
    EXPECT_EQ(seen[op], checked[op]) << "operands of train." << op << " whose gradient no case checks";
  }
}

// Every operation that computes runs in some case, with its results compared: as a gradient, within one, or by value.
TEST(Oracle, EvaluatesEveryOperation) {
  Environment environment;
  MLIRContext &context = environment.context;
  auto computing = operationsWith(context, [](auto name) { return name.template hasInterface<ComputeOpInterface>(); });
  // It computes nothing, and stands behind a collective that was started only (test/dialect/collective.mlir).
  computing.erase("wait");
  // It is what its operations are, one after the other (test/unit/codegen_groups.cpp).
  computing.erase("fused");
  std::set<std::string> evaluated;
  for (const Case &each : allCases()) {
    Harness harness(context, each.op, each.operands, each.attributes, each.low, each.high);
    if (harness.op && harness.checkGradients().empty())
      evaluated.insert(harness.evaluated.begin(), harness.evaluated.end());
  }
  for (const ValueCase &each : valueCases()) {
    SCOPED_TRACE(described(each.op, each.operands, each.attributes));
    Harness harness(context, each.op, each.operands, each.attributes, 0, 0);
    if (!harness.op) {
      ADD_FAILURE() << harness.error;
      continue;
    }
    EXPECT_EQ(harness.checkValues(each.results), "");
    evaluated.insert(harness.evaluated.begin(), harness.evaluated.end());
  }
  for (const std::string &op : computing)
    EXPECT_TRUE(evaluated.count(op)) << "nothing evaluates train." << op;
}

/// Values that no attribute of a kind was made for.
std::vector<Attribute> hostile(Attribute attribute) {
  Builder b(attribute.getContext());
  std::vector<Attribute> values;
  constexpr int64_t numbers[] = {-1, 0, 1, 7, int64_t(1) << 40, INT64_MAX, INT64_MIN, INT64_MIN + 1};
  if (auto array = dyn_cast<DenseI64ArrayAttr>(attribute)) {
    values.push_back(b.getDenseI64ArrayAttr({}));
    for (size_t i = 0; i < array.asArrayRef().size(); ++i)
      for (int64_t number : numbers) {
        SmallVector<int64_t> changed(array.asArrayRef());
        changed[i] = number;
        values.push_back(b.getDenseI64ArrayAttr(changed));
      }
  } else if (isa<BoolAttr>(attribute)) {
    values = {b.getBoolAttr(false), b.getBoolAttr(true)};
  } else if (isa<IntegerAttr>(attribute)) {
    for (int64_t number : numbers)
      values.push_back(b.getI64IntegerAttr(number));
  } else if (isa<FloatAttr>(attribute)) {
    for (double number : {-1.0, 0.0, 1e300, HUGE_VAL, -HUGE_VAL, std::nan("")})
      values.push_back(b.getF64FloatAttr(number));
  } else if (isa<StringAttr>(attribute)) {
    for (const char *text : {"", "none", "zero", "\xff\n"})
      values.push_back(b.getStringAttr(text));
  } else if (isa<TypeAttr>(attribute)) {
    for (Type type : {Type(b.getF80Type()), Type(b.getIndexType()), Type(b.getI1Type()), Type(b.getBF16Type()),
                      Type(b.getNoneType()), Type(IntegerType::get(b.getContext(), 13)),
                      Type(RankedTensorType::get({2}, b.getF32Type()))})
      values.push_back(TypeAttr::get(type));
  }
  return values;
}

// Every case with each of its numbers, names, types and operands replaced by others: shape rule, oracle, gradient and
// cost either refuse or stay in one piece. (What the numbers are is not looked at.)
TEST(Robustness, SurvivesHostileOperations) {
  Environment environment;
  int64_t tried = 0, valid = 0;
  uint64_t cost = 0; // asked for, so that asking does not fail
  auto attempt = [&](const char *op, const std::vector<const char *> &operands, const char *attributes) {
    SCOPED_TRACE(described(op, operands, attributes));
    Harness harness(environment.context, op, operands, attributes, -2, 2);
    ++tried;
    if (!harness.op) {
      EXPECT_NE(harness.error, "");
      return;
    }
    ++valid;
    auto compute = cast<ComputeOpInterface>(harness.op);
    cost += compute.getFlops() + compute.getBytesMoved() + compute.getWorkspaceBytes();
    cost += static_cast<uint64_t>(compute.getSaveClass()) + compute.getReusableOperands().size();
    EXPECT_FALSE(compute.getKernelName().empty());
    if (harness.op->getNumResults() > 0) {
      EXPECT_EQ(harness.checkGradientGraph(), "");
    }
  };
  auto attemptAll = [&](const char *op, const std::vector<const char *> &operands, const char *attributes) {
    auto dictionary = cast<DictionaryAttr>(parseAttribute(attributes, &environment.context));
    for (NamedAttribute named : dictionary)
      for (Attribute value : hostile(named.getValue())) {
        NamedAttrList changed(dictionary);
        changed.set(named.getName(), value);
        std::string text;
        llvm::raw_string_ostream(text) << changed.getDictionary(&environment.context);
        attempt(op, operands, text.c_str());
      }
    // Other shapes; element types stay, since the verifier has looked at them before any shape rule runs.
    for (size_t i = 0; i < operands.size(); ++i)
      for (std::string shape : {"", "1x", "7x", "0x3x", "2x3x", "2x3x1x5x"}) {
        StringRef operand = operands[i];
        if (operand == "-")
          continue;
        std::string other = shape.empty() ? "scalar" : shape.substr(0, shape.size() - 1);
        if (operand.starts_with("dense<")) {
          StringRef element = operand.rsplit('<').second.rsplit('x').second;
          element = element.empty() ? operand.rsplit('<').second : element;
          StringRef value = element == "i1>" ? "true" : element.starts_with("f") ? "1.0" : "0";
          other = ("dense<" + value + "> : tensor<" + shape + element).str();
        }
        std::vector<const char *> changed = operands;
        changed[i] = other.c_str();
        attempt(op, changed, attributes);
      }
  };
  for (const Case &each : allCases())
    attemptAll(each.op, each.operands, each.attributes);
  for (const ValueCase &each : valueCases())
    attemptAll(each.op, each.operands, each.attributes);
  std::cout << tried << " hostile operations, " << valid << " of them valid\n";
  EXPECT_GT(cost, 0u);
  EXPECT_GT(tried - valid, 1000);
  EXPECT_GT(valid, 1000);
}

// A step of three micro-batches: inputs are asked for in each, states persist, `sum` outputs add up, and what stands
// after the mark runs once.
TEST(Interpreter, RunsMicroBatches) {
  Environment environment;
  auto module = parseSourceString<ModuleOp>(R"(
    train.step @step {
      %sum = train.state {name = "g", parameter = "w", kind = "gradient"} : tensor<2xf32>
      %x = train.input {name = "x"} : tensor<2xf32>
      %i = train.input {name = "i", role = "micro_batch"} : tensor<i64>
      train.accumulate %sum, %x, %i : tensor<2xf32>, tensor<2xf32>, tensor<i64>
      %loss = train.reduce_sum %x {axes = array<i64: 0>, keepdims = false} : (tensor<2xf32>) -> tensor<f32>
      train.output %loss {name = "loss", sum} : tensor<f32>
      train.output %i {name = "last"} : tensor<i64>
      train.micro_batch_end
      %norm = train.squared_norm %sum : (tensor<2xf32>) -> tensor<f64>
      train.output %norm {name = "norm"} : tensor<f64>
    })",
                                            &environment.context);
  ASSERT_TRUE(module);
  auto step = *module->getOps<StepOp>().begin();
  int64_t states = 0;
  amc::Interpreter interpreter([&](Operation *source, int64_t microBatch) -> std::optional<amc::HostTensor> {
    amc::HostTensor tensor(cast<RankedTensorType>(source->getResult(0).getType()));
    if (isa<StateOp>(source)) {
      ++states;
      tensor.floats = {100, 100}; // overwritten in micro-batch 0
    } else if (tensor.isFloat()) {
      tensor.floats = {1.0 + microBatch, 0.5};
    } else {
      tensor.ints = {microBatch};
    }
    return tensor;
  });
  ASSERT_TRUE(succeeded(interpreter.runStep(step, 3)));
  // x is (1, 0.5), (2, 0.5), (3, 0.5): sums 1.5 + 2.5 + 3.5, accumulated (6, 1.5).
  EXPECT_EQ(interpreter.outputs().lookup("loss").floats, std::vector<double>{7.5});
  EXPECT_EQ(interpreter.outputs().lookup("last").ints, std::vector<int64_t>{2});
  EXPECT_EQ(interpreter.outputs().lookup("norm").floats, std::vector<double>{36 + 2.25});
  EXPECT_EQ(states, 1);
  // A source that nothing is known about, and an index out of range, are reported at their operation.
  std::string message;
  ScopedDiagnosticHandler handler(&environment.context, [&](Diagnostic &diagnostic) {
    message += diagnostic.str();
    return success();
  });
  amc::Interpreter ignorant([](Operation *, int64_t) { return std::nullopt; });
  EXPECT_TRUE(failed(ignorant.runStep(step)));
  EXPECT_EQ(message, "value of the source is unknown");
}

// An index out of range makes gathering undefined: the oracle refuses.
TEST(Oracle, RefusesIndicesOutOfRange) {
  Environment environment;
  constexpr const char *x = "dense<[1.0, 2.0]> : tensor<2xf64>", *index = "dense<[[2]]> : tensor<1x1xi64>";
  const std::vector<std::pair<const char *, std::vector<const char *>>> cases = {
      {"gather", {x, index}},
      {"gather", {x, "dense<-3> : tensor<i64>"}},
      {"gather_elements", {x, "dense<2> : tensor<1xi64>"}},
      {"scatter_elements", {x, "dense<2> : tensor<1xi64>", "dense<0.0> : tensor<1xf64>"}},
      {"gather_nd", {x, index}},
      {"scatter_nd", {x, index, "dense<0.0> : tensor<1xf64>"}},
  };
  for (const auto &[op, operands] : cases) {
    bool nd = StringRef(op).ends_with("_nd");
    Harness harness(environment.context, op, operands, nd ? "{}" : "{axis = 0 : i64}", 0, 0);
    ASSERT_TRUE(harness.op) << op << harness.error;
    EXPECT_NE(harness.checkValues({}), "number of results is 1") << op;
    EXPECT_NE(harness.error.find("undefined for its operands' values"), std::string::npos) << op << harness.error;
  }
}

// The comparison itself: a wrong operation for the case, a wrong value and a wrong type are seen.
TEST(Harness, SeesMistakes) {
  Environment environment;
  Harness unknown(environment.context, "no_such_operation", {}, "{}", -1, 1);
  EXPECT_EQ(unknown.op, nullptr);
  Harness mismatched(environment.context, "add", {"2x3", "4"}, "{}", -1, 1);
  EXPECT_EQ(mismatched.op, nullptr);
  Harness values(environment.context, "neg", {"dense<[1.0, 2.0]> : tensor<2xf64>"}, "{}", -1, 1);
  EXPECT_EQ(values.checkValues({"dense<[-1.0, -2.0]> : tensor<2xf64>"}), "");
  EXPECT_NE(values.checkValues({"dense<[-1.0, -2.1]> : tensor<2xf64>"}), "");
  EXPECT_NE(values.checkValues({"dense<[-1.0, -2.0]> : tensor<2xf32>"}), "");
  double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(agrees(1, 1 + 1e-8) && agrees(1e6, 1e6 + 0.1));
  EXPECT_FALSE(agrees(1, 1.0001) || agrees(0, 1e-5) || agrees(1e6, 1e6 + 10));
  EXPECT_FALSE(agrees(nan, nan) || agrees(nan, 1) || agrees(1, nan) || agrees(infinity, 1));
  // At 0 the gradient of relu is 0 by definition, the finite difference half the cotangent.
  Harness kink(environment.context, "relu", {"1 in 0:0"}, "{}", -1, 1);
  EXPECT_NE(kink.checkGradients(), "");
  EXPECT_EQ(kink.compared, 1);
  // A constant operand is not counted as checked.
  Harness constant(environment.context, "exp", {"dense<[1.0]> : tensor<1xf64>"}, "{}", -1, 1);
  EXPECT_EQ(constant.checkGradients(), "");
  EXPECT_TRUE(constant.checkedSlots.empty());
}

} // namespace
