// The ranks of a plan's groups on their GPUs, by NCCL. The runtime's communicator brings them together and says who is alive.
#ifndef AMC_RUNTIME_DEVICE_CUDA_NCCL_H
#define AMC_RUNTIME_DEVICE_CUDA_NCCL_H

#include "runtime/device/cuda/Context.h"
#include "runtime/plan/Mesh.h"

namespace amc::rt::cuda {

// Some ranks, as a collective sees them.
struct NcclGroup {
  ncclComm_t communicator = nullptr;
  int size = 1, index = 0;
};

class Nccl {
public:
  // Called by all ranks of the run alike. NCCL is loaded; groups are made when they are first asked for.
  static Expected<std::unique_ptr<Nccl>> create(Context &context, Communicator &ranks, const MeshShape &mesh);
  ~Nccl();
  Nccl(const Nccl &) = delete;
  Nccl &operator=(const Nccl &) = delete;

  // The group of this name that this rank is in. All ranks ask for the same groups in the same order.
  Expected<NcclGroup> group(const std::string &name);

  // Until the stream is empty; gives the other ranks signs of life meanwhile, and an error if one of them is gone.
  Status wait(CUstream stream);

  uint64_t deviceBytes() const { return bytes; } // what its communicators took of the GPU's memory
  const NcclLibrary &library;

private:
  Nccl(const NcclLibrary &library, Context &context, Communicator &ranks, const MeshShape &mesh)
      : library(library), context(context), ranks(ranks), mesh(mesh) {}

  Context &context;
  Communicator &ranks;
  MeshShape mesh;
  std::map<std::string, NcclGroup> groups;
  uint64_t bytes = 0;
};

} // namespace amc::rt::cuda

#endif
