#include "compiler/codegen/Kernels.h"
#include "compiler/codegen/CpuKernel.h"
#include "compiler/codegen/CpuObject.h"
#include "compiler/codegen/GpuKernel.h"
#include "compiler/codegen/Lowering.h"
#include "compiler/codegen/PtxObject.h"
#include "compiler/dialect/Train.h"
#include "compiler/dialect/PlanTypes.h"
#include "runtime/plan/FusedKernels.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include <algorithm>

using namespace mlir;

namespace amc {
namespace {

constexpr StringRef levels[] = {"x86-64-v3", "x86-64-v4"};

void describeOperand(Type type, plan::FusedKernel::Operand &operand) {
  auto tensor = cast<RankedTensorType>(type);
  operand.set_dtype(dtypeOf(tensor.getElementType()));
  for (int64_t size : tensor.getShape())
    operand.add_shape(static_cast<uint64_t>(size));
}

// "f3_add_rms_norm": a name that PTX takes.
std::string entryName(plan::KernelOp op) {
  constexpr size_t longest = 96;
  std::string name = "f" + std::to_string(op.getNumber()) + "_" + op.getName().str();
  std::replace_if(name.begin(), name.end(), [](char c) { return !llvm::isAlnum(c); }, '_');
  return name.substr(0, longest);
}

LogicalResult compileForCpu(ModuleOp module, ArrayRef<std::string> functions, plan::Plan &plan) {
  FailureOr<std::vector<codegen::CodeImage>> images = codegen::compileFor(levels, module, functions);
  if (failed(images))
    return failure();
  for (const codegen::CodeImage &image : *images) {
    plan::Code &code = *plan.add_code();
    code.set_level(image.level);
    code.set_image(image.bytes);
    for (uint64_t entry : image.entries)
      code.add_entries(entry);
  }
  return success();
}

LogicalResult compileForGpu(StringRef architecture, ModuleOp module, ArrayRef<std::string> functions, plan::Plan &plan) {
  FailureOr<std::string> ptx = codegen::compileToPtx(architecture, module);
  if (failed(ptx))
    return failure();
  auto add = [&](StringRef level, const std::string &image) {
    plan::Code &code = *plan.add_code();
    code.set_level(level.str());
    code.set_image(image);
    for (const std::string &name : functions)
      code.add_names(name);
    return &code;
  };
  add(rt::ptxLevel, *ptx);
  std::optional<std::string> ptxas = codegen::findPtxas();
  if (!ptxas) {
    module.emitRemark("no ptxas was found, or it is switched off: the plan's kernels are PTX alone, which the driver compiles "
                      "when the plan is loaded");
    return success();
  }
  FailureOr<codegen::Cubin> cubin = codegen::assemble(*ptxas, architecture, *ptx, functions, module);
  if (failed(cubin))
    return failure();
  plan::Code *code = add(architecture, cubin->bytes);
  for (const codegen::GpuResources &of : cubin->resources) {
    plan::Code::Resources &resources = *code->add_resources();
    resources.set_registers(of.registers);
    resources.set_shared_bytes(of.sharedBytes);
    resources.set_spill_bytes(of.spillBytes);
  }
  return success();
}

} // namespace

FailureOr<OwningOpRef<ModuleOp>> buildKernelModule(plan::ProgramOp program, plan::Plan &plan) {
  MLIRContext *context = program.getContext();
  context->loadDialect<arith::ArithDialect, cf::ControlFlowDialect, LLVM::LLVMDialect, math::MathDialect, NVVM::NVVMDialect,
                       scf::SCFDialect, vector::VectorDialect>();
  const bool gpu = rt::architectureOf(plan.target()).has_value();
  OwningOpRef<ModuleOp> module(ModuleOp::create(program.getLoc(), "kernels"));
  uint64_t functions = 0;
  llvm::StringMap<int> compiled; // the first kernel with a text: they may differ in what they replace
  for (auto op : program.getBody().getOps<plan::KernelOp>()) {
    std::string why;
    std::optional<codegen::Group> group = codegen::Group::analyze(op.getBody().front(), why);
    if (!group)
      return op.emitError("no kernel can be made of it: ") << why;
    plan::FusedKernel &kernel = *plan.add_fused_kernels();
    kernel.set_name(op.getName().str());
    for (Type type : op.getBody().getArgumentTypes())
      describeOperand(type, *kernel.add_inputs());
    for (Type type : op.getBody().front().getTerminator()->getOperandTypes())
      describeOperand(type, *kernel.add_outputs());
    kernel.set_workspace_bytes(op.getWorkspaceBytes());
    for (int64_t from : op.getTaken())
      kernel.add_replaces(from);
    kernel.set_rows(static_cast<uint64_t>(group->rows));
    kernel.set_columns(static_cast<uint64_t>(group->columns));
    auto [same, fresh] = compiled.try_emplace(codegen::kernelText(op.getBody().front()), plan.fused_kernels_size() - 1);
    if (!fresh) {
      *kernel.mutable_launches() = plan.fused_kernels(same->second).launches();
      continue;
    }
    auto made = gpu ? codegen::emitGpuKernel(*group, entryName(op), *module)
                    : codegen::emitCpuKernel(*group, "kernel" + std::to_string(op.getNumber()), *module);
    for (const codegen::KernelFunction &function : made) {
      plan::FusedKernel::Launch &launch = *kernel.add_launches();
      launch.set_function(functions++);
      launch.set_extent(function.extent);
      launch.set_grain(function.grain);
      launch.set_threads(function.threads);
    }
  }
  return module;
}

LogicalResult compileKernels(plan::ProgramOp program, plan::Plan &plan) {
  if (program.getBody().getOps<plan::KernelOp>().empty())
    return success();
  FailureOr<OwningOpRef<ModuleOp>> module = buildKernelModule(program, plan);
  if (failed(module))
    return failure();
  std::vector<std::string> functions;
  for (auto function : (*module)->getOps<LLVM::LLVMFuncOp>())
    functions.push_back(function.getName().str());
  if (failed(codegen::lowerToLlvm(**module)))
    return failure();
  std::optional<std::string> architecture = rt::architectureOf(plan.target());
  if (failed(architecture ? compileForGpu(*architecture, **module, functions, plan)
                          : compileForCpu(**module, functions, plan)))
    return failure();
  plan.set_code_hash(rt::codeHash(plan));
  return success();
}

} // namespace amc
