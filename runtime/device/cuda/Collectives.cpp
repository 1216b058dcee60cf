// Kernels that ranks run together, by NCCL: all_gather, reduce_scatter, all_reduce, shift; and wait. The signatures are
// runtime/device/cpu/Collectives.cpp's.
//
// Pieces are ceil(rows / members) rows along a dimension, the last ones short or empty, with zeros behind them. Where they
// stand in a row and are all alike one call of NCCL does it; else there is one for each piece and each index before the
// dimension, in one group. NCCL adds up in the tensor's type, in an order of its own that does not change between runs on
// the same GPUs: the CPU's bits are others.
#include "runtime/device/cuda/Nccl.h"
#include "runtime/device/cuda/Registry.h"

namespace amc::rt::cuda {
namespace {

Expected<ncclDataType_t> typeOf(plan::DType dtype) {
  switch (dtype) {
  case plan::F32: return ncclFloat32;
  case plan::F64: return ncclFloat64;
  case plan::F16: return ncclFloat16;
  case plan::BF16: return ncclBfloat16;
  case plan::I64: return ncclInt64;
  case plan::I32: return ncclInt32;
  case plan::I8: return ncclInt8;
  case plan::U8:
  case plan::BOOL: return ncclUint8;
  case plan::U32: return ncclUint32;
  case plan::U64: return ncclUint64;
  default: return inputError("NCCL has no ", dtypeName(dtype));
  }
}

Status checkType(const InstructionSpec &spec) {
  Expected<ncclDataType_t> type = typeOf(spec.inputs[0].dtype);
  return type.ok() ? Status() : type.status();
}

// A dimension of the whole, spread over the members.
struct Spread {
  uint64_t outer, rows, inner, piece, width; // `piece`: rows that every member has room for
  ncclDataType_t type;
  NcclGroup group;

  bool even() const { return outer == 1 && rows == piece * static_cast<uint64_t>(group.size); }
  uint64_t first(int member) const { return std::min(piece * static_cast<uint64_t>(member), rows); }
  uint64_t count(int member) const { return first(member + 1) - first(member); }
  uint64_t pieceBytes() const { return outer * piece * inner * width; }
};

Expected<Spread> spreadOf(const InstructionSpec &spec, const TensorSpec &whole, Maker &maker) {
  cpu::Split split = cpu::splitAt(whole.shape, static_cast<size_t>(spec.integer("dim")));
  AMC_CUDA_TRY(type, typeOf(whole.dtype));
  AMC_CUDA_TRY(group, maker.nccl->group(spec.string("group")));
  auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
  return Spread{u(split.outer), u(split.axis), u(split.inner), u(ceilDiv(split.axis, spec.integer("members"))),
                dtypeBytes(whole.dtype), type, group};
}

// Without other ranks a collective is a copy.
Expected<std::unique_ptr<Kernel>> alone(const InstructionSpec &spec) {
  return makeKernel([bytes = spec.outputs[0].bytes](const Operands &o, Stream &stream) {
    return o.inputs[0] == o.outputs[0] ? Status() : stream.copy(o.outputs[0], o.inputs[0], bytes);
  });
}

Expected<std::unique_ptr<Kernel>> createAllGather(const InstructionSpec &spec, Maker &maker) {
  if (!maker.nccl)
    return alone(spec);
  AMC_CUDA_TRY(s, spreadOf(spec, spec.outputs[0], maker));
  const NcclLibrary &library = maker.nccl->library;
  return makeKernel([s, &library](const Operands &o, Stream &stream) {
    if (s.even())
      return library.check(library.ncclAllGather(o.inputs[0], o.outputs[0], s.piece * s.inner, s.type, s.group.communicator,
                                                 stream.handle),
                           "all_gather", s.group.communicator);
    return library.together([&]() -> Status {
      for (int member = 0; member < s.group.size; ++member)
        for (uint64_t i = 0; i < s.outer && s.count(member) > 0; ++i)
          AMC_TRY(library.check(library.ncclBroadcast(o.inputs[0] + i * s.piece * s.inner * s.width,
                                                      o.outputs[0] + (i * s.rows + s.first(member)) * s.inner * s.width,
                                                      s.count(member) * s.inner, s.type, member, s.group.communicator,
                                                      stream.handle),
                                "all_gather", s.group.communicator));
      return Status();
    });
  });
}

Expected<std::unique_ptr<Kernel>> createReduceScatter(const InstructionSpec &spec, Maker &maker) {
  if (!maker.nccl)
    return alone(spec);
  AMC_CUDA_TRY(s, spreadOf(spec, spec.inputs[0], maker));
  const NcclLibrary &library = maker.nccl->library;
  return makeKernel([s, &library](const Operands &o, Stream &stream) {
    if (s.even())
      return library.check(library.ncclReduceScatter(o.inputs[0], o.outputs[0], s.piece * s.inner, s.type, ncclSum,
                                                     s.group.communicator, stream.handle),
                           "reduce_scatter", s.group.communicator);
    if (s.count(s.group.index) < s.piece)
      AMC_TRY(stream.zero(o.outputs[0], s.pieceBytes()));
    return library.together([&]() -> Status {
      for (int member = 0; member < s.group.size; ++member)
        for (uint64_t i = 0; i < s.outer && s.count(member) > 0; ++i)
          AMC_TRY(library.check(library.ncclReduce(o.inputs[0] + (i * s.rows + s.first(member)) * s.inner * s.width,
                                                   o.outputs[0] + i * s.piece * s.inner * s.width,
                                                   s.count(member) * s.inner, s.type, ncclSum, member,
                                                   s.group.communicator, stream.handle),
                                "reduce_scatter", s.group.communicator));
      return Status();
    });
  });
}

Expected<std::unique_ptr<Kernel>> createAllReduce(const InstructionSpec &spec, Maker &maker) {
  if (!maker.nccl)
    return alone(spec);
  AMC_CUDA_TRY(type, typeOf(spec.inputs[0].dtype));
  AMC_CUDA_TRY(group, maker.nccl->group(spec.string("group")));
  const NcclLibrary &library = maker.nccl->library;
  auto elements = static_cast<uint64_t>(spec.inputs[0].elements);
  return makeKernel([=, &library](const Operands &o, Stream &stream) {
    return library.check(library.ncclAllReduce(o.inputs[0], o.outputs[0], elements, type, ncclSum, group.communicator,
                                               stream.handle),
                         "all_reduce", group.communicator);
  });
}

Expected<std::unique_ptr<Kernel>> createShift(const InstructionSpec &spec, Maker &maker) {
  if (!maker.nccl)
    return alone(spec);
  AMC_CUDA_TRY(group, maker.nccl->group(spec.string("group")));
  const NcclLibrary &library = maker.nccl->library;
  int distance = static_cast<int>(spec.integer("distance"));
  int to = ((group.index + distance) % group.size + group.size) % group.size;
  int from = ((group.index - distance) % group.size + group.size) % group.size;
  return makeKernel([=, &library, bytes = spec.inputs[0].bytes](const Operands &o, Stream &stream) {
    return library.together([&]() -> Status {
      AMC_TRY(library.check(library.ncclSend(o.inputs[0], bytes, ncclUint8, to, group.communicator, stream.handle), "shift",
                            group.communicator));
      return library.check(library.ncclRecv(o.outputs[0], bytes, ncclUint8, from, group.communicator, stream.handle), "shift",
                           group.communicator);
    });
  });
}

// What it waits for is the queue's.
Expected<std::unique_ptr<Kernel>> createWait(const InstructionSpec &, Maker &) {
  return makeKernel([](const Operands &, Stream &) { return Status(); });
}

} // namespace

void registerCollectives(KernelRegistry &registry) {
  registry.add("all_gather", {createAllGather, nullptr, checkType});
  registry.add("reduce_scatter", {createReduceScatter, nullptr, checkType});
  registry.add("all_reduce", {createAllReduce, nullptr, checkType});
  registry.add("shift", {createShift});
  registry.add("wait", {createWait});
}

} // namespace amc::rt::cuda
