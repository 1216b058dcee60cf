// Groups: what a thread says between ncclGroupStart and ncclGroupEnd is enqueued at the end.
#ifndef AMC_TEST_EMULATED_CUDA_NCCL_GROUP_H
#define AMC_TEST_EMULATED_CUDA_NCCL_GROUP_H

#include "test/emulated_cuda/nccl/Types.h"

namespace amc::emulated {

struct Work;

bool inGroup();
// Enqueues now, or at the end of the group. Of a group the collectives of a communicator come first, in their order,
// then its messages, as one.
ncclResult_t submit(Work &&work);

} // namespace amc::emulated

#endif
