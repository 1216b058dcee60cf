// Every operation of the dialect that has a gradient is compared with finite differences, every one that computes is
// evaluated at least once. The lists of operations come from the dialect's registry: an operation without a case
// fails, and so does a case without an operation.
#include "Harness.h"
#include "compiler/dialect/Train.h"
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
