// The kernels of a CUDA device by name. They have the signatures of the CPU's (runtime/device/cpu/Registry.h) but for their
// workspaces (runtime/plan/CudaWorkspace.h) and for what `check` leaves out.
#ifndef AMC_RUNTIME_DEVICE_CUDA_REGISTRY_H
#define AMC_RUNTIME_DEVICE_CUDA_REGISTRY_H

#include "runtime/device/cpu/Registry.h"
#include "runtime/device/cuda/Kernel.h"

namespace amc::rt::cuda {

struct KernelEntry {
  Expected<std::unique_ptr<Kernel>> (*create)(const InstructionSpec &, Maker &);
  // Bytes of the workspace that an instruction has to have, once the CPU's signature has been checked; null: none.
  uint64_t (*workspace)(const InstructionSpec &) = nullptr;
  // What of the CPU's signature it has not; null: it has all.
  Status (*check)(const InstructionSpec &) = nullptr;
};

class KernelRegistry : public KernelSignatures {
public:
  KernelRegistry(); // registers every family
  void add(std::string name, KernelEntry entry);
  const KernelEntry *find(std::string_view name) const;

  Status check(const plan::Instruction &instruction) const override;
  bool mayAlias(const plan::Instruction &instruction, int output, int input) const override;
  bool mustAlias(const plan::Instruction &instruction, int output, int input) const override;

private:
  cpu::KernelRegistry signatures;
  std::map<std::string, KernelEntry, std::less<>> entries;
};

// One per family of kernels.
void registerMovement(KernelRegistry &);
void registerIndexed(KernelRegistry &);
void registerOptimizer(KernelRegistry &);
void registerRotary(KernelRegistry &);
void registerSoftmax(KernelRegistry &);
void registerLoss(KernelRegistry &);
void registerReductions(KernelRegistry &);
void registerElementwise(KernelRegistry &);
void registerActivations(KernelRegistry &);
void registerDropout(KernelRegistry &);
void registerSelection(KernelRegistry &);
void registerDispatch(KernelRegistry &);
void registerProducts(KernelRegistry &);
void registerCollectives(KernelRegistry &);
void registerPieces(KernelRegistry &);
void registerAttention(KernelRegistry &);
void registerLinearCrossEntropy(KernelRegistry &);
void registerGroupedMatmul(KernelRegistry &);
void registerNorms(KernelRegistry &);

// "f32", "bf16", "f16", "f64", "i64" …: what names of functions in kernels/ end with.
const char *suffixOf(plan::DType dtype);

} // namespace amc::rt::cuda

#endif
