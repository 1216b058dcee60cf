// squared_norm, clip_scale, accumulate, adamw, sgd.
//
// f32 and f64 tensors. squared_norm adds squares in double, blocks of 4096 elements, ascending. Updates work in place:
// their results are the views of the operands they update, in that order, and nothing else may overlap. Scalars are
// computed in double and rounded once. Reference: the formulas in OptimizerOps.td, element by element (the double
// versions below).
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include <algorithm>
#include <cmath>

namespace amc::rt::cpu {
namespace {

// ---- squared_norm

constexpr int64_t normBlock = 4096;

Status checkSquaredNorm(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptWide}}, {{"y", AcceptF64}}));
  return expectShape("outputs[0]", spec.outputs[0], {});
}

double blockNorm(const float *x, int64_t n) { return hot().sumOfSquares(x, n); }
double blockNorm(const double *x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum += x[i] * x[i];
  return sum;
}

// Sums of the blocks, kept by the kernel between the parallel and the sequential part.
std::unique_ptr<Kernel> createSquaredNorm(const InstructionSpec &spec) {
  int64_t n = spec.inputs[0].elements;
  auto make = [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    std::shared_ptr<std::vector<double>> sums =
        std::make_shared<std::vector<double>>(static_cast<size_t>(ceilDiv(n, normBlock)));
    return makeKernel([=](const Operands &o, RunContext &c) {
      const T *x = o.in<T>(0);
      parallelRange(c.pool, n, 16 * normBlock, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; at += normBlock)
          (*sums)[static_cast<size_t>(at / normBlock)] = blockNorm(x + at, std::min(normBlock, end - at));
      });
      double total = 0;
      for (double sum : *sums)
        total += sum;
      *o.out<double>(0) = total;
    });
  };
  return spec.inputs[0].dtype == plan::F64 ? make(double{}) : make(float{});
}

// ---- clip_scale

Status checkClip(const InstructionSpec &spec) {
  AMC_TRY(expectAttributes(spec, {{"max_norm", Real}}));
  for (size_t i = 0; i < spec.inputs.size(); ++i) {
    std::string name = text("inputs[", i, "]");
    AMC_TRY(expectDType(name.c_str(), spec.inputs[i], plan::F64));
    AMC_TRY(expectShape(name.c_str(), spec.inputs[i], {}));
  }
  AMC_EXPECT(spec.outputs.size() == 2, "outputs: there are ", spec.outputs.size(), " and should be 2");
  for (size_t i = 0; i < 2; ++i) {
    AMC_TRY(expectDType(i ? "outputs[1]" : "outputs[0]", spec.outputs[i], plan::F32));
    AMC_TRY(expectShape(i ? "outputs[1]" : "outputs[0]", spec.outputs[i], {}));
  }
  return Status();
}

std::unique_ptr<Kernel> createClip(const InstructionSpec &spec) {
  size_t count = spec.inputs.size();
  double limit = spec.real("max_norm");
  return makeKernel([=](const Operands &o, RunContext &) {
    double total = 0;
    for (size_t i = 0; i < count; ++i)
      total += *o.in<double>(i);
    double norm = std::sqrt(total), scale = limit / (norm + 1e-6);
    *o.out<float>(0) = static_cast<float>(norm);
    *o.out<float>(1) = limit == 0 ? 1.0f : static_cast<float>(scale < 1 || scale != scale ? scale : 1.0);
  });
}

// ---- updates

// Results are the updated operands, in order; all of the parameter's dtype and shape, like `others`.
Status expectUpdate(const InstructionSpec &spec, std::initializer_list<size_t> updated,
                    std::initializer_list<size_t> others) {
  const TensorSpec &p = spec.inputs[0];
  auto like = [&](const std::string &name, const TensorSpec &t) -> Status {
    AMC_TRY(expectDType(name.c_str(), t, p.dtype));
    return expectShape(name.c_str(), t, p.shape);
  };
  AMC_EXPECT(spec.outputs.size() == updated.size(), "outputs: there are ", spec.outputs.size(), " and should be ",
             updated.size());
  size_t i = 0;
  for (size_t input : updated) {
    AMC_TRY(like(text("inputs[", input, "]"), spec.inputs[input]));
    AMC_TRY(like(text("outputs[", i, "]"), spec.outputs[i]));
    ++i;
  }
  for (size_t input : others)
    AMC_TRY(like(text("inputs[", input, "]"), spec.inputs[input]));
  return Status();
}

Status expectScalar(const InstructionSpec &spec, size_t input) {
  return expectShape(text("inputs[", input, "]").c_str(), spec.inputs[input], {});
}

// A last operand that is optional may be left out altogether.
Status expectInputs(const InstructionSpec &spec, std::initializer_list<OperandRule> inputs,
                    std::initializer_list<AttributeRule> attributes) {
  InstructionSpec alone = spec; // results are checked by expectUpdate
  alone.outputs.clear();
  if (alone.inputs.size() + 1 == inputs.size() && (inputs.end() - 1)->optional)
    alone.inputs.emplace_back();
  return expectOperands(alone, inputs, {}, attributes);
}

template <class Make> std::unique_ptr<Kernel> byType(plan::DType dtype, Make &&make) {
  return dtype == plan::F64 ? make(double{}) : make(float{});
}

// ---- accumulate

Status checkAccumulate(const InstructionSpec &spec) {
  AMC_TRY(expectInputs(spec, {{"accumulator", AcceptWide}, {"x", AcceptWide}, {"micro_batch", AcceptI64}}, {}));
  AMC_TRY(expectScalar(spec, 2));
  return expectUpdate(spec, {0}, {1});
}

void add(float *y, const float *x, int64_t n) { hot().addTo(y, x, n); }
void add(double *y, const double *x, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] += x[i];
}

std::unique_ptr<Kernel> createAccumulate(const InstructionSpec &spec) {
  int64_t n = spec.inputs[0].elements;
  return byType(spec.inputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      bool first = *o.in<int64_t>(2) == 0;
      const T *x = o.in<T>(1);
      T *y = o.out<T>(0);
      parallelRange(c.pool, n, elementGrain, [&](int64_t begin, int64_t end) {
        if (first)
          std::copy(x + begin, x + end, y + begin);
        else
          add(y + begin, x + begin, end - begin);
      });
    });
  });
}

// ---- adamw

Status checkAdamW(const InstructionSpec &spec) {
  AMC_TRY(expectInputs(spec,
                       {{"parameter", AcceptWide},
                        {"gradient", AcceptWide},
                        {"exp_avg", AcceptWide},
                        {"exp_avg_sq", AcceptWide},
                        {"scale", AcceptF32},
                        {"learning_rate", AcceptF64},
                        {"step", AcceptI64},
                        {"master", AcceptF32, Optional}},
                       {{"beta1", Real}, {"beta2", Real}, {"epsilon", Real}, {"weight_decay", Real}}));
  for (size_t i = 4; i < 7; ++i)
    AMC_TRY(expectScalar(spec, i));
  return expectUpdate(spec, {0, 2, 3}, {1});
}

struct AdamW {
  double beta1, beta2, epsilon, weightDecay;
};

void adamwRange(float *p, const float *g, float *m, float *v, int64_t n, const AdamW &a, double scale, double lr,
                double step) {
  AdamWScalars s;
  s.gradientScale = static_cast<float>(scale);
  s.decay = static_cast<float>(1 - lr * a.weightDecay);
  s.oneMinusBeta1 = static_cast<float>(1 - a.beta1);
  s.beta2 = static_cast<float>(a.beta2);
  s.oneMinusBeta2 = static_cast<float>(1 - a.beta2);
  s.stepSize = static_cast<float>(lr / (1 - std::pow(a.beta1, step)));
  s.sqrtCorrection2 = static_cast<float>(std::sqrt(1 - std::pow(a.beta2, step)));
  s.epsilon = static_cast<float>(a.epsilon);
  hot().adamw(p, g, m, v, n, s);
}
void adamwRange(double *p, const double *g, double *m, double *v, int64_t n, const AdamW &a, double scale, double lr,
                double step) {
  double stepSize = lr / (1 - std::pow(a.beta1, step)), correction = std::sqrt(1 - std::pow(a.beta2, step));
  for (int64_t i = 0; i < n; ++i) {
    double gradient = g[i] * scale;
    p[i] *= 1 - lr * a.weightDecay;
    m[i] += (gradient - m[i]) * (1 - a.beta1);
    v[i] = v[i] * a.beta2 + gradient * gradient * (1 - a.beta2);
    p[i] -= stepSize * (m[i] / (std::sqrt(v[i]) / correction + a.epsilon));
  }
}

std::unique_ptr<Kernel> createAdamW(const InstructionSpec &spec) {
  int64_t n = spec.inputs[0].elements;
  AdamW a{spec.real("beta1"), spec.real("beta2"), spec.real("epsilon"), spec.real("weight_decay")};
  return byType(spec.inputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      double scale = *o.in<float>(4), lr = *o.in<double>(5), step = static_cast<double>(*o.in<int64_t>(6));
      parallelRange(c.pool, n, elementGrain, [&](int64_t begin, int64_t end) {
        adamwRange(o.out<T>(0) + begin, o.in<T>(1) + begin, o.out<T>(1) + begin, o.out<T>(2) + begin, end - begin, a,
                   scale, lr, step);
      });
    });
  });
}

// ---- sgd

Status checkSgd(const InstructionSpec &spec) {
  AMC_TRY(expectInputs(spec,
                       {{"parameter", AcceptWide},
                        {"gradient", AcceptWide},
                        {"scale", AcceptF32},
                        {"learning_rate", AcceptF64},
                        {"step", AcceptI64},
                        {"buffer", AcceptWide, Optional},
                        {"master", AcceptF32, Optional}},
                       {{"momentum", Real}, {"weight_decay", Real}, {"nesterov", Int, Optional}}));
  for (size_t i = 2; i < 5; ++i)
    AMC_TRY(expectScalar(spec, i));
  bool momentum = spec.real("momentum") != 0;
  AMC_EXPECT(spec.inputs[5].present() == momentum, "inputs[5] (buffer): should be there exactly when momentum is not 0");
  return momentum ? expectUpdate(spec, {0, 5}, {1}) : expectUpdate(spec, {0}, {1});
}

struct Sgd {
  double momentum, weightDecay;
  bool nesterov;
};

void sgdRange(float *p, const float *g, float *b, int64_t n, const Sgd &s, double scale, double lr, bool first) {
  hot().sgd(p, g, b, n,
            {static_cast<float>(scale), static_cast<float>(s.weightDecay), static_cast<float>(s.momentum),
             static_cast<float>(lr), s.momentum != 0, first, s.nesterov});
}
void sgdRange(double *p, const double *g, double *b, int64_t n, const Sgd &s, double scale, double lr, bool first) {
  for (int64_t i = 0; i < n; ++i) {
    double gradient = g[i] * scale + s.weightDecay * p[i];
    if (s.momentum != 0) {
      b[i] = first ? gradient : s.momentum * b[i] + gradient;
      gradient = s.nesterov ? gradient + s.momentum * b[i] : b[i];
    }
    p[i] -= lr * gradient;
  }
}

std::unique_ptr<Kernel> createSgd(const InstructionSpec &spec) {
  int64_t n = spec.inputs[0].elements;
  Sgd s{spec.real("momentum"), spec.real("weight_decay"), spec.flag("nesterov")};
  return byType(spec.inputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      double scale = *o.in<float>(2), lr = *o.in<double>(3);
      bool first = *o.in<int64_t>(4) == 1;
      T *buffer = s.momentum != 0 ? o.out<T>(1) : nullptr;
      parallelRange(c.pool, n, elementGrain, [&](int64_t begin, int64_t end) {
        sgdRange(o.out<T>(0) + begin, o.in<T>(1) + begin, buffer ? buffer + begin : nullptr, end - begin, s, scale,
                 lr, first);
      });
    });
  });
}

// Results stand exactly where the operands they update are.
bool aliasAccumulate(const InstructionSpec &, size_t output, size_t input) { return output == 0 && input == 0; }
bool aliasAdamW(const InstructionSpec &, size_t output, size_t input) {
  return (output == 0 && input == 0) || (output > 0 && input == output + 1);
}
bool aliasSgd(const InstructionSpec &, size_t output, size_t input) {
  return (output == 0 && input == 0) || (output == 1 && input == 5);
}

} // namespace

void registerOptimizer(KernelRegistry &registry) {
  registry.add("squared_norm", {checkSquaredNorm, createSquaredNorm});
  registry.add("clip_scale", {checkClip, createClip});
  registry.add("accumulate", {checkAccumulate, createAccumulate, aliasAccumulate, true});
  registry.add("adamw", {checkAdamW, createAdamW, aliasAdamW, true});
  registry.add("sgd", {checkSgd, createSgd, aliasSgd, true});
}

} // namespace amc::rt::cpu
