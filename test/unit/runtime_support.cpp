#include "runtime_support.h"
#include "runtime/device/cpu/Gemm.h"
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/CudaWorkspace.h"
#include "runtime/plan/PlanRanks.h"
#include <algorithm>
#include <cstdlib>
#include <set>

namespace amc::rt::test {

float halfToFloat(uint16_t bits) {
  int exponent = bits >> 10 & 31;
  double fraction = bits & 1023, sign = bits & 0x8000 ? -1 : 1;
  if (exponent == 31)
    return static_cast<float>(fraction != 0 ? nan : sign * infinity);
  return static_cast<float>(sign * (exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24)));
}

uint16_t floatToHalf(float value) {
  uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  double magnitude = std::fabs(static_cast<double>(value));
  if (std::isnan(value))
    return 0x7e00;
  int exponent = std::max(-14, magnitude > 0 ? std::ilogb(magnitude) : -14);
  double step = std::ldexp(1.0, exponent - 10), quotient = std::nearbyint(magnitude / step);
  double stored = quotient * step;
  if (stored >= 65520)
    return sign | 0x7c00;
  if (stored < std::ldexp(1.0, -14))
    return sign | static_cast<uint16_t>(stored / std::ldexp(1.0, -24));
  exponent = std::ilogb(stored);
  return sign | static_cast<uint16_t>((exponent + 15) << 10 |
                                      static_cast<int>(stored / std::ldexp(1.0, exponent - 10) - 1024));
}

void encode(plan::DType dtype, double value, void *out) {
  auto put = [&](auto element) { std::memcpy(out, &element, sizeof element); };
  switch (dtype) {
  case plan::F32: put(static_cast<float>(value)); break;
  case plan::F64: put(value); break;
  case plan::F16: put(floatToHalf(static_cast<float>(value))); break;
  case plan::BF16: {
    float single = static_cast<float>(value);
    uint32_t bits;
    std::memcpy(&bits, &single, 4);
    uint32_t kept = std::isnan(single) ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1);
    put(static_cast<uint16_t>(kept >> 16));
    break;
  }
  case plan::I64: put(static_cast<int64_t>(value)); break;
  case plan::I32: put(static_cast<int32_t>(value)); break;
  case plan::I16: put(static_cast<int16_t>(value)); break;
  case plan::I8: put(static_cast<int8_t>(value)); break;
  case plan::U64: put(static_cast<uint64_t>(value)); break;
  case plan::U32: put(static_cast<uint32_t>(value)); break;
  case plan::U16: put(static_cast<uint16_t>(value)); break;
  default: put(static_cast<uint8_t>(value)); break;
  }
}

double decode(plan::DType dtype, const void *in) {
  auto get = [&](auto element) {
    std::memcpy(&element, in, sizeof element);
    return element;
  };
  switch (dtype) {
  case plan::F32: return get(float{});
  case plan::F64: return get(double{});
  case plan::F16: return halfToFloat(get(uint16_t{}));
  case plan::BF16: {
    uint32_t bits = static_cast<uint32_t>(get(uint16_t{})) << 16;
    float single;
    std::memcpy(&single, &bits, 4);
    return single;
  }
  case plan::I64: return static_cast<double>(get(int64_t{}));
  case plan::I32: return get(int32_t{});
  case plan::I16: return get(int16_t{});
  case plan::I8: return get(int8_t{});
  case plan::U64: return static_cast<double>(get(uint64_t{}));
  case plan::U32: return get(uint32_t{});
  case plan::U16: return get(uint16_t{});
  default: return get(uint8_t{});
  }
}

double rounded(plan::DType dtype, double value) {
  unsigned char bytes[8];
  encode(dtype, value, bytes);
  return decode(dtype, bytes);
}

static uint64_t mix(uint64_t x) { // splitmix64
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

Array random(plan::DType dtype, Shape shape, uint64_t seed, double low, double high) {
  Array a{dtype, shape, {}};
  for (uint64_t i = 0; i < elements(shape); ++i)
    a.values.push_back(rounded(dtype, low + (high - low) * static_cast<double>(mix(seed * 1000003 + i) >> 11) * 0x1p-53));
  return a;
}

Array randomIndices(plan::DType dtype, Shape shape, uint64_t seed, int64_t low, int64_t high) {
  Array a{dtype, shape, {}};
  for (uint64_t i = 0; i < elements(shape); ++i)
    a.values.push_back(static_cast<double>(low + static_cast<int64_t>(mix(seed * 1000003 + i) %
                                                                      static_cast<uint64_t>(high - low))));
  return a;
}

plan::Attribute attribute(const std::string &name, int64_t value) {
  plan::Attribute a;
  a.set_name(name);
  a.set_i(value);
  return a;
}
plan::Attribute attribute(const std::string &name, double value) {
  plan::Attribute a;
  a.set_name(name);
  a.set_f(value);
  return a;
}
plan::Attribute attribute(const std::string &name, const char *value) {
  plan::Attribute a;
  a.set_name(name);
  a.set_s(value);
  return a;
}
plan::Attribute attribute(const std::string &name, std::vector<int64_t> values) {
  plan::Attribute a;
  a.set_name(name);
  a.mutable_ints();
  for (int64_t value : values)
    a.mutable_ints()->add_value(value);
  return a;
}

static uint64_t addBuffer(plan::Plan &plan, uint64_t bytes, plan::Category category, bool persistent) {
  uint64_t offset = 0;
  if (plan.buffers_size()) {
    const plan::Buffer &last = plan.buffers(plan.buffers_size() - 1);
    offset = (last.offset() + last.bytes() + plan.alignment() - 1) / plan.alignment() * plan.alignment();
  }
  plan::Buffer &buffer = *plan.add_buffers();
  buffer.set_offset(offset);
  buffer.set_bytes(bytes);
  buffer.set_category(category);
  buffer.set_first(0);
  buffer.set_last(1);
  buffer.set_persistent(persistent);
  return static_cast<uint64_t>(plan.buffers_size() - 1);
}

static plan::View viewOf(uint64_t buffer, plan::DType dtype, const Shape &shape) {
  plan::View view;
  view.set_buffer(buffer);
  view.set_dtype(dtype);
  for (uint64_t dim : shape)
    view.add_shape(dim);
  return view;
}

void complete(plan::Plan &plan) {
  uint64_t end = 0;
  for (const plan::Buffer &buffer : plan.buffers())
    end = std::max(end, buffer.offset() + buffer.bytes());
  plan.set_arena_bytes((end + 63) / 64 * 64);
  LivePeak peak = findLivePeak(plan);
  plan::Promise &p = *plan.mutable_promise();
  p.set_arena_bytes(plan.arena_bytes());
  p.set_max_live_bytes(peak.bytes);
  p.set_peak_instruction(peak.instruction);
  p.set_parameter_bytes(peak.byCategory[plan::PARAMETER]);
  p.set_gradient_bytes(peak.byCategory[plan::GRADIENT]);
  p.set_optimizer_state_bytes(peak.byCategory[plan::OPTIMIZER_STATE]);
  p.set_activation_bytes(peak.byCategory[plan::ACTIVATION]);
  p.set_workspace_bytes(peak.byCategory[plan::WORKSPACE]);
  p.set_input_bytes(peak.byCategory[plan::INPUT]);
  p.set_constant_bytes(peak.byCategory[plan::CONSTANT]);
  p.set_saved_bytes(savedBytes(plan));
  promiseCollectives(plan, p);
}

plan::Plan planOf(const Call &call) {
  plan::Plan plan;
  plan.set_target(testTarget());
  plan.set_alignment(onCuda() ? workspace::cuda::alignment : 64);
  plan.set_micro_batch_end(1);
  plan.set_forward_end(1);
  plan.set_accumulation(1);
  plan::Instruction &instruction = *plan.add_instructions();
  instruction.set_kernel(call.kernel);
  instruction.set_phase(plan::FORWARD);
  instruction.set_location("node");
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    const Array &a = call.inputs[i];
    if (a.dtype == plan::DTYPE_UNSPECIFIED) {
      instruction.add_inputs();
      continue;
    }
    uint64_t bytes = elements(a.shape) * dtypeBytes(a.dtype);
    plan::View view = viewOf(addBuffer(plan, bytes, plan::INPUT, false), a.dtype, a.shape);
    *instruction.add_inputs() = view;
    plan::Input &input = *plan.add_inputs();
    input.set_name("in" + std::to_string(i));
    input.set_role(plan::DATA);
    *input.mutable_view() = view;
  }
  for (size_t i = 0; i < call.outputs.size(); ++i) {
    const Result &r = call.outputs[i];
    if (r.dtype == plan::DTYPE_UNSPECIFIED) {
      instruction.add_outputs();
      continue;
    }
    uint64_t buffer;
    if (i < call.replaces.size() && call.replaces[i] >= 0)
      buffer = instruction.inputs(call.replaces[i]).buffer();
    else
      buffer = addBuffer(plan, elements(r.shape) * dtypeBytes(r.dtype), plan::ACTIVATION, false);
    *instruction.add_outputs() = viewOf(buffer, r.dtype, r.shape);
  }
  if (call.workspace)
    *instruction.add_workspaces() =
        viewOf(addBuffer(plan, call.workspace, plan::WORKSPACE, false), plan::U8, {call.workspace});
  for (const plan::Attribute &a : call.attributes)
    *instruction.add_attributes() = a;
  complete(plan);
  return plan;
}

// Bytes behind the last buffer, results or workspace, that no kernel may touch.
static constexpr uint64_t guardBytes = 1 << 18;
static constexpr char guardByte = 0x5a;

static plan::Plan guardedPlanOf(const Call &call) {
  plan::Plan plan = planOf(call);
  plan::Input &guard = *plan.add_inputs();
  guard.set_name("guard");
  guard.set_role(plan::DATA);
  *guard.mutable_view() = viewOf(addBuffer(plan, guardBytes, plan::INPUT, false), plan::U8, {guardBytes});
  complete(plan);
  return plan;
}

const std::string &testTarget() {
  static const std::string target = [] {
    const char *value = std::getenv("AMC_TEST_TARGET");
    return std::string(value && *value ? value : "cpu");
  }();
  return target;
}

bool onCuda() { return testTarget() != "cpu"; }

bool hasKernel(const std::string &kernel) {
  if (!onCuda())
    return true;
  static const std::set<std::string> missing = [] {
    std::set<std::string> names;
    Expected<std::unique_ptr<Device>> device = createDevice(testTarget(), {});
    EXPECT_TRUE(device.ok()) << device.status().message();
    for (const std::string &name : cpu::KernelRegistry().names()) {
      plan::Instruction instruction;
      instruction.set_kernel(name);
      if (!device.ok() || (*device)->signatures().check(instruction).message() ==
                              "kernel '" + name + "' is not one of the CUDA device's")
        names.insert(name);
    }
    return names;
  }();
  return !missing.count(kernel);
}

// The call with the workspace that the GPU's kernel demands, which differs from the CPU's: errors say how many bytes.
static Expected<Executor> createOnCuda(Call call) {
  call.workspace = 0;
  Expected<Executor> none = Executor::create(guardedPlanOf(call), {1, false});
  if (none.ok() || none.status().message().find("workspaces: there are 0 and should be 1") == std::string::npos)
    return none;
  call.workspace = 1;
  Expected<Executor> tooFew = Executor::create(guardedPlanOf(call), {1, false});
  const std::string demand = "of ui8 and should have ", &message = tooFew.status().message();
  size_t at = message.find(demand);
  if (at == std::string::npos)
    return tooFew;
  call.workspace = std::stoull(message.substr(at + demand.size()));
  return Executor::create(guardedPlanOf(call), {1, false});
}

Outcome run(const Call &call, unsigned threads) {
  Expected<Executor> executor = onCuda() ? createOnCuda(call) : Executor::create(guardedPlanOf(call), {threads, false});
  if (!executor.ok())
    return {executor.status(), {}, {}};
  auto write = [&](size_t input, const std::string &bytes) {
    Status status = executor->write(executor->input(input), reinterpret_cast<const std::byte *>(bytes.data()));
    EXPECT_TRUE(status.ok()) << status.message();
  };
  auto read = [&](const Tensor &tensor) {
    std::string bytes(tensor.bytes, '\0');
    Status status = executor->readInto(tensor, reinterpret_cast<std::byte *>(bytes.data()));
    EXPECT_TRUE(status.ok()) << status.message();
    return bytes;
  };
  size_t next = 0;
  for (const Array &a : call.inputs) {
    if (a.dtype == plan::DTYPE_UNSPECIFIED)
      continue;
    std::string bytes(a.values.size() * dtypeBytes(a.dtype), '\0');
    for (size_t i = 0; i < a.values.size(); ++i)
      encode(a.dtype, a.values[i], &bytes[i * dtypeBytes(a.dtype)]);
    write(next++, bytes);
  }
  const std::string untouched(guardBytes, guardByte);
  write(next, untouched);
  Outcome outcome;
  outcome.status = executor->runMicroBatch();
  EXPECT_TRUE(read(executor->input(next)) == untouched)
      << call.kernel << " writes behind its buffers on " << threads << " threads";
  if (!outcome.status.ok())
    return outcome;
  for (const plan::View &view : executor->plan().instructions(0).outputs()) {
    Tensor tensor = executor->view(view);
    Array a{view.dtype(), Shape(view.shape().begin(), view.shape().end()), {}};
    std::string bytes = read(tensor);
    for (uint64_t i = 0; i < tensor.elements; ++i)
      a.values.push_back(decode(view.dtype(), &bytes[i * dtypeBytes(view.dtype())]));
    outcome.outputs.push_back(std::move(a));
    outcome.bytes.push_back(std::move(bytes));
  }
  return outcome;
}

double tolerance(plan::DType dtype) {
  switch (dtype) {
  case plan::F64: return 1e-12;
  case plan::F32: case plan::F16: case plan::BF16: return 2e-6;
  default: return 0;
  }
}

double storageRounding(plan::DType dtype) { return dtype == plan::BF16 ? 0x1p-8 : dtype == plan::F16 ? 0x1p-11 : 0; }

double multiplied(plan::DType dtype, double tolerance) {
  return dtype == plan::BF16 && (onCuda() || cpu::multipliesBf16()) ? std::max(tolerance, 0x1p-7) : tolerance;
}

testing::AssertionResult close(const std::vector<double> &actual, const std::vector<double> &expected, double tolerance,
                               double rounding) {
  if (actual.size() != expected.size())
    return testing::AssertionFailure() << actual.size() << " elements instead of " << expected.size();
  for (size_t i = 0; i < actual.size(); ++i) {
    double a = actual[i], e = expected[i];
    if (std::isnan(e) ? std::isnan(a) : std::isinf(e) ? a == e : std::fabs(a - e) <= tolerance * std::max(1.0, std::fabs(e)) + rounding * std::fabs(e))
      continue;
    return testing::AssertionFailure() << "element " << i << " is " << a << " instead of " << e << ", off by "
                                       << std::fabs(a - e) << ", tolerance " << tolerance << " and " << rounding << " of it";
  }
  return testing::AssertionSuccess();
}

void expectCall(const Call &call, const std::vector<std::vector<double>> &expected, double tolerance) {
  if (!hasKernel(call.kernel))
    GTEST_SKIP() << "a CUDA device has no kernel '" << call.kernel << "'";
  Outcome one = run(call, 1);
  ASSERT_TRUE(one.status.ok()) << call.kernel << ": " << one.status.message();
  ASSERT_EQ(one.outputs.size(), expected.size()) << call.kernel;
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_TRUE(close(one.outputs[i].values, expected[i], tolerance, storageRounding(one.outputs[i].dtype)))
        << call.kernel << ", output " << i << " of " << dtypeName(one.outputs[i].dtype);
  for (unsigned threads : onCuda() ? std::vector<unsigned>{1} : std::vector<unsigned>{2, 3, 8}) {
    Outcome more = run(call, threads);
    ASSERT_TRUE(more.status.ok()) << more.status.message();
    EXPECT_EQ(one.bytes, more.bytes) << call.kernel << " on " << threads << " threads";
  }
}

} // namespace amc::rt::test
