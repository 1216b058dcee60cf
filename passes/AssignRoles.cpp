// Decides which parameters are trained, by what they do. The exporter's file does not say: weights,
// buffers, rotary tables and masks are all float initializers.
//
// Each parameter is followed to where it meets an activation (a float that depends on the batch): a
// product makes it a weight, a sum a bias, a lookup by indices an embedding. It is not trained
// where it only meets positions (inverse frequencies), is the cosine or sine of a rotary embedding,
// masks attention scores, holds sinusoids, is marked as a buffer by the importer, or has no
// differentiable path to an output.
//
// Limits: a table of cosines that is multiplied in one place and not rotated, and a fixed position
// table that is not made of sinusoids, look like weights. `frozen` is for them.
#include "compiler/analysis/ConstantValue.h"
#include "compiler/dialect/OpSupport.h"
#include "passes/Passes.h"
#include "runtime/support/Nearest.h"
#include "llvm/Support/GlobPattern.h"

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace amc {
#define GEN_PASS_DEF_ASSIGNROLES
#include "passes/Passes.h.inc"
} // namespace amc

namespace {

/// What a value depends on.
enum class Dependence { Nothing, Indices, Activations };

/// Moves elements without computing: what comes out is what went in.
bool isMovement(Operation *op) {
  return isa<ViewOpInterface, CastOp, TransposeOp, BroadcastOp, SliceOp, ConcatOp, PadOp>(op);
}

bool isLookup(Operation *op) {
  return isa<GatherOp, EmbeddingOp, GatherElementsOp, GatherNdOp>(op);
}

bool isFloat(Value v) { return isa<FloatType>(elementOf(v)); }

/// More than one of the dimensions is longer than one.
bool isMatrix(Value v) {
  return llvm::count_if(shapeOf(v), [](int64_t dim) { return dim > 1; }) > 1;
}

/// A path that gradients do not take although the operand is a float.
bool isConstantOperand(OpOperand &use) {
  Operation *op = use.getOwner();
  if (auto rotary = dyn_cast<RotaryOp>(op))
    return use.get() == rotary.getCos() || use.get() == rotary.getSin();
  if (auto attention = dyn_cast<AttentionOp>(op))
    return use.get() == attention.getBias();
  return false;
}

struct Role {
  std::string name;
  bool trained = false;
  int64_t uses = 0; // operations that it is trained for
};

class Roles {
public:
  explicit Roles(StepOp step) {
    for (Operation &op : *step.getBody().begin())
      classify(&op);
    for (Operation &op : llvm::reverse(*step.getBody().begin()))
      markDifferentiable(&op);
  }

  bool isDifferentiable(Value v) const { return differentiable.contains(v); }
  Role decide(ParameterOp parameter);

private:
  void classify(Operation *op);
  void markDifferentiable(Operation *op);
  /// What the parameter is where `use` reads a value made from it; empty if the value is made on.
  std::optional<Role> roleOf(OpOperand &use, bool lookedUp) const;
  bool feedsRotation(Operation *product) const;
  bool masksScores(OpOperand &use) const;
  Dependence of(Value v) const { return dependence.lookup(v); }
  bool derivesByMovement(Value from, Value to) const;
  SmallVector<Value> handedOn(Operation *op) const;

  llvm::DenseMap<Value, Dependence> dependence;
  llvm::DenseSet<Value> differentiable;
};

void Roles::classify(Operation *op) {
  Dependence most = Dependence::Nothing;
  if (isa<InputOp>(op))
    most = isFloat(op->getResult(0)) ? Dependence::Activations : Dependence::Indices;
  for (Value operand : op->getOperands())
    most = std::max(most, of(operand));
  // A row of a table that indices choose is an activation.
  if (most == Dependence::Indices && isLookup(op) && isFloat(op->getResult(0)))
    most = Dependence::Activations;
  for (Value result : op->getResults())
    dependence[result] = most;
}

void Roles::markDifferentiable(Operation *op) {
  bool wanted = isa<OutputOp>(op) ||
                (isa<DifferentiableOpInterface>(op) && llvm::any_of(op->getResults(), [&](Value v) {
                   return differentiable.contains(v);
                 }));
  if (!wanted)
    return;
  for (OpOperand &operand : op->getOpOperands())
    if (isFloat(operand.get()) && !isConstantOperand(operand))
      differentiable.insert(operand.get());
}

/// Operands whose elements an operation hands on, possibly negated; none if it computes something
/// else.
SmallVector<Value> Roles::handedOn(Operation *op) const {
  if (isMovement(op) || isa<NegOp>(op))
    return llvm::to_vector(op->getOperands());
  if (isa<GatherOp>(op) && of(op->getOperand(1)) == Dependence::Nothing)
    return {op->getOperand(0)};
  return {};
}

/// Whether `to` holds elements of `from`, possibly negated: halves swapped, neighbours swapped.
bool Roles::derivesByMovement(Value from, Value to) const {
  SmallVector<Value> work{to};
  for (int steps = 0; !work.empty() && steps < 32; ++steps) {
    Value v = work.pop_back_val();
    if (v == from)
      return true;
    if (Operation *op = v.getDefiningOp())
      llvm::append_range(work, handedOn(op));
  }
  return false;
}

/// x * cos + rotated(x) * sin, in whatever way the exporter rotates.
bool Roles::feedsRotation(Operation *product) const {
  auto mul = dyn_cast<MulOp>(product);
  if (!mul)
    return false;
  for (Operation *user : mul->getUsers()) {
    if (!isa<AddOp, SubOp>(user))
      continue;
    Value other = user->getOperand(user->getOperand(0) == mul.getResult() ? 1 : 0);
    auto otherMul = other.getDefiningOp<MulOp>();
    if (!otherMul)
      continue;
    for (Value x : mul->getOperands())
      for (Value y : otherMul->getOperands()) {
        bool activations =
            of(x) == Dependence::Activations && of(y) == Dependence::Activations && x != y;
        // Halves of one tensor count too: x1 cos - x2 sin.
        auto whole = [&](Value v) {
          for (Operation *op = v.getDefiningOp(); op && !isa<ConcatOp>(op) && !handedOn(op).empty();
               op = v.getDefiningOp())
            v = handedOn(op)[0];
          return v;
        };
        auto isPart = [](Value v) {
          return isa_and_nonnull<SliceOp, GatherOp, ReshapeOp>(v.getDefiningOp());
        };
        bool halves = isPart(x) && isPart(y) && whole(x) == whole(y);
        if (activations && (derivesByMovement(x, y) || derivesByMovement(y, x) || halves))
          return true;
      }
  }
  return false;
}

/// A matrix combined with what goes straight into a softmax.
bool Roles::masksScores(OpOperand &use) const {
  if (!isa<AddOp, SubOp, MulOp, SelectOp>(use.getOwner()) || !isMatrix(use.get()))
    return false;
  SmallVector<Value> work(use.getOwner()->getResults());
  for (int steps = 0; !work.empty() && steps < 32; ++steps) {
    Value v = work.pop_back_val();
    for (Operation *user : v.getUsers()) {
      if (isa<SoftmaxOp>(user))
        return true;
      bool elementwise = isa<AddOp, SubOp, MulOp, DivOp, SelectOp, MaxOp, MinOp, TanhOp>(user) &&
                         llvm::all_of(user->getOperands(), [&](Value other) {
                           return other == v || of(other) != Dependence::Activations;
                         });
      if (elementwise || isMovement(user))
        work.push_back(user->getResult(0));
    }
  }
  return false;
}

std::optional<Role> Roles::roleOf(OpOperand &use, bool lookedUp) const {
  Operation *op = use.getOwner();
  if (isa<RotaryOp>(op) && isConstantOperand(use))
    return Role{"rotary table", false};
  if (isa<AttentionOp>(op) && isConstantOperand(use))
    return Role{"attention bias", false};
  if (isa<OutputOp>(op))
    return Role{"output", false};
  if (isMovement(op) && !(isa<ConcatOp>(op) && llvm::any_of(op->getOperands(), [&](Value other) {
                            return other != use.get() && of(other) == Dependence::Activations;
                          })))
    return std::nullopt;
  Dependence others = Dependence::Nothing;
  for (OpOperand &other : op->getOpOperands())
    if (other.getOperandNumber() != use.getOperandNumber())
      others = std::max(others, of(other.get()));
  if (isLookup(op) && use.getOperandNumber() == 0)
    return std::nullopt;
  bool madeOn = of(use.get()) == Dependence::Nothing && others == Dependence::Nothing;
  if (madeOn)
    return std::nullopt;
  // A table of relative positions meets a padding mask before both meet the scores: look further.
  if (of(use.get()) != Dependence::Activations && others == Dependence::Indices && lookedUp &&
      isa<AddOp, SubOp, SelectOp>(op))
    return std::nullopt;
  if (of(use.get()) != Dependence::Activations && others == Dependence::Indices)
    return Role{"position factor", false};
  if (isMatrix(use.get()) && feedsRotation(op))
    return Role{"rotary table", false};
  if (!lookedUp && masksScores(use))
    return Role{"mask", false};
  if (lookedUp)
    return Role{"embedding", true};
  if (isa<LinearOp, MatmulOp, GroupedMatmulOp>(op))
    return Role{use.getOperandNumber() == 2 && isa<LinearOp>(op) ? "bias" : "weight", true};
  if (isa<RmsNormOp, LayerNormOp>(op))
    return Role{use.getOperandNumber() == 2 ? "norm bias" : "norm weight", true};
  return Role{isa<AddOp, SubOp>(op) ? "bias" : "factor", true};
}

/// Fixed position tables: cosine and sine of each angle are both in a row, so its squares sum to
/// half its width.
bool holdsSinusoids(ParameterOp parameter) {
  ArrayRef<int64_t> shape = shapeOf(parameter.getResult());
  if (shape.size() < 2 || shape.back() < 8 || shape.back() % 2)
    return false;
  std::optional<HostTensor> values = readParameter(parameter, int64_t(1) << 24);
  if (!values)
    return false;
  int64_t width = shape.back(), rows = values->size() / width, seen = 0;
  for (int64_t row = 0; row < rows; ++row) {
    double squares = 0;
    for (int64_t i = 0; i < width; ++i)
      squares += values->number(row * width + i) * values->number(row * width + i);
    if (squares == 0) // a padding row
      continue;
    if (!(std::abs(squares - width / 2.0) < 1e-3 * width))
      return false;
    ++seen;
  }
  return seen >= 2;
}

Role Roles::decide(ParameterOp parameter) {
  Value value = parameter.getResult();
  if (!isFloat(value))
    return {"integers", false};
  if (parameter->hasAttr("train.buffer"))
    return {"buffer", false};
  std::optional<Role> untrained, trained;
  struct Item {
    Value value;
    bool lookedUp;
  };
  SmallVector<Item> work{{value, false}};
  llvm::DenseSet<Value> seen{value};
  llvm::DenseSet<Operation *> uses;
  while (!work.empty()) {
    Item item = work.pop_back_val();
    for (OpOperand &use : item.value.getUses()) {
      std::optional<Role> role = roleOf(use, item.lookedUp);
      if (role) {
        std::optional<Role> &slot = role->trained ? trained : untrained;
        if (!slot)
          slot = role;
        uses.insert(use.getOwner());
        continue;
      }
      bool lookedUp = item.lookedUp || isLookup(use.getOwner());
      for (Value result : use.getOwner()->getResults())
        if (isFloat(result) && seen.insert(result).second)
          work.push_back({result, lookedUp});
    }
  }
  if (!trained)
    return untrained ? *untrained : Role{"unused", false};
  if (!isDifferentiable(value))
    return {trained->name + ", no gradient", false};
  bool table = trained->name == "embedding" || trained->name == "bias";
  if (table && isMatrix(value) && holdsSinusoids(parameter))
    return {"sinusoidal positions", false};
  trained->uses = static_cast<int64_t>(uses.size());
  return *trained;
}

/// Vectors that several layers share. Models share matrices on purpose; norms and biases are equal before training, so
/// exporters that merge equal initializers make one of them.
struct Shared {
  int64_t count = 0, uses = 0;
  std::string first;

  void add(const Role &role, StringRef name) {
    bool isVector = role.name == "norm weight" || role.name == "norm bias" || role.name == "bias";
    if (!role.trained || !isVector || role.uses < 2)
      return;
    if (count++ == 0) {
      first = name.str();
      uses = role.uses;
    }
  }
};

struct AssignRoles : amc::impl::AssignRolesBase<AssignRoles> {
  using Base::Base;

  /// Names that a parameter goes by: its own and those of initializers tied to it.
  static SmallVector<StringRef> namesOf(ParameterOp parameter) {
    SmallVector<StringRef> names{parameter.getName()};
    if (ArrayAttr tied = parameter.getTiedAttr())
      for (TiedNameAttr name : tied.getAsRange<TiedNameAttr>())
        names.push_back(name.getInitializer());
    return names;
  }

  /// How exactly a glob names what it matches: its characters that stand for themselves, roughly.
  static size_t exactness(StringRef glob) {
    return llvm::count_if(glob, [](char c) { return c != '*' && c != '?'; });
  }

  /// The parameters that any of `globs` names, with the exactness of the most exact one, from 1. A
  /// glob that names none is an error.
  FailureOr<llvm::DenseMap<Operation *, size_t>> match(ArrayRef<std::string> globs,
                                                       StringRef option,
                                                       ArrayRef<ParameterOp> parameters) {
    llvm::DenseMap<Operation *, size_t> matched;
    bool sound = true;
    for (StringRef glob : globs) {
      llvm::Expected<llvm::GlobPattern> pattern =
          llvm::GlobPattern::create(glob, /*MaxSubPatterns=*/1024);
      if (!pattern) {
        emitError(getOperation().getLoc())
            << "--" << option << " '" << glob
            << "' is no pattern: " << llvm::toString(pattern.takeError());
        sound = false;
        continue;
      }
      size_t hits = 0;
      std::vector<std::string> names;
      for (ParameterOp parameter : parameters)
        for (StringRef name : namesOf(parameter)) {
          if (pattern->match(name)) {
            size_t &most = matched[parameter];
            most = std::max(most, exactness(glob) + 1);
            ++hits;
          }
          names.push_back(name.str());
        }
      if (hits)
        continue;
      auto diagnostic = emitError(getOperation().getLoc())
                        << "--" << option << " '" << glob << "' matches no initializer";
      if (std::string near = rt::nearest(glob, names); !near.empty())
        diagnostic.attachNote() << "the nearest name is '" << near << "'"
                                << (StringRef(near).contains(glob) ? ", which '*" + glob.str() + "*' matches" : "");
      else if (!names.empty())
        diagnostic.attachNote() << "a pattern is held against all of a name, such as '" << names.front()
                                << "'; amc compile without it lists them all";
      sound = false;
    }
    if (!sound)
      return failure();
    return matched;
  }

  LogicalResult assign(StepOp step) {
    SmallVector<ParameterOp> parameters(step.getBody().begin()->getOps<ParameterOp>());
    auto wanted = match(trainable, "trainable", parameters),
         unwanted = match(frozen, "frozen", parameters);
    if (failed(wanted) || failed(unwanted))
      return failure();
    Roles roles(step);
    bool sound = true;
    std::vector<std::array<std::string, 4>> rows;
    size_t nameWidth = 4, roleWidth = 4, shapeWidth = 5;
    int64_t trained = 0, elements = 0;
    Shared shared;
    for (ParameterOp parameter : parameters) {
      Role role = roles.decide(parameter);
      // The more exact of two globs decides: --frozen '*' --trainable 'lm_head.*' trains the head.
      size_t wish = wanted->lookup(parameter), veto = unwanted->lookup(parameter);
      if (wish > veto) {
        if (!roles.isDifferentiable(parameter.getResult()) || !isFloat(parameter.getResult())) {
          auto diagnostic = emitError(parameter.getLoc())
                            << "is asked to be trained, but is " << role.name;
          diagnostic.attachNote() << "no gradient reaches it; take it out of --trainable";
          sound = false;
        }
        role.trained = true;
      }
      // Frozen by request, but a weight in all else: precision is decided by that.
      parameter->removeAttr("train.frozen");
      if (veto && veto >= wish) {
        if (role.trained)
          parameter->setAttr("train.frozen", UnitAttr::get(&getContext()));
        role.trained = false;
      }
      parameter.setTrainable(role.trained);
      shared.add(role, parameter.getName());
      ArrayRef<int64_t> shape = shapeOf(parameter.getResult());
      rows.push_back({parameter.getName().str(), role.name, shapeString(shape),
                      role.trained ? "trained" : "-"});
      nameWidth = std::max(nameWidth, rows.back()[0].size());
      roleWidth = std::max(roleWidth, rows.back()[1].size());
      shapeWidth = std::max(shapeWidth, rows.back()[2].size());
      trained += role.trained;
      elements += role.trained ? elementCount(shape) : 0;
    }
    trainedParameters += trained;
    std::string table = std::to_string(trained) + " of " + std::to_string(parameters.size()) +
                        " parameters are trained, " + std::to_string(elements) + " elements";
    for (const auto &[name, role, shape, isTrained] : rows)
      table += "\n  " + name + std::string(nameWidth - name.size() + 2, ' ') + role +
               std::string(roleWidth - role.size() + 2, ' ') + shape +
               std::string(shapeWidth - shape.size() + 2, ' ') + isTrained;
    emitRemark(step.getLoc()) << table;
    if (shared.count)
      emitRemark(step.getLoc()) << shared.count << (shared.count == 1 ? " norm weight or bias is" : " norm weights or biases are")
                                << " used in several places (first: " << shared.first << ", " << shared.uses
                                << " uses) and trained as one; where the model has several, its exporter merged "
                                   "equal initializers: export with optimize=False to train them apart";
    return success(sound);
  }

  void runOnOperation() override {
    for (StepOp step : getOperation().getOps<StepOp>())
      if (failed(assign(step)))
        return signalPassFailure();
  }
};

} // namespace
