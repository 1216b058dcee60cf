// Lagrangian bounds by minimum cuts; see LowerBound.h.
#include "compiler/analysis/LowerBound.h"
#include "compiler/analysis/MaxFlow.h"
#include <algorithm>
#include <cmath>

namespace amc {

namespace {

// Bytes of results that need a place of their own: each operand whose buffer may be taken over (as
// Liveness.h says) and that may die here serves one result of its size.
template <class F>
uint64_t freshBytes(const StepGraph &graph, const GraphOp &op, F mayDie) {
  std::vector<uint32_t> taken;
  uint64_t bytes = 0;
  for (uint32_t value : op.results) {
    bool takesOver = false;
    for (size_t r = 0; r < op.reusable.size() && !takesOver; ++r) {
      uint32_t root = graph.rootOf(op.operands[op.reusable[r]]);
      if (graph.values[root].source || graph.values[root].bytes != graph.values[value].bytes ||
          !mayDie(root) || std::find(taken.begin(), taken.end(), root) != taken.end())
        continue;
      bool elsewhere = false; // read where it may not be overwritten
      for (uint32_t at = 0; at < op.operands.size(); ++at)
        elsewhere = elsewhere || (graph.rootOf(op.operands[at]) == root &&
                                  std::find(op.reusable.begin(), op.reusable.end(), at) ==
                                      op.reusable.end());
      if (elsewhere)
        continue;
      takesOver = true;
      taken.push_back(root);
    }
    bytes += takesOver ? 0 : graph.values[value].bytes;
  }
  return bytes;
}

} // namespace

LowerBound::LowerBound(const StepGraph &graph, const CostModel &costModel)
    : graph(graph), costModel(costModel), roots(operandRoots(graph)) {
  const uint32_t n = static_cast<uint32_t>(graph.ops.size());
  auto activation = [&](uint32_t root) {
    return !graph.values[root].source &&
           graph.ops[graph.values[root].producer].phase == OpPhase::Forward;
  };
  // Sources that are not persistent may die; they count where an operation reads them only.
  uint64_t persistent = 0;
  for (const GraphValue &value : graph.values)
    persistent += value.source && value.persistent ? value.bytes : 0;
  boundaryBase = persistent;

  lastRead.assign(graph.values.size(), 0);
  lastForward.assign(graph.values.size(), 0);
  std::vector<uint32_t> lastUse(graph.values.size(), 0), born(graph.values.size(), 0);
  std::vector<bool> toTheEnd(graph.values.size(), false);
  candidate.assign(graph.values.size(), false);
  for (uint32_t i = 0; i < n; ++i)
    for (uint32_t root : roots[i]) {
      const GraphOp &op = graph.ops[i];
      if (op.kind == OpKind::Compute)
        lastUse[root] = i;
      if (op.kind == OpKind::Output)
        toTheEnd[root] = true;
      if (op.kind == OpKind::Compute && activation(root))
        (op.phase == OpPhase::Forward ? lastForward : lastRead)[root] = i;
    }
  // From the end, so that operands of what may run again are seen behind their readers.
  std::vector<bool> again(n, false);
  for (uint32_t i = n; i-- > 0;) {
    const GraphOp &op = graph.ops[i];
    if (op.kind != OpKind::Compute)
      continue;
    bool reads = op.phase != OpPhase::Forward;
    if (!reads)
      for (uint32_t value : op.results)
        reads = reads || candidate[value];
    // What leaves the step is there to the end and never made again.
    if (reads)
      for (uint32_t root : roots[i])
        candidate[root] = candidate[root] || (activation(root) && !toTheEnd[root]);
  }

  // What is alive at each operation: values of other phases, forward values for forward's readers.
  const uint32_t end = graph.microBatchEnd();
  std::vector<int64_t> change(n + 1, 0), forwardChange(n + 1, 0);
  for (uint32_t root = 0; root < graph.values.size(); ++root) {
    const GraphValue &value = graph.values[root];
    if (graph.rootOf(root) != root || value.source ||
        graph.ops[value.producer].kind != OpKind::Compute)
      continue;
    if (activation(root) && toTheEnd[root]) {
      for (auto *list : {&change, &forwardChange})
        (*list)[value.producer + 1] += static_cast<int64_t>(value.bytes);
      continue;
    }
    if (activation(root)) {
      if (lastForward[root] > value.producer) {
        forwardChange[value.producer + 1] += static_cast<int64_t>(value.bytes);
        forwardChange[lastForward[root] + 1] -= static_cast<int64_t>(value.bytes);
      }
      continue;
    }
    uint32_t last = std::max(lastUse[root], value.producer);
    if (toTheEnd[root])
      last = std::max(last, value.producer < end ? end - 1 : n - 1);
    // Born behind its operation: whether it takes over an operand's buffer there is asked below.
    change[value.producer + 1] += static_cast<int64_t>(value.bytes);
    change[last + 1] -= static_cast<int64_t>(value.bytes);
  }
  baseBytes.assign(n, 0);
  int64_t alive = 0, forwardAlive = 0;
  for (uint32_t i = 0; i < n; ++i) {
    alive += change[i];
    forwardAlive += forwardChange[i];
    const GraphOp &op = graph.ops[i];
    if (op.kind != OpKind::Compute)
      continue;
    bool forward = op.phase == OpPhase::Forward;
    uint64_t bytes = persistent + static_cast<uint64_t>(forward ? forwardAlive : alive) +
                     op.workspaceBytes;
    for (uint32_t root : roots[i])
      if ((activation(root) && !forward && !toTheEnd[root]) || (graph.values[root].source && !graph.values[root].persistent))
        bytes += graph.values[root].bytes;
    // An operand of another phase dies here or not; one of forward's may always be given up.
    bytes += freshBytes(graph, op, [&](uint32_t root) {
      return activation(root) ? !forward || lastForward[root] == i : lastUse[root] == i;
    });
    baseBytes[i] = bytes;
  }
}

bool LowerBound::countsAt(uint32_t value, uint32_t instant) const {
  if (graph.ops[instant].phase == OpPhase::Forward)
    return graph.values[value].producer < instant && lastForward[value] < instant;
  for (uint32_t root : roots[instant])
    if (root == value)
      return false;
  return true;
}

LowerBound::Evaluation LowerBound::evaluate(const std::vector<uint32_t> &instants,
                                            const std::vector<double> &room,
                                            const std::vector<double> &prices) const {
  const uint32_t values = static_cast<uint32_t>(graph.values.size());
  const uint32_t ops = static_cast<uint32_t>(graph.ops.size());
  const uint32_t stride = values + ops;
  // Layers: the end of forward, which stands for all instants of forward, and each of backward.
  std::vector<uint32_t> layerOf(1, 0); // of every price
  uint32_t layers = 1;
  for (uint32_t instant : instants)
    layerOf.push_back(graph.ops[instant].phase == OpPhase::Forward ? 0 : layers++);
  // Values: read after the instant; operations: run again after it.
  MaxFlow flow(stride * layers);
  double constant = 0;
  for (size_t k = 0; k < prices.size(); ++k)
    constant -= prices[k] * room[k];
  for (uint32_t k = 0; k < prices.size(); ++k) {
    if (k > 0 && layerOf[k] == 0)
      continue; // with the end of forward
    const uint32_t first = layerOf[k] * stride;
    const uint32_t instant = k == 0 ? 0 : instants[k - 1];
    for (uint32_t i = 0; i < ops; ++i) {
      const GraphOp &op = graph.ops[i];
      if (op.phase != OpPhase::Forward || op.kind != OpKind::Compute)
        continue;
      bool any = false;
      for (uint32_t value : op.results)
        any = any || candidate[value];
      if (!any)
        continue;
      const uint32_t run = first + values + i;
      if (k == 0)
        flow.costIfTrue(run, costModel.of(op));
      else
        flow.imply(run, run - stride);
      for (uint32_t root : roots[i])
        if (candidate[root])
          flow.imply(run, first + root);
      for (uint32_t value : op.results) {
        if (!candidate[value])
          continue;
        if (lastRead[value] > instant)
          flow.makeTrue(first + value);
        double price = k == 0 || countsAt(value, instant) ? prices[k] : 0;
        if (k == 0)
          for (size_t other = 1; other < prices.size(); ++other)
            if (layerOf[other] == 0 && countsAt(value, instants[other - 1]))
              price += prices[other];
        if (price > 0)
          flow.addArc(first + value, run,
                      static_cast<uint64_t>(
                          std::floor(price * static_cast<double>(graph.values[value].bytes))));
      }
    }
  }
  Evaluation result;
  result.bound = static_cast<double>(flow.solve()) + constant;
  for (uint32_t k = 0; k < prices.size(); ++k) {
    double resident = 0;
    const uint32_t first = layerOf[k] * stride;
    for (uint32_t value = 0; value < values; ++value)
      if (candidate[value] && flow.isTrue(first + value) &&
          !flow.isTrue(first + values + graph.values[value].producer) &&
          (k == 0 || countsAt(value, instants[k - 1])))
        resident += static_cast<double>(graph.values[value].bytes);
    result.excess.push_back(resident - room[k]);
  }
  return result;
}

uint64_t LowerBound::cost(uint64_t budget, const std::vector<uint32_t> &instants,
                          uint64_t known) const {
  if (known == 0)
    return 0;
  std::vector<double> room{static_cast<double>(budget) - static_cast<double>(boundaryBase)};
  for (uint32_t op : instants)
    room.push_back(static_cast<double>(budget) - static_cast<double>(baseBytes[op]));
  std::vector<double> best(room.size(), 0);
  double bound = 0;
  auto consider = [&](const std::vector<double> &prices) {
    Evaluation e = evaluate(instants, room, prices);
    if (e.bound > bound) {
      bound = e.bound;
      best = prices;
    }
    return e;
  };
  // One instant at a time: the bound is concave in the price, its slope is the excess.
  for (uint32_t k = 0; k < room.size(); ++k) {
    double low = 0, high = 0;
    std::vector<uint32_t> one;
    std::vector<double> oneRoom{room[0]}, prices{0};
    if (k > 0) {
      one.push_back(instants[k - 1]);
      oneRoom.push_back(room[k]);
      prices.push_back(0);
    }
    auto at = [&](double price) {
      prices.back() = price;
      Evaluation e = evaluate(one, oneRoom, prices);
      if (e.bound > bound) {
        bound = e.bound;
        std::fill(best.begin(), best.end(), 0);
        best[k] = price;
      }
      return e.excess.back();
    };
    if (at(0) <= 0)
      continue; // nothing has to be given up here
    high = static_cast<double>(known) / std::max(1.0, std::fabs(room[k]));
    for (int i = 0; i < 60 && at(high) > 0; ++i)
      high *= 4;
    for (int i = 0; i < 40; ++i) {
      double middle = low == 0 ? high / 16 : std::sqrt(low * high);
      (at(middle) > 0 ? low : high) = middle;
      if (low > 0 && high / low < 1.0001)
        break;
      if (low == 0 && high * room[k] < 1)
        break;
    }
  }
  // All together: Polyak's steps towards the known cost, halved when they stop helping.
  if (!instants.empty()) {
    std::vector<double> prices = best;
    double scale = 1;
    unsigned since = 0;
    for (int i = 0; i < 60; ++i) {
      double before = bound;
      Evaluation e = consider(prices);
      double norm = 0;
      for (size_t k = 0; k < prices.size(); ++k)
        norm += prices[k] > 0 || e.excess[k] > 0 ? e.excess[k] * e.excess[k] : 0;
      double target = static_cast<double>(known) - e.bound;
      if (norm == 0 || target <= 0)
        break;
      since = bound > before ? 0 : since + 1;
      if (since == 5) {
        scale /= 2;
        since = 0;
        prices = best;
        continue;
      }
      for (size_t k = 0; k < prices.size(); ++k)
        prices[k] = std::max(0.0, prices[k] + scale * target / norm * e.excess[k]);
    }
  }
  // Costs are whole quanta, so the bound may be rounded up to one; a little less for rounding.
  double quanta = bound * (1 - 1e-9) / static_cast<double>(costModel.quantum);
  return static_cast<uint64_t>(std::ceil(quanta - 1e-6)) * costModel.quantum;
}

uint64_t peakBound(const StepGraph &graph) {
  const uint32_t n = static_cast<uint32_t>(graph.ops.size());
  const uint32_t words = (n + 63) / 64;
  const uint32_t end = graph.microBatchEnd();
  IndexLists roots = operandRoots(graph), readers = readersOfRoots(graph);
  // ancestors[i]: bits of the operations that have to run before operation i.
  std::vector<uint64_t> ancestors(static_cast<size_t>(n) * words, 0);
  auto isAncestor = [&](uint32_t a, uint32_t of) {
    return ancestors[static_cast<size_t>(of) * words + a / 64] >> (a % 64) & 1;
  };
  for (uint32_t i = 0; i < n; ++i) {
    uint64_t *mine = ancestors.data() + static_cast<size_t>(i) * words;
    auto inherit = [&](uint32_t from) {
      const uint64_t *theirs = ancestors.data() + static_cast<size_t>(from) * words;
      for (uint32_t w = 0; w <= from / 64; ++w)
        mine[w] |= theirs[w];
      mine[from / 64] |= uint64_t(1) << (from % 64);
    };
    for (uint32_t operand : graph.ops[i].operands)
      inherit(graph.values[operand].producer);
    if (i == end) // all that stands before runs before
      for (uint32_t from = 0; from < i; ++from)
        mine[from / 64] |= uint64_t(1) << (from % 64);
    else if (i > end)
      inherit(end);
  }
  std::vector<uint32_t> made; // values that are made once: not those that could be made again
  uint64_t persistent = 0, peak = 0;
  for (uint32_t root = 0; root < graph.values.size(); ++root) {
    const GraphValue &value = graph.values[root];
    if (value.source && value.persistent)
      persistent += value.bytes;
    if (graph.rootOf(root) == root && !value.source &&
        graph.ops[value.producer].phase != OpPhase::Forward)
      made.push_back(root);
  }
  peak = persistent; // where no operation runs
  for (uint32_t i = 0; i < n; ++i) {
    const GraphOp &op = graph.ops[i];
    if (op.kind != OpKind::Compute)
      continue;
    uint64_t bytes = persistent + op.workspaceBytes;
    for (uint32_t root : roots[i])
      if (!graph.values[root].persistent)
        bytes += graph.values[root].bytes;
    bytes += freshBytes(graph, op, [](uint32_t) { return true; });
    for (uint32_t root : made) {
      if (!isAncestor(graph.values[root].producer, i))
        continue;
      bool later = false, here = false;
      for (uint32_t reader : readers[root]) {
        here = here || reader == i;
        later = later || isAncestor(i, reader);
      }
      if (later && !here)
        bytes += graph.values[root].bytes;
    }
    peak = std::max(peak, bytes);
  }
  return peak;
}

} // namespace amc
