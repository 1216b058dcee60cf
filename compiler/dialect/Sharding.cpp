// See Sharding.h.
#include "compiler/dialect/Sharding.h"
#include "compiler/dialect/OpSupport.h"

using namespace mlir;

namespace amc::train {

RuleBuilder::RuleBuilder(Operation *op) : op(op) {
  for (Value operand : op->getOperands())
    rule.operands.emplace_back(shapeOf(operand).size());
  for (Value result : op->getResults())
    rule.results.emplace_back(shapeOf(result).size());
}

unsigned RuleBuilder::factor(int64_t size, FactorKind kind) {
  rule.factors.push_back({size, kind});
  return rule.factors.size() - 1;
}

SmallVector<unsigned> RuleBuilder::each(ArrayRef<int64_t> shape, FactorKind kind) {
  SmallVector<unsigned> factors;
  for (int64_t size : shape)
    factors.push_back(factor(size, kind));
  return factors;
}

void RuleBuilder::split(ShardingRule::Dims &dims, unsigned dim, ArrayRef<unsigned> factors) {
  dims[dim].assign(factors.begin(), factors.end());
}

void RuleBuilder::operand(unsigned number, ArrayRef<unsigned> dims) {
  for (auto [dim, factor] : llvm::enumerate(dims))
    if (factor != none)
      rule.operands[number][dim] = {factor};
}

void RuleBuilder::result(unsigned number, ArrayRef<unsigned> dims) {
  for (auto [dim, factor] : llvm::enumerate(dims))
    if (factor != none)
      rule.results[number][dim] = {factor};
}

void RuleBuilder::broadcastOperand(unsigned number, ArrayRef<int64_t> shape, ArrayRef<unsigned> dims) {
  ArrayRef<int64_t> from = shapeOf(op->getOperand(number));
  size_t skipped = shape.size() - from.size();
  for (size_t dim = 0; dim < from.size(); ++dim)
    if (from[dim] == shape[skipped + dim] && dims[skipped + dim] != none)
      rule.operands[number][dim] = {dims[skipped + dim]};
}

ShardingRule broadcastRule(Operation *op) {
  RuleBuilder r(op);
  ArrayRef<int64_t> shape = shapeOf(op->getResult(0));
  SmallVector<unsigned> dims = r.each(shape);
  for (unsigned i = 0; i < op->getNumOperands(); ++i)
    r.broadcastOperand(i, shape, dims);
  for (unsigned i = 0; i < op->getNumResults(); ++i)
    r.result(i, dims);
  return std::move(r.rule);
}

} // namespace amc::train
