// gated_mlp and gated_mlp_backward: a feed-forward network on a tile of rows at a time.
//
// Each tile runs the kernels of the operations that this one stands for (linear, gated_activation, add), prepared for
// the tile's shape, so their bits are the same by construction: a tile is a multiple of the rows that products are cut
// into, and products are told how many rows there are in all. Weight gradients are summed over the tiles in ascending
// order, in the arithmetic type, in place where they have it (`wide`). Limits: tiles run one after the other, each on all
// threads. Reference: MlpOps.cpp.
#include "runtime/device/cpu/Gemm.h"
#include <algorithm>

namespace amc::rt::cpu {
namespace {

static_assert(workspace::mlpRowTile % workspace::weightGradRowBlock == 0 &&
              workspace::mlpRowTile % workspace::productWideRowTile == 0 &&
              workspace::productFineRows <= workspace::mlpRowTile);

struct MlpShape {
  plan::DType dtype;
  int64_t rows, input, inner, output;
  bool transposeGate, transposeUp, transposeDown;
  int64_t tile(int64_t from) const { return std::min<int64_t>(rows - from, workspace::mlpRowTile); }
};

// ---- signatures

// `x` is the position of the network's input; gate, up and down follow it.
Status checkNetwork(const InstructionSpec &spec, size_t x) {
  AMC_TRY(expectOneOf(spec, "activation", {"silu", "gelu", "gelu_tanh", "relu"}));
  const TensorSpec &in = spec.inputs[x], &gate = spec.inputs[x + 1], &down = spec.inputs[x + 3];
  AMC_EXPECT(in.rank() >= 1, "x: rank is 0 and should be at least 1");
  for (size_t i = x + 1; i < x + 4; ++i) {
    const char *name = i == x + 1 ? "gate" : i == x + 2 ? "up" : "down";
    AMC_TRY(expectDType(name, spec.inputs[i], in.dtype));
    AMC_EXPECT(spec.inputs[i].rank() == 2, name, ": rank is ", spec.inputs[i].rank(), " and should be 2");
  }
  bool transposeGate = spec.flag("transpose_gate"), transposeUp = spec.flag("transpose_up");
  int64_t inner = gate.shape[transposeGate ? 0 : 1], input = in.shape.back();
  auto stored = [](bool transposed, int64_t rows, int64_t columns) {
    return transposed ? std::vector<int64_t>{columns, rows} : std::vector<int64_t>{rows, columns};
  };
  AMC_TRY(expectShape("gate", gate, stored(transposeGate, input, inner)));
  AMC_TRY(expectShape("up", spec.inputs[x + 2], stored(transposeUp, input, inner)));
  bool transposeDown = spec.flag("transpose_down");
  AMC_EXPECT(down.shape[transposeDown ? 1 : 0] == inner, "down: inner dimension is ",
             down.shape[transposeDown ? 1 : 0], " and should be ", inner);
  for (int64_t size : {rowsOf(in.shape).rows, input, inner, down.shape[transposeDown ? 0 : 1]})
    AMC_EXPECT(size <= INT32_MAX, "dimension ", size, " should be at most ", INT32_MAX);
  return Status();
}

MlpShape shapeOf(const InstructionSpec &spec, size_t x) {
  MlpShape s;
  s.dtype = spec.inputs[x].dtype;
  s.rows = rowsOf(spec.inputs[x].shape).rows;
  s.input = spec.inputs[x].shape.back();
  s.transposeGate = spec.flag("transpose_gate");
  s.transposeUp = spec.flag("transpose_up");
  s.transposeDown = spec.flag("transpose_down");
  s.inner = spec.inputs[x + 1].shape[s.transposeGate ? 0 : 1];
  s.output = spec.inputs[x + 3].shape[s.transposeDown ? 0 : 1];
  return s;
}

std::vector<int64_t> outputShape(const InstructionSpec &spec, size_t x) {
  std::vector<int64_t> shape = spec.inputs[x].shape;
  shape.back() = shapeOf(spec, x).output;
  return shape;
}

uint64_t forwardBytes(const MlpShape &s) {
  return workspace::gatedMlp(static_cast<uint64_t>(s.rows), static_cast<uint64_t>(s.input),
                             static_cast<uint64_t>(s.inner), static_cast<uint64_t>(s.output), dtypeBytes(s.dtype));
}
uint64_t backwardBytes(const MlpShape &s, bool weights, bool wide) {
  return workspace::gatedMlpBackward(static_cast<uint64_t>(s.rows), static_cast<uint64_t>(s.input),
                                     static_cast<uint64_t>(s.inner), static_cast<uint64_t>(s.output), weights,
                                     dtypeBytes(s.dtype), wide);
}

Status checkForward(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptData}, {"gate", AcceptData}, {"up", AcceptData}, {"down", AcceptData}},
                         {{"y", AcceptData}},
                         {{"activation", Text}, {"transpose_down", Int, Optional}, {"transpose_gate", Int, Optional},
                          {"transpose_up", Int, Optional}}));
  AMC_TRY(checkNetwork(spec, 0));
  AMC_TRY(expectDType("y", spec.outputs[0], spec.inputs[0].dtype));
  AMC_TRY(expectShape("y", spec.outputs[0], outputShape(spec, 0)));
  return expectWorkspace(spec, forwardBytes(shapeOf(spec, 0)));
}

Status checkBackward(const InstructionSpec &spec) {
  std::initializer_list<OperandRule> inputs = {
      {"dy", AcceptData}, {"x", AcceptData}, {"gate", AcceptData}, {"up", AcceptData}, {"down", AcceptData}};
  std::initializer_list<AttributeRule> attributes = {{"activation", Text},
                                                     {"input_only", Int, Optional},
                                                     {"transpose_down", Int, Optional},
                                                     {"transpose_gate", Int, Optional},
                                                     {"transpose_up", Int, Optional},
                                                     {"wide", Int, Optional}};
  bool weights = !spec.flag("input_only");
  if (weights)
    AMC_TRY(expectOperands(
        spec, inputs, {{"dx", AcceptData}, {"dgate", AcceptData}, {"dup", AcceptData}, {"ddown", AcceptData}},
        attributes));
  else
    AMC_TRY(expectOperands(spec, inputs, {{"dx", AcceptData}}, attributes));
  AMC_TRY(checkNetwork(spec, 1));
  AMC_TRY(expectDType("dy", spec.inputs[0], spec.inputs[1].dtype));
  AMC_TRY(expectShape("dy", spec.inputs[0], outputShape(spec, 1)));
  constexpr const char *gradients[] = {"dx", "dgate", "dup", "ddown"};
  for (size_t i = 0; i < spec.outputs.size(); ++i) {
    if (i == 0)
      AMC_TRY(expectDType(gradients[i], spec.outputs[i], spec.inputs[1].dtype));
    else
      AMC_TRY(expectSumType(gradients[i], spec, spec.outputs[i], spec.inputs[1]));
    AMC_TRY(expectShape(gradients[i], spec.outputs[i], spec.inputs[i + 1].shape));
  }
  return expectWorkspace(spec, backwardBytes(shapeOf(spec, 1), weights, spec.flag("wide")));
}

// ---- parts

// The kernel of one of the operations that the network is made of.
class Part {
public:
  using Shape = std::vector<int64_t>;

  explicit Part(std::unique_ptr<Kernel> kernel) : kernel(std::move(kernel)) {}
  Part(const char *name, plan::DType dtype, std::initializer_list<Shape> inputs, std::initializer_list<Shape> outputs,
       std::initializer_list<plan::Attribute> attributes) {
    static const KernelRegistry registry;
    plan::Instruction instruction;
    instruction.set_kernel(name);
    auto set = [&](plan::View *view, const Shape &shape) {
      view->set_dtype(dtype);
      for (int64_t dim : shape)
        view->add_shape(static_cast<uint64_t>(dim));
    };
    for (const Shape &shape : inputs)
      set(instruction.add_inputs(), shape);
    for (const Shape &shape : outputs)
      set(instruction.add_outputs(), shape);
    for (const plan::Attribute &attribute : attributes)
      *instruction.add_attributes() = attribute;
    // Smaller than the network's own tensors, which have been checked.
    kernel = registry.find(name)->create(InstructionSpec::create(instruction).value());
  }

  void run(RunContext &context, std::initializer_list<const std::byte *> inputs,
           std::initializer_list<std::byte *> outputs, std::byte *scratch) const {
    std::byte *in[3] = {}, *out[2] = {};
    std::transform(inputs.begin(), inputs.end(), in, [](const std::byte *p) { return const_cast<std::byte *>(p); });
    std::copy(outputs.begin(), outputs.end(), out);
    kernel->run({in, out, &scratch}, context);
  }

private:
  std::unique_ptr<Kernel> kernel;
};

plan::Attribute text(const char *name, const std::string &value) {
  plan::Attribute attribute;
  attribute.set_name(name);
  attribute.set_s(value);
  return attribute;
}

struct ForwardParts {
  Part gate, up, activation, down;
  ForwardParts(const MlpShape &s, int64_t rows, const std::string &act)
      : gate(createLinear(s.dtype, rows, s.input, s.inner, s.transposeGate, s.rows)),
        up(createLinear(s.dtype, rows, s.input, s.inner, s.transposeUp, s.rows)),
        activation("gated_activation", s.dtype, {{rows, s.inner}, {rows, s.inner}}, {{rows, s.inner}},
                   {text("activation", act)}),
        down(createLinear(s.dtype, rows, s.inner, s.output, s.transposeDown, s.rows)) {}
};

struct BackwardParts {
  Part down, activation, up, gate, add;
  BackwardParts(const MlpShape &s, int64_t rows, const std::string &act)
      : down(createLinear(s.dtype, rows, s.output, s.inner, !s.transposeDown, s.rows)),
        activation("gated_activation_backward", s.dtype, {{rows, s.inner}, {rows, s.inner}, {rows, s.inner}},
                   {{rows, s.inner}, {rows, s.inner}}, {text("activation", act)}),
        up(createLinear(s.dtype, rows, s.inner, s.input, !s.transposeUp, s.rows)),
        gate(createLinear(s.dtype, rows, s.inner, s.input, !s.transposeGate, s.rows)),
        add("add", s.dtype, {{rows, s.input}, {rows, s.input}}, {{rows, s.input}}, {}) {}
};

// Parts for whole tiles and for the last one.
template <class Parts> struct Tiles {
  std::vector<Parts> whole, last;
  Tiles(const MlpShape &s, const std::string &act) {
    constexpr auto tile = static_cast<int64_t>(workspace::mlpRowTile);
    if (s.rows >= tile)
      whole.emplace_back(s, tile, act);
    if (s.rows % tile)
      last.emplace_back(s, s.rows % tile, act);
  }
  const Parts &of(int64_t rows) const {
    return rows == static_cast<int64_t>(workspace::mlpRowTile) ? whole[0] : last[0];
  }
};

// Cuts scratch into pieces, aligned as the formulas of Workspace.h count them.
struct Cutter {
  std::byte *at;
  std::byte *take(int64_t bytes) {
    std::byte *piece = at;
    at += workspace::detail::pad(static_cast<uint64_t>(bytes));
    return piece;
  }
};

// ---- gated_mlp

struct Forward final : Kernel {
  MlpShape s;
  Tiles<ForwardParts> tiles;

  explicit Forward(const InstructionSpec &spec) : s(shapeOf(spec, 0)), tiles(s, spec.string("activation")) {}

  void run(const Operands &o, RunContext &c) const override {
    auto bytes = static_cast<int64_t>(dtypeBytes(s.dtype));
    for (int64_t row = 0; row < s.rows; row += static_cast<int64_t>(workspace::mlpRowTile)) {
      const ForwardParts &p = tiles.of(s.tile(row));
      Cutter scratch{o.workspaces[0]};
      std::byte *gate = scratch.take(s.tile(0) * s.inner * bytes), *up = scratch.take(s.tile(0) * s.inner * bytes);
      const std::byte *x = o.inputs[0] + row * s.input * bytes;
      p.gate.run(c, {x, o.inputs[1], nullptr}, {gate}, scratch.at);
      p.up.run(c, {x, o.inputs[2], nullptr}, {up}, scratch.at);
      p.activation.run(c, {gate, up}, {gate}, nullptr);
      p.down.run(c, {gate, o.inputs[3], nullptr}, {o.outputs[0] + row * s.output * bytes}, scratch.at);
    }
  }
};

std::unique_ptr<Kernel> createForward(const InstructionSpec &spec) { return std::make_unique<Forward>(spec); }

// ---- gated_mlp_backward

template <class S> struct Backward final : Kernel {
  using T = Wide<S>;
  MlpShape s;
  bool weights, inPlace; // whether the results hold the sums
  Tiles<BackwardParts> tiles;
  Tiles<ForwardParts> again;

  explicit Backward(const InstructionSpec &spec)
      : s(shapeOf(spec, 1)), weights(!spec.flag("input_only")), inPlace(isWide<S> || spec.flag("wide")),
        tiles(s, spec.string("activation")),
        again(s, spec.string("activation")) {}

  // sums (+)= left^T right, of two matrices with `rows` rows; the other way round if the weight is stored so.
  void addWeightGradient(RunContext &c, const std::byte *left, int64_t wide, const std::byte *right, int64_t columns,
                         bool transpose, int64_t rows, bool add, T *sums, std::byte *scratch) const {
    if (transpose) {
      std::swap(left, right);
      std::swap(wide, columns);
    }
    if (wide == 0 || columns == 0)
      return;
    ProductGrid grid = ProductGrid::ofGradient<S>(wide, columns, rows);
    multiplySums<S>(c.pool, grid, {reinterpret_cast<const S *>(left), wide, true},
                    {reinterpret_cast<const S *>(right), columns}, add, sums, scratch, true);
  }

  void round(RunContext &c, const T *sums, std::byte *result, int64_t n) const {
    parallelRange(c.pool, n, elementGrain,
                  [&](int64_t begin, int64_t end) { narrowRow(sums + begin, reinterpret_cast<S *>(result) + begin, end - begin); });
  }

  void run(const Operands &o, RunContext &c) const override {
    constexpr int64_t bytes = sizeof(S);
    const int64_t outer[3] = {s.input * s.inner, s.input * s.inner, s.inner * s.output};
    Cutter fixed{o.workspaces ? o.workspaces[0] : nullptr};
    T *sums[3] = {};
    for (int i = 0; weights && i < 3; ++i)
      sums[i] = reinterpret_cast<T *>(inPlace ? o.outputs[i + 1] : fixed.take(outer[i] * 4));
    for (int i = 0; weights && s.rows == 0 && i < 3; ++i)
      std::fill_n(sums[i], outer[i], T(0));
    for (int64_t row = 0; row < s.rows; row += static_cast<int64_t>(workspace::mlpRowTile)) {
      int64_t rows = s.tile(row);
      const BackwardParts &p = tiles.of(rows);
      const ForwardParts &f = again.of(rows);
      Cutter scratch{fixed.at};
      std::byte *gate = scratch.take(s.tile(0) * s.inner * bytes), *up = scratch.take(s.tile(0) * s.inner * bytes);
      std::byte *h = scratch.take(s.tile(0) * s.inner * bytes), *part = scratch.take(s.tile(0) * s.input * bytes);
      const std::byte *dy = o.inputs[0] + row * s.output * bytes, *x = o.inputs[1] + row * s.input * bytes;
      std::byte *dx = o.outputs[0] + row * s.input * bytes;
      bool add = row > 0;
      f.gate.run(c, {x, o.inputs[2], nullptr}, {gate}, scratch.at);
      f.up.run(c, {x, o.inputs[3], nullptr}, {up}, scratch.at);
      if (weights) {
        f.activation.run(c, {gate, up}, {h}, nullptr);
        addWeightGradient(c, h, s.inner, dy, s.output, s.transposeDown, rows, add, sums[2], scratch.at);
      }
      p.down.run(c, {dy, o.inputs[4], nullptr}, {h}, scratch.at);
      p.activation.run(c, {h, gate, up}, {gate, up}, nullptr);
      p.up.run(c, {up, o.inputs[3], nullptr}, {part}, scratch.at);
      p.gate.run(c, {gate, o.inputs[2], nullptr}, {dx}, scratch.at);
      p.add.run(c, {part, dx}, {dx}, nullptr);
      if (weights) {
        addWeightGradient(c, x, s.input, gate, s.inner, s.transposeGate, rows, add, sums[0], scratch.at);
        addWeightGradient(c, x, s.input, up, s.inner, s.transposeUp, rows, add, sums[1], scratch.at);
      }
    }
    for (int i = 0; weights && !inPlace && i < 3; ++i)
      round(c, sums[i], o.outputs[i + 1], outer[i]);
  }
};

std::unique_ptr<Kernel> createBackward(const InstructionSpec &spec) {
  return withFloats(spec.inputs[1].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    return std::make_unique<Backward<decltype(type)>>(spec);
  });
}

} // namespace

void registerGatedMlp(KernelRegistry &registry) {
  registry.addProduct("gated_mlp", {checkForward, createForward, nullptr, false, true});
  registry.addProduct("gated_mlp_backward", {checkBackward, createBackward, nullptr, false, true});
}

} // namespace amc::rt::cpu
