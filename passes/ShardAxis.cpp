// Tensor, sequence and context parallelism; see ShardAxis.h. Phases:
//
//   gather  every dimension of every value as a product of atoms (compiler/analysis/Atoms.h), unified by the operations'
//           rules, so that an atom is everything that has to be cut together: the heads of a layer with the columns of
//           its query, key and value weights and the rows of its output weight, say
//   decide  an atom of a weight is cut if everything that it goes through allows that: a feed-forward network's inner
//           dimension, attention's heads, a vocabulary. What norms run over is not. No operation is cut twice. This is
//           Megatron's plan (Shoeybi et al., 2019), found by structure. With sequence parallelism (Korthikanti et al.,
//           2022) all other work on activations is cut along the tokens
//           Context parallelism cuts everything that has attention's query positions; keys and values are gathered (as Llama 3
//           was trained, Grattafiori et al., 2024), or stay where they are and are visited in a ring (Liu et al., 2023),
//           each attention as compiler/analysis/ContextAttention.h says. Causal attention is balanced: a member has the early part r of 2 R and the
//           late part 2 R - 1 - r, unless something else looks at positions
//   write   operations of a cut atom become those of one member; where a value is needed in another form (alike, spread,
//           partial: compiler/dialect/CollectiveOps.td), a collective stands between
//
// Key and value heads that are fewer than members are computed by every member, which then takes those that its query
// heads read. Limits: an atom that members do not divide is not cut (a vocabulary of 50,257 over 4); weights are cut
// along one atom; dropout is not cut, for its mask is drawn by position.
#include "passes/ShardAxis.h"
#include "compiler/analysis/GatherStep.h"
#include "compiler/analysis/Blocks.h"
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/StepSupport.h"
#include "passes/ShardDimensions.h"
#include <map>

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

using Node = ShardNode;
using Dimensions = ShardDimensions;

constexpr int64_t leastTableRows = 256;

// Along which atoms operations are cut.
class Choice {
public:
  Choice(StepOp step, Dimensions &dimensions, const AxisRequest &request)
      : dimensions(dimensions), request(request) {
    collect(step);
  }

  AxisOutcome decide() {
    AxisOutcome outcome;
    if (request.along == AxisRequest::Along::Sequence) {
      claimSequence(outcome);
      return outcome;
    }
    for (uint32_t atom : order)
      if (ofWeight(atom) && divides(atom) && isWholeWay(atom)) {
        claim(atom);
        ++outcome.dimensions;
      }
    findWhole(outcome);
    if (request.along == AxisRequest::Along::WeightsAndTokens && outcome.dimensions > 0)
      outcome.tokens = claimTokens();
    return outcome;
  }

private:
  struct Touch {
    size_t node;
    unsigned factor;
  };
  struct Facts {
    std::vector<Touch> touches;
    bool weight = false;  // a dimension of a parameter of rank 2 or more
    bool opaque = false;  // goes through something that has no rule
    bool twice = false;   // an activation has it in two dimensions (scores of a sequence with itself)
  };

  bool canBeCut(uint32_t atom) const { return !dimensions.atoms.isFixed(atom) && !facts.at(atom).twice; }
  bool divides(uint32_t atom) const {
    return canBeCut(atom) && dimensions.atoms.size(atom) % request.members == 0;
  }
  // A dimension of a weight. A table that nothing but a lookup reads is worth a sum of what was looked up if it is long:
  // a vocabulary, not positions or kinds of segments.
  bool ofWeight(uint32_t atom) const {
    const Facts &f = facts.at(atom);
    bool lookedUp = llvm::all_of(f.touches, [&](const Touch &touch) {
      return dimensions.nodes[touch.node].rule.factors[touch.factor].kind == FactorKind::Indexed;
    });
    return f.weight && (!lookedUp || dimensions.atoms.size(atom) >= leastTableRows);
  }

  void collect(StepOp step) {
    auto at = [&](uint32_t atom) -> Facts & {
      auto [entry, isNew] = facts.try_emplace(atom);
      if (isNew)
        order.push_back(atom);
      return entry->second;
    };
    for (auto [number, node] : llvm::enumerate(dimensions.nodes)) {
      if (auto parameter = dyn_cast<ParameterOp>(node.op))
        for (unsigned dim = 0, rank = shapeOf(parameter.getResult()).size(); dim < rank && rank >= 2; ++dim)
          for (uint32_t atom : dimensions.of(parameter.getResult(), dim))
            at(atom).weight = true;
      if (node.divisible) {
        for (auto [factor, atoms] : llvm::enumerate(node.factorAtoms))
          for (uint32_t atom : dimensions.atoms.leaves(atoms))
            at(atom).touches.push_back({number, static_cast<unsigned>(factor)});
        continue;
      }
      for (Value operand : node.op->getOperands())
        for (unsigned dim = 0, rank = shapeOf(operand).size(); dim < rank; ++dim)
          for (uint32_t atom : dimensions.of(operand, dim))
            at(atom).opaque = true;
    }
    FailureOr<GatheredStep> gathered = gatherStep(step);
    if (failed(gathered))
      return; // reported; nothing is then an activation
    std::vector<bool> activations = findActivations(gathered->graph);
    for (auto [number, value] : llvm::enumerate(gathered->values)) {
      if (!activations[number])
        continue;
      activation.insert(value);
      AtomList seen;
      for (unsigned dim = 0, rank = shapeOf(value).size(); dim < rank; ++dim)
        for (uint32_t atom : dimensions.of(value, dim)) {
          at(atom).twice |= llvm::is_contained(seen, atom);
          seen.push_back(atom);
        }
    }
  }

  // What would have been cut but for its size, or for the loss.
  void findWhole(AxisOutcome &outcome) const {
    findWhole(outcome.indivisible, [&](uint32_t atom) { return !divides(atom) && isWholeWay(atom); });
    findWhole(outcome.readByLoss, [&](uint32_t atom) { return !isWholeWay(atom) && isWholeWay(atom, /*butLoss=*/true); });
  }
  template <class Is> void findWhole(std::vector<WholeDimension> &list, Is &&is) const {
    for (const Node &node : dimensions.nodes) {
      auto parameter = dyn_cast<ParameterOp>(node.op);
      if (!parameter || shapeOf(parameter.getResult()).size() < 2)
        continue;
      for (auto [dim, size] : llvm::enumerate(shapeOf(parameter.getResult()))) {
        int64_t parts = 1;
        for (uint32_t atom : dimensions.of(parameter.getResult(), static_cast<unsigned>(dim)))
          if (ofWeight(atom) && canBeCut(atom) && is(atom))
            parts *= dimensions.atoms.size(atom);
        if (parts == 1)
          continue;
        auto same = llvm::find_if(list, [&, dim = dim, size = size](const WholeDimension &other) {
          return other.dim == static_cast<int64_t>(dim) && other.size == size && other.parts == parts;
        });
        if (same == list.end())
          list.push_back({parameter.getName().str(), 0, static_cast<int64_t>(dim), size, parts});
        else
          ++same->others;
      }
    }
  }

  // Everything that the atom goes through, but an unfused loss if asked so, can be cut along it, and nothing of it is cut
  // along another.
  bool isWholeWay(uint32_t atom, bool butLoss = false) const {
    const Facts &f = facts.at(atom);
    if (!canBeCut(atom) || f.opaque || f.touches.empty())
      return false;
    std::optional<size_t> last;
    for (const Touch &touch : f.touches) {
      const Node &node = dimensions.nodes[touch.node];
      const bool whole = node.rule.factors[touch.factor].kind == FactorKind::Whole && !(butLoss && isa<CrossEntropyOp>(node.op));
      if (whole || node.cut != noAtom || last == touch.node ||
          (!request.experts && isa<GroupedMatmulOp>(node.op)))
        return false;
      last = touch.node;
    }
    return true;
  }

  void claim(uint32_t atom) {
    for (const Touch &touch : facts.at(atom).touches) {
      dimensions.nodes[touch.node].cut = atom;
      dimensions.nodes[touch.node].factor = touch.factor;
    }
  }

  bool isActivation(Value v) const { return activation.contains(v); }

  bool worksAlong(const Node &node, unsigned factor) const {
    FactorKind kind = node.rule.factors[factor].kind;
    return node.cut == noAtom &&
           (kind == FactorKind::Parallel || kind == FactorKind::Sum || kind == FactorKind::Placed) &&
           (readsActivation(node) || llvm::any_of(node.op->getResults(), [&](Value v) { return isActivation(v); }));
  }

  // Tokens are cut along what most of the work that is left can be cut along: the batch, if members divide it, whose pieces
  // lie in a row, else the sequence.
  bool claimTokens() {
    uint32_t best = noAtom;
    size_t most = 0;
    for (uint32_t atom : order) {
      const Facts &f = facts.at(atom);
      if (f.weight || !divides(atom))
        continue;
      size_t count = llvm::count_if(f.touches, [&](const Touch &touch) {
        return worksAlong(dimensions.nodes[touch.node], touch.factor);
      });
      if (count > most) {
        best = atom;
        most = count;
      }
    }
    if (best == noAtom)
      return false;
    claimWorkAlong(best);
    return true;
  }

  void claimWorkAlong(uint32_t atom) {
    for (const Touch &touch : facts.at(atom).touches) {
      Node &node = dimensions.nodes[touch.node];
      if (!worksAlong(node, touch.factor))
        continue;
      node.cut = atom;
      node.factor = touch.factor;
    }
  }

  bool readsActivation(const Node &node) const {
    return llvm::any_of(node.op->getOperands(), [&](Value v) { return isActivation(v); });
  }

  // The positions that most attentions' queries have.
  void claimSequence(AxisOutcome &outcome) {
    uint32_t best = noAtom;
    size_t most = 0;
    for (uint32_t atom : order) {
      size_t count = llvm::count_if(facts.at(atom).touches, [&](const Touch &touch) {
        return dimensions.nodes[touch.node].rule.factors[touch.factor].kind == FactorKind::Placed;
      });
      if (divides(atom) && count > most) {
        best = atom;
        most = count;
      }
    }
    if (best == noAtom)
      return;
    outcome.tokens = true;
    outcome.zigzag = dimensions.atoms.size(best) % (2 * request.members) == 0 && isCausal() && onlyAttentionLooks(best);
    claimWorkAlong(best);
    for (Node &node : dimensions.nodes)
      if (auto attention = dyn_cast<AttentionOp>(node.op))
        chooseRing(attention, node, best, outcome);
  }

  // Why the attention cannot be in a ring; empty if it can.
  StringRef hindrance(AttentionOp attention, const Node &node, uint32_t atom) const {
    if (attention.getDropout())
      return "dropout's mask is drawn by position";
    if (node.cut != atom && attention.getBias())
      return "the bias has positions of queries and keys";
    auto isAtom = [&](Value v) { return dimensions.of(v, 2) == AtomList{atom}; };
    if (node.cut != atom || !isAtom(attention.getQ()) || !isAtom(attention.getK()) || !isAtom(attention.getV()))
      return "its keys are not of the sequence that is divided";
    if (request.members > static_cast<int64_t>(rt::mostRingMembers))
      return "there are too many members";
    return "";
  }

  void chooseRing(AttentionOp attention, Node &node, uint32_t atom, AxisOutcome &outcome) const {
    if (request.attention != ContextAttention::AllGather) {
      if (StringRef reason = hindrance(attention, node, atom); !reason.empty())
        ++outcome.noRing[reason.str()];
      else
        node.ring = request.attention == ContextAttention::Ring || isRingBetter(attention, outcome);
    }
    outcome.rings += node.ring;
    outcome.gathers += node.cut == atom && !node.ring;
  }

  bool isRingBetter(AttentionOp attention, AxisOutcome &outcome) const {
    ArrayRef<int64_t> q = shapeOf(attention.getQ());
    auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
    ContextCase c;
    // As the copy of one member has it.
    c.ring = attention.ringShape();
    c.ring.members = u(request.members);
    c.ring.rows = u(q[2] / request.members);
    c.ring.zigzag = outcome.zigzag;
    c.forwardFlops = attention.getFlops() / u(request.members);
    c.readers = u(llvm::count_if(attention.getK().getUsers(), [](Operation *user) { return isa<AttentionOp>(user); }));
    c.span = request.span;
    ContextCost ring = ringCost(c, request.device), gather = gatherCost(c, request.device);
    if (outcome.ring.picoseconds == 0) {
      outcome.ring = ring;
      outcome.gather = gather;
    }
    return amc::isRingBetter(ring, gather);
  }

  bool isCausal() const {
    return llvm::any_of(dimensions.nodes, [](const Node &node) {
      auto attention = dyn_cast<AttentionOp>(node.op);
      return attention && attention.getRight();
    });
  }

  // Nothing but attention has to know which position an activation stands at.
  bool onlyAttentionLooks(uint32_t atom) const {
    for (const Touch &touch : facts.at(atom).touches)
      if (const Node &node = dimensions.nodes[touch.node];
          node.rule.factors[touch.factor].kind == FactorKind::Whole && readsActivation(node) && !isa<AttentionOp>(node.op))
        return false;
    for (const Node &node : dimensions.nodes)
      if (!node.divisible && readsActivation(node))
        for (Value operand : node.op->getOperands())
          if (dimensions.find(operand, atom))
            return false;
    return true;
  }

  Dimensions &dimensions;
  const AxisRequest &request;
  std::map<uint32_t, Facts> facts;
  std::vector<uint32_t> order; // as they come up
  DenseSet<Value> activation;
};

class Writer {
public:
  Writer(StepOp step, Dimensions &dimensions, const AxisRequest &request)
      : step(step), dimensions(dimensions), request(request), b(step.getContext()) {}

  void run(AxisOutcome &outcome) {
    findVaried();
    zigzag = outcome.zigzag;
    for (Node &node : dimensions.nodes)
      if (auto parameter = dyn_cast<ParameterOp>(node.op); parameter && request.along != AxisRequest::Along::Sequence)
        outcome.parameters += place(parameter);
    SmallVector<Operation *> replaced;
    for (Node &node : dimensions.nodes) {
      if (isa<SourceOpInterface>(node.op))
        continue;
      b.setInsertionPoint(node.op);
      if (node.cut == noAtom) {
        for (OpOperand &operand : node.op->getOpOperands())
          operand.set(alike(operand.get()));
        continue;
      }
      divide(node);
      replaced.push_back(node.op);
      ++outcome.operations;
    }
    for (Operation *op : llvm::reverse(replaced))
      op->erase();
    for (Operation *op : llvm::reverse(wholeParameters))
      op->erase();
  }

private:
  // What there is of a value.
  struct Forms {
    Value alike, varying, partial;
    Value stored; // whole, in the order in which members have it: another one than positions' with zigzag
    SmallVector<std::pair<uint32_t, Value>, 1> spread; // by atom
  };

  // One dimension with the atom in it: `blocks` equal parts, each of which is cut.
  struct Place {
    unsigned dim;
    int64_t blocks, size; // of each block
  };
  Place placeOf(Value value, uint32_t atom) const {
    unsigned dim = *dimensions.find(value, atom);
    int64_t blocks = 1;
    for (uint32_t other : dimensions.of(value, dim)) {
      if (other == atom)
        break;
      blocks *= dimensions.atoms.size(other);
    }
    return {dim, blocks, shapeOf(value)[dim] / blocks};
  }
  SmallVector<int64_t> pieceShape(Value value, uint32_t atom) const {
    SmallVector<int64_t> shape(shapeOf(value));
    shape[placeOf(value, atom).dim] /= request.members;
    return shape;
  }
  /// The shape with the dimension parted into blocks, and which dimension is then cut.
  static std::pair<SmallVector<int64_t>, int64_t> parted(ArrayRef<int64_t> shape, const Place &place) {
    if (place.blocks == 1)
      return {SmallVector<int64_t>(shape), place.dim};
    SmallVector<int64_t> result(shape);
    result[place.dim] /= place.blocks;
    result.insert(result.begin() + place.dim, place.blocks);
    return {result, place.dim + 1};
  }

  void findVaried() {
    for (Node &node : dimensions.nodes) {
      auto parameter = dyn_cast<ParameterOp>(node.op);
      bool depends = parameter ? parameter.getTrainable() : llvm::any_of(node.op->getOperands(), [&](Value v) {
        return varied.contains(v);
      });
      if (depends)
        for (Value result : node.op->getResults())
          if (isa<FloatType>(elementOf(result)))
            varied.insert(result);
    }
  }

  /// Makes the parameter that of one member if what reads it is cut along it.
  bool place(ParameterOp parameter) {
    Value whole = parameter.getResult();
    uint32_t atom = dimensions.cutOfReader(whole);
    if (atom == noAtom)
      return false;
    Place at = placeOf(whole, atom);
    b.setInsertionPoint(parameter);
    auto piece = cast<ParameterOp>(b.clone(*parameter));
    piece.getResult().setType(RankedTensorType::get(pieceShape(whole, atom), elementOf(whole)));
    SmallVector<Attribute> splits;
    if (piece.getSplits())
      llvm::append_range(splits, piece.getSplitsAttr());
    splits.push_back(SplitAttr::get(b.getContext(), at.dim, request.axis, request.members, shapeOf(whole)[at.dim], at.blocks));
    piece.setSplitsAttr(b.getArrayAttr(splits));
    forms[whole].spread.emplace_back(atom, piece.getResult());
    wholeParameters.push_back(parameter);
    return true;
  }

  Forms &formsOf(Value value) {
    auto [entry, isNew] = forms.try_emplace(value);
    if (isNew)
      entry->second.alike = value; // nothing has changed it
    return entry->second;
  }

  Value alike(Value value) {
    Forms &f = formsOf(value);
    if (f.alike)
      return f.alike;
    Value made;
    if (f.partial)
      made = AllReduceOp::create(b, value.getLoc(), f.partial, request.axis, request.members);
    else
      made = gathered(value, f.spread.front(), /*alike=*/true);
    return forms[value].alike = made;
  }

  /// Alike, and used in each member's own work.
  Value varying(Value value) {
    Forms f = formsOf(value);
    if (f.varying)
      return f.varying;
    Value made;
    if (!f.alike && !f.partial)
      made = gathered(value, f.spread.front(), /*alike=*/false);
    else if (made = alike(value); varied.contains(value))
      made = VaryOp::create(b, value.getLoc(), made, request.axis, request.members);
    return forms[value].varying = made;
  }

  Value spread(Value value, uint32_t atom) {
    Forms f = formsOf(value);
    for (auto [its, made] : f.spread)
      if (its == atom)
        return made;
    Place place = placeOf(value, atom);
    Location loc = value.getLoc();
    auto [shape, dim] = parted(shapeOf(value), place);
    Value made;
    if (f.partial && !zigzag)
      made = ReduceScatterOp::create(b, loc, reshape(b, loc, f.partial, shape), dim, request.axis, request.members);
    else
      made = TakePieceOp::create(b, loc, reshape(b, loc, alike(value), shape), dim, request.axis, request.members, zigzag);
    made = reshape(b, loc, made, pieceShape(value, atom));
    forms[value].spread.emplace_back(atom, made);
    return made;
  }

  Value stored(Value value, uint32_t atom) {
    if (Value made = formsOf(value).stored)
      return made;
    Value made = gathered(value, {atom, spread(value, atom)}, /*alike=*/false);
    return forms[value].stored = made;
  }

  Value gathered(Value value, std::pair<uint32_t, Value> from, bool alike) {
    Place place = placeOf(value, from.first);
    Location loc = value.getLoc();
    auto [shape, dim] = parted(shapeOf(from.second), place);
    Value whole = AllGatherOp::create(b, loc, reshape(b, loc, from.second, shape), dim, place.size, request.axis,
                                      request.members, /*reshard=*/false, /*retain=*/false, alike);
    return reshape(b, loc, whole, shapeOf(value));
  }

  bool isCut(const ShardingRule::Dims &dims, unsigned factor) const {
    return llvm::any_of(dims, [&](ArrayRef<unsigned> factors) { return llvm::is_contained(factors, factor); });
  }

  void divide(const Node &node) {
    Operation *op = node.op;
    FactorKind kind = node.rule.factors[node.factor].kind;
    SmallVector<Value> operands;
    for (auto [number, operand] : llvm::enumerate(op->getOperands())) {
      bool cut = node.rule.flat || isCut(node.rule.operands[number], node.factor) || (node.ring && (number == 1 || number == 2));
      operands.push_back(cut                                             ? spread(operand, node.cut)
                         : zigzag && dimensions.find(operand, node.cut) ? stored(operand, node.cut)
                                                                         : varying(operand));
    }
    // What is added to a sum is added once, when the members' parts have been added up.
    Value addend;
    if (auto linear = dyn_cast<LinearOp>(op); linear && linear.getBias() && kind == FactorKind::Sum) {
      addend = linear.getBias();
      operands.pop_back();
    }
    Operation *copy = op->clone();
    copy->setOperands(operands);
    for (auto [number, result] : llvm::enumerate(op->getResults()))
      if (node.rule.flat || isCut(node.rule.results[number], node.factor))
        copy->getResult(number).setType(RankedTensorType::get(pieceShape(result, node.cut), elementOf(result)));
    cast<ShardingOpInterface>(copy).localize(kind, request.axis, request.members);
    if (auto attention = dyn_cast<AttentionOp>(copy)) { // what another axis has said of it stays
      attention.setZigzag(attention.getZigzag() || zigzag);
      attention.setRing(attention.getRing() || node.ring);
    }
    b.insert(copy);
    for (auto [number, result] : llvm::enumerate(op->getResults())) {
      Value made = copy->getResult(number);
      Forms &f = forms[result];
      if (node.rule.flat || isCut(node.rule.results[number], node.factor))
        f.spread.emplace_back(node.cut, made);
      else if (kind == FactorKind::Sum || kind == FactorKind::Indexed)
        f.partial = made;
      else
        f.alike = made;
    }
    if (addend)
      addOnce(op->getResult(0), addend);
  }

  void addOnce(Value result, Value addend) {
    Location loc = result.getLoc();
    uint32_t along = dimensions.cutOfReader(result); // the sequence's
    if (along == noAtom) {
      Value sum = AddOp::create(b, loc, alike(result), alike(addend));
      forms[result] = Forms{sum, {}, {}, {}, {}};
      return;
    }
    Value sum = AddOp::create(b, loc, spread(result, along), varying(addend));
    forms[result] = Forms{{}, {}, {}, {}, {{along, sum}}};
  }

  StepOp step;
  Dimensions &dimensions;
  const AxisRequest &request;
  OpBuilder b;
  DenseMap<Value, Forms> forms; // look-ups only
  DenseSet<Value> varied;       // depends on a parameter that is trained
  bool zigzag = false;
  SmallVector<Operation *> wholeParameters;
};

} // namespace

// Where members are a multiple of the key heads, a head for each: keys and values are repeated, which costs nothing once
// every member takes its own.
static SmallVector<AttentionOp> repeatKeyHeads(StepOp step, int64_t members) {
  SmallVector<AttentionOp> repeated;
  for (AttentionOp attention : llvm::to_vector(step.getOps<AttentionOp>())) {
    int64_t heads = shapeOf(attention.getQ())[1], keyHeads = shapeOf(attention.getK())[1];
    if (attention.getDropout() || keyHeads == 0 || members <= keyHeads || members % keyHeads != 0 || heads % members != 0)
      continue;
    OpBuilder b(attention);
    SmallVector<int64_t> which;
    for (int64_t head = 0; head < members; ++head)
      which.push_back(head / (members / keyHeads));
    auto type = RankedTensorType::get(members, b.getI64Type());
    Location loc = attention.getLoc();
    Value indices = ConstantOp::create(b, loc, type, DenseElementsAttr::get(type, ArrayRef(which)));
    attention.getKMutable().assign(GatherOp::create(b, loc, attention.getK(), indices, 1));
    attention.getVMutable().assign(GatherOp::create(b, loc, attention.getV(), indices, 1));
    repeated.push_back(attention);
  }
  return repeated;
}

AxisOutcome amc::shardAxis(StepOp step, const AxisRequest &request) {
  SmallVector<AttentionOp> repeated;
  if (request.along != AxisRequest::Along::Sequence)
    repeated = repeatKeyHeads(step, request.members);
  Dimensions dimensions(step);
  AxisOutcome outcome = Choice(step, dimensions, request).decide();
  // Where heads are not cut after all, there is nothing to repeat them for.
  for (AttentionOp attention : repeated)
    if (dimensions.node(attention).cut == noAtom)
      for (OpOperand *operand : {&attention.getKMutable(), &attention.getVMutable()})
        operand->set(operand->get().getDefiningOp<GatherOp>().getX());
  if (outcome.dimensions > 0 || outcome.tokens)
    Writer(step, dimensions, request).run(outcome);
  eraseDeadOps(step);
  return outcome;
}
