#include "runtime/device/cuda/Registry.h"

namespace amc::rt::cuda {

KernelRegistry::KernelRegistry() {
  registerMovement(*this);
  registerIndexed(*this);
  registerOptimizer(*this);
  registerRotary(*this);
  registerSoftmax(*this);
  registerLoss(*this);
  registerReductions(*this);
  registerElementwise(*this);
  registerActivations(*this);
  registerDropout(*this);
  registerSelection(*this);
  registerDispatch(*this);
  registerProducts(*this);
  registerCollectives(*this);
  registerPieces(*this);
  registerAttention(*this);
  registerLinearCrossEntropy(*this);
  registerGroupedMatmul(*this);
  registerNorms(*this);
}

void KernelRegistry::add(std::string name, KernelEntry entry) {
  assert(signatures.find(name) && "the CPU has no kernel of this name");
  [[maybe_unused]] bool added = entries.emplace(std::move(name), entry).second;
  assert(added && "two kernels of one name");
}

const KernelEntry *KernelRegistry::find(std::string_view name) const {
  auto found = entries.find(name);
  return found == entries.end() ? nullptr : &found->second;
}

Status KernelRegistry::check(const plan::Instruction &instruction) const {
  const KernelEntry *entry = find(instruction.kernel());
  if (!entry)
    return inputError("kernel '", instruction.kernel(), "' is not one of the CUDA device's");
  Expected<InstructionSpec> spec = InstructionSpec::create(instruction);
  if (!spec.ok())
    return std::move(spec).status();
  spec->workspaceChecked = true;
  AMC_TRY(signatures.find(instruction.kernel())->check(*spec));
  if (entry->check)
    AMC_TRY(entry->check(*spec));
  spec->workspaceChecked = false;
  return cpu::expectWorkspace(*spec, entry->workspace ? entry->workspace(*spec) : 0);
}

bool KernelRegistry::mayAlias(const plan::Instruction &instruction, int output, int input) const {
  return find(instruction.kernel()) && signatures.mayAlias(instruction, output, input);
}

bool KernelRegistry::mustAlias(const plan::Instruction &instruction, int output, int input) const {
  return find(instruction.kernel()) && signatures.mustAlias(instruction, output, input);
}

const char *suffixOf(plan::DType dtype) {
  switch (dtype) {
  case plan::F32: return "f32";
  case plan::BF16: return "bf16";
  case plan::F16: return "f16";
  case plan::F64: return "f64";
  case plan::I64: return "i64";
  case plan::I32: return "i32";
  case plan::I16: return "i16";
  case plan::I8: return "i8";
  case plan::U8: return "u8";
  case plan::U16: return "u16";
  case plan::U32: return "u32";
  case plan::U64: return "u64";
  case plan::BOOL: return "bool";
  default: return "unspecified";
  }
}

} // namespace amc::rt::cuda
