// linear_cross_entropy and linear_cross_entropy_backward: f32, f64, bf16 and f16, products by cuBLASLt, sums in fp32 (f64 for
// f64). The signatures are runtime/device/cpu/LinearCrossEntropy.cpp's; kernels/LinearCrossEntropy.cu has what happens between
// products.
//
// Logits exist a tile of tokens and classes at a time (workspace::cuda::LceShape), one after the other. Forward: for each tile
// of tokens the vocabulary, ascending; what is known of the rows is kept. Backward: for each tile of the vocabulary the
// tokens, ascending; the logits come again and become their gradient where they stand, in the operands' type, which is added
// to dhidden and dweight by products that add to what there is, in fp32: in the results where they are wide, else in the
// workspace, rounded once. Without rows of logits that are shared by blocks every sum has one order.
//
// In a group of ranks each has a piece of the vocabulary. Forward: all gather what each knows of a row and put it together,
// pieces ascending. Backward: a label of another rank's piece is at none of these logits.
#include "runtime/device/cpu/RowLoss.h"
#include "runtime/device/cuda/Blas.h"
#include "runtime/device/cuda/Nccl.h"
#include "runtime/device/cuda/Ptx.h"
#include "runtime/device/cuda/Registry.h"
#include "runtime/device/cuda/kernels/LinearCrossEntropy.h"
#include "runtime/plan/CudaWorkspace.h"

namespace amc::rt::cuda {
namespace {

using workspace::cuda::LceShape;

constexpr unsigned threads = 256, sumThreads = 1024;

plan::DType statisticOf(plan::DType dtype) { return dtype == plan::F64 ? plan::F64 : plan::F32; }

// Which operands are where: hidden, weight, bias, labels and class weights stand in this order in both.
struct Problem {
  LceShape shape;
  int64_t tokens, width, classes;
  plan::DType dtype, statistic;
  int64_t bytes, sumBytes; // of an element of either
  bool transposeW, biased, weighsAll;
  bool narrowSums; // whether gradients of weight and bias are rounded
  RowLoss loss;

  Problem(const InstructionSpec &spec, size_t hidden)
      : tokens(spec.inputs[hidden + 3].elements), width(spec.inputs[hidden].shape.back()),
        classes(spec.inputs[hidden + 1].shape[spec.flag("transpose_w") ? 0 : 1]), dtype(spec.inputs[hidden].dtype),
        statistic(statisticOf(dtype)), bytes(static_cast<int64_t>(dtypeBytes(dtype))),
        sumBytes(static_cast<int64_t>(dtypeBytes(statistic))), transposeW(spec.flag("transpose_w")),
        biased(spec.inputs[hidden + 2].present()), narrowSums(statistic != dtype && !spec.flag("wide")) {
    auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
    int64_t members = spec.integer("members", 1);
    shape = {u(tokens), u(width), u(classes), u(sumBytes), statistic != dtype, u(members)};
    cpu::LossOptions options = cpu::LossOptions::create(spec, hidden + 4);
    loss.ignored = options.ignored;
    loss.classes = classes * members;
    loss.onLabel = 1 - options.smoothing;
    loss.onAll = options.smoothing / static_cast<double>(std::max<int64_t>(loss.classes, 1));
    loss.zLoss = options.zLoss;
    loss.softcap = spec.real("softcap");
    weighsAll = options.weighted && loss.onAll != 0;
  }

  Expected<NcclGroup> join(const InstructionSpec &spec, Maker &maker) {
    if (shape.members == 1)
      return NcclGroup();
    AMC_CUDA_TRY(group, maker.nccl->group(spec.string("group")));
    loss.firstClass = classes * group.index;
    return group;
  }

  // Rows of hidden and columns of the vocabulary in the tiles that begin there.
  int64_t tokenTile() const { return static_cast<int64_t>(shape.tokenTile()); }
  int64_t vocabularyTile() const { return static_cast<int64_t>(shape.vocabularyTile()); }
  int64_t rowsAt(int64_t token) const { return std::min(tokenTile(), tokens - token); }
  int64_t columnsAt(int64_t first) const { return std::min(vocabularyTile(), classes - first); }

  const std::byte *hiddenAt(const std::byte *hidden, int64_t token) const { return hidden + token * width * bytes; }
  // Of the weight's class `first`, or of what is stored as the weight is, of elements of `size` bytes.
  template <class Byte> Byte *weightAt(Byte *weight, int64_t first, int64_t size) const {
    return weight + (transposeW ? first * width : first) * size;
  }
  // Elements from one row of a tile of the logits' gradient to the next, which stands in the logits' place.
  int64_t gradientPitch(int64_t columns) const { return columns * sumBytes / bytes; }

  ProductShape logits(int64_t rows, int64_t columns) const {
    ProductShape s;
    s.rows = rows;
    s.columns = columns;
    s.inner = width;
    s.operands = dtype;
    s.result = statistic;
    s.transposeB = transposeW;
    s.strideB = transposeW ? width : classes;
    s.workspace = shape.logitProduct();
    return s;
  }
  ProductShape hiddenGradient(int64_t rows, int64_t columns, bool add) const {
    ProductShape s;
    s.rows = rows;
    s.columns = width;
    s.inner = columns;
    s.operands = dtype;
    s.result = statistic;
    s.strideA = gradientPitch(columns);
    s.transposeB = !transposeW;
    s.strideB = transposeW ? width : classes;
    s.beta = add;
    s.workspace = shape.backwardProducts();
    return s;
  }
  // [columns, width] or [width, columns], as the weight is stored; a narrow one's sums stand by themselves.
  ProductShape weightGradient(int64_t rows, int64_t columns, bool add) const {
    ProductShape s;
    s.rows = transposeW ? columns : width;
    s.columns = transposeW ? width : columns;
    s.inner = rows;
    s.operands = dtype;
    s.result = statistic;
    s.transposeA = true;
    (transposeW ? s.strideA : s.strideB) = gradientPitch(columns);
    s.strideY = transposeW ? width : narrowSums ? columns : classes;
    s.beta = add;
    s.workspace = shape.backwardProducts();
    return s;
  }
};

// A product for tiles of either number of rows and columns, the whole ones' and the last ones', that adds or does not.
class TileProducts {
public:
  template <class Shape> Status prepare(const Problem &p, Blas &blas, bool adds, Shape shapeOf) {
    for (int64_t rows : sizes(p.tokens, p.tokenTile()))
      for (int64_t columns : sizes(p.classes, p.vocabularyTile()))
        for (int add = 0; add <= adds; ++add) {
          AMC_CUDA_TRY(made, blas.prepare(shapeOf(rows, columns, add != 0)));
          products.emplace(std::tuple(rows, columns, add != 0), std::move(made));
        }
    return Status();
  }
  const Product &of(int64_t rows, int64_t columns, bool add) const { return *products.at({rows, columns, add}); }

private:
  static std::vector<int64_t> sizes(int64_t n, int64_t tile) {
    std::vector<int64_t> all;
    if (n > 0)
      all.push_back(tile);
    if (n > 0 && n % tile)
      all.push_back(n % tile);
    return all;
  }
  std::map<std::tuple<int64_t, int64_t, bool>, std::unique_ptr<Product>> products;
};

// Parts of a workspace in the order in which the formulas add them.
struct Parts {
  std::byte *at;
  std::byte *take(uint64_t bytes) { return std::exchange(at, at + bytes); }
};

uint64_t blocksOf(int64_t n, int64_t each) { return static_cast<uint64_t>(ceilDiv(n, each)); }

Expected<uint64_t *> labelFailure(const InstructionSpec &spec, const Problem &p, Maker &maker) {
  return maker.failure(spec, "label", 0, p.loss.classes);
}

Status checkShapes(const InstructionSpec &spec, size_t hidden) {
  const Problem p(spec, hidden);
  AMC_EXPECT(p.tokens <= INT32_MAX, "labels: there are ", p.tokens, " and should be at most ", INT32_MAX, " on a CUDA device");
  AMC_EXPECT(p.classes > 0, "weight: there should be a class on a CUDA device");
  return Status();
}

// ---- forward

Status checkForward(const InstructionSpec &spec) { return checkShapes(spec, 0); }
uint64_t forwardWorkspace(const InstructionSpec &spec) { return workspace::cuda::linearCrossEntropy(Problem(spec, 0).shape); }

class Forward final : public Kernel {
public:
  Forward(const InstructionSpec &spec) : p(spec, 0) {}

  Status prepare(const InstructionSpec &spec, Maker &maker) {
    AMC_CUDA_TRY(joined, p.join(spec, maker));
    group = joined;
    nccl = maker.nccl ? &maker.nccl->library : nullptr;
    AMC_CUDA_TRY(slot, labelFailure(spec, p, maker));
    p.loss.failure = reinterpret_cast<unsigned long long *>(slot);
    auto function = [&](const char *name, plan::DType dtype) {
      return maker.context.function(ptx::LinearCrossEntropy, text("loss_", name, "_", suffixOf(dtype)));
    };
    AMC_CUDA_TRY(addToSums, function("sums", p.dtype));
    AMC_CUDA_TRY(finishRows, function("finish", p.statistic));
    AMC_CUDA_TRY(addLosses, function("total", p.statistic));
    AMC_CUDA_TRY(addWeights, function("weights", p.statistic));
    add = addToSums;
    finish = finishRows;
    total = addLosses;
    weights = addWeights;
    return products.prepare(p, maker.blas, false, [&](int64_t rows, int64_t columns, bool) { return p.logits(rows, columns); });
  }

  Status enqueue(const Operands &o, Stream &stream) const override {
    Parts parts{o.workspaces[0]};
    std::byte *logits = parts.take(p.shape.logitTile()), *weightSum = parts.take(p.shape.total());
    std::byte *losses = parts.take(p.shape.rowLosses()), *sums = parts.take(p.shape.sums());
    std::byte *everybodys = parts.take(p.shape.exchanged());
    RowLoss loss = p.loss;
    loss.labels = o.in<long long>(3);
    loss.bias = o.inputs[2];
    loss.weights = o.inputs[4];
    if (p.weighsAll) {
      loss.total = reinterpret_cast<const double *>(weightSum);
      AMC_TRY(stream.launch(weights, {1}, sumThreads, 0, o.inputs[4], static_cast<long long>(p.classes), weightSum));
    }
    for (int64_t token = 0; token < p.tokens; token += p.tokenTile())
      for (int64_t first = 0; first < p.classes; first += p.vocabularyTile()) {
        int64_t rows = p.rowsAt(token), columns = p.columnsAt(first);
        AMC_TRY(products.of(rows, columns, false)
                    .enqueue(stream, p.hiddenAt(o.inputs[0], token), p.weightAt(o.inputs[1], first, p.bytes), nullptr, logits,
                             parts.at));
        LogitTile tile{logits, static_cast<int>(columns), token, first};
        AMC_TRY(stream.launch(add, {static_cast<uint64_t>(rows)}, threads, 0, loss, tile, sums));
      }
    const std::byte *known = sums;
    if (p.shape.members > 1) {
      AMC_TRY(nccl->check(nccl->ncclAllGather(sums, everybodys, p.shape.tokens * 4, ncclFloat64, group.communicator, stream.handle),
                          "linear_cross_entropy", group.communicator));
      known = everybodys;
    }
    AMC_TRY(stream.launch(finish, {blocksOf(p.tokens, threads)}, threads, 0, loss, known, static_cast<int>(p.shape.members),
                          static_cast<long long>(p.tokens), o.outputs[1], losses));
    return stream.launch(total, {1}, sumThreads, 0, losses, static_cast<long long>(p.tokens), o.outputs[0]);
  }

private:
  Problem p;
  TileProducts products;
  NcclGroup group;
  const NcclLibrary *nccl = nullptr;
  CUfunction add = nullptr, finish = nullptr, total = nullptr, weights = nullptr;
};

Expected<std::unique_ptr<Kernel>> createForward(const InstructionSpec &spec, Maker &maker) {
  auto made = std::make_unique<Forward>(spec);
  AMC_TRY(made->prepare(spec, maker));
  return std::unique_ptr<Kernel>(std::move(made));
}

// ---- backward

Status checkBackward(const InstructionSpec &spec) { return checkShapes(spec, 1); }
uint64_t backwardWorkspace(const InstructionSpec &spec) {
  return workspace::cuda::linearCrossEntropyBackward(Problem(spec, 1).shape, spec.outputs[0].present(), spec.outputs[1].present(),
                                                     spec.outputs[2].present(), spec.flag("wide"));
}

class Backward final : public Kernel {
public:
  Backward(const InstructionSpec &spec)
      : p(spec, 1), wantsHidden(spec.outputs[0].present()), wantsWeight(spec.outputs[1].present()),
        wantsBias(spec.outputs[2].present()) {}

  Status prepare(const InstructionSpec &spec, Maker &maker) {
    AMC_CUDA_TRY(joined, p.join(spec, maker)); // for the position among the members
    (void)joined;
    AMC_CUDA_TRY(slot, labelFailure(spec, p, maker));
    p.loss.failure = reinterpret_cast<unsigned long long *>(slot);
    auto function = [&](const char *name, plan::DType dtype) {
      return maker.context.function(ptx::LinearCrossEntropy, text("loss_", name, "_", suffixOf(dtype)));
    };
    AMC_CUDA_TRY(makeGradient, function("gradient", p.dtype));
    AMC_CUDA_TRY(addBias, function("bias", p.dtype));
    AMC_CUDA_TRY(roundSums, function("round", p.dtype));
    AMC_CUDA_TRY(addWeights, function("weights", p.statistic));
    gradient = makeGradient;
    bias = addBias;
    round = roundSums;
    weights = addWeights;
    AMC_TRY(logits.prepare(p, maker.blas, false, [&](int64_t rows, int64_t columns, bool) {
      ProductShape shape = p.logits(rows, columns);
      shape.workspace = p.shape.backwardProducts();
      return shape;
    }));
    if (wantsHidden)
      AMC_TRY(hiddens.prepare(p, maker.blas, true, [&](int64_t r, int64_t c, bool add) { return p.hiddenGradient(r, c, add); }));
    if (wantsWeight)
      AMC_TRY(weightTiles.prepare(p, maker.blas, true, [&](int64_t r, int64_t c, bool add) { return p.weightGradient(r, c, add); }));
    return Status();
  }

  Status enqueue(const Operands &o, Stream &stream) const override {
    if (p.tokens == 0 || p.width == 0)
      AMC_TRY(zeroResults(o, stream));
    if (p.tokens == 0)
      return Status();
    Run run{o, {o.workspaces[0]}};
    run.logits = run.parts.take(p.shape.logitTile());
    std::byte *weightSum = run.parts.take(p.shape.total());
    run.hidden = wantsHidden && p.shape.converts ? run.parts.take(p.shape.hiddenSums()) : o.outputs[0];
    run.weight = wantsWeight && p.narrowSums ? run.parts.take(p.shape.weightSums()) : nullptr;
    run.bias = wantsBias ? run.parts.take(p.shape.biasSums()) : nullptr;
    run.loss = p.loss;
    run.loss.labels = o.in<long long>(4);
    run.loss.bias = o.inputs[3];
    run.loss.weights = o.inputs[5];
    if (p.weighsAll) {
      run.loss.total = reinterpret_cast<const double *>(weightSum);
      AMC_TRY(stream.launch(weights, {1}, sumThreads, 0, o.inputs[5], static_cast<long long>(p.classes), weightSum));
    }
    for (int64_t first = 0; first < p.classes; first += p.vocabularyTile())
      AMC_TRY(vocabularyTile(run, first, p.columnsAt(first), stream));
    if (!wantsHidden || !p.shape.converts)
      return Status();
    return store(run.hidden, p.width, o.outputs[0], p.width, p.tokens, p.width, stream);
  }

private:
  struct Run {
    const Operands &o;
    Parts parts;
    std::byte *logits = nullptr, *hidden = nullptr, *weight = nullptr, *bias = nullptr;
    RowLoss loss = {};
  };

  // Where nothing is added up.
  Status zeroResults(const Operands &o, Stream &stream) const {
    auto zero = [&](bool wants, size_t output, int64_t elements, bool narrow) {
      return wants ? stream.zero(o.outputs[output], static_cast<uint64_t>(elements * (narrow ? p.bytes : p.sumBytes))) : Status();
    };
    AMC_TRY(zero(wantsHidden, 0, p.tokens * p.width, true));
    AMC_TRY(zero(wantsWeight, 1, p.width * p.classes, p.narrowSums));
    return zero(wantsBias, 2, p.classes, p.narrowSums);
  }

  // rows of `columns` sums to where they are results.
  Status store(const std::byte *sums, int64_t pitch, std::byte *result, int64_t resultPitch, int64_t rows, int64_t columns,
               Stream &stream) const {
    return stream.launch(round, {blocksOf(rows * columns, threads)}, threads, 0, sums, static_cast<long long>(pitch), result,
                         static_cast<long long>(resultPitch), static_cast<long long>(rows * columns),
                         static_cast<long long>(columns));
  }

  Status vocabularyTile(const Run &run, int64_t first, int64_t columns, Stream &stream) const {
    const Operands &o = run.o;
    const std::byte *weight = p.weightAt(o.inputs[2], first, p.bytes);
    std::byte *weightSums = !wantsWeight ? nullptr : p.narrowSums ? run.weight : p.weightAt(o.outputs[1], first, p.sumBytes);
    for (int64_t token = 0; token < p.tokens; token += p.tokenTile()) {
      int64_t rows = p.rowsAt(token);
      const std::byte *hidden = p.hiddenAt(o.inputs[1], token);
      AMC_TRY(logits.of(rows, columns, false).enqueue(stream, hidden, weight, nullptr, run.logits, run.parts.at));
      LogitTile tile{run.logits, static_cast<int>(columns), token, first};
      AMC_TRY(stream.launch(gradient, {static_cast<uint64_t>(rows)}, threads, 0, run.loss, tile, o.inputs[0], o.inputs[6]));
      if (wantsHidden)
        AMC_TRY(hiddens.of(rows, columns, first > 0)
                    .enqueue(stream, run.logits, weight, nullptr, run.hidden + token * p.width * p.sumBytes, run.parts.at));
      if (wantsWeight)
        AMC_TRY(weightTiles.of(rows, columns, token > 0)
                    .enqueue(stream, p.transposeW ? run.logits : hidden, p.transposeW ? hidden : run.logits, nullptr, weightSums,
                             run.parts.at));
      if (wantsBias)
        AMC_TRY(stream.launch(bias, {blocksOf(columns, 32)}, threads, 0, run.logits, static_cast<int>(rows),
                              static_cast<int>(columns), static_cast<long long>(p.gradientPitch(columns)), run.bias,
                              static_cast<int>(token > 0)));
    }
    // All tokens have been added to this tile of dweight and dbias.
    if (wantsBias && p.narrowSums)
      AMC_TRY(store(run.bias, columns, o.outputs[2] + first * p.bytes, columns, 1, columns, stream));
    else if (wantsBias)
      AMC_TRY(stream.copy(o.outputs[2] + first * p.sumBytes, run.bias, static_cast<uint64_t>(columns * p.sumBytes)));
    if (!wantsWeight || !p.narrowSums)
      return Status();
    int64_t rows = p.transposeW ? columns : p.width, across = p.transposeW ? p.width : columns;
    return store(weightSums, across, p.weightAt(o.outputs[1], first, p.bytes), p.transposeW ? p.width : p.classes, rows, across,
                 stream);
  }

  Problem p;
  bool wantsHidden, wantsWeight, wantsBias;
  TileProducts logits, hiddens, weightTiles;
  CUfunction gradient = nullptr, bias = nullptr, round = nullptr, weights = nullptr;
};

Expected<std::unique_ptr<Kernel>> createBackward(const InstructionSpec &spec, Maker &maker) {
  auto made = std::make_unique<Backward>(spec);
  AMC_TRY(made->prepare(spec, maker));
  return std::unique_ptr<Kernel>(std::move(made));
}

} // namespace

void registerLinearCrossEntropy(KernelRegistry &registry) {
  registry.add("linear_cross_entropy", {createForward, forwardWorkspace, checkForward});
  registry.add("linear_cross_entropy_backward", {createBackward, backwardWorkspace, checkBackward});
}

} // namespace amc::rt::cuda
