// squared_norm, sum_scalars, clip_scale, accumulate, adamw, sgd.
//
// f64 tensors, and f32 and bf16 in any mixture, computed in fp32, each updated value rounded once. With a master copy
// in fp32 the update is the master's, and the bf16 parameter becomes its rounding. squared_norm adds squares in double,
// blocks of 4096 elements, ascending. Updates work in place: their results are the views of the operands they update,
// in that order, and nothing else may overlap. Scalars are computed in double and rounded once. Reference: the formulas
// in OptimizerOps.td, element by element (the double versions below).
#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include <algorithm>
#include <cmath>

namespace amc::rt::cpu {
namespace {

// ---- squared_norm

constexpr int64_t normBlock = 4096;

Status checkSquaredNorm(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptData}}, {{"y", AcceptF64}}));
  return expectShape("outputs[0]", spec.outputs[0], {});
}

double blockNorm(const float *x, int64_t n) { return hot().sumOfSquares(x, n); }
double blockNorm(const double *x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum += x[i] * x[i];
  return sum;
}
double blockNorm(const BFloat16 *x, int64_t n) {
  alignas(64) float wide[normBlock];
  widenRow(x, wide, n);
  return blockNorm(wide, n);
}

// Sums of the blocks, kept by the kernel between the parallel and the sequential part.
std::unique_ptr<Kernel> createSquaredNorm(const InstructionSpec &spec) {
  int64_t n = spec.inputs[0].elements;
  return withFloats(spec.inputs[0].dtype, [&](auto type) -> std::unique_ptr<Kernel> {
    using S = decltype(type);
    std::shared_ptr<std::vector<double>> sums =
        std::make_shared<std::vector<double>>(static_cast<size_t>(ceilDiv(n, normBlock)));
    return makeKernel([=](const Operands &o, RunContext &c) {
      const S *x = o.in<S>(0);
      parallelRange(c.pool, n, 16 * normBlock, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; at += normBlock)
          (*sums)[static_cast<size_t>(at / normBlock)] = blockNorm(x + at, std::min(normBlock, end - at));
      });
      double total = 0;
      for (double sum : *sums)
        total += sum;
      *o.out<double>(0) = total;
    });
  });
}

// ---- sum_scalars

Status checkSum(const InstructionSpec &spec) {
  AMC_TRY(expectAttributes(spec, {}));
  AMC_EXPECT(spec.outputs.size() == 1, "outputs: there are ", spec.outputs.size(), " and should be 1");
  for (size_t i = 0; i <= spec.inputs.size(); ++i) {
    bool result = i == spec.inputs.size();
    std::string name = result ? "outputs[0]" : text("inputs[", i, "]");
    const TensorSpec &tensor = result ? spec.outputs[0] : spec.inputs[i];
    AMC_TRY(expectDType(name.c_str(), tensor, plan::F64));
    AMC_TRY(expectShape(name.c_str(), tensor, {}));
  }
  return Status();
}

std::unique_ptr<Kernel> createSum(const InstructionSpec &spec) {
  size_t count = spec.inputs.size();
  return makeKernel([=](const Operands &o, RunContext &) {
    double total = 0;
    for (size_t i = 0; i < count; ++i)
      total += *o.in<double>(i);
    *o.out<double>(0) = total;
  });
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

// Results are the updated operands, in order. All these and `others` have the parameter's shape, and its dtype or, for
// bf16 and f32, either of the two.
Status expectUpdate(const InstructionSpec &spec, const std::vector<size_t> &updated,
                    std::initializer_list<size_t> others) {
  const TensorSpec &p = spec.inputs[0];
  auto like = [&](size_t input) -> Status {
    std::string name = text("inputs[", input, "]");
    const TensorSpec &t = spec.inputs[input];
    if (p.dtype == plan::F64 || t.dtype == plan::F64)
      AMC_TRY(expectDType(name.c_str(), t, p.dtype));
    return expectShape(name.c_str(), t, p.shape);
  };
  AMC_EXPECT(spec.outputs.size() == updated.size(), "outputs: there are ", spec.outputs.size(), " and should be ",
             updated.size());
  for (size_t i = 0; i < updated.size(); ++i) {
    std::string name = text("outputs[", i, "]");
    AMC_TRY(like(updated[i]));
    AMC_TRY(expectDType(name.c_str(), spec.outputs[i], spec.inputs[updated[i]].dtype));
    AMC_TRY(expectShape(name.c_str(), spec.outputs[i], p.shape));
  }
  for (size_t input : others)
    AMC_TRY(like(input));
  return Status();
}

// The master copy, last and optional: of a bf16 parameter, in fp32.
bool hasMaster(const InstructionSpec &spec, size_t input) {
  return spec.inputs.size() > input && spec.inputs[input].present();
}
Status expectMaster(const InstructionSpec &spec, size_t input) {
  if (hasMaster(spec, input))
    return expectDType("inputs[0] (parameter, which has a master)", spec.inputs[0], plan::BF16);
  return Status();
}

// One operand of an update as it is stored.
struct Stored {
  plan::DType dtype = plan::DTYPE_UNSPECIFIED;
  size_t position = 0; // among the inputs
  bool narrow() const { return dtype == plan::BF16; }
};
Stored storedAt(const InstructionSpec &spec, size_t input) { return {spec.inputs[input].dtype, input}; }

// Elements [at, at + n) of an operand in the arithmetic type: in place, or in a block that `keep` writes back.
template <class T> class Part {
public:
  Part(const Stored &stored, const Operands &o, int64_t at, int64_t n)
      : dtype(stored.dtype), base(o.inputs[stored.position]), at(at), n(n) {
    if (present())
      data = const_cast<T *>(loadBlock(dtype, base, at, n, block));
  }
  bool present() const { return dtype != plan::DTYPE_UNSPECIFIED; }
  void keep() const {
    if (present())
      storeBlock(dtype, base, at, n, block);
  }
  T *data = nullptr;

private:
  plan::DType dtype;
  std::byte *base;
  int64_t at, n;
  Block<T> block;
};

// Calls body(at, count) for pieces of [0, n): of a block where any operand has to be widened.
template <class Body>
void forParts(ThreadPool &pool, int64_t n, std::initializer_list<Stored> operands, Body &&body) {
  bool narrow = false;
  for (const Stored &operand : operands)
    narrow |= operand.narrow();
  int64_t step = narrow ? blockElements : elementGrain;
  parallelRange(pool, n, elementGrain, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += step)
      body(at, std::min(step, end - at));
  });
}

// The parameter becomes what its master rounds to.
void roundMaster(const Part<float> &master, const Stored &parameter, const Operands &o, int64_t at, int64_t n) {
  if (master.present())
    hot().f32ToBf16(master.data, reinterpret_cast<uint16_t *>(o.inputs[parameter.position]) + at, n);
}
void roundMaster(const Part<double> &, const Stored &, const Operands &, int64_t, int64_t) {}

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

template <class Make> std::unique_ptr<Kernel> byWideType(const InstructionSpec &spec, Make &&make) {
  return spec.inputs[0].dtype == plan::F64 ? make(double{}) : make(float{});
}

// ---- accumulate

Status checkAccumulate(const InstructionSpec &spec) {
  AMC_TRY(expectInputs(spec, {{"accumulator", AcceptData}, {"x", AcceptData}, {"micro_batch", AcceptI64}}, {}));
  AMC_TRY(expectScalar(spec, 2));
  return expectUpdate(spec, {0}, {1});
}

std::unique_ptr<Kernel> createAccumulate(const InstructionSpec &spec) {
  int64_t n = spec.inputs[0].elements;
  Stored sum = storedAt(spec, 0), added = storedAt(spec, 1);
  return byWideType(spec, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      bool first = *o.in<int64_t>(2) == 0;
      forParts(c.pool, n, {sum, added}, [&](int64_t at, int64_t count) {
        Part<T> y(sum, o, at, count), x(added, o, at, count);
        if (first)
          std::copy_n(x.data, count, y.data);
        else
          addToRow(y.data, x.data, count);
        y.keep();
      });
    });
  });
}

// ---- adamw

Status checkAdamW(const InstructionSpec &spec) {
  AMC_TRY(expectInputs(spec,
                       {{"parameter", AcceptData},
                        {"gradient", AcceptData},
                        {"exp_avg", AcceptData},
                        {"exp_avg_sq", AcceptData},
                        {"scale", AcceptF32},
                        {"learning_rate", AcceptF64},
                        {"step", AcceptI64},
                        {"master", AcceptF32, Optional}},
                       {{"beta1", Real}, {"beta2", Real}, {"epsilon", Real}, {"weight_decay", Real}}));
  for (size_t i = 4; i < 7; ++i)
    AMC_TRY(expectScalar(spec, i));
  AMC_TRY(expectMaster(spec, 7));
  std::vector<size_t> updated{0, 2, 3};
  if (hasMaster(spec, 7))
    updated.push_back(7);
  return expectUpdate(spec, updated, {1});
}

struct AdamW {
  double beta1, beta2, epsilon, weightDecay;
};
// What one step's scalars come to; `step` counts from 1.
struct AdamWStep {
  double gradientScale, decay, oneMinusBeta1, beta2, oneMinusBeta2, stepSize, sqrtCorrection2, epsilon;
  AdamWScalars narrow;
  AdamWStep(const AdamW &a, double scale, double lr, double step)
      : gradientScale(scale), decay(1 - lr * a.weightDecay), oneMinusBeta1(1 - a.beta1), beta2(a.beta2),
        oneMinusBeta2(1 - a.beta2), stepSize(lr / (1 - std::pow(a.beta1, step))),
        sqrtCorrection2(std::sqrt(1 - std::pow(a.beta2, step))), epsilon(a.epsilon) {
    auto f = [](double x) { return static_cast<float>(x); };
    narrow = {f(gradientScale), f(decay),    f(oneMinusBeta1),   f(beta2),
              f(oneMinusBeta2), f(stepSize), f(sqrtCorrection2), f(epsilon)};
  }
};

void adamwPart(float *p, const float *g, float *m, float *v, int64_t n, const AdamWStep &s) {
  hot().adamw(p, g, m, v, n, s.narrow);
}
void adamwPart(double *p, const double *g, double *m, double *v, int64_t n, const AdamWStep &s) {
  for (int64_t i = 0; i < n; ++i) {
    double gradient = g[i] * s.gradientScale;
    p[i] *= s.decay;
    m[i] += (gradient - m[i]) * s.oneMinusBeta1;
    v[i] = v[i] * s.beta2 + gradient * gradient * s.oneMinusBeta2;
    p[i] -= s.stepSize * (m[i] / (std::sqrt(v[i]) / s.sqrtCorrection2 + s.epsilon));
  }
}

std::unique_ptr<Kernel> createAdamW(const InstructionSpec &spec) {
  int64_t n = spec.inputs[0].elements;
  AdamW a{spec.real("beta1"), spec.real("beta2"), spec.real("epsilon"), spec.real("weight_decay")};
  Stored parameter = storedAt(spec, 0), gradient = storedAt(spec, 1), first = storedAt(spec, 2),
         second = storedAt(spec, 3), master = hasMaster(spec, 7) ? storedAt(spec, 7) : Stored();
  return byWideType(spec, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      AdamWStep step(a, *o.in<float>(4), *o.in<double>(5), static_cast<double>(*o.in<int64_t>(6)));
      bool copied = master.dtype != plan::DTYPE_UNSPECIFIED;
      forParts(c.pool, n, {parameter, gradient, first, second}, [&](int64_t at, int64_t count) {
        Part<T> p(copied ? master : parameter, o, at, count), g(gradient, o, at, count);
        Part<T> m(first, o, at, count), v(second, o, at, count);
        adamwPart(p.data, g.data, m.data, v.data, count, step);
        p.keep();
        m.keep();
        v.keep();
        if (copied)
          roundMaster(p, parameter, o, at, count);
      });
    });
  });
}

// ---- sgd

Status checkSgd(const InstructionSpec &spec) {
  AMC_TRY(expectInputs(spec,
                       {{"parameter", AcceptData},
                        {"gradient", AcceptData},
                        {"scale", AcceptF32},
                        {"learning_rate", AcceptF64},
                        {"step", AcceptI64},
                        {"buffer", AcceptData, Optional},
                        {"master", AcceptF32, Optional}},
                       {{"momentum", Real}, {"weight_decay", Real}, {"nesterov", Int, Optional}}));
  for (size_t i = 2; i < 5; ++i)
    AMC_TRY(expectScalar(spec, i));
  bool momentum = spec.real("momentum") != 0;
  AMC_EXPECT(spec.inputs[5].present() == momentum, "inputs[5] (buffer): should be there exactly when momentum is not 0");
  AMC_TRY(expectMaster(spec, 6));
  std::vector<size_t> updated{0};
  if (momentum)
    updated.push_back(5);
  if (hasMaster(spec, 6))
    updated.push_back(6);
  return expectUpdate(spec, updated, {1});
}

struct Sgd {
  double momentum, weightDecay;
  bool nesterov;
};

void sgdPart(float *p, const float *g, float *b, int64_t n, const Sgd &s, double scale, double lr, bool first) {
  hot().sgd(p, g, b, n,
            {static_cast<float>(scale), static_cast<float>(s.weightDecay), static_cast<float>(s.momentum),
             static_cast<float>(lr), s.momentum != 0, first, s.nesterov});
}
void sgdPart(double *p, const double *g, double *b, int64_t n, const Sgd &s, double scale, double lr, bool first) {
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
  Stored parameter = storedAt(spec, 0), gradient = storedAt(spec, 1), buffer = storedAt(spec, 5),
         master = hasMaster(spec, 6) ? storedAt(spec, 6) : Stored();
  return byWideType(spec, [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      double scale = *o.in<float>(2), lr = *o.in<double>(3);
      bool first = *o.in<int64_t>(4) == 1, copied = master.dtype != plan::DTYPE_UNSPECIFIED;
      forParts(c.pool, n, {parameter, gradient, buffer}, [&](int64_t at, int64_t count) {
        Part<T> p(copied ? master : parameter, o, at, count), g(gradient, o, at, count), b(buffer, o, at, count);
        sgdPart(p.data, g.data, b.data, count, s, scale, lr, first);
        p.keep();
        b.keep();
        if (copied)
          roundMaster(p, parameter, o, at, count);
      });
    });
  });
}

// Results stand exactly where the operands they update are.
bool aliasAccumulate(const InstructionSpec &, size_t output, size_t input) { return output == 0 && input == 0; }
bool aliasAdamW(const InstructionSpec &, size_t output, size_t input) {
  constexpr size_t updated[] = {0, 2, 3, 7};
  return output < std::size(updated) && updated[output] == input;
}
bool aliasSgd(const InstructionSpec &spec, size_t output, size_t input) {
  bool buffer = spec.inputs.size() > 5 && spec.inputs[5].present();
  return input == (output == 0 ? 0 : output == 1 && buffer ? 5 : 6);
}

} // namespace

void registerOptimizer(KernelRegistry &registry) {
  registry.add("squared_norm", {checkSquaredNorm, createSquaredNorm});
  registry.add("sum_scalars", {checkSum, createSum});
  registry.add("clip_scale", {checkClip, createClip});
  registry.add("accumulate", {checkAccumulate, createAccumulate, aliasAccumulate, true});
  registry.add("adamw", {checkAdamW, createAdamW, aliasAdamW, true});
  registry.add("sgd", {checkSgd, createSgd, aliasSgd, true});
}

} // namespace amc::rt::cpu
