#include "compiler/codegen/Kernels.h"
#include "compiler/codegen/CpuKernel.h"
#include "compiler/codegen/CpuObject.h"
#include "compiler/dialect/Train.h"
#include "compiler/dialect/PlanTypes.h"
#include "runtime/plan/FusedKernels.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/StringMap.h"

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

} // namespace

FailureOr<OwningOpRef<ModuleOp>> buildKernelModule(plan::ProgramOp program, plan::Plan &plan) {
  MLIRContext *context = program.getContext();
  context->loadDialect<arith::ArithDialect, cf::ControlFlowDialect, LLVM::LLVMDialect, math::MathDialect, scf::SCFDialect,
                       vector::VectorDialect>();
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
    auto [same, fresh] = compiled.try_emplace(codegen::kernelText(op.getBody().front()), plan.fused_kernels_size() - 1);
    if (!fresh) {
      *kernel.mutable_launches() = plan.fused_kernels(same->second).launches();
      continue;
    }
    std::string name = "kernel" + std::to_string(op.getNumber());
    for (const codegen::CpuFunction &function : codegen::emitCpuKernel(*group, name, *module)) {
      plan::FusedKernel::Launch &launch = *kernel.add_launches();
      launch.set_function(functions++);
      launch.set_extent(function.extent);
      launch.set_grain(function.grain);
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
  FailureOr<std::vector<codegen::CodeImage>> images = codegen::compileFor(levels, **module, functions);
  if (failed(images))
    return failure();
  for (const codegen::CodeImage &image : *images) {
    plan::Code &code = *plan.add_code();
    code.set_level(image.level);
    code.set_image(image.bytes);
    for (uint64_t entry : image.entries)
      code.add_entries(entry);
  }
  plan.set_code_hash(rt::codeHash(plan));
  return success();
}

} // namespace amc
