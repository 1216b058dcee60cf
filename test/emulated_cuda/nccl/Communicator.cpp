// Making, splitting and ending communicators, and what they say of themselves.
#include "test/emulated_cuda/nccl/Communicator.h"
#include "test/emulated_cuda/nccl/Group.h"
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <set>
#include <sys/random.h>
#include <unistd.h>
#include <vector>

namespace amc::emulated {
namespace {

// Made with the first communicator, so that it ends before what findings are reported to.
struct Registry {
  std::mutex mutex;
  std::vector<std::unique_ptr<ncclComm>> all;

  ~Registry() {
    size_t left =
        std::count_if(all.begin(), all.end(), [](const auto &comm) { return comm->life < ncclComm::destroyed; });
    if (left)
      emulatedCudaFinding("nccl: %zu communicator%s not destroyed when the library was left", left,
                          left == 1 ? "" : "s");
  }
};

Registry &registry() {
  static Registry instance;
  return instance;
}

bool known(ncclComm_t comm) {
  Registry &every = registry();
  std::lock_guard lock(every.mutex);
  return std::any_of(every.all.begin(), every.all.end(), [&](const auto &one) { return one.get() == comm; });
}

constexpr char idPrefix[] = "/emulated-nccl-";

std::string newName() {
  uint64_t random = 0;
  if (getrandom(&random, sizeof random, 0) != sizeof random)
    random = uint64_t(std::chrono::steady_clock::now().time_since_epoch().count());
  char name[64];
  snprintf(name, sizeof name, "%s%d-%016llx", idPrefix, int(getpid()), (unsigned long long)random);
  return name;
}

ncclResult_t report(const char *call, const Outcome &outcome) {
  if (outcome.finding)
    emulatedCudaFinding("%s: %s", call, outcome.message.c_str());
  return outcome.result;
}

ncclResult_t checkConfig(const ncclConfig_t *config, const char *call) {
  if (!config)
    return ncclSuccess;
  const ncclConfig_t fresh = NCCL_CONFIG_INITIALIZER;
  if (config->size != fresh.size || config->magic != fresh.magic || config->version != fresh.version)
    return defect(ncclInvalidArgument, "%s: the configuration was not made with NCCL_CONFIG_INITIALIZER", call);
  if (config->blocking != NCCL_CONFIG_UNDEF_INT && config->blocking != 1)
    return defect(ncclInvalidArgument, "%s: communicators that do not block are not modelled", call);
  return ncclSuccess;
}

ncclResult_t makeComm(const std::string &name, int ranks, int rank, const char *call, ncclComm_t *comm) {
  auto made = std::make_unique<ncclComm>();
  made->device = emulatedCudaDevice();
  if (made->device < 0)
    return ncclUnhandledCudaError;
  CUdevice device;
  CUuuid uuid;
  if (cuCtxGetDevice(&device) != CUDA_SUCCESS || cuDeviceGetUuid(&uuid, device) != CUDA_SUCCESS)
    return ncclUnhandledCudaError;
  Outcome outcome = Segment::join(name, ranks, rank, &uuid, made->segment);
  if (outcome)
    return report(call, outcome);
  *comm = made.get();
  Registry &every = registry();
  std::lock_guard lock(every.mutex);
  every.all.push_back(std::move(made));
  return ncclSuccess;
}

// What is enqueued on the communicator has run afterwards.
ncclResult_t flush(ncclComm_t comm) {
  return comm->outstanding && cuCtxSynchronize() != CUDA_SUCCESS ? ncclUnhandledCudaError : ncclSuccess;
}

// What a rank of a parent says of itself when it is split.
struct SplitPost {
  int32_t color, key;
  char name[64];
};
static_assert(sizeof(SplitPost) <= postBytes);

} // namespace

ncclResult_t defect(ncclResult_t result, const char *format, ...) {
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  emulatedCudaFinding("%s", text);
  return result;
}

ncclResult_t checkAlive(ncclComm_t comm, const char *call) {
  if (!comm)
    return ncclInvalidArgument;
  if (!known(comm))
    return defect(ncclInvalidArgument, "%s: that is no communicator", call);
  if (comm->life >= ncclComm::destroyed)
    return defect(ncclInvalidArgument, "%s: the communicator has been destroyed", call);
  return ncclSuccess;
}

ncclResult_t checkUsable(ncclComm_t comm, const char *call) {
  if (ncclResult_t result = checkAlive(comm, call))
    return result;
  if (comm->life != ncclComm::alive)
    return defect(ncclInvalidUsage, "%s: the communicator has been finalized", call);
  if (ncclResult_t result = comm->asyncError)
    return result;
  if (emulatedCudaDevice() != comm->device)
    return defect(ncclInvalidUsage, "%s: a communicator of device %d while the current context is of device %d", call,
                  comm->device, emulatedCudaDevice());
  return ncclSuccess;
}

} // namespace amc::emulated

using namespace amc::emulated;

void ncclComm::fail(const Outcome &outcome) {
  std::lock_guard lock(mutex);
  if (asyncError != ncclSuccess)
    return;
  error = outcome.message;
  asyncError = outcome.result;
}

const char *ncclComm::lastError() {
  std::lock_guard lock(mutex);
  return error.c_str(); // it does not change any more once there is one
}

ncclResult_t ncclGetVersion(int *version) {
  if (!version)
    return ncclInvalidArgument;
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  if (!id)
    return ncclInvalidArgument;
  std::memset(id, 0, sizeof *id);
  std::string name = newName();
  std::memcpy(id->internal, name.c_str(), name.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config) {
  if (!comm || ranks < 1 || rank < 0 || rank >= ranks)
    return ncclInvalidArgument;
  if (ncclResult_t result = checkConfig(config, __func__))
    return result;
  if (ranks > maxRanks)
    return defect(ncclInvalidArgument, "%s: more than %d ranks are not modelled", __func__, maxRanks);
  if (inGroup())
    return defect(ncclInvalidUsage, "%s: in a group, which is for processes of several ranks, not modelled", __func__);
  id.internal[sizeof id.internal - 1] = 0;
  if (std::strncmp(id.internal, idPrefix, sizeof idPrefix - 1))
    return defect(ncclInvalidArgument, "%s: the id was not made by ncclGetUniqueId", __func__);
  return makeComm(id.internal, ranks, rank, __func__, comm);
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank) {
  return ncclCommInitRankConfig(comm, ranks, id, rank, nullptr);
}

// Ranks of one color, by key and then by the parent's rank. Each posts a name; the one of the new rank 0 is taken.
ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *split, ncclConfig_t *config) {
  if (!split)
    return ncclInvalidArgument;
  if (ncclResult_t result = checkUsable(comm, __func__))
    return result;
  if (ncclResult_t result = checkConfig(config, __func__))
    return result;
  if (color < 0 && color != NCCL_SPLIT_NOCOLOR)
    return ncclInvalidArgument;
  if (inGroup())
    return defect(ncclInvalidUsage, "%s: in a group, which is not modelled", __func__);
  *split = nullptr;
  Segment &parent = *comm->segment;
  SplitPost mine{color, key, {}};
  std::string name = newName();
  std::memcpy(mine.name, name.c_str(), name.size());
  std::memcpy(parent.post(parent.rank()), &mine, sizeof mine);
  Outcome outcome = parent.meetOnHost();
  if (outcome) {
    comm->fail(outcome);
    return report(__func__, outcome);
  }
  std::vector<std::pair<int, int>> members; // key, rank
  std::vector<SplitPost> posts(parent.ranks());
  for (int rank = 0; rank < parent.ranks(); ++rank) {
    std::memcpy(&posts[rank], parent.post(rank), sizeof(SplitPost));
    if (posts[rank].color == color)
      members.push_back({posts[rank].key, rank});
  }
  outcome = parent.meetOnHost(); // before anybody posts again
  if (outcome) {
    comm->fail(outcome);
    return report(__func__, outcome);
  }
  if (color == NCCL_SPLIT_NOCOLOR)
    return ncclSuccess;
  std::sort(members.begin(), members.end());
  int rank = int(std::find(members.begin(), members.end(), std::pair(key, parent.rank())) - members.begin());
  return makeComm(posts[members[0].second].name, int(members.size()), rank, __func__, split);
}

// Waits for what is enqueued, as the original does before it says that it is done.
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (ncclResult_t result = checkAlive(comm, __func__))
    return result;
  if (inGroup())
    return defect(ncclInvalidUsage, "%s: in a group", __func__);
  if (comm->life == ncclComm::finalized)
    return defect(ncclInvalidUsage, "%s: the communicator has been finalized", __func__);
  ncclResult_t result = flush(comm);
  comm->life = ncclComm::finalized;
  return result;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (ncclResult_t result = checkAlive(comm, __func__))
    return result;
  if (inGroup())
    return defect(ncclInvalidUsage, "%s: in a group", __func__);
  ncclResult_t result = flush(comm);
  comm->life = ncclComm::destroyed;
  if (comm->asyncError != ncclSuccess)
    comm->segment->breakUp(comm->lastError());
  comm->segment->leave();
  comm->segment.reset();
  return result;
}

// Does not wait for anything, and may be called while a stream is in an operation: that ends, as do the other ranks'.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (ncclResult_t result = checkAlive(comm, __func__))
    return result;
  comm->life = ncclComm::aborted;
  comm->segment->breakUp("rank " + std::to_string(comm->segment->rank()) + " has aborted the communicator");
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count) {
  if (!count)
    return ncclInvalidArgument;
  if (ncclResult_t result = checkAlive(comm, __func__))
    return result;
  *count = comm->segment->ranks();
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank) {
  if (!rank)
    return ncclInvalidArgument;
  if (ncclResult_t result = checkAlive(comm, __func__))
    return result;
  *rank = comm->segment->rank();
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device) {
  if (!device)
    return ncclInvalidArgument;
  if (ncclResult_t result = checkAlive(comm, __func__))
    return result;
  *device = comm->device;
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
  if (!error)
    return ncclInvalidArgument;
  if (ncclResult_t result = checkAlive(comm, __func__))
    return result;
  *error = comm->asyncError;
  return ncclSuccess;
}

const char *ncclGetLastError(ncclComm_t comm) { return comm && known(comm) ? comm->lastError() : ""; }

const char *ncclGetErrorString(ncclResult_t result) {
  switch (result) {
  case ncclSuccess:
    return "no error";
  case ncclUnhandledCudaError:
    return "unhandled cuda error";
  case ncclSystemError:
    return "unhandled system error";
  case ncclInternalError:
    return "internal error";
  case ncclInvalidArgument:
    return "invalid argument";
  case ncclInvalidUsage:
    return "invalid usage";
  case ncclRemoteError:
    return "remote process exited or there was a network error";
  case ncclInProgress:
    return "NCCL operation in progress";
  default:
    return "unknown result code";
  }
}
