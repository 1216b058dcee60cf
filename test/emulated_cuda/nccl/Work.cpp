// The way of an operation through its stream: what it touches is told to the driver, and what becomes of it to the
// communicator. The host learns of a failure as from the original: the stream goes on, ncclCommGetAsyncError says what
// happened, later calls fail, and the output is filled with ones, a NaN in every type that has one.
#include "test/emulated_cuda/nccl/Work.h"
#include <cstring>

namespace amc::emulated {
namespace {

struct Enqueued {
  explicit Enqueued(Work &&given) : work(std::move(given)) {
    if (!work.captured)
      ++work.comm->outstanding;
  }
  ~Enqueued() {
    if (!work.captured)
      --work.comm->outstanding;
  }
  Work work;
};

std::vector<EmulatedRange> ranges(const Work &work, bool reads) {
  std::vector<EmulatedRange> all;
  size_t block = work.signature.count * elementBytes(ncclDataType_t(work.signature.type));
  CUdeviceptr base = reads ? work.send : work.receive;
  if (base)
    all.push_back({base, block * (reads ? work.sendBlocks : work.receiveBlocks), 1, 0});
  for (const Message &message : work.messages)
    if (message.sends == reads)
      all.push_back({message.buffer, message.count * elementBytes(message.type), 1, 0});
  return all;
}

void spoil(const Work &work) {
  for (const EmulatedRange &range : ranges(work, false))
    if (range.bytes)
      if (void *bytes = emulatedCudaAddress(range.base))
        std::memset(bytes, 0xff, range.bytes);
}

void fail(const Work &work, const Outcome &outcome) {
  if (outcome.finding)
    emulatedCudaFinding("%s: %s", work.call, outcome.message.c_str());
  work.comm->fail(outcome);
}

// Whether the communicator can still do anything.
bool isWhole(const ncclComm &comm) { return comm.asyncError == ncclSuccess && comm.life != ncclComm::aborted; }

void perform(const Work &work) {
  ncclComm &comm = *work.comm;
  if (isWhole(comm)) {
    comm.segment->announce(work.signature, ++comm.begun);
    Outcome outcome = exchange(work);
    comm.segment->rest();
    if (!outcome)
      return;
    fail(work, outcome);
  }
  spoil(work);
}

void run(void *state) {
  const Work &work = static_cast<Enqueued *>(state)->work;
  ncclComm &comm = *work.comm;
  if (comm.life == ncclComm::destroyed)
    return emulatedCudaFinding("%s: %s is run after its communicator has been destroyed", work.call,
                               describe(work.signature).c_str());
  if (isWhole(comm) && comm.turns.begin(work.ticket, timeout())) {
    perform(work);
    return comm.turns.end(work.ticket);
  }
  if (isWhole(comm))
    fail(work, {ncclInvalidUsage, true,
                describe(work.signature) + " has waited in vain for what its communicator was to do before"});
  spoil(work);
}

} // namespace

ncclResult_t enqueue(Work &&given) {
  ncclComm_t comm = given.comm;
  CUstream stream = given.stream;
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  cuuint64_t capture = 0;
  if (cuStreamGetCaptureInfo(stream, &status, &capture, nullptr, nullptr, nullptr, nullptr) != CUDA_SUCCESS)
    return ncclUnhandledCudaError;
  given.captured = status != CU_STREAM_CAPTURE_STATUS_NONE;
  given.ticket = comm->turns.take(given.captured ? capture : 0);
  auto state = std::make_unique<Enqueued>(std::move(given));
  const Work &work = state->work;
  std::vector<EmulatedRange> reads = ranges(work, true), writes = ranges(work, false);
  std::string what = std::string(work.call) + ", " + describe(work.signature);
  CUresult result =
      emulatedCudaEnqueueBlocking(stream, what.c_str(), reads.data(), reads.size(), writes.data(), writes.size(), run,
                                  state.release(), [](void *state) { delete static_cast<Enqueued *>(state); });
  if (result == CUDA_SUCCESS)
    return ncclSuccess;
  what += " could not be enqueued"; // its turn will never come, at no rank
  comm->fail({ncclUnhandledCudaError, false, what});
  comm->segment->breakUp(what);
  return ncclUnhandledCudaError;
}

} // namespace amc::emulated
