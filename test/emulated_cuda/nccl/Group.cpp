#include "test/emulated_cuda/nccl/Group.h"
#include "test/emulated_cuda/nccl/Work.h"
#include <algorithm>

namespace amc::emulated {
namespace {

struct Group {
  int depth = 0;
  std::vector<Work> works;

  ~Group() {
    if (depth)
      emulatedCudaFinding("nccl: a group with %zu operations was begun and never ended", works.size());
  }
};

Group &group() {
  static thread_local Group instance;
  return instance;
}

// One stream for each communicator: the original would have all of them wait for each other, which nobody means.
ncclResult_t checkStreams(const std::vector<Work> &works) {
  for (const Work &work : works)
    for (const Work &other : works)
      if (work.comm == other.comm && work.stream != other.stream)
        return defect(ncclInvalidUsage, "ncclGroupEnd: %s and %s of one communicator are on different streams",
                      describe(work.signature).c_str(), describe(other.signature).c_str());
  return ncclSuccess;
}

} // namespace

bool inGroup() { return group().depth > 0; }

ncclResult_t submit(Work &&work) {
  if (!inGroup())
    return enqueue(std::move(work));
  group().works.push_back(std::move(work));
  return ncclSuccess;
}

} // namespace amc::emulated

using namespace amc::emulated;

ncclResult_t ncclGroupStart() {
  ++group().depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  Group &current = group();
  if (current.depth == 0)
    return defect(ncclInvalidUsage, "ncclGroupEnd: no group has been begun");
  if (--current.depth)
    return ncclSuccess;
  std::vector<Work> works = std::move(current.works);
  current.works.clear();
  if (ncclResult_t result = checkStreams(works))
    return result;
  std::vector<Work> together;
  for (Work &work : works) {
    if (work.signature.kind != Kind::messages) {
      if (ncclResult_t result = enqueue(std::move(work)))
        return result;
      continue;
    }
    auto same = std::find_if(together.begin(), together.end(), [&](const Work &one) { return one.comm == work.comm; });
    if (same == together.end())
      together.push_back(std::move(work));
    else
      same->messages.insert(same->messages.end(), work.messages.begin(), work.messages.end());
  }
  for (Work &work : together)
    if (ncclResult_t result = enqueue(std::move(work)))
      return result;
  return ncclSuccess;
}
