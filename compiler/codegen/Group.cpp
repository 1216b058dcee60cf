#include "compiler/codegen/Group.h"
#include "compiler/dialect/Fusion.h"
#include "compiler/dialect/OpSupport.h"

using namespace mlir;
using namespace amc::train;

namespace amc::codegen {

Value Group::rootOf(Value value) {
  while (auto view = value.getDefiningOp<ViewOpInterface>())
    value = view->getOperand(0);
  return value;
}

Makes Group::makes(Value root) {
  auto result = cast<OpResult>(root);
  return cast<FusableOpInterface>(result.getOwner()).getFusionRule().results[result.getResultNumber()];
}

std::optional<Group> Group::analyze(Block &body, std::string &why) {
  Group group;
  group.body = &body;
  DenseMap<Operation *, unsigned> levelOf; // of an operation's elements; look-ups only
  KernelRules rules;
  bool flat = true;
  for (Operation &op : body.without_terminator()) {
    if (isa<ViewOpInterface>(op) || isFusedConstant(&op))
      continue;
    auto fusable = cast<FusableOpInterface>(op);
    FusionRule rule = fusable.getFusionRule();
    if (const char *refused = rules.add(rule)) {
      why = refused;
      return std::nullopt;
    }
    std::tie(group.rows, group.columns) = rowsAndColumns(rule);
    unsigned level = 0;
    for (OpOperand &operand : op.getOpOperands()) {
      Value root = rootOf(operand.get());
      if (isFusedConstant(root.getDefiningOp()))
        continue;
      bool inPlace = readsInPlace(rule, operand);
      flat = flat && inPlace;
      if (isa<BlockArgument>(root))
        continue;
      if (makes(root) != Makes::Element || !inPlace) {
        why = "an operation reads what another makes of whole rows or columns, or repeats it";
        return std::nullopt;
      }
      level = std::max(level, levelOf.lookup(root.getDefiningOp()));
    }
    const unsigned count = static_cast<unsigned>(rule.statistics.size());
    for (unsigned k = 0; k < count; ++k)
      group.statistics.push_back({fusable, k, rule.chained ? level + k : level, rule.statistics[k]});
    flat = flat && rule.pairs == Pairs::None && count == 0 &&
           llvm::all_of(rule.results, [](Makes m) { return m == Makes::Element; });
    unsigned own = rule.chained ? count : std::min(count, 1u);
    levelOf[&op] = level + own;
    group.levels = std::max(group.levels, level + own);
  }
  group.pairs = rules.pairs();
  for (Value value : body.getTerminator()->getOperands()) {
    Value root = rootOf(value);
    if (isa<BlockArgument>(root) || isFusedConstant(root.getDefiningOp())) {
      why = "an operand is yielded as it is";
      return std::nullopt;
    }
    group.sums = group.sums || makes(root) == Makes::ColumnSum;
    group.results.push_back(root);
  }
  group.flat = flat;
  if (flat) {
    group.columns *= group.rows;
    group.rows = 1;
  }
  return group;
}

// Of dimensions that an operand broadcasts along the stride is 0. Neighbours that advance together become one term.
Access Group::accessOf(Operation *op, OpOperand &operand) const {
  FusionRule rule = cast<FusableOpInterface>(op).getFusionRule();
  SmallVector<int64_t> domain = *rule.domain;
  ArrayRef<int64_t> shape = shapeOf(operand.get());
  Access access;
  if (flat)
    return access;
  int64_t last = domain.empty() ? 1 : domain.pop_back_val();
  if (rule.perRow[operand.getOperandNumber()]) {
    access.columnStride = 0;
    access.terms.push_back({1, rows, 1});
    return access;
  }
  access.columnStride = !shape.empty() && shape.back() == last && last > 1 ? 1 : 0;
  int64_t stride = shape.empty() ? 1 : shape.back(), divisor = 1;
  for (size_t back = 0; back < domain.size(); ++back) {
    int64_t size = domain[domain.size() - 1 - back];
    int64_t own = back + 1 < shape.size() ? shape[shape.size() - 2 - back] : 1;
    if (own != 1 && size != 1) {
      if (!access.terms.empty() && access.terms.back().stride * access.terms.back().size == stride &&
          access.terms.back().divisor * access.terms.back().size == divisor)
        access.terms.back().size *= size;
      else
        access.terms.push_back({divisor, size, stride});
    }
    stride *= own;
    divisor *= size;
  }
  return access;
}

std::string kernelText(Block &body) {
  std::string text;
  llvm::raw_string_ostream out(text);
  DenseMap<Value, size_t> numbers; // look-ups only
  auto number = [&](Value value) { out << ' ' << numbers.lookup(value); };
  for (BlockArgument argument : body.getArguments()) {
    numbers.try_emplace(argument, numbers.size());
    out << argument.getType() << ' ';
  }
  for (Operation &op : body) {
    out << '\n' << op.getName();
    for (Value operand : op.getOperands())
      number(operand);
    if (Attribute properties = op.getPropertiesAsAttribute())
      out << ' ' << properties;
    for (Value result : op.getResults()) {
      numbers.try_emplace(result, numbers.size());
      out << ' ' << result.getType();
    }
  }
  return text;
}

std::string kernelName(Block &body) {
  std::string name;
  for (Operation &op : body.without_terminator())
    if (!isa<ViewOpInterface>(op) && !isFusedConstant(&op))
      name += (name.empty() ? "" : "+") + op.getName().stripDialect().str();
  return name;
}

} // namespace amc::codegen
