// Expert parallelism; see ShardExperts.h. Phases:
//
//   find    grouped products with the same ids, whose matrices are parameters that nothing else reads, and what stands
//           between such products row by row (slices, activations): all of that works on rows where their experts are
//   write   for each set of ids: slots; every row that comes in from outside is placed in its slot and sent, every row that
//           goes out is sent back and taken from there (compiler/dialect/ExpertOps.td). Matrices become those of a rank
//
// A matrix has the rows of all ranks that share its expert, so its gradient is complete among them: nothing has to be
// summed over their axes. Where ranks of cp or tp have the same rows, each takes a part of them first.
// GShard (Lepikhin et al., 2021); Megatron-LM's expert parallelism without a pipeline of its own.
#include "passes/ShardExperts.h"
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/StepSupport.h"
#include "llvm/ADT/MapVector.h"
#include <cmath>

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

// A grouped product, and what stands between its matrices' parameter and it.
struct Product {
  GroupedMatmulOp op;
  int64_t experts = 0;         // of all ranks
  std::array<bool, 2> divided; // over cp and tp
  ParameterOp parameter;       // null: cannot be spread
  SmallVector<Operation *> chain;
};

// Products with the same ids, so that one dispatch serves all.
struct Layer {
  SmallVector<Product> products;
  SmallVector<Operation *> rowwise; // between them, in program order
};
using LayerKey = std::pair<Value, std::pair<int64_t, int64_t>>; // ids, how many rows, how many experts

// The same ids under other shapes.
Value rootOf(Value ids) {
  while (auto reshape = ids.getDefiningOp<ReshapeOp>())
    ids = reshape.getX();
  return ids;
}

/// Whether the operation does for each row of `isRow` values the same, whatever rank it does that on, and which operands
/// have rows. Those that have none have to be alike on all ranks (`isFixed`).
bool isRowwise(Operation *op, int64_t rows, llvm::function_ref<bool(Value)> isRow, llvm::function_ref<bool(Value)> isFixed,
               SmallVectorImpl<bool> &hasRows) {
  auto divisible = dyn_cast<ShardingOpInterface>(op);
  if (!divisible || isa<GroupedMatmulOp>(op) || op->getNumResults() == 0)
    return false;
  ShardingRule rule = divisible.getShardingRule();
  if (rule.flat) { // a reshape; the rows stay the first dimension
    Value x = op->getOperand(0), y = op->getResult(0);
    hasRows.assign(1, true);
    return isRow(x) && !shapeOf(y).empty() && shapeOf(y)[0] == rows;
  }
  std::optional<unsigned> factor;
  auto alone = [](const ShardingRule::Dims &dims) { return !dims.empty() && dims[0].size() == 1; };
  for (auto [operand, dims] : llvm::zip_equal(op->getOperands(), rule.operands))
    if (isRow(operand)) {
      if (!alone(dims) || (factor && *factor != dims[0][0]))
        return false;
      factor = dims[0][0];
    }
  if (!factor || rule.factors[*factor].kind != FactorKind::Parallel || rule.factors[*factor].size != rows)
    return false;
  auto elsewhere = [&](const ShardingRule::Dims &dims) {
    return llvm::any_of(ArrayRef(dims).drop_front(dims.empty() ? 0 : 1),
                        [&](ArrayRef<unsigned> factors) { return llvm::is_contained(factors, *factor); });
  };
  for (const ShardingRule::Dims &dims : rule.operands) {
    hasRows.push_back(alone(dims) && dims[0][0] == *factor);
    if (elsewhere(dims) || (!hasRows.back() && !dims.empty() && llvm::is_contained(dims[0], *factor)))
      return false;
  }
  for (auto [operand, has] : llvm::zip_equal(op->getOperands(), hasRows))
    if (!has && !isFixed(operand))
      return false;
  return llvm::all_of(rule.results, [&](const ShardingRule::Dims &dims) {
    return alone(dims) && dims[0][0] == *factor && !elsewhere(dims);
  });
}

class Experts {
public:
  Experts(StepOp step, const ExpertsRequest &request)
      : step(step), request(request), axes(rt::expertAxes(request.mesh)), group(rt::groupName(axes, request.mesh)),
        members(static_cast<int64_t>(request.mesh.ep)), b(step.getContext()) {}

  FailureOr<ExpertsOutcome> run() {
    findFixed();
    if (failed(find()))
      return failure();
    for (auto &entry : layers)
      write(entry.second);
    if (!drops.empty())
      countDrops();
    eraseDeadOps(step);
    return std::move(outcome);
  }

private:
  auto isFixed() const {
    return [this](Value v) { return fixed.contains(v); };
  }

  /// Of cp and tp, those whose ranks share experts and have the same rows.
  rt::Axes alikeAxes(const Product &product) const {
    rt::Axes alike = {};
    alike[rt::Cp] = axes[rt::Cp] && !product.divided[0];
    alike[rt::Tp] = axes[rt::Tp] && !product.divided[1];
    return alike;
  }
  int64_t sizeOf(const rt::Axes &those) const { return static_cast<int64_t>(rt::groupSize(request.mesh, those)); }

  // What neither data nor training changes. A row that is worked on elsewhere meets nothing else there: a value of this
  // rank's data would be another one, and the gradient of a weight would count slots without rows, in which anything may
  // come up (0 / 0).
  void findFixed() {
    for (Operation &op : step.getBody().front()) {
      auto parameter = dyn_cast<ParameterOp>(op);
      if (parameter ? !parameter.getTrainable()
                    : isMemoryEffectFree(&op) && !isa<InputOp>(op) &&
                          llvm::all_of(op.getOperands(), [&](Value v) { return fixed.contains(v); }))
        fixed.insert(op.result_begin(), op.result_end());
    }
  }

  void findMatrices(Product &product) {
    Value weight = product.op.getW();
    while (Operation *op = weight.getDefiningOp()) {
      if (auto parameter = dyn_cast<ParameterOp>(op)) {
        product.parameter = parameter;
        return;
      }
      auto transpose = dyn_cast<TransposeOp>(op);
      if (!isa<VaryOp, CastOp>(op) && !(transpose && transpose.getPermutation()[0] == 0))
        break;
      product.chain.push_back(op);
      weight = op->getOperand(0);
    }
  }

  LogicalResult find() {
    size_t number = 0;
    for (GroupedMatmulOp op : step.getOps<GroupedMatmulOp>()) {
      Product product{op, shapeOf(op.getW())[0], request.divided[number++], {}, {}};
      findMatrices(product);
      // Rows that each rank takes a part of have to be divisible by them.
      if (shapeOf(op.getX())[0] % sizeOf(alikeAxes(product)) != 0) {
        op.emitRemark("expert parallelism: the ranks of ")
            << rt::groupName(alikeAxes(product), request.mesh) << " cannot divide " << shapeOf(op.getX())[0]
            << " rows; every rank keeps all of these experts";
        continue;
      }
      layers[{rootOf(op.getIds()), {shapeOf(op.getIds())[0], product.experts}}].products.push_back(product);
    }
    // A product that is left out is another reader of its matrices.
    while (leaveOut())
      ;
    layers.remove_if([](const auto &entry) { return entry.second.products.empty(); });
    // Models have as many experts in every layer: one error says it.
    for (auto &entry : layers) {
      for (Product &product : entry.second.products)
        if (product.experts % members != 0)
          return product.parameter.emitError("has ") << product.experts << " experts, which the " << members
                                                     << " ranks of ep (--ep-size) cannot share; give an ep that divides their number";
      findBetween(entry.second);
    }
    return success();
  }

  /// Leaves out products whose matrices something else reads, which would read a rank's experts only. Says whether there
  /// were any.
  bool leaveOut() {
    DenseSet<Operation *> readers;
    for (auto &entry : layers)
      for (Product &product : entry.second.products) {
        readers.insert(product.op);
        readers.insert(product.chain.begin(), product.chain.end());
      }
    bool any = false;
    for (auto &entry : layers)
      llvm::erase_if(entry.second.products, [&](Product &product) {
        SmallVector<Operation *> makers(product.chain);
        if (product.parameter)
          makers.push_back(product.parameter);
        for (Operation *maker : makers)
          for (OpOperand &use : maker->getUses())
            if (!readers.contains(use.getOwner()) || (isa<GroupedMatmulOp>(use.getOwner()) && use.getOperandNumber() != 1)) {
              use.getOwner()->emitRemark("expert parallelism: reads the matrices of experts, too; every rank keeps all of them");
              return any = true;
            }
        if (!product.parameter) {
          product.op->emitRemark("expert parallelism: the matrices are computed; every rank keeps all of them");
          return any = true;
        }
        return false;
      });
    return any;
  }

  /// What stands between products, row by row.
  void findBetween(Layer &layer) {
    const int64_t rows = shapeOf(layer.products[0].op.getX())[0];
    DenseSet<Operation *> products;
    for (Product &product : layer.products)
      products.insert(product.op);
    DenseSet<Value> isRow;
    SmallVector<Operation *> behind;
    for (Operation *op = layer.products.front().op; op != layer.products.back().op; op = op->getNextNode()) {
      SmallVector<bool> hasRows;
      if (products.contains(op))
        isRow.insert(op->getResult(0));
      else if (isRowwise(op, rows, [&](Value v) { return isRow.contains(v); }, isFixed(), hasRows)) {
        behind.push_back(op);
        isRow.insert(op->result_begin(), op->result_end());
      }
    }
    // Of those, what another product needs.
    DenseSet<Operation *> needed;
    auto need = [&](Value value) {
      if (isRow.contains(value) && !products.contains(value.getDefiningOp()))
        needed.insert(value.getDefiningOp());
    };
    for (Product &product : layer.products)
      need(product.op->getOperand(0));
    for (Operation *op : llvm::reverse(behind))
      if (needed.contains(op)) {
        layer.rowwise.push_back(op);
        for (Value operand : op->getOperands())
          need(operand);
      }
    std::reverse(layer.rowwise.begin(), layer.rowwise.end());
  }

  /// A rank's experts of the matrices, from the parameter to the product.
  void spreadMatrices(Product &product) {
    const int64_t experts = product.experts;
    auto cut = [&](Value value) {
      SmallVector<int64_t> shape(shapeOf(value));
      shape[0] = experts / members;
      value.setType(RankedTensorType::get(shape, elementOf(value)));
    };
    if (ParameterOp parameter = product.parameter; outcome.parameters.insert(parameter).second) {
      SmallVector<Attribute> splits;
      if (parameter.getSplits())
        llvm::append_range(splits, parameter.getSplitsAttr());
      splits.push_back(SplitAttr::get(b.getContext(), 0, group, members, experts, /*blocks=*/1));
      parameter.setSplitsAttr(b.getArrayAttr(splits));
      cut(parameter.getResult());
    }
    for (Operation *op : llvm::reverse(product.chain)) {
      if (!spread.insert(op).second)
        continue;
      cut(op->getResult(0));
      // The rows of all of its ranks come to an expert: the gradient is whole already.
      auto vary = dyn_cast<VaryOp>(op);
      std::optional<rt::Axes> over = vary ? rt::groupAxes(vary.getGroup(), request.mesh) : std::nullopt;
      if (over && rt::overlap(*over, axes))
        vary.getY().replaceAllUsesWith(vary.getX());
    }
  }

  void write(Layer &layer) {
    Product &first = layer.products[0];
    GroupedMatmulOp product = first.op;
    Location loc = product.getLoc();
    const int64_t rows = shapeOf(product.getX())[0], experts = first.experts;
    const rt::Axes alike = alikeAxes(first);
    const int64_t takers = sizeOf(alike), own = rows / takers;
    const std::string takersGroup = rt::groupName(alike, request.mesh);
    const double limit = std::ceil(request.capacityFactor * static_cast<double>(own) / static_cast<double>(members));
    const int64_t capacity =
        request.capacityFactor > 0 && limit < static_cast<double>(own) ? static_cast<int64_t>(limit) : own;
    const int64_t slots = members * capacity;

    auto taken = [&](Value value) -> Value {
      return takers == 1 ? value
                         : TakePieceOp::create(b, loc, value, 0, takersGroup, takers, /*zigzag=*/false).getResult();
    };
    auto exchanged = [&](Value value) -> Value {
      return AllToAllOp::create(b, loc, value, /*split_dim=*/0, /*concat_dim=*/0, group, members);
    };
    b.setInsertionPoint(product);
    auto slotted = ExpertSlotsOp::create(b, loc, taken(product.getIds()), experts, members, capacity);
    Value groups = exchanged(slotted.getGroups());
    if (capacity < own)
      drops.push_back({slotted.getDropped(), first.divided[1]});

    DenseMap<Value, Value> there; // rows where their experts are
    auto sent = [&](Value value) {
      Value &made = there[value];
      if (!made)
        made = exchanged(PlaceRowsOp::create(b, loc, taken(value), slotted.getSlots(), slots));
      return made;
    };
    DenseMap<Operation *, Product *> products;
    for (Product &each : layer.products)
      products[each.op] = &each;
    SmallVector<Operation *> inside(layer.rowwise);
    for (Product &each : layer.products)
      inside.push_back(each.op);
    llvm::sort(inside, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
    for (Operation *op : inside) {
      b.setInsertionPoint(op);
      Operation *copy = nullptr;
      if (Product *its = products.lookup(op)) {
        spreadMatrices(*its);
        Value x = sent(its->op.getX());
        copy = GroupedMatmulOp::create(b, op->getLoc(), x, its->op.getW(), groups, its->op.getTransposeW(),
                                       b.getI64IntegerAttr(std::min(own, slots)));
      } else {
        SmallVector<bool> hasRows;
        isRowwise(op, rows, [&](Value v) { return there.contains(v); }, isFixed(), hasRows);
        SmallVector<Value> operands(op->getOperands());
        for (auto [operand, has] : llvm::zip_equal(operands, hasRows))
          if (has)
            operand = sent(operand);
        copy = op->clone();
        copy->setOperands(operands);
        for (Value result : copy->getResults()) {
          SmallVector<int64_t> shape(shapeOf(result));
          shape[0] = slots;
          result.setType(RankedTensorType::get(shape, elementOf(result)));
        }
        cast<ShardingOpInterface>(copy).localize(FactorKind::Parallel, group, members);
        b.insert(copy);
      }
      for (auto [result, made] : llvm::zip_equal(op->getResults(), copy->getResults()))
        there[result] = made;
    }
    // What else reads rows gets them back.
    DenseSet<Operation *> isInside(inside.begin(), inside.end());
    for (Operation *op : inside)
      for (Value result : op->getResults()) {
        if (llvm::all_of(result.getUsers(), [&](Operation *user) { return isInside.contains(user); }))
          continue;
        b.setInsertionPointAfter(op);
        Value back = TakeRowsOp::create(b, loc, exchanged(there[result]), slotted.getSlots());
        if (takers > 1)
          back = AllGatherOp::create(b, loc, back, 0, rows, takersGroup, takers, /*reshard=*/false, /*retain=*/false,
                                     /*alike=*/true);
        result.replaceUsesWithIf(back, [&](OpOperand &use) { return !isInside.contains(use.getOwner()); });
      }
    for (Operation *op : llvm::reverse(inside))
      op->erase();
    outcome.products += layer.products.size();
    if (outcome.layers++ == 0) {
      outcome.rows = own;
      outcome.slots = slots;
    }
  }

  /// Rows without a slot, of all layers and ranks.
  void countDrops() {
    Value all;
    b.setInsertionPointToEnd(&step.getBody().front());
    for (auto [dropped, overTp] : drops) {
      rt::Axes counted = rt::unite(rt::dataAxes, rt::cpAxes);
      counted[rt::Tp] = overTp || axes[rt::Tp];
      Value sum = AllReduceOp::create(b, step.getLoc(), dropped, rt::groupName(counted, request.mesh), sizeOf(counted));
      all = all ? AddOp::create(b, step.getLoc(), all, sum).getResult() : sum;
    }
    OutputOp::create(b, step.getLoc(), all, "dropped_tokens", /*sum=*/true);
  }

  struct Drops {
    Value count;
    bool overTp; // ranks of tp have different rows
  };

  StepOp step;
  const ExpertsRequest &request;
  const rt::Axes axes;
  const std::string group;
  const int64_t members;
  OpBuilder b;
  llvm::MapVector<LayerKey, Layer> layers;
  DenseSet<Value> fixed;
  DenseSet<Operation *> spread;
  SmallVector<Drops> drops;
  ExpertsOutcome outcome;
};

} // namespace

SmallVector<int64_t> amc::expertRows(StepOp step) {
  SmallVector<int64_t> rows;
  for (GroupedMatmulOp product : step.getOps<GroupedMatmulOp>())
    rows.push_back(shapeOf(product.getX())[0]);
  return rows;
}

FailureOr<ExpertsOutcome> amc::shardExperts(StepOp step, const ExpertsRequest &request) {
  return Experts(step, request).run();
}
