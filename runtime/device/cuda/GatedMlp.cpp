// gated_mlp and gated_mlp_backward, a tile of rows at a time. The signatures are runtime/device/cpu/GatedMlp.cpp's.
//
// Each tile runs the kernels of the operations that this one stands for (linear, gated_activation, add), made for the tile's
// shape. Weight gradients are summed over the tiles, ascending, in fp32 (f64 for f64) by products that add to what there is:
// in the results where they are wide, else in the workspace, rounded once. Reference: MlpOps.cpp.
#include "runtime/device/cuda/Blas.h"
#include "runtime/device/cuda/Ptx.h"
#include "runtime/device/cuda/Registry.h"
#include "runtime/plan/CudaWorkspace.h"

namespace amc::rt::cuda {
namespace {

constexpr auto rowTile = static_cast<int64_t>(workspace::mlpRowTile);

uint64_t u(int64_t n) { return static_cast<uint64_t>(n); }

struct MlpShape {
  plan::DType dtype;
  int64_t rows, input, inner, output, bytes, sumBytes;
  bool transposeGate, transposeUp, transposeDown;

  // `x` is the position of the network's input; gate, up and down follow it.
  MlpShape(const InstructionSpec &spec, size_t x)
      : dtype(spec.inputs[x].dtype), rows(cpu::rowsOf(spec.inputs[x].shape).rows), input(spec.inputs[x].shape.back()),
        bytes(static_cast<int64_t>(dtypeBytes(dtype))), sumBytes(std::max<int64_t>(bytes, 4)),
        transposeGate(spec.flag("transpose_gate")), transposeUp(spec.flag("transpose_up")), transposeDown(spec.flag("transpose_down")) {
    inner = spec.inputs[x + 1].shape[transposeGate ? 0 : 1];
    output = spec.inputs[x + 3].shape[transposeDown ? 0 : 1];
  }
  int64_t tile(int64_t from) const { return std::min(rows - from, rowTile); }
};

// ---- parts

// The kernel of one of the operations that the network is made of.
class Part {
public:
  using Shape = std::vector<int64_t>;

  // An empty shape is an absent operand.
  static Expected<Part> create(const char *name, plan::DType dtype, std::initializer_list<Shape> inputs,
                               std::initializer_list<Shape> outputs, uint64_t scratch, const plan::Attribute *attribute, Maker &maker) {
    static const KernelRegistry registry;
    const KernelEntry *entry = registry.find(name);
    if (!entry)
      return limitError("a network of '", name, "', which is no kernel of the CUDA device");
    plan::Instruction instruction;
    instruction.set_kernel(name);
    auto set = [&](plan::View *view, const Shape &shape) {
      if (shape.empty())
        return;
      view->set_dtype(dtype);
      for (int64_t dim : shape)
        view->add_shape(u(dim));
    };
    for (const Shape &shape : inputs)
      set(instruction.add_inputs(), shape);
    for (const Shape &shape : outputs)
      set(instruction.add_outputs(), shape);
    if (scratch) {
      plan::View *view = instruction.add_workspaces();
      view->set_dtype(plan::U8);
      view->add_shape(scratch);
    }
    if (attribute)
      *instruction.add_attributes() = *attribute;
    // Smaller than the network's own tensors, which have been checked.
    AMC_CUDA_TRY(spec, InstructionSpec::create(instruction));
    AMC_CUDA_TRY(made, entry->create(spec, maker));
    return Part(std::move(made));
  }

  Status enqueue(Stream &stream, std::initializer_list<const std::byte *> inputs, std::initializer_list<std::byte *> outputs,
                 std::byte *scratch) const {
    std::byte *in[3] = {}, *out[2] = {};
    std::transform(inputs.begin(), inputs.end(), in, [](const std::byte *p) { return const_cast<std::byte *>(p); });
    std::copy(outputs.begin(), outputs.end(), out);
    return kernel->enqueue({in, out, &scratch}, stream);
  }

private:
  explicit Part(std::unique_ptr<Kernel> kernel) : kernel(std::move(kernel)) {}
  std::unique_ptr<Kernel> kernel;
};

// x w for rows of x; the weight as it is stored.
Expected<Part> linear(plan::DType dtype, int64_t rows, int64_t inner, int64_t columns, bool transpose, Maker &maker) {
  plan::Attribute flag;
  flag.set_name("transpose_w");
  flag.set_i(1);
  Part::Shape weight = transpose ? Part::Shape{columns, inner} : Part::Shape{inner, columns};
  return Part::create("linear", dtype, {{rows, inner}, weight, {}}, {{rows, columns}}, workspace::cuda::product(u(rows), u(columns)),
                      transpose ? &flag : nullptr, maker);
}

Expected<Part> activation(const MlpShape &s, int64_t rows, const std::string &act, bool backward, Maker &maker) {
  plan::Attribute name;
  name.set_name("activation");
  name.set_s(act);
  Part::Shape tile = {rows, s.inner};
  return backward ? Part::create("gated_activation_backward", s.dtype, {tile, tile, tile}, {tile, tile}, 0, &name, maker)
                  : Part::create("gated_activation", s.dtype, {tile, tile}, {tile}, 0, &name, maker);
}

struct ForwardParts {
  Part gate, up, activation, down;

  static Expected<ForwardParts> create(const MlpShape &s, int64_t rows, const std::string &act, Maker &maker) {
    AMC_CUDA_TRY(gate, linear(s.dtype, rows, s.input, s.inner, s.transposeGate, maker));
    AMC_CUDA_TRY(up, linear(s.dtype, rows, s.input, s.inner, s.transposeUp, maker));
    AMC_CUDA_TRY(gated, cuda::activation(s, rows, act, false, maker));
    AMC_CUDA_TRY(down, linear(s.dtype, rows, s.inner, s.output, s.transposeDown, maker));
    return ForwardParts{std::move(gate), std::move(up), std::move(gated), std::move(down)};
  }
};

// left^T right, as a weight is stored, that adds to sums of fp32 or does not.
struct GradientProduct {
  bool transpose;
  std::shared_ptr<Product> first, next;

  static Expected<GradientProduct> create(const MlpShape &s, int64_t rows, int64_t down, int64_t across, bool transpose, uint64_t scratch, Maker &maker) {
    ProductShape shape;
    shape.rows = transpose ? across : down;
    shape.columns = transpose ? down : across;
    shape.inner = rows;
    shape.operands = s.dtype;
    shape.result = s.dtype == plan::F64 ? plan::F64 : plan::F32;
    shape.transposeA = true;
    shape.workspace = scratch;
    AMC_CUDA_TRY(first, maker.blas.prepare(shape));
    shape.beta = 1;
    AMC_CUDA_TRY(next, maker.blas.prepare(shape));
    return GradientProduct{transpose, std::move(first), std::move(next)};
  }
  Status enqueue(Stream &stream, const std::byte *left, const std::byte *right, std::byte *sums, bool add, std::byte *scratch) const {
    return (add ? next : first)->enqueue(stream, transpose ? right : left, transpose ? left : right, nullptr, sums, scratch);
  }
};

struct BackwardParts {
  ForwardParts again; // of which `down` is not run
  Part down, activation, up, gate, add;
  std::vector<GradientProduct> weights; // of gate, up and down, or none

  static Expected<BackwardParts> create(const MlpShape &s, int64_t rows, const std::string &act, bool weights, uint64_t scratch, Maker &maker) {
    AMC_CUDA_TRY(again, ForwardParts::create(s, rows, act, maker));
    AMC_CUDA_TRY(down, linear(s.dtype, rows, s.output, s.inner, !s.transposeDown, maker));
    AMC_CUDA_TRY(gated, cuda::activation(s, rows, act, true, maker));
    AMC_CUDA_TRY(up, linear(s.dtype, rows, s.inner, s.input, !s.transposeUp, maker));
    AMC_CUDA_TRY(gate, linear(s.dtype, rows, s.inner, s.input, !s.transposeGate, maker));
    Part::Shape summand = {rows, s.input};
    AMC_CUDA_TRY(add, Part::create("add", s.dtype, {summand, summand}, {summand}, 0, nullptr, maker));
    BackwardParts made{std::move(again), std::move(down), std::move(gated), std::move(up), std::move(gate), std::move(add), {}};
    if (!weights)
      return made;
    struct Size {
      int64_t down, across;
      bool transpose;
    };
    for (auto [d, a, transpose] : {Size{s.input, s.inner, s.transposeGate}, Size{s.input, s.inner, s.transposeUp}, Size{s.inner, s.output, s.transposeDown}}) {
      AMC_CUDA_TRY(product, GradientProduct::create(s, rows, d, a, transpose, scratch, maker));
      made.weights.push_back(std::move(product));
    }
    return made;
  }
};

// Parts for whole tiles and for the last one.
template <class Parts> struct Tiles {
  std::vector<Parts> whole, last;
  template <class Create> Status prepare(const MlpShape &s, Create create) {
    for (auto [rows, parts] : {std::pair(rowTile, &whole), std::pair(s.rows % rowTile, &last)}) {
      if (rows == 0 || rows > s.rows)
        continue;
      AMC_CUDA_TRY(made, create(rows));
      parts->push_back(std::move(made));
    }
    return Status();
  }
  const Parts &of(int64_t rows) const { return rows == rowTile ? whole[0] : last[0]; }
};

// Cuts scratch into pieces, aligned as the formulas of CudaWorkspace.h count them.
struct Cutter {
  std::byte *at;
  std::byte *take(int64_t bytes) { return std::exchange(at, at + workspace::cuda::part(u(bytes))); }
};

// ---- gated_mlp

uint64_t forwardWorkspace(const InstructionSpec &spec) {
  MlpShape s(spec, 0);
  return workspace::cuda::gatedMlp(u(s.rows), u(s.inner), u(s.output), u(s.bytes));
}

class Forward final : public Kernel {
public:
  explicit Forward(const InstructionSpec &spec) : s(spec, 0) {}
  Status prepare(const InstructionSpec &spec, Maker &maker) {
    return tiles.prepare(s, [&](int64_t rows) { return ForwardParts::create(s, rows, spec.string("activation"), maker); });
  }

  Status enqueue(const Operands &o, Stream &stream) const override {
    for (int64_t row = 0; row < s.rows; row += rowTile) {
      const ForwardParts &p = tiles.of(s.tile(row));
      Cutter scratch{o.workspaces[0]};
      std::byte *gate = scratch.take(s.tile(0) * s.inner * s.bytes), *up = scratch.take(s.tile(0) * s.inner * s.bytes);
      const std::byte *x = o.inputs[0] + row * s.input * s.bytes;
      AMC_TRY(p.gate.enqueue(stream, {x, o.inputs[1], nullptr}, {gate}, scratch.at));
      AMC_TRY(p.up.enqueue(stream, {x, o.inputs[2], nullptr}, {up}, scratch.at));
      AMC_TRY(p.activation.enqueue(stream, {gate, up}, {gate}, nullptr));
      AMC_TRY(p.down.enqueue(stream, {gate, o.inputs[3], nullptr}, {o.outputs[0] + row * s.output * s.bytes}, scratch.at));
    }
    return Status();
  }

private:
  MlpShape s;
  Tiles<ForwardParts> tiles;
};

Expected<std::unique_ptr<Kernel>> createForward(const InstructionSpec &spec, Maker &maker) {
  auto made = std::make_unique<Forward>(spec);
  AMC_TRY(made->prepare(spec, maker));
  return std::unique_ptr<Kernel>(std::move(made));
}

// ---- gated_mlp_backward

uint64_t backwardWorkspace(const InstructionSpec &spec) {
  MlpShape s(spec, 1);
  return workspace::cuda::gatedMlpBackward(u(s.rows), u(s.input), u(s.inner), u(s.output), !spec.flag("input_only"), u(s.bytes), spec.flag("wide"));
}

class Backward final : public Kernel {
public:
  explicit Backward(const InstructionSpec &spec)
      : s(spec, 1), weights(!spec.flag("input_only")), inPlace(s.bytes == s.sumBytes || spec.flag("wide")),
        outer{s.input * s.inner, s.input * s.inner, s.inner * s.output} {}

  Status prepare(const InstructionSpec &spec, Maker &maker) {
    AMC_CUDA_TRY(function, maker.context.function(ptx::LinearCrossEntropy, text("loss_round_", suffixOf(s.dtype))));
    round = function;
    uint64_t scratch = backwardWorkspace(spec);
    return tiles.prepare(s, [&](int64_t rows) {
      return BackwardParts::create(s, rows, spec.string("activation"), weights, std::min(scratch, workspace::cuda::productMost), maker);
    });
  }

  Status enqueue(const Operands &o, Stream &stream) const override {
    Cutter fixed{s.rows ? o.workspaces[0] : nullptr};
    std::byte *sums[3] = {};
    for (int i = 0; weights && i < 3; ++i) {
      if (s.rows == 0) {
        AMC_TRY(stream.zero(o.outputs[i + 1], u(outer[i] * (inPlace ? s.sumBytes : s.bytes))));
        continue;
      }
      sums[i] = inPlace ? o.outputs[i + 1] : fixed.take(outer[i] * 4);
    }
    for (int64_t row = 0; row < s.rows; row += rowTile)
      AMC_TRY(tile(o, row, fixed, sums, stream));
    for (int i = 0; weights && !inPlace && s.rows && i < 3; ++i)
      AMC_TRY(stream.launch(round, {u(ceilDiv(outer[i], 256))}, 256, 0, sums[i], static_cast<long long>(outer[i]), o.outputs[i + 1],
                            static_cast<long long>(outer[i]), static_cast<long long>(outer[i]), static_cast<long long>(outer[i])));
    return Status();
  }

private:
  Status tile(const Operands &o, int64_t row, Cutter scratch, std::byte *const *sums, Stream &stream) const {
    const BackwardParts &p = tiles.of(s.tile(row));
    const ForwardParts &f = p.again;
    std::byte *gate = scratch.take(s.tile(0) * s.inner * s.bytes), *up = scratch.take(s.tile(0) * s.inner * s.bytes),
              *h = scratch.take(s.tile(0) * s.inner * s.bytes), *part = scratch.take(s.tile(0) * s.input * s.bytes);
    const std::byte *dy = o.inputs[0] + row * s.output * s.bytes, *x = o.inputs[1] + row * s.input * s.bytes;
    std::byte *dx = o.outputs[0] + row * s.input * s.bytes;
    const bool add = row > 0;
    AMC_TRY(f.gate.enqueue(stream, {x, o.inputs[2], nullptr}, {gate}, scratch.at));
    AMC_TRY(f.up.enqueue(stream, {x, o.inputs[3], nullptr}, {up}, scratch.at));
    if (weights) {
      AMC_TRY(f.activation.enqueue(stream, {gate, up}, {h}, nullptr));
      AMC_TRY(p.weights[2].enqueue(stream, h, dy, sums[2], add, scratch.at));
    }
    AMC_TRY(p.down.enqueue(stream, {dy, o.inputs[4], nullptr}, {h}, scratch.at));
    AMC_TRY(p.activation.enqueue(stream, {h, gate, up}, {gate, up}, nullptr));
    AMC_TRY(p.up.enqueue(stream, {up, o.inputs[3], nullptr}, {part}, scratch.at));
    AMC_TRY(p.gate.enqueue(stream, {gate, o.inputs[2], nullptr}, {dx}, scratch.at));
    AMC_TRY(p.add.enqueue(stream, {part, dx}, {dx}, nullptr));
    if (!weights)
      return Status();
    AMC_TRY(p.weights[0].enqueue(stream, x, gate, sums[0], add, scratch.at));
    return p.weights[1].enqueue(stream, x, up, sums[1], add, scratch.at);
  }

  MlpShape s;
  bool weights, inPlace; // whether the results hold the sums
  int64_t outer[3];
  Tiles<BackwardParts> tiles;
  CUfunction round = nullptr;
};

Expected<std::unique_ptr<Kernel>> createBackward(const InstructionSpec &spec, Maker &maker) {
  auto made = std::make_unique<Backward>(spec);
  AMC_TRY(made->prepare(spec, maker));
  return std::unique_ptr<Kernel>(std::move(made));
}

} // namespace

void registerGatedMlp(KernelRegistry &registry) {
  registry.add("gated_mlp", {createForward, forwardWorkspace});
  registry.add("gated_mlp_backward", {createBackward, backwardWorkspace});
}

} // namespace amc::rt::cuda
