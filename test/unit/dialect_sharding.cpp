// What operations say about being divided among ranks, where that depends on their attributes.
#include "compiler/dialect/Train.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include <gtest/gtest.h>

using namespace mlir;
using namespace amc::train;

namespace {

class Sharding : public testing::Test {
protected:
  /// Attention of 4 heads (2 of keys), 8 queries and 8 keys.
  AttentionOp attention(const std::string &bias, const std::string &attributes, bool drops = false) {
    context.loadDialect<TrainDialect>();
    std::string text = R"(train.step @step {
      %q = train.input {name = "q"} : tensor<2x4x8x6xf32>
      %k = train.input {name = "k"} : tensor<2x2x8x6xf32>
      %n = train.input {name = "n"} : tensor<i64>
)";
    std::string operands = "%q, %k, %k", types = "tensor<2x4x8x6xf32>, tensor<2x2x8x6xf32>, tensor<2x2x8x6xf32>";
    if (!bias.empty()) {
      text += "%b = train.input {name = \"b\"} : " + bias + "\n";
      operands += ", %b";
      types += ", " + bias;
    }
    if (drops) {
      operands += ", %n, %n, %n";
      types += ", tensor<i64>, tensor<i64>, tensor<i64>";
    }
    text += "%y:2 = train.attention " + operands + " {scale = 1.0 : f64, " + attributes +
            "operandSegmentSizes = array<i32: 1, 1, 1, 0, " + (bias.empty() ? "0" : "1") +
            (drops ? ", 1, 1, 1" : ", 0, 0, 0") + ">} : (" + types +
            ") -> (tensor<2x4x8x6xf32>, tensor<2x4x8xf32>)\n}";
    module = parseSourceString<ModuleOp>(text, &context);
    if (!module)
      return nullptr;
    return dyn_cast<AttentionOp>((*module->getOps<StepOp>().begin()).getBody().front().back());
  }
  static FactorKind kindOf(const ShardingRule &rule, const ShardingRule::Dims &dims, unsigned dim) {
    EXPECT_EQ(dims[dim].size(), 1u);
    return rule.factors[dims[dim][0]].kind;
  }
  MLIRContext context;
  OwningOpRef<ModuleOp> module;
};

// Queries are spread if their positions are all that a member has to know; keys never are.
TEST_F(Sharding, QueriesArePlaced) {
  struct {
    const char *bias, *attributes;
    bool drops;
    FactorKind queries;
  } cases[] = {
      {"", "", false, FactorKind::Placed},
      {"", "right = 0 : i64, left = 3 : i64, ", false, FactorKind::Placed},
      {"tensor<1x4x1x1xf32>", "", false, FactorKind::Placed},
      {"tensor<1x1x8x1xf32>", "", false, FactorKind::Whole},
      {"tensor<2x1x1x8xf32>", "", false, FactorKind::Whole},
      {"", "dropout = 0.1 : f64, stream = 1 : i64, ", true, FactorKind::Whole},
      {"", "group = \"cp\", members = 1 : i64, ", false, FactorKind::Whole},
  };
  for (const auto &c : cases) {
    AttentionOp op = attention(c.bias, c.attributes, c.drops);
    ASSERT_TRUE(op);
    ShardingRule rule = op.getShardingRule();
    EXPECT_EQ(kindOf(rule, rule.operands[0], 2), c.queries) << c.bias << c.attributes;
    EXPECT_EQ(kindOf(rule, rule.operands[1], 2), FactorKind::Whole);
    EXPECT_EQ(rule.operands[0][2], rule.results[0][2]);
    EXPECT_EQ(rule.operands[0][2], rule.results[1][2]);
    EXPECT_NE(rule.operands[0][2], rule.operands[1][2]);
    EXPECT_EQ(rule.factors[rule.operands[0][0][0]].kind, c.drops ? FactorKind::Whole : FactorKind::Parallel);
  }
}

// Only what is placed is told its group.
TEST_F(Sharding, PlacedQueriesKnowTheirGroup) {
  AttentionOp op = attention("", "");
  ASSERT_TRUE(op);
  op.localize(FactorKind::Parallel, "tp", 2);
  EXPECT_FALSE(op.getGroup() || op.getMembers());
  op.localize(FactorKind::Placed, "cp", 2);
  EXPECT_EQ(op.getGroup(), "cp");
  EXPECT_EQ(op.getMembers(), 2u);
  EXPECT_FALSE(op.getZigzag());
}

} // namespace
