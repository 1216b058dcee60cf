// Functions of single elements: unary, binary, comparisons, logic, select, cast. The signatures are
// runtime/device/cpu/Elementwise.cpp's. Of floats most of them are parts of fused kernels, which
// the plan has itself.
#include "runtime/device/cuda/Launches.h"

namespace amc::rt::cuda {
namespace {

Expected<std::unique_ptr<Kernel>> createUnary(const InstructionSpec &spec, Maker &maker) {
  std::string name = spec.kernel;
  double parameter = 0;
  if (name == "gelu" && spec.string("approximate") == "tanh")
    name = "gelu_tanh";
  else if (name == "elu")
    parameter = spec.real("alpha");
  else if (name == "is_inf")
    parameter = (spec.flag("positive") ? 1 : 0) + (spec.flag("negative") ? 2 : 0);
  plan::DType dtype = spec.inputs[0].dtype;
  bool apart = dtype == plan::F64 && (name == "sin" || name == "cos" || name == "tan");
  AMC_CUDA_TRY(function, maker.context.function(apart ? ptx::Trigonometry : ptx::Elementwise,
                                                text("unary_", name, "_", computeSuffix(dtype))));
  int stored = static_cast<int>(storedOf(dtype));
  return makeKernel([=, n = spec.inputs[0].elements](const Operands &o, Stream &stream) {
    return stream.launch(function, gridOf(n), blockThreads, 0, o.inputs[0], o.outputs[0], n, stored, parameter);
  });
}

Expected<std::unique_ptr<Kernel>> createBinary(const InstructionSpec &spec, Maker &maker) {
  std::string name = spec.kernel;
  constexpr std::string_view bitwise = "bitwise_"; // of booleans and of integers they are the same
  if (name.starts_with(bitwise))
    name = name.substr(bitwise.size());
  else if (name == "mod" && spec.flag("fmod"))
    name = "fmod";
  plan::DType dtype = spec.inputs[0].dtype;
  AMC_CUDA_TRY(function, maker.context.function(ptx::Elementwise, text("binary_", name, "_", computeSuffix(dtype))));
  Strided first = broadcastWalk(spec.inputs[0].shape, spec.outputs[0].shape);
  Strided second = broadcastWalk(spec.inputs[1].shape, spec.outputs[0].shape);
  int stored = static_cast<int>(storedOf(dtype));
  return makeKernel([=](const Operands &o, Stream &stream) {
    return stream.launch(function, gridOf(first.elements), blockThreads, 0, o.inputs[0], o.inputs[1], o.outputs[0],
                         first, second, stored);
  });
}

Expected<std::unique_ptr<Kernel>> createSelect(const InstructionSpec &spec, Maker &maker) {
  const std::vector<int64_t> &shape = spec.outputs[0].shape;
  AMC_CUDA_TRY(function, maker.context.function(ptx::Elementwise, text("select_", dtypeBytes(spec.outputs[0].dtype))));
  Strided which = broadcastWalk(spec.inputs[0].shape, shape), first = broadcastWalk(spec.inputs[1].shape, shape),
          second = broadcastWalk(spec.inputs[2].shape, shape);
  return makeKernel([=](const Operands &o, Stream &stream) {
    return stream.launch(function, gridOf(which.elements), blockThreads, 0, o.inputs[0], o.inputs[1], o.inputs[2],
                         o.outputs[0], which, first, second);
  });
}

Expected<std::unique_ptr<Kernel>> createCast(const InstructionSpec &spec, Maker &maker) {
  plan::DType from = spec.inputs[0].dtype, to = spec.outputs[0].dtype;
  AMC_CUDA_TRY(function,
               maker.context.function(ptx::Elementwise, text("cast_", computeSuffix(from), "_", computeSuffix(to))));
  int stored = static_cast<int>(storedOf(from)), result = static_cast<int>(storedOf(to));
  return makeKernel([=, n = spec.inputs[0].elements](const Operands &o, Stream &stream) {
    return stream.launch(function, gridOf(n), blockThreads, 0, o.inputs[0], o.outputs[0], n, stored, result);
  });
}

} // namespace

void registerElementwise(KernelRegistry &registry) {
  for (const char *name :
       {"abs",   "neg",     "exp",  "log",  "sqrt",        "rsqrt",    "reciprocal", "sin",   "cos",
        "tan",   "asin",    "acos", "atan", "sinh",        "cosh",     "asinh",      "acosh", "atanh",
        "tanh",  "sigmoid", "erf",  "relu", "silu",        "softplus", "gelu",       "elu",   "ceil",
        "floor", "round",   "sign", "not",  "bitwise_not", "is_nan",   "is_inf"})
    registry.add(name, {createUnary});
  for (const char *name : {"add", "sub", "mul", "div", "pow", "max", "min", "mod", "equal", "less", "less_equal", "and",
                           "or", "xor", "bitwise_and", "bitwise_or", "bitwise_xor"})
    registry.add(name, {createBinary});
  registry.add("select", {createSelect});
  registry.add("cast", {createCast});
}

} // namespace amc::rt::cuda
