// linear_cross_entropy, linear_cross_entropy_backward: f32, f64, bf16 and f16; arithmetic in fp32 (f64 for f64).
//
// Logits exist a tile of tokens and vocabulary at a time (workspace::LceShape); narrower operands are widened panel by
// panel, but where the processor multiplies bf16: there the gradient of the logits is rounded to bf16, too. Forward: a piece of work is a tile of tokens that walks the vocabulary, ascending, with the log-sum-exp so far
// of each of its rows. Backward: the vocabulary's tiles one after the other; for each, the token tiles in groups as
// large as the workspace holds. In a group each token tile computes its logits again, turns them into their gradient
// and adds its product with the weight to dhidden; then its product with the hidden states is added to dweight, tile
// after tile. So every sum runs in ascending order whatever the group's size, and no bit depends on it. Wide results
// (those of wide operands, and the weight's and the bias's gradient if the instruction is `wide`) are accumulated in
// place, narrow ones in workspace and rounded once.
//
// In a group of ranks each has a piece of the vocabulary. Forward: what a rank knows of a row (LogitSums) goes to all, who
// put the pieces together in ascending order. Backward: a label of another rank's piece is at none of these logits.
//
// The loss adds the rows in blocks of 64, ascending. No result overlaps an operand, but a narrow weight's place may be
// taken. Reference: LossOps.td, three loops.
#include "runtime/collective/Communicator.h"
#include "runtime/device/cpu/Gemm.h"
#include "runtime/device/cpu/RowLoss.h"
#include "runtime/plan/Workspace.h"
#include <climits>
#include <utility>

namespace amc::rt::cpu {
namespace {

// Which operands are where: hidden, weight, bias, labels and class weights stand in this order in both.
struct Problem {
  workspace::LceShape shape;
  int64_t tokens, width, classes;
  int64_t tokenTile, tokenTiles, vocabularyTile;
  int64_t allClasses, firstClass; // of the whole vocabulary; of this rank's piece of it
  Group *group = nullptr;         // the ranks with the other pieces
  bool transposeW, biased, converts;
  bool stored;     // operands are narrow and multiplied as they are stored
  bool widens;     // or widened before
  bool narrowSums; // whether gradients of weight and bias are rounded
  plan::DType dtype;
  double softcap;
  LossOptions options;

  static Status check(const InstructionSpec &spec, size_t hidden);
  static Problem create(const InstructionSpec &spec, size_t hidden);
  static Problem createInGroup(const InstructionSpec &spec, size_t hidden, Group &group);

  int64_t rowsOf(int64_t tile) const { return std::min(tokenTile, tokens - tile * tokenTile); }
  int64_t columnsAt(int64_t first) const { return std::min(vocabularyTile, classes - first); }
};

plan::DType statisticOf(plan::DType dtype) { return dtype == plan::F64 ? plan::F64 : plan::F32; }

Status Problem::check(const InstructionSpec &spec, size_t hidden) {
  const TensorSpec &x = spec.inputs[hidden], &w = spec.inputs[hidden + 1], &bias = spec.inputs[hidden + 2],
                   &labels = spec.inputs[hidden + 3];
  AMC_EXPECT(x.rank() >= 1 && w.rank() == 2, "inputs: ranks are ", x.rank(), " and ", w.rank(),
             " and should be at least 1, and 2");
  AMC_TRY(expectDType("weight", w, x.dtype));
  bool transpose = spec.flag("transpose_w");
  int64_t inner = w.shape[transpose ? 1 : 0], classes = w.shape[transpose ? 0 : 1];
  AMC_EXPECT(x.shape.back() == inner, "inputs: inner dimensions are ", x.shape.back(), " and ", inner,
             " and should be equal");
  AMC_EXPECT(inner <= INT_MAX && classes <= INT_MAX, "weight: shape is ", shapeText(w.shape),
             " and no dimension should be more than ", INT_MAX);
  if (bias.present()) {
    AMC_TRY(expectDType("bias", bias, x.dtype));
    AMC_TRY(expectShape("bias", bias, {classes}));
  }
  AMC_TRY(expectShape("labels", labels, {x.shape.begin(), x.shape.end() - 1}));
  AMC_TRY(LossOptions::check(spec, hidden + 4, classes, statisticOf(x.dtype)));
  AMC_EXPECT(std::isfinite(spec.real("softcap")) && spec.real("softcap") >= 0,
             "attributes.softcap: should be finite and at least 0");
  AMC_EXPECT(!spec.find("group") == !spec.find("members"), "attributes: group and members should be there both or not");
  int64_t members = spec.integer("members", 1);
  AMC_EXPECT(members >= 1 && classes <= INT_MAX / members, "attributes.members: is ", members, ", each with ", classes,
             " classes, of which there should be at most ", INT_MAX, " together");
  AMC_EXPECT(members == 1 || !spec.inputs[hidden + 4].present(), "class_weights: should not be there in a group");
  int64_t inFlight = spec.integer("tokens_in_flight");
  AMC_EXPECT(inFlight >= 1 && inFlight <= static_cast<int64_t>(workspace::lceMostInFlight),
             "attributes.tokens_in_flight: is ", inFlight, " and should be in [1, ", workspace::lceMostInFlight, "]");
  return Status();
}

Problem Problem::create(const InstructionSpec &spec, size_t hidden) {
  const TensorSpec &x = spec.inputs[hidden];
  Problem p{};
  p.tokens = spec.inputs[hidden + 3].elements;
  p.width = x.shape.back();
  p.transposeW = spec.flag("transpose_w");
  p.classes = spec.inputs[hidden + 1].shape[p.transposeW ? 0 : 1];
  p.allClasses = p.classes * spec.integer("members", 1);
  p.firstClass = 0;
  p.biased = spec.inputs[hidden + 2].present();
  p.dtype = x.dtype;
  p.converts = statisticOf(x.dtype) != x.dtype;
  p.stored = x.dtype == plan::BF16 && multipliesBf16();
  p.widens = p.converts && !p.stored;
  p.narrowSums = p.converts && !spec.flag("wide");
  p.softcap = spec.real("softcap");
  p.options = LossOptions::create(spec, hidden + 4);
  p.shape = {static_cast<uint64_t>(p.tokens), static_cast<uint64_t>(p.width), static_cast<uint64_t>(p.classes),
             dtypeBytes(statisticOf(x.dtype)), p.converts, p.biased,
             static_cast<uint64_t>(spec.integer("tokens_in_flight")), static_cast<uint64_t>(spec.integer("members", 1))};
  p.tokenTile = static_cast<int64_t>(p.shape.tokenTile());
  p.tokenTiles = static_cast<int64_t>(p.shape.tokenTiles());
  p.vocabularyTile = static_cast<int64_t>(p.shape.vocabularyTile());
  return p;
}

Problem Problem::createInGroup(const InstructionSpec &spec, size_t hidden, Group &group) {
  Problem p = create(spec, hidden);
  p.group = &group;
  p.firstClass = p.classes * group.index();
  return p;
}

// ---- narrow and wide

void widen(plan::DType dtype, const void *source, int64_t offset, float *target, int64_t n) {
  (dtype == plan::BF16 ? hot().bf16ToF32 : hot().f16ToF32)(static_cast<const uint16_t *>(source) + offset, target, n);
}
void widen(plan::DType, const void *, int64_t, double *, int64_t) {} // f64 is wide
void narrow(plan::DType dtype, const float *source, void *target, int64_t offset, int64_t n) {
  (dtype == plan::BF16 ? hot().f32ToBf16 : hot().f32ToF16)(source, static_cast<uint16_t *>(target) + offset, n);
}
void narrow(plan::DType, const double *, void *, int64_t, int64_t) {}

// x = softcap * tanh(x / softcap); slope, unless null, becomes the derivative.
void cap(float *x, float softcap, float *slope, int64_t n) {
  hot().scale(x, 1 / softcap, n);
  hot().unary(HotUnary::Tanh, x, x, n);
  for (int64_t i = 0; slope && i < n; ++i)
    slope[i] = 1 - x[i] * x[i];
  hot().scale(x, softcap, n);
}
void cap(double *x, double softcap, double *slope, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    x[i] = std::tanh(x[i] / softcap);
    if (slope)
      slope[i] = 1 - x[i] * x[i];
    x[i] *= softcap;
  }
}

// A matrix in memory.
template <class T> struct Panel {
  const T *data;
  int64_t stride;
};

// Rows of hidden that a tile reads, of elements E as they are stored.
template <class E> Panel<E> storedHidden(const Problem &p, const std::byte *hidden, int64_t tile) {
  return {reinterpret_cast<const E *>(hidden) + tile * p.tokenTile * p.width, p.width};
}
template <class T> Panel<T> hiddenPanel(const Problem &p, const std::byte *hidden, int64_t tile, std::byte *scratch) {
  if (!p.widens)
    return storedHidden<T>(p, hidden, tile);
  widen(p.dtype, hidden, tile * p.tokenTile * p.width, reinterpret_cast<T *>(scratch), p.rowsOf(tile) * p.width);
  return {reinterpret_cast<const T *>(scratch), p.width};
}

// The weight's classes from `first` on, [n, H] if transpose_w, else [H, n], as they are stored.
template <class E> Panel<E> storedWeight(const Problem &p, const std::byte *weight, int64_t first) {
  return {reinterpret_cast<const E *>(weight) + (p.transposeW ? first * p.width : first),
          p.transposeW ? p.width : p.classes};
}
// Classes [first, first + n). A widened panel has been filled by widenWeight for all its rows.
template <class T>
Panel<T> weightPanel(const Problem &p, const std::byte *weight, int64_t first, int64_t n, const std::byte *scratch) {
  if (p.widens)
    return {reinterpret_cast<const T *>(scratch), p.transposeW ? p.width : n};
  return storedWeight<T>(p, weight, first);
}
// Rows [begin, end) of that panel: of n with transpose_w, of H without.
template <class T>
void widenWeight(const Problem &p, const std::byte *weight, int64_t first, int64_t n, std::byte *scratch, int64_t begin,
                 int64_t end) {
  T *panel = reinterpret_cast<T *>(scratch);
  if (p.transposeW)
    return widen(p.dtype, weight, (first + begin) * p.width, panel + begin * p.width, (end - begin) * p.width);
  for (int64_t k = begin; k < end; ++k)
    widen(p.dtype, weight, k * p.classes + first, panel + k * n, n);
}
template <class T>
const T *biasPanel(const Problem &p, const std::byte *bias, int64_t first, int64_t n, std::byte *scratch) {
  if (!p.biased || !p.converts)
    return p.biased ? reinterpret_cast<const T *>(bias) + first : nullptr;
  widen(p.dtype, bias, first, reinterpret_cast<T *>(scratch), n);
  return reinterpret_cast<const T *>(scratch);
}

// logits[rows, n] = x w + bias, not capped.
template <class E, class T>
void logitTile(const Problem &p, int64_t rows, int64_t n, Panel<E> x, Panel<E> w, const T *bias, T *logits) {
  if (p.width)
    gemm(false, p.transposeW, rows, n, p.width, T(1), x.data, x.stride, w.data, w.stride, T(0), logits, n);
  else
    std::fill_n(logits, rows * n, T{});
  for (int64_t r = 0; bias && r < rows; ++r)
    addToRow(logits + r * n, bias, n);
}

// ---- forward

Status checkForward(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec,
                         {{"hidden", AcceptFloat}, {"weight", AcceptFloat}, {"bias", AcceptFloat, Optional},
                          {"labels", AcceptI64}, {"class_weights", AcceptWide, Optional}},
                         {{"loss", AcceptWide}, {"lse", AcceptWide}},
                         {{"transpose_w", Int, Optional}, {"ignore_index", Int}, {"label_smoothing", Real},
                          {"z_loss", Real}, {"softcap", Real}, {"tokens_in_flight", Int}, {"group", Text, Optional},
                          {"members", Int, Optional}}));
  AMC_TRY(Problem::check(spec, 0));
  plan::DType statistic = statisticOf(spec.inputs[0].dtype);
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], statistic));
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], {}));
  AMC_TRY(expectDType("outputs[1]", spec.outputs[1], statistic));
  AMC_TRY(expectShape("outputs[1]", spec.outputs[1], spec.inputs[3].shape));
  return expectWorkspace(spec, workspace::linearCrossEntropy(Problem::create(spec, 0).shape));
}

static_assert(sizeof(LogitSums) == 4 * 8, "what LceShape::rowState reserves");

template <class T> void runForward(const Problem &p, const Operands &o, RunContext &c) {
  const int64_t *labels = o.in<int64_t>(3);
  T *lse = o.out<T>(1);
  RowLoss<T> loss(p.options, o.in<T>(4), p.allClasses);
  const workspace::LceShape &s = p.shape;
  T *rowLosses = o.workspace<T>();
  // In a group: what this rank knows of all rows, then what all ranks know.
  LogitSums *known = reinterpret_cast<LogitSums *>(o.workspaces[0] + workspace::detail::pad(p.shape.tokens * sizeof(T)));
  std::byte *slots = reinterpret_cast<std::byte *>(known) + s.exchanged();
  auto finish = [&](int64_t row, const LogitSums &sums) {
    int64_t label = labels[row];
    lse[row] = sums.lse<T>();
    rowLosses[row] = 0;
    if (label == loss.ignored)
      return;
    if (label < 0 || label >= p.allClasses)
      c.failure.report("label", static_cast<uint64_t>(row), label, 0, p.allClasses);
    else
      rowLosses[row] = loss.loss(label, lse[row], static_cast<T>(sums.label), static_cast<T>(sums.weighted));
  };
  uint64_t slotBytes = s.logitTile() + s.rowState() + s.hiddenTile() + s.weightTile() + s.biasTile();
  c.pool.parallelFor(p.tokenTiles, [&](int64_t tile, unsigned slot) {
    std::byte *at = slots + slot * slotBytes;
    T *logits = reinterpret_cast<T *>(at);
    LogitSums *sums = reinterpret_cast<LogitSums *>(at += s.logitTile());
    std::byte *hiddenScratch = at += s.rowState(), *weightScratch = at += s.hiddenTile(),
              *biasScratch = at + s.weightTile();
    int64_t rows = p.rowsOf(tile), begin = tile * p.tokenTile;
    std::fill_n(sums, rows, LogitSums{});
    Panel<T> x{};
    if (!p.stored)
      x = hiddenPanel<T>(p, o.inputs[0], tile, hiddenScratch);
    for (int64_t first = 0; first < p.classes; first += p.vocabularyTile) {
      int64_t n = p.columnsAt(first);
      if (p.widens)
        widenWeight<T>(p, o.inputs[1], first, n, weightScratch, 0, p.transposeW ? n : p.width);
      const T *bias = biasPanel<T>(p, o.inputs[2], first, n, biasScratch);
      if (!p.stored)
        logitTile(p, rows, n, x, weightPanel<T>(p, o.inputs[1], first, n, weightScratch), bias, logits);
      else if constexpr (std::is_same_v<T, float>)
        logitTile(p, rows, n, storedHidden<BFloat16>(p, o.inputs[0], tile),
                  storedWeight<BFloat16>(p, o.inputs[1], first), bias, logits);
      for (int64_t r = 0; r < rows; ++r) {
        if (p.softcap > 0)
          cap(logits + r * n, static_cast<T>(p.softcap), static_cast<T *>(nullptr), n);
        sums[r].add(loss, labels[begin + r] - p.firstClass, logits + r * n, first, n);
      }
    }
    for (int64_t r = 0; r < rows; ++r)
      if (s.members > 1)
        known[begin + r] = sums[r];
      else
        finish(begin + r, sums[r]);
  }, static_cast<unsigned>(std::max<uint64_t>(s.slots(), 1)));
  if (s.members > 1) {
    std::byte *all = reinterpret_cast<std::byte *>(known) + s.states();
    Status gathered = p.group->allGather(reinterpret_cast<const std::byte *>(known), all,
                                         {1, s.members, s.tokens * 4, plan::F64});
    if (!gathered.ok())
      return c.failure.report(std::move(gathered));
    const LogitSums *pieces = reinterpret_cast<const LogitSums *>(all);
    parallelRange(c.pool, p.tokens, 256, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        LogitSums sums;
        for (uint64_t member = 0; member < s.members; ++member)
          sums.add(pieces[member * s.tokens + static_cast<uint64_t>(row)]);
        finish(row, sums);
      }
    });
  }
  *o.out<T>(0) = sumRows<T>(p.tokens, [&](int64_t r) { return rowLosses[r]; });
}

std::unique_ptr<Kernel> forwardOf(const Problem &p) {
  return makeKernel([=](const Operands &o, RunContext &c) {
    p.dtype == plan::F64 ? runForward<double>(p, o, c) : runForward<float>(p, o, c);
  });
}
std::unique_ptr<Kernel> createForward(const InstructionSpec &spec) { return forwardOf(Problem::create(spec, 0)); }
std::unique_ptr<Kernel> createForwardInGroup(const InstructionSpec &spec, Group &group) {
  return forwardOf(Problem::createInGroup(spec, 0, group));
}

// ---- backward

Status checkBackward(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(
      spec,
      {{"dloss", AcceptWide}, {"hidden", AcceptFloat}, {"weight", AcceptFloat}, {"bias", AcceptFloat, Optional},
       {"labels", AcceptI64}, {"class_weights", AcceptWide, Optional}, {"lse", AcceptWide}},
      {{"dhidden", AcceptFloat, Optional}, {"dweight", AcceptFloat, Optional}, {"dbias", AcceptFloat, Optional}},
      {{"transpose_w", Int, Optional}, {"ignore_index", Int}, {"label_smoothing", Real}, {"z_loss", Real},
       {"softcap", Real}, {"tokens_in_flight", Int}, {"group", Text, Optional}, {"members", Int, Optional},
       {"wide", Int, Optional}}));
  AMC_TRY(Problem::check(spec, 1));
  plan::DType statistic = statisticOf(spec.inputs[1].dtype);
  AMC_TRY(expectDType("inputs[0]", spec.inputs[0], statistic));
  AMC_TRY(expectShape("inputs[0]", spec.inputs[0], {}));
  AMC_TRY(expectDType("inputs[6]", spec.inputs[6], statistic));
  AMC_TRY(expectShape("inputs[6]", spec.inputs[6], spec.inputs[4].shape));
  for (size_t i = 0; i < 3; ++i) {
    if (!spec.outputs[i].present())
      continue;
    AMC_EXPECT(spec.inputs[1 + i].present(), "outputs[", i, "]: is there without an operand whose gradient it is");
    const char *name = i == 0 ? "dhidden" : i == 1 ? "dweight" : "dbias";
    if (i == 0)
      AMC_TRY(expectDType(name, spec.outputs[i], spec.inputs[1].dtype));
    else
      AMC_TRY(expectSumType(name, spec, spec.outputs[i], spec.inputs[1]));
    AMC_TRY(expectShape(name, spec.outputs[i], spec.inputs[1 + i].shape));
  }
  return expectWorkspace(spec, workspace::linearCrossEntropyBackward(
                                   Problem::create(spec, 1).shape, spec.outputs[0].present(),
                                   spec.outputs[1].present(), spec.outputs[2].present(), spec.flag("wide")));
}

// Columns of the weight's gradient that one piece adds up, from the width alone.
int64_t weightPiece(int64_t width) {
  return std::clamp<int64_t>((ceilDiv(width, 16) + 15) / 16 * 16, 64, 512);
}

// One run of backward; what it works on.
template <class T> struct Backward {
  const Problem &p;
  const Operands &o;
  RunContext &c;
  RowLoss<T> loss;
  T *dx = nullptr, *dw = nullptr, *db = nullptr; // wide: results or workspace
  std::byte *slots, *weightScratch, *biasScratch;
  uint64_t slotBytes;

  Backward(const Problem &p, const Operands &o, RunContext &c)
      : p(p), o(o), c(c), loss(p.options, o.in<T>(5), p.allClasses) {
    const workspace::LceShape &s = p.shape;
    slotBytes = s.logitTile() + s.hiddenTile();
    slots = o.workspaces[0];
    weightScratch = slots + s.slots() * slotBytes;
    biasScratch = weightScratch + s.weightTile();
    std::byte *at = biasScratch + s.biasTile();
    auto take = [&](uint64_t bytes) { return reinterpret_cast<T *>(std::exchange(at, at + bytes)); };
    if (o.outputs[0])
      dx = p.converts ? take(workspace::detail::pad(s.tokens * s.width * s.bytes)) : o.out<T>(0);
    if (o.outputs[1])
      dw = p.narrowSums ? take(s.weightTile()) : o.out<T>(1);
    if (o.outputs[2])
      db = take(workspace::detail::pad(s.vocabularyTile() * s.bytes));
  }

  T *logits(int64_t place) const { return reinterpret_cast<T *>(slots + place * slotBytes); }
  std::byte *hiddenScratch(int64_t place) const { return slots + place * slotBytes + p.shape.logitTile(); }

  void run() {
    if (p.tokens == 0 || p.classes == 0 || p.width == 0)
      zeroResults();
    for (int64_t first = 0; first < p.classes && p.tokens; first += p.vocabularyTile)
      vocabularyTile(first, p.columnsAt(first));
    if (dx && p.converts)
      parallelRange(c.pool, p.tokens * p.width, elementGrain, [&](int64_t begin, int64_t end) {
        narrow(p.dtype, dx + begin, o.outputs[0], begin, end - begin);
      });
  }

private:
  // Where nothing is added up. An empty sum of wide or narrow elements is zero bytes.
  void zeroResults() {
    auto zero = [&](size_t output, int64_t n, bool narrow) {
      if (o.outputs[output])
        std::fill_n(o.outputs[output], static_cast<uint64_t>(n) * (narrow ? dtypeBytes(p.dtype) : sizeof(T)),
                    std::byte{});
    };
    zero(0, p.tokens * p.width, p.converts);
    zero(1, p.width * p.classes, p.narrowSums);
    zero(2, p.classes, p.narrowSums);
    if (dx && p.converts)
      std::fill_n(dx, p.tokens * p.width, T{});
  }

  void vocabularyTile(int64_t first, int64_t n) {
    if (p.widens) {
      int64_t rows = p.transposeW ? n : p.width;
      parallelRange(c.pool, rows, rowGrain(p.transposeW ? p.width : n), [&](int64_t begin, int64_t end) {
        widenWeight<T>(p, o.inputs[2], first, n, weightScratch, begin, end);
      });
    }
    Panel<T> w = weightPanel<T>(p, o.inputs[2], first, n, weightScratch);
    const T *bias = biasPanel<T>(p, o.inputs[3], first, n, biasScratch);
    int64_t group = static_cast<int64_t>(p.shape.slots());
    for (int64_t begin = 0; begin < p.tokenTiles; begin += group) {
      int64_t end = std::min(begin + group, p.tokenTiles);
      c.pool.parallelFor(end - begin, [&](int64_t i, unsigned) { tokenTile(begin + i, i, first, n, w, bias); });
      // A piece is some columns of dweight, the last one dbias.
      int64_t step = weightPiece(p.width), pieces = dw && p.width ? ceilDiv(p.width, step) : 0;
      c.pool.parallelFor(pieces + (db ? 1 : 0), [&](int64_t piece, unsigned) {
        for (int64_t tile = begin; tile < end; ++tile)
          if (piece == pieces)
            addBias(tile, tile - begin, n);
          else
            addWeight(tile, tile - begin, first, n, piece * step, std::min(step, p.width - piece * step));
      });
    }
    finish(first, n);
  }

  // The gradient of a tile of logits, in place, and what it adds to dhidden.
  void tokenTile(int64_t tile, int64_t place, int64_t first, int64_t n, Panel<T> w, const T *bias) {
    int64_t rows = p.rowsOf(tile), begin = tile * p.tokenTile;
    const int64_t *labels = o.in<int64_t>(4);
    T *z = logits(place), dloss = *o.in<T>(0);
    alignas(64) T slope[workspace::lceVocabularyTile];
    if (!p.stored)
      logitTile(p, rows, n, hiddenPanel<T>(p, o.inputs[1], tile, hiddenScratch(place)), w, bias, z);
    else if constexpr (std::is_same_v<T, float>)
      logitTile(p, rows, n, storedHidden<BFloat16>(p, o.inputs[1], tile),
                storedWeight<BFloat16>(p, o.inputs[2], first), bias, z);
    for (int64_t r = 0; r < rows; ++r) {
      T *row = z + r * n;
      int64_t label = labels[begin + r];
      bool valid = label >= 0 && label < p.allClasses;
      if (label == loss.ignored || !valid) {
        if (label != loss.ignored)
          c.failure.report("label", static_cast<uint64_t>(begin + r), label, 0, p.allClasses);
        std::fill_n(row, n, T{});
        continue;
      }
      if (p.softcap > 0)
        cap(row, static_cast<T>(p.softcap), slope, n);
      loss.gradient(label - p.firstClass, o.in<T>(6)[begin + r], dloss, row, first, n, row);
      for (int64_t i = 0; p.softcap > 0 && i < n; ++i)
        row[i] *= slope[i];
    }
    if (!p.stored) {
      addHidden(z, rows, n, w, dx + begin * p.width, first > 0);
    } else if constexpr (std::is_same_v<T, float>) {
      for (int64_t r = 0; r < rows; ++r) // rows move up; each is read before it is written
        narrowRow(z + r * n, storedGradient(place) + r * n, n);
      addHidden(storedGradient(place), rows, n, storedWeight<BFloat16>(p, o.inputs[2], first), dx + begin * p.width,
                first > 0);
    }
  }

  // The gradient of a tile of logits where it is multiplied in bf16: in the tile's own place.
  BFloat16 *storedGradient(int64_t place) const { return reinterpret_cast<BFloat16 *>(logits(place)); }

  // What the logits' gradient z gives to rows of dhidden, in pieces that the library's buffers are made for.
  template <class E> void addHidden(const E *z, int64_t rows, int64_t n, Panel<E> w, T *y, bool add) {
    constexpr int64_t step = workspace::productColumnTile;
    for (int64_t column = 0; dx && column < p.width; column += step)
      gemm(false, !p.transposeW, rows, std::min(step, p.width - column), n, T(1), z, n,
           w.data + (p.transposeW ? column : column * w.stride), w.stride, T(add), y + column, p.width);
  }

  // Columns [column, column + width) of dweight's tile, of one tile of tokens.
  void addWeight(int64_t tile, int64_t place, int64_t first, int64_t n, int64_t column, int64_t width) {
    if (!p.stored)
      addWeight(logits(place), p.widens ? reinterpret_cast<const T *>(hiddenScratch(place))
                                        : storedHidden<T>(p, o.inputs[1], tile).data, tile, first, n, column, width);
    else if constexpr (std::is_same_v<T, float>)
      addWeight(storedGradient(place), storedHidden<BFloat16>(p, o.inputs[1], tile).data, tile, first, n, column, width);
  }
  template <class E>
  void addWeight(const E *z, const E *x, int64_t tile, int64_t first, int64_t n, int64_t column, int64_t width) {
    T beta = T(tile > 0);
    if (p.transposeW) { // [V, H] or, in workspace, [n, H]
      T *y = dw + (p.narrowSums ? 0 : first * p.width) + column;
      gemm(true, false, n, width, p.rowsOf(tile), T(1), z, n, x + column, p.width, beta, y, p.width);
    } else { // [H, V] or [H, n]
      int64_t stride = p.narrowSums ? n : p.classes;
      T *y = dw + (p.narrowSums ? 0 : first) + column * stride;
      gemm(true, false, width, n, p.rowsOf(tile), T(1), x + column, p.width, z, n, beta, y, stride);
    }
  }

  void addBias(int64_t tile, int64_t place, int64_t n) {
    if (tile == 0)
      std::fill_n(db, n, T{});
    for (int64_t r = 0; r < p.rowsOf(tile); ++r)
      if (!p.stored) {
        addToRow(db, logits(place) + r * n, n);
      } else if constexpr (std::is_same_v<T, float>) {
        Block<float> row;
        static_assert(workspace::lceVocabularyTile <= blockElements);
        widenRow(storedGradient(place) + r * n, row.data, n);
        addToRow(db, row.data, n);
      }
  }

  // All tokens have been added to a tile of dweight and dbias.
  void finish(int64_t first, int64_t n) {
    if (db && p.narrowSums)
      narrow(p.dtype, db, o.outputs[2], first, n);
    else if (db)
      std::copy_n(db, n, o.out<T>(2) + first);
    if (!dw || !p.narrowSums)
      return;
    int64_t rows = p.transposeW ? n : p.width, columns = p.transposeW ? p.width : n;
    parallelRange(c.pool, rows, rowGrain(columns), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        narrow(p.dtype, dw + r * columns, o.outputs[1], p.transposeW ? (first + r) * p.width : r * p.classes + first,
               columns);
    });
  }
};

// Narrow results may replace a narrow weight, dweight above all: a tile of it is widened before what becomes of it is
// rounded, and dhidden is rounded last.
bool aliasBackward(const InstructionSpec &spec, size_t output, size_t input) {
  bool narrow = statisticOf(spec.inputs[2].dtype) != spec.inputs[2].dtype && !spec.flag("wide");
  return narrow && input == 2 && spec.outputs[output].bytes == spec.inputs[2].bytes;
}

std::unique_ptr<Kernel> backwardOf(const Problem &p) {
  return makeKernel([=](const Operands &o, RunContext &c) {
    p.dtype == plan::F64 ? Backward<double>(p, o, c).run() : Backward<float>(p, o, c).run();
  });
}
std::unique_ptr<Kernel> createBackward(const InstructionSpec &spec) { return backwardOf(Problem::create(spec, 1)); }
std::unique_ptr<Kernel> createBackwardInGroup(const InstructionSpec &spec, Group &group) {
  return backwardOf(Problem::createInGroup(spec, 1, group));
}

} // namespace

void registerLinearCrossEntropy(KernelRegistry &registry) {
  registry.addProduct("linear_cross_entropy", {checkForward, createForward, nullptr, false, true, createForwardInGroup});
  registry.addProduct("linear_cross_entropy_backward",
               {checkBackward, createBackward, aliasBackward, false, true, createBackwardInGroup});
}

} // namespace amc::rt::cpu
