// A communicator, as one of its ranks has it: one process is one rank.
#ifndef AMC_TEST_EMULATED_CUDA_NCCL_COMMUNICATOR_H
#define AMC_TEST_EMULATED_CUDA_NCCL_COMMUNICATOR_H

#include "test/emulated_cuda/Emulation.h"
#include "test/emulated_cuda/nccl/Segment.h"
#include "test/emulated_cuda/nccl/Turns.h"
#include <mutex>

// Lives until the process ends, for those who use it after it has been destroyed.
struct ncclComm {
  enum Life { alive, finalized, destroyed, aborted };

  int device = -1;
  std::unique_ptr<amc::emulated::Segment> segment; // until destroyed
  std::atomic<Life> life = alive;
  std::atomic<ncclResult_t> asyncError = ncclSuccess;
  std::atomic<int64_t> outstanding = 0; // enqueued outside of captures, not yet run
  amc::emulated::Turns turns;
  uint64_t begun = 0; // operations, by the one whose turn it is

  // The first failure stands: what comes later follows from it.
  void fail(const amc::emulated::Outcome &outcome);
  const char *lastError();

private:
  std::mutex mutex;
  std::string error;
};

namespace amc::emulated {

// Reports a defect of the caller, and is what to return.
ncclResult_t defect(ncclResult_t result, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Whether a call may use the communicator at all; a finding unless it is null.
ncclResult_t checkAlive(ncclComm_t comm, const char *call);
// Whether an operation may be enqueued: nothing has failed, nothing is finalized, the current device is its own.
ncclResult_t checkUsable(ncclComm_t comm, const char *call);

} // namespace amc::emulated

#endif
