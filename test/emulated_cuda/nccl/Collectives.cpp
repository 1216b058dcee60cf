// The operations, as far as the host has to do with them: arguments are judged, and what is right is submitted.
#include "test/emulated_cuda/nccl/Group.h"
#include "test/emulated_cuda/nccl/Work.h"

namespace amc::emulated {
namespace {

// Where a rank's result may lie in its input, or the other way round: nowhere but at a place that the header names.
enum class InPlace { never, same, receiveIsBlock, sendIsBlock };

struct Call {
  const char *name;
  Kind kind;
  const void *send;
  void *receive;
  size_t count;
  ncclDataType_t type;
  ncclRedOp_t op = ncclSum;
  int root = -1;
  InPlace inPlace = InPlace::never;
};

bool reduces(Kind kind) { return kind == Kind::allReduce || kind == Kind::reduce || kind == Kind::reduceScatter; }

ncclResult_t checkBuffer(const char *call, const char *name, CUdeviceptr buffer, size_t bytes) {
  if (!buffer)
    return ncclInvalidArgument;
  if (buffer % bytes)
    return defect(ncclInvalidArgument, "%s: the %s buffer at %#llx is not aligned to its elements", call, name,
                  (unsigned long long)buffer);
  return ncclSuccess;
}

ncclResult_t checkPlaces(const Call &call, const Work &work, size_t bytes, int block) {
  if (!work.send || !work.receive || !call.count)
    return ncclSuccess;
  uint64_t one = call.count * bytes, sendEnd = work.send + one * work.sendBlocks,
           receiveEnd = work.receive + one * work.receiveBlocks;
  if (sendEnd <= work.receive || receiveEnd <= work.send)
    return ncclSuccess;
  bool right = (call.inPlace == InPlace::same && work.send == work.receive) ||
               (call.inPlace == InPlace::receiveIsBlock && work.receive == work.send + block * one) ||
               (call.inPlace == InPlace::sendIsBlock && work.send == work.receive + block * one);
  if (right)
    return ncclSuccess;
  return defect(ncclInvalidArgument,
                "%s: the buffers overlap where the operation is not in place (send %#llx, receive %#llx)", call.name,
                (unsigned long long)work.send, (unsigned long long)work.receive);
}

ncclResult_t submitCollective(const Call &call, ncclComm_t comm, cudaStream_t stream) {
  if (ncclResult_t result = checkUsable(comm, call.name))
    return result;
  const int ranks = comm->segment->ranks(), rank = comm->segment->rank();
  const size_t bytes = elementBytes(call.type);
  const bool rooted = call.kind == Kind::broadcast || call.kind == Kind::reduce || call.kind == Kind::gather ||
                      call.kind == Kind::scatter;
  if (!bytes || !operationName(call.op) || call.count > (uint64_t(1) << 60) / bytes / ranks ||
      (rooted && (call.root < 0 || call.root >= ranks)))
    return ncclInvalidArgument;
  const bool isRoot = rank == call.root;
  Work work{comm,
            stream,
            call.name,
            {call.kind, uint32_t(call.type), reduces(call.kind) ? uint32_t(call.op) : 0, call.root, call.count}};
  const bool sends = isRoot || !(call.kind == Kind::broadcast || call.kind == Kind::scatter);
  const bool receives = isRoot || !(call.kind == Kind::reduce || call.kind == Kind::gather);
  work.send = sends ? CUdeviceptr(call.send) : 0;
  work.receive = receives ? CUdeviceptr(call.receive) : 0;
  bool apart = call.kind == Kind::reduceScatter || call.kind == Kind::allToAll || call.kind == Kind::scatter;
  bool joins = call.kind == Kind::allGather || call.kind == Kind::allToAll || call.kind == Kind::gather;
  work.sendBlocks = apart ? ranks : 1;
  work.receiveBlocks = joins ? ranks : 1;
  if (call.count) {
    if (sends)
      if (ncclResult_t result = checkBuffer(call.name, "send", work.send, bytes))
        return result;
    if (receives)
      if (ncclResult_t result = checkBuffer(call.name, "receive", work.receive, bytes))
        return result;
  }
  if (ncclResult_t result = checkPlaces(call, work, bytes, rank))
    return result;
  return submit(std::move(work));
}

ncclResult_t submitMessage(const char *name, bool sends, const void *buffer, size_t count, ncclDataType_t type,
                           int peer, ncclComm_t comm, cudaStream_t stream) {
  if (ncclResult_t result = checkUsable(comm, name))
    return result;
  const size_t bytes = elementBytes(type);
  if (!bytes || peer < 0 || peer >= comm->segment->ranks() || count > (uint64_t(1) << 60) / bytes)
    return ncclInvalidArgument;
  if (count)
    if (ncclResult_t result = checkBuffer(name, sends ? "send" : "receive", CUdeviceptr(buffer), bytes))
      return result;
  if (peer == comm->segment->rank() && !inGroup())
    return defect(ncclInvalidUsage, "%s: to itself a rank sends and receives in one group", name);
  Work work{comm, stream, name, {Kind::messages}};
  work.messages.push_back({sends, peer, CUdeviceptr(buffer), type, count});
  return submit(std::move(work));
}

} // namespace
} // namespace amc::emulated

using namespace amc::emulated;

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return submitCollective({__func__, Kind::allReduce, send, receive, count, type, op, -1, InPlace::same}, comm, stream);
}

ncclResult_t ncclReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
                        ncclComm_t comm, cudaStream_t stream) {
  return submitCollective({__func__, Kind::reduce, send, receive, count, type, op, root, InPlace::same}, comm, stream);
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return submitCollective({__func__, Kind::broadcast, send, receive, count, type, ncclSum, root, InPlace::same}, comm,
                          stream);
}

ncclResult_t ncclBcast(void *buffer, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                       cudaStream_t stream) {
  return submitCollective({__func__, Kind::broadcast, buffer, buffer, count, type, ncclSum, root, InPlace::same}, comm,
                          stream);
}

ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  return submitCollective({__func__, Kind::reduceScatter, send, receive, count, type, op, -1, InPlace::receiveIsBlock},
                          comm, stream);
}

ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return submitCollective({__func__, Kind::allGather, send, receive, count, type, ncclSum, -1, InPlace::sendIsBlock},
                          comm, stream);
}

ncclResult_t ncclAlltoAll(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                          cudaStream_t stream) {
  return submitCollective({__func__, Kind::allToAll, send, receive, count, type}, comm, stream);
}

ncclResult_t ncclGather(const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                        cudaStream_t stream) {
  return submitCollective({__func__, Kind::gather, send, receive, count, type, ncclSum, root, InPlace::sendIsBlock},
                          comm, stream);
}

ncclResult_t ncclScatter(const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                         cudaStream_t stream) {
  return submitCollective({__func__, Kind::scatter, send, receive, count, type, ncclSum, root, InPlace::receiveIsBlock},
                          comm, stream);
}

ncclResult_t ncclSend(const void *buffer, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return submitMessage(__func__, true, buffer, count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void *buffer, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return submitMessage(__func__, false, buffer, count, type, peer, comm, stream);
}
