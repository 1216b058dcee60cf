// One entry of a stream: a collective, or the messages of a group, which go on side by side.
#ifndef AMC_TEST_EMULATED_CUDA_NCCL_WORK_H
#define AMC_TEST_EMULATED_CUDA_NCCL_WORK_H

#include "test/emulated_cuda/nccl/Communicator.h"
#include <vector>

namespace amc::emulated {

struct Message {
  bool sends;
  int peer;
  CUdeviceptr buffer;
  ncclDataType_t type;
  uint64_t count;
};

struct Work {
  ncclComm_t comm;
  CUstream stream;
  const char *call; // of the caller, a literal
  Signature signature;
  CUdeviceptr send = 0, receive = 0;          // of a collective; 0: this rank has none
  uint64_t sendBlocks = 0, receiveBlocks = 0; // of `count` elements each
  std::vector<Message> messages = {};
  bool captured = false;
  Turns::Ticket ticket = {};
};

// Hands the work to its stream.
ncclResult_t enqueue(Work &&work);

// What it does when its turn comes.
Outcome exchange(const Work &work);

} // namespace amc::emulated

#endif
