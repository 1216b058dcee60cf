// Raise: what a mask says. A mask is read as a function of batch, head, query and key
// (compiler/analysis/ IndexExpression), never computed: a conjunction of half-planes of key - query
// becomes `left` and `right`, elements of run-time tensors by batch and key become padding.
// Anything else stays a bias that is added, at its own cost, unless something trained flows into
// it: then attention, which has no gradient for a bias, is not raised.
//
// A number of -1e9 or less masks; it is distinguished from minus infinity only in rows where every
// key is masked. Such a row takes the mean of all values if any mask is finite, which is what one
// finite mask gives; when several are added a framework may give the mean of those keys that fewest
// of them mask.
#include "passes/Raise.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>
#include <limits>

using namespace mlir;
using namespace amc::train;

namespace amc::raise {

// e^(-1e9 + score) is 0 in every float type for every score a model can have.
static constexpr double maskThreshold = -1e9;

static bool isMasking(double number) { return number <= maskThreshold; }
/// A buffer of masks, not a weight: with numbers that mask, or with ones and zeros alone.
static bool isMaskTable(const HostTensor &tensor) {
  auto isTruth = [](double number) { return number == 0 || number == 1; };
  return llvm::any_of(tensor.floats, isMasking) ||
         (llvm::all_of(tensor.floats, isTruth) && llvm::is_contained(tensor.floats, 0.0) && llvm::is_contained(tensor.floats, 1.0));
}

namespace {
struct Variables {
  LinearIndex batch, head, query, key;
};
} // namespace

/// The indices in `shape`, broadcast to the scores, of the element for given batch, head, query and
/// key.
static std::optional<Indices> indicesFor(ArrayRef<int64_t> shape, const MaskReader::Scores &scores,
                                         const Variables &at) {
  int64_t sizes[] = {scores.batch, scores.heads, scores.queries, scores.keys};
  LinearIndex all[] = {at.batch, at.head, at.query, at.key};
  if (shape.size() > 4)
    return std::nullopt;
  Indices result;
  for (size_t i = 0; i < shape.size(); ++i) {
    size_t dim = 4 - shape.size() + i;
    if (shape[i] != 1 && shape[i] != sizes[dim])
      return std::nullopt;
    result.push_back(shape[i] == 1 ? LinearIndex() : all[dim]);
  }
  return result;
}

MaskReader::Facts MaskReader::decide(Value value, bool isCondition, bool masked,
                                     const Scores &scores) {
  Facts facts;
  IndexEvaluator evaluator(rewriter.constants, isMaskTable);
  Variables at;
  at.batch = evaluator.space().add(scores.batch);
  at.head = evaluator.space().add(scores.heads);
  at.query = evaluator.space().add(scores.queries);
  at.key = evaluator.space().add(scores.keys);
  std::optional<Indices> where = indicesFor(shapeOf(value), scores, at);
  if (!where)
    return facts;
  IndexExpression e = evaluator.evaluate(value, *where);
  if (e.kind != IndexExpression::Kind::Table)
    return facts;

  // Worlds are truth values of all atoms; those that contradict themselves (x <= 1 but not x <= 2)
  // do not count.
  unsigned count = e.atoms.size();
  auto isPossible = [&](unsigned world) {
    for (unsigned i = 0; i < count; ++i)
      for (unsigned j = 0; j < count; ++j) {
        const MaskAtom &a = evaluator.atoms()[e.atoms[i]], &b = evaluator.atoms()[e.atoms[j]];
        if (!a.tensor && !b.tensor && a.form == b.form && a.bound < b.bound && (world >> i & 1) &&
            !(world >> j & 1))
          return false;
      }
    return true;
  };
  unsigned always = ~0u, never = ~0u, allowedWorlds = 0;
  SmallVector<bool> allows;
  for (auto [world, number] : llvm::enumerate(e.values)) {
    bool isAllowed = isCondition ? (number != 0) != masked : number == 0;
    allows.push_back(isAllowed);
    if (!isPossible(world))
      continue;
    if (!isCondition && !isAllowed) {
      if (!isMasking(number)) // NaN too
        return facts;
      facts.isFinite |= std::isfinite(number);
    }
    if (!isAllowed)
      continue;
    ++allowedWorlds;
    always &= world;
    never &= ~world;
  }
  if (allowedWorlds == 0) // nobody attends to anybody: not a mask one should build on
    return facts;
  for (auto [world, isAllowed] : llvm::enumerate(allows)) {
    unsigned known = (1u << count) - 1;
    bool agrees = (~world & always & known) == 0 && (world & never & known) == 0;
    if (isPossible(world) && agrees != isAllowed) // not a conjunction
      return facts;
  }

  for (unsigned i = 0; i < count; ++i) {
    bool isNegated = never >> i & 1;
    if (!isNegated && !(always >> i & 1))
      continue;
    const MaskAtom &atom = evaluator.atoms()[e.atoms[i]];
    if (!atom.tensor) {
      // Only query - key <= bound and its negation; atoms have a positive first coefficient.
      std::optional<LinearIndex> distance = addScaled(at.query, at.key, -1);
      if (!distance || !(atom.form == *distance))
        return facts;
      if (!isNegated)
        facts.left = facts.left ? std::min(*facts.left, atom.bound) : atom.bound;
      else // query - key >= bound + 1
        facts.right = facts.right ? std::min(*facts.right, -atom.bound - 1) : -atom.bound - 1;
      continue;
    }
    unsigned batchDim = 0, keyDim = 0;
    for (auto [dim, index] : llvm::enumerate(atom.at)) {
      int64_t size = shapeOf(atom.tensor)[dim];
      if (index.isConstant() && size == 1)
        continue;
      unsigned &found = index == at.batch ? batchDim : keyDim;
      if (index.isConstant() || found || !(index == at.batch || index == at.key) ||
          size != (index == at.batch ? scores.batch : scores.keys))
        return facts;
      found = dim + 1;
    }
    facts.padding.push_back({atom, isNegated});
    facts.batchAndKey.append({batchDim, keyDim});
  }
  facts.isMask = (!facts.left || *facts.left >= 0) && (!facts.right || *facts.right >= 0);
  return facts;
}

MaskReader::Facts &MaskReader::facts(Value value, bool isCondition, bool masked,
                                     const Scores &scores) {
  SmallVector<Known, 1> &entries = known[value];
  for (Known &entry : entries)
    if (entry.isCondition == isCondition && entry.masked == masked &&
        entry.scores.batch == scores.batch && entry.scores.heads == scores.heads &&
        entry.scores.queries == scores.queries && entry.scores.keys == scores.keys)
      return *entry.facts;
  entries.push_back({isCondition, masked, scores,
                     std::make_unique<Facts>(decide(value, isCondition, masked, scores))});
  return *entries.back().facts;
}

Value MaskReader::buildPadding(const Literal &literal, unsigned batchDim, unsigned keyDim,
                               const Scores &scores, Operation *before) {
  OpBuilder &b = rewriter.at(before);
  Location loc = before->getLoc();
  Value tensor = train::cast(b, loc, literal.atom.tensor, b.getI1Type());
  if (literal.isNegated)
    tensor = NotOp::create(b, loc, tensor);
  if (batchDim && keyDim && batchDim > keyDim) {
    tensor = train::reshape(b, loc, tensor, {scores.keys, scores.batch});
    tensor = TransposeOp::create(b, loc, tensor, b.getDenseI64ArrayAttr({1, 0}));
  }
  SmallVector<int64_t> shape = {batchDim ? scores.batch : 1, keyDim ? scores.keys : 1};
  tensor = train::reshape(b, loc, tensor, shape);
  SmallVector<int64_t> full = {scores.batch, scores.keys};
  if (shape != full)
    tensor = BroadcastOp::create(b, loc, tensor, b.getDenseI64ArrayAttr(full));
  return tensor;
}

void MaskReader::apply(Mask &mask, Facts &facts, const Scores &scores, Operation *before) {
  auto tighter = [](std::optional<int64_t> a, std::optional<int64_t> b) {
    return a && b ? std::min(*a, *b) : a ? a : b;
  };
  mask.left = tighter(mask.left, facts.left);
  mask.right = tighter(mask.right, facts.right);
  mask.isFinite |= facts.isFinite;
  if (facts.built.empty())
    for (auto [i, literal] : llvm::enumerate(facts.padding))
      facts.built.push_back(buildPadding(literal, facts.batchAndKey[2 * i],
                                         facts.batchAndKey[2 * i + 1], scores, before));
  for (Value padding : facts.built)
    if (!llvm::is_contained(mask.padding, padding))
      mask.padding.push_back(padding);
  rewriter.count(Found::Mask);
}

bool MaskReader::isUntrained(Value value) {
  // An explicit stack: graphs are deep. A value is untrained until a parameter that is no mask is
  // found under it.
  if (auto entry = untrained.find(value); entry != untrained.end())
    return entry->second;
  constexpr size_t maxVisits = 512;
  SmallVector<Value> open = {value};
  llvm::DenseSet<Value> seen = {value};
  bool result = true;
  for (size_t i = 0; i < open.size() && result; ++i) {
    Operation *op = open[i].getDefiningOp();
    if (!op || open.size() > maxVisits) {
      result = false;
    } else if (auto parameter = dyn_cast<ParameterOp>(op)) {
      // A weight has no element that masks; a buffer with masks in it is not trained.
      std::optional<HostTensor> tensor = readParameter(parameter, int64_t(1) << 24);
      result = tensor && tensor->isFloat() && llvm::any_of(tensor->floats, isMasking);
    } else if (!elementOf(open[i]).isInteger(1)) { // no gradient flows through truth values
      for (Value operand : op->getOperands())
        if (seen.insert(operand).second)
          open.push_back(operand);
    }
  }
  return untrained[value] = result;
}

bool MaskReader::hasFiniteMask(Value value) {
  // A number that masks can come from a literal or from a buffer; both are looked for wherever they
  // are.
  constexpr size_t maxVisits = 512;
  SmallVector<Value> open = {value};
  llvm::DenseSet<Value> seen = {value};
  auto isFiniteMask = [](double number) { return isMasking(number) && std::isfinite(number); };
  for (size_t i = 0; i < open.size() && open.size() <= maxVisits; ++i) {
    Operation *op = open[i].getDefiningOp();
    if (!op || !isa<FloatType>(elementOf(open[i])))
      continue;
    std::optional<HostTensor> tensor;
    if (auto parameter = dyn_cast<ParameterOp>(op))
      tensor = readParameter(parameter, int64_t(1) << 24);
    if (tensor && llvm::any_of(tensor->floats, isFiniteMask))
      return true;
    if (std::optional<double> number = rewriter.scalar(open[i]); number && isFiniteMask(*number))
      return true;
    for (Value operand : op->getOperands())
      if (seen.insert(operand).second)
        open.push_back(operand);
  }
  return false;
}

bool MaskReader::addBias(Mask &mask, Value bias, const Scores &scores, Operation *before) {
  Variables unused;
  if (!indicesFor(shapeOf(bias), scores, unused) || !isUntrained(bias))
    return false;
  OpBuilder &b = rewriter.at(before);
  Location loc = before->getLoc();
  // In a row that a finite number masks whole, log-sum-exp would be that number and forget how many
  // keys there are.
  if (hasFiniteMask(bias)) {
    Type element = elementOf(bias);
    Value masks = LessEqualOp::create(b, loc, bias, scalar(b, loc, maskThreshold, element));
    bias = SelectOp::create(
        b, loc, masks, scalar(b, loc, -std::numeric_limits<double>::infinity(), element), bias);
    mask.isFinite = true;
  }
  SmallVector<int64_t> shape(4 - shapeOf(bias).size(), 1);
  llvm::append_range(shape, shapeOf(bias));
  mask.biases.push_back(train::reshape(b, loc, bias, shape));
  return true;
}

bool MaskReader::readAddend(Mask &mask, Value addend, const Scores &scores, bool allowBias,
                            Operation *before) {
  // Sums are taken apart, so that only what is not understood stays a bias.
  SmallVector<Value> open = {addend};
  constexpr size_t maxTerms = 8;
  while (!open.empty()) {
    Value term = open.pop_back_val();
    Facts &read = facts(term, false, false, scores);
    if (read.isMask) {
      apply(mask, read, scores, before);
      continue;
    }
    if (auto add = definedBy<AddOp>(term); add && open.size() < maxTerms) {
      open.append({add.getB(), add.getA()});
      continue;
    }
    if (!allowBias || !addBias(mask, term, scores, before))
      return false;
  }
  return true;
}

bool MaskReader::readCondition(Mask &mask, Value condition, bool masked, double number,
                               const Scores &scores, bool allowBias, Operation *before) {
  if (!isMasking(number))
    return false;
  Facts &read = facts(condition, true, masked, scores);
  if (read.isMask) {
    apply(mask, read, scores, before);
    mask.isFinite |= std::isfinite(number);
    return true;
  }
  Variables unused;
  if (!allowBias || !indicesFor(shapeOf(condition), scores, unused))
    return false;
  // Replacing a score by the number and adding the number differ only by rounding that vanishes in
  // softmax.
  OpBuilder &b = rewriter.at(before);
  Location loc = before->getLoc();
  Value zero = scalar(b, loc, 0, scores.element), low = scalar(b, loc, number, scores.element);
  Value bias = SelectOp::create(b, loc, condition, masked ? low : zero, masked ? zero : low);
  return addBias(mask, bias, scores, before);
}

} // namespace amc::raise
