// Activations in one pass over memory: gated_activation and its gradients, silu_backward, gelu_backward.
//
// All operands and results have one shape and one float dtype; f16 and bf16 are computed in fp32. Every result may
// replace any operand: a block is read whole before it is written. Reference: activations() and slopes() below, in
// double, element by element; that is also what f64 runs.
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include <algorithm>
#include <cmath>

namespace amc::rt::cpu {
namespace {

HotActivation activationOf(const std::string &name) {
  return name == "silu" ? HotActivation::Silu
         : name == "gelu" ? HotActivation::Gelu
         : name == "gelu_tanh" ? HotActivation::GeluTanh
                               : HotActivation::Relu;
}

double activation(HotActivation act, double x) {
  switch (act) {
  case HotActivation::Silu: return x / (1 + std::exp(-x));
  case HotActivation::Gelu: return 0.5 * x * (1 + std::erf(x * M_SQRT1_2));
  case HotActivation::GeluTanh: return 0.5 * x * (1 + std::tanh(std::sqrt(M_2_PI) * (x + 0.044715 * x * x * x)));
  case HotActivation::Relu: return x > 0 ? x : x <= 0 ? 0.0 : x;
  }
  return 0;
}

double slope(HotActivation act, double x) {
  switch (act) {
  case HotActivation::Silu: {
    double s = 1 / (1 + std::exp(-x));
    return s * (1 + x * (1 - s));
  }
  case HotActivation::Gelu:
    return 0.5 * (1 + std::erf(x * M_SQRT1_2)) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI);
  case HotActivation::GeluTanh: {
    double t = std::tanh(std::sqrt(M_2_PI) * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * std::sqrt(M_2_PI) * (1 + 3 * 0.044715 * x * x);
  }
  case HotActivation::Relu: return x > 0 ? 1 : 0;
  }
  return 0;
}

void gatedBlock(HotActivation act, const float *gate, const float *up, float *y, int64_t n) {
  hot().gated(act, gate, up, y, n);
}
void gatedBlock(HotActivation act, const double *gate, const double *up, double *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] = activation(act, gate[i]) * up[i];
}
void gatedBackwardBlock(HotActivation act, const float *dy, const float *gate, const float *up, float *dgate,
                        float *dup, int64_t n) {
  hot().gatedBackward(act, dy, gate, up, dgate, dup, n);
}
void gatedBackwardBlock(HotActivation act, const double *dy, const double *gate, const double *up, double *dgate,
                        double *dup, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    double first = dy[i] * up[i] * slope(act, gate[i]), second = dy[i] * activation(act, gate[i]);
    dgate[i] = first;
    dup[i] = second;
  }
}
void backwardBlock(HotActivation act, const float *dy, const float *x, float *dx, int64_t n) {
  hot().activationBackward(act, dy, x, dx, n);
}
void backwardBlock(HotActivation act, const double *dy, const double *x, double *dx, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    dx[i] = dy[i] * slope(act, x[i]);
}

Status expectAlike(const InstructionSpec &spec) {
  const TensorSpec &first = spec.inputs[0];
  auto compare = [&](const char *what, const std::vector<TensorSpec> &tensors) -> Status {
    for (size_t i = 0; i < tensors.size(); ++i) {
      std::string name = text(what, "[", i, "]");
      AMC_TRY(expectDType(name.c_str(), tensors[i], first.dtype));
      AMC_TRY(expectShape(name.c_str(), tensors[i], first.shape));
    }
    return Status();
  };
  AMC_TRY(compare("inputs", spec.inputs));
  return compare("outputs", spec.outputs);
}

// Pieces of [0, n) in blocks of the arithmetic type: body(tag, at, count).
template <class Body>
std::unique_ptr<Kernel> blockKernel(const InstructionSpec &spec, Body body) {
  plan::DType dtype = spec.inputs[0].dtype;
  int64_t n = spec.inputs[0].elements;
  int64_t step = dtype == plan::F32 || dtype == plan::F64 ? elementGrain : blockElements;
  return makeKernel([=](const Operands &o, RunContext &c) {
    parallelRange(c.pool, n, elementGrain, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; at += step) {
        int64_t count = std::min(step, end - at);
        if (dtype == plan::F64)
          body(double{}, dtype, o, at, count);
        else
          body(float{}, dtype, o, at, count);
      }
    });
  });
}

Status checkGated(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"gate", AcceptFloat}, {"up", AcceptFloat}}, {{"y", AcceptFloat}},
                         {{"activation", Text}}));
  AMC_TRY(expectOneOf(spec, "activation", {"silu", "gelu", "gelu_tanh", "relu"}));
  return expectAlike(spec);
}

std::unique_ptr<Kernel> createGated(const InstructionSpec &spec) {
  HotActivation act = activationOf(spec.string("activation"));
  return blockKernel(spec, [=](auto type, plan::DType dtype, const Operands &o, int64_t at, int64_t count) {
    using T = decltype(type);
    Block<T> b0, b1, out;
    const T *gate = loadBlock(dtype, o.inputs[0], at, count, b0);
    const T *up = loadBlock(dtype, o.inputs[1], at, count, b1);
    gatedBlock(act, gate, up, blockTarget(dtype, o.outputs[0], at, out), count);
    storeBlock(dtype, o.outputs[0], at, count, out);
  });
}

Status checkGatedBackward(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"dy", AcceptFloat}, {"gate", AcceptFloat}, {"up", AcceptFloat}},
                         {{"dgate", AcceptFloat}, {"dup", AcceptFloat}}, {{"activation", Text}}));
  AMC_TRY(expectOneOf(spec, "activation", {"silu", "gelu", "gelu_tanh", "relu"}));
  return expectAlike(spec);
}

std::unique_ptr<Kernel> createGatedBackward(const InstructionSpec &spec) {
  HotActivation act = activationOf(spec.string("activation"));
  return blockKernel(spec, [=](auto type, plan::DType dtype, const Operands &o, int64_t at, int64_t count) {
    using T = decltype(type);
    Block<T> b0, b1, b2, out0, out1;
    const T *dy = loadBlock(dtype, o.inputs[0], at, count, b0);
    const T *gate = loadBlock(dtype, o.inputs[1], at, count, b1);
    const T *up = loadBlock(dtype, o.inputs[2], at, count, b2);
    gatedBackwardBlock(act, dy, gate, up, blockTarget(dtype, o.outputs[0], at, out0),
                       blockTarget(dtype, o.outputs[1], at, out1), count);
    storeBlock(dtype, o.outputs[0], at, count, out0);
    storeBlock(dtype, o.outputs[1], at, count, out1);
  });
}

Status checkSiluBackward(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"dy", AcceptFloat}, {"x", AcceptFloat}}, {{"dx", AcceptFloat}}));
  return expectAlike(spec);
}
Status checkGeluBackward(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"dy", AcceptFloat}, {"x", AcceptFloat}}, {{"dx", AcceptFloat}},
                         {{"approximate", Text}}));
  AMC_TRY(expectOneOf(spec, "approximate", {"none", "tanh"}));
  return expectAlike(spec);
}

std::unique_ptr<Kernel> createBackward(const InstructionSpec &spec) {
  HotActivation act = spec.kernel == "silu_backward"             ? HotActivation::Silu
                      : spec.string("approximate") == "tanh" ? HotActivation::GeluTanh
                                                                 : HotActivation::Gelu;
  return blockKernel(spec, [=](auto type, plan::DType dtype, const Operands &o, int64_t at, int64_t count) {
    using T = decltype(type);
    Block<T> b0, b1, out;
    const T *dy = loadBlock(dtype, o.inputs[0], at, count, b0);
    const T *x = loadBlock(dtype, o.inputs[1], at, count, b1);
    backwardBlock(act, dy, x, blockTarget(dtype, o.outputs[0], at, out), count);
    storeBlock(dtype, o.outputs[0], at, count, out);
  });
}

} // namespace

void registerActivations(KernelRegistry &registry) {
  registry.add("gated_activation", {checkGated, createGated, aliasElementwise});
  registry.add("gated_activation_backward", {checkGatedBackward, createGatedBackward, aliasElementwise});
  registry.add("silu_backward", {checkSiluBackward, createBackward, aliasElementwise});
  registry.add("gelu_backward", {checkGeluBackward, createBackward, aliasElementwise});
}

} // namespace amc::rt::cpu
