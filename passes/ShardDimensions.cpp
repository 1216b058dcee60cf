#include "passes/ShardDimensions.h"
#include "compiler/dialect/OpSupport.h"

using namespace mlir;
using namespace amc;
using namespace amc::train;

static AtomList join(const std::vector<AtomList> &lists) {
  AtomList all;
  for (const AtomList &list : lists)
    all.insert(all.end(), list.begin(), list.end());
  return all;
}

ShardDimensions::ShardDimensions(StepOp step) {
  for (Operation &op : step.getBody().front()) {
    numberOf[&op] = nodes.size();
    nodes.emplace_back();
    nodes.back().op = &op;
    bind(nodes.back());
  }
}

uint32_t ShardDimensions::cutOfReader(Value value) const {
  for (Operation *user : value.getUsers())
    if (const ShardNode &reader = node(user); reader.cut != noAtom && find(value, reader.cut))
      return reader.cut;
  return noAtom;
}

std::optional<unsigned> ShardDimensions::find(Value value, uint32_t atom) const {
  for (unsigned dim = 0, rank = shapeOf(value).size(); dim < rank; ++dim)
    if (llvm::is_contained(of(value, dim), atom))
      return dim;
  return std::nullopt;
}

std::vector<AtomList> ShardDimensions::fresh(ArrayRef<int64_t> shape) {
  std::vector<AtomList> result;
  for (int64_t size : shape)
    result.push_back({atoms.add(size)});
  return result;
}

void ShardDimensions::bind(ShardNode &node) {
  auto divisible = dyn_cast<ShardingOpInterface>(node.op);
  node.divisible = divisible && node.op->getNumResults() > 0;
  if (!node.divisible) {
    for (Value result : node.op->getResults())
      dims[result] = fresh(shapeOf(result));
    return;
  }
  node.rule = divisible.getShardingRule();
  if (node.rule.flat) {
    Value x = node.op->getOperand(0), y = node.op->getResult(0);
    dims[y] = fresh(shapeOf(y));
    AtomList all = join(dims[x]);
    atoms.unify(all, join(dims[y]));
    node.rule.factors = {{elementCount(shapeOf(x)), FactorKind::Parallel}};
    node.factorAtoms = {all};
    return;
  }
  for (const ShardingRule::Factor &factor : node.rule.factors)
    node.factorAtoms.push_back({atoms.add(factor.size)});
  auto listOf = [&](ArrayRef<unsigned> factors) {
    AtomList list;
    for (unsigned factor : factors)
      list.insert(list.end(), node.factorAtoms[factor].begin(), node.factorAtoms[factor].end());
    return list;
  };
  for (auto [operand, rule] : llvm::zip_equal(node.op->getOperands(), node.rule.operands))
    for (auto [dim, factors] : llvm::enumerate(rule))
      if (!factors.empty())
        atoms.unify(listOf(factors), dims[operand][dim]);
  for (auto [result, rule] : llvm::zip_equal(node.op->getResults(), node.rule.results)) {
    std::vector<AtomList> lists = fresh(shapeOf(result));
    for (auto [dim, factors] : llvm::enumerate(rule))
      if (!factors.empty())
        lists[dim] = listOf(factors);
    dims[result] = std::move(lists);
  }
}
