#include "runtime/device/cuda/Nccl.h"
#include "runtime/device/cuda/Kernel.h"
#include <algorithm>
#include <cstring>
#include <thread>

namespace amc::rt::cuda {

Expected<std::unique_ptr<Nccl>> Nccl::create(Context &context, Communicator &ranks, const MeshShape &mesh) {
  AMC_CUDA_TRY(library, NcclLibrary::load());
  return std::unique_ptr<Nccl>(new Nccl(*library, context, ranks, mesh));
}

Nccl::~Nccl() {
  for (auto &[name, group] : groups)
    if (group.communicator)
      library.ncclCommDestroy(group.communicator);
}

Expected<NcclGroup> Nccl::group(const std::string &name) {
  if (auto found = groups.find(name); found != groups.end())
    return found->second;
  std::optional<Axes> axes = groupAxes(name, mesh);
  if (!axes)
    return inputError("'", name, "' is no group of the mesh's ranks");
  std::vector<uint64_t> members = groupMembers(mesh, *axes, ranks.rank());
  NcclGroup made;
  made.size = static_cast<int>(members.size());
  made.index = static_cast<int>(std::find(members.begin(), members.end(), ranks.rank()) - members.begin());
  // The first member of each group makes its name; everybody hears all of them.
  ncclUniqueId id;
  std::string said;
  if (made.index == 0) {
    if (Status status = library.check(library.ncclGetUniqueId(&id), "NCCL"); !status.ok())
      return status;
    said.assign(reinterpret_cast<const char *>(&id), sizeof id);
  }
  AMC_CUDA_TRY(all, ranks.exchange(said));
  const std::string &theirs = all[members.front()];
  if (theirs.size() != sizeof id)
    return limitError("NCCL: rank ", members.front(), " has made no group");
  std::memcpy(&id, theirs.data(), sizeof id);
  AMC_CUDA_TRY(before, context.freeBytes());
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 1;
  if (Status status = library.check(library.ncclCommInitRankConfig(&made.communicator, made.size, id, made.index, &config), "NCCL");
      !status.ok())
    return status;
  AMC_CUDA_TRY(after, context.freeBytes());
  bytes += before > after ? before - after : 0;
  groups.emplace(name, made);
  return made;
}

Status Nccl::wait(CUstream stream) {
  for (;;) {
    CUresult result = context.driver.cuStreamQuery(stream);
    if (result != CUDA_ERROR_NOT_READY)
      return context.driver.check(result, "the GPU");
    for (auto &[name, group] : groups) {
      ncclResult_t state = ncclSuccess;
      Status status = library.check(library.ncclCommGetAsyncError(group.communicator, &state), "NCCL");
      if (status.ok())
        status = library.check(state, "NCCL", group.communicator);
      if (!status.ok())
        return status;
    }
    ranks.progress();
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

} // namespace amc::rt::cuda
