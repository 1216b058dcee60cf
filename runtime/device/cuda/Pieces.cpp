// Kernels of a rank among others that move parts of tensors: take_piece, which sends nothing, and all_to_all, by NCCL's
// sends and receipts. The signatures are runtime/device/cpu/Collectives.cpp's, and so is all_to_all's workspace: parts
// that do not stand in a row are copied there.
#include "runtime/device/cuda/Launches.h"
#include "runtime/device/cuda/Nccl.h"
#include "runtime/plan/CudaWorkspace.h"

namespace amc::rt::cuda {
namespace {

uint64_t widthOf(const InstructionSpec &spec) { return dtypeBytes(spec.outputs[0].dtype); }

// ---- take_piece

Expected<std::unique_ptr<Kernel>> createTakePiece(const InstructionSpec &spec, Maker &maker) {
  int64_t index = 0;
  if (maker.nccl) {
    AMC_CUDA_TRY(group, maker.nccl->group(spec.string("group")));
    index = group.index;
  }
  cpu::Split whole = cpu::splitAt(spec.inputs[0].shape, static_cast<size_t>(spec.integer("dim")));
  int64_t rows = ceilDiv(whole.axis, spec.integer("members")), pitch = whole.axis * whole.inner;
  // Of each row before the dimension `runs` runs of `taken` rows, `apart` rows apart; zeros behind what is less than a
  // piece.
  int64_t first = std::min(rows * index, whole.axis), taken = std::min(rows, whole.axis - first), runs = 1, apart = 0;
  if (spec.flag("zigzag")) {
    taken = rows / 2;
    first = taken * index;
    runs = 2;
    apart = whole.axis - first - taken - first;
  }
  int64_t run = taken * whole.inner;
  Strided from = stridedOf({whole.outer, runs, run}, {pitch, apart * whole.inner, 1}, first * whole.inner);
  Strided to = stridedOf({whole.outer, runs, run}, {rows * whole.inner, run, 1});
  AMC_CUDA_TRY(move, Move::create(maker, widthOf(spec), from, to));
  uint64_t zeros = runs * taken < rows ? spec.outputs[0].bytes : 0;
  return makeKernel([=](const Operands &o, Stream &stream) {
    AMC_TRY(stream.zero(o.outputs[0], zeros));
    return move.enqueue(stream, o.inputs[0], o.outputs[0]);
  });
}

// ---- all_to_all

struct Parts {
  cpu::Split split, concat; // of the operand at split_dim, of a part at concat_dim
  int64_t members;
  explicit Parts(const InstructionSpec &spec) : members(spec.integer("members")) {
    std::vector<int64_t> part = spec.inputs[0].shape;
    auto splitDim = static_cast<size_t>(spec.integer("split_dim"));
    split = cpu::splitAt(part, splitDim);
    part[splitDim] /= members;
    concat = cpu::splitAt(part, static_cast<size_t>(spec.integer("concat_dim")));
  }
  bool packs() const { return split.outer > 1; }
  bool unpacks() const { return concat.outer > 1; }
};

uint64_t allToAllWorkspace(const InstructionSpec &spec) {
  Parts parts(spec);
  return workspace::allToAll(spec.inputs[0].bytes, static_cast<uint64_t>(parts.split.outer),
                             static_cast<uint64_t>(parts.concat.outer));
}

// Runs of elements: run (a, b) of [rows, columns] becomes run (b, a) of [columns, rows].
Expected<Move> exchangeRuns(Maker &maker, uint64_t width, int64_t rows, int64_t columns, int64_t run) {
  Strided from = stridedOf({columns, rows, run}, {run, columns * run, 1});
  return Move::create(maker, width, from, contiguous(from.elements));
}

Expected<std::unique_ptr<Kernel>> createAllToAll(const InstructionSpec &spec, Maker &maker) {
  uint64_t bytes = spec.inputs[0].bytes, width = widthOf(spec);
  Parts parts(spec);
  if (!maker.nccl || parts.members == 1) // the part is the whole
    return makeKernel([=](const Operands &o, Stream &stream) { return stream.copy(o.outputs[0], o.inputs[0], bytes); });
  AMC_CUDA_TRY(group, maker.nccl->group(spec.string("group")));
  // The operand is [outer, members, run], what is sent [members, outer, run]; what comes is [members, outer, run]
  // again, of other dimensions, and the result [outer, members, run].
  AMC_CUDA_TRY(pack, exchangeRuns(maker, width, parts.split.outer, parts.members,
                                  parts.split.axis / parts.members * parts.split.inner));
  AMC_CUDA_TRY(unpack,
               exchangeRuns(maker, width, parts.members, parts.concat.outer, parts.concat.axis * parts.concat.inner));
  uint64_t part = bytes / static_cast<uint64_t>(parts.members), packed = workspace::allToAll(bytes, 2, 1);
  const NcclLibrary &library = maker.nccl->library;
  return makeKernel([=, &library](const Operands &o, Stream &stream) {
    const std::byte *from = o.inputs[0];
    std::byte *to = o.outputs[0];
    if (parts.packs()) {
      AMC_TRY(pack.enqueue(stream, from, o.workspaces[0]));
      from = o.workspaces[0];
    }
    if (parts.unpacks())
      to = o.workspaces[0] + (parts.packs() ? packed : 0);
    AMC_TRY(library.together([&]() -> Status {
      for (int member = 0; member < group.size; ++member) {
        uint64_t at = static_cast<uint64_t>(member) * part;
        AMC_TRY(library.check(library.ncclSend(from + at, part, ncclUint8, member, group.communicator, stream.handle),
                              "all_to_all", group.communicator));
        AMC_TRY(library.check(library.ncclRecv(to + at, part, ncclUint8, member, group.communicator, stream.handle),
                              "all_to_all", group.communicator));
      }
      return Status();
    }));
    return parts.unpacks() ? unpack.enqueue(stream, to, o.outputs[0]) : Status();
  });
}

} // namespace

void registerPieces(KernelRegistry &registry) {
  registry.add("take_piece", {createTakePiece});
  registry.add("all_to_all", {createAllToAll, allToAllWorkspace});
}

} // namespace amc::rt::cuda
