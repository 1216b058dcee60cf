// Kernels that ranks run together: all_gather, reduce_scatter, all_reduce, all_to_all, shift; and take_piece, which is
// what one of them leaves to do alone. The first three may be `async`: they use no thread but the caller's.
//
// `group` names the ranks (runtime/plan/Mesh.h), `members` says how many they are; everything else is the
// communicator's (runtime/collective/Communicator.h): pieces and their padding, and the order of sums. Any dtype moves,
// numbers are added up. An all_reduce may stand in its operand. An error of a peer ends the instruction.
//
// all_to_all cuts its operand along `split_dim` into a part for each member, and joins what comes along `concat_dim` in
// the order of members. The communicator wants parts in a row: where they are not, they are copied.
#include "runtime/collective/Communicator.h"
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/Ranges.h"
#include "runtime/plan/Workspace.h"
#include <cstring>

namespace amc::rt::cpu {
namespace {

Status checkGroup(const InstructionSpec &spec) {
  AMC_EXPECT(isGroupName(spec.string("group")), "attributes.group: '", spec.string("group"), "' is no group of ranks");
  int64_t members = spec.integer("members");
  AMC_EXPECT(members >= 1 && static_cast<uint64_t>(members) <= mostRanks, "attributes.members: is ", members,
             " and should be in [1, ", mostRanks, "]");
  return Status();
}

// `piece` is what a member has of `whole`, along dimension `dim`.
Status checkSpread(const InstructionSpec &spec, const char *name, const TensorSpec &piece, const TensorSpec &whole) {
  AMC_TRY(checkGroup(spec));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  AMC_TRY(expectAxis(spec, "dim", whole.rank()));
  std::vector<int64_t> shape = whole.shape;
  int64_t &rows = shape[static_cast<size_t>(spec.integer("dim"))];
  rows = ceilDiv(rows, spec.integer("members"));
  return expectShape(name, piece, shape);
}

SpreadShape spreadOf(const InstructionSpec &spec, const TensorSpec &whole) {
  Split split = splitAt(whole.shape, static_cast<size_t>(spec.integer("dim")));
  return {static_cast<uint64_t>(split.outer), static_cast<uint64_t>(split.axis), static_cast<uint64_t>(split.inner),
          whole.dtype};
}

// ---- all_gather, reduce_scatter, all_reduce

// `size` says again what the result has in `dim`; `reshard`, `retain` and `alike` were for the compiler.
Status checkAllGather(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"piece", AcceptAny}}, {{"whole", AcceptAny}},
                         {{"group", Text},
                          {"members", Int},
                          {"dim", Int},
                          {"size", Int, Optional},
                          {"reshard", Int, Optional},
                          {"retain", Int, Optional},
                          {"alike", Int, Optional},
                          {"async", Int, Optional}}));
  AMC_TRY(checkSpread(spec, "inputs[0]", spec.inputs[0], spec.outputs[0]));
  int64_t rows = spec.outputs[0].shape[static_cast<size_t>(spec.integer("dim"))], size = spec.integer("size", rows);
  AMC_EXPECT(size == rows, "attributes.size: is ", size, " and dimension ", spec.integer("dim"), " of the result ", rows);
  return Status();
}
std::unique_ptr<Kernel> createAllGather(const InstructionSpec &spec, Group &group) {
  return makeKernel([&group, shape = spreadOf(spec, spec.outputs[0])](const Operands &o, RunContext &c) {
    c.failure.report(group.allGather(o.inputs[0], o.outputs[0], shape));
  });
}

Status checkReduceScatter(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"whole", AcceptNumber}}, {{"piece", AcceptNumber}},
                         {{"group", Text}, {"members", Int}, {"dim", Int}, {"async", Int, Optional}}));
  return checkSpread(spec, "outputs[0]", spec.outputs[0], spec.inputs[0]);
}
std::unique_ptr<Kernel> createReduceScatter(const InstructionSpec &spec, Group &group) {
  return makeKernel([&group, shape = spreadOf(spec, spec.inputs[0])](const Operands &o, RunContext &c) {
    c.failure.report(group.reduceScatter(o.inputs[0], o.outputs[0], shape));
  });
}

Status checkAllReduce(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptNumber}}, {{"y", AcceptNumber}},
                         {{"group", Text}, {"members", Int}, {"async", Int, Optional}}));
  AMC_TRY(checkGroup(spec));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  return expectShape("outputs[0]", spec.outputs[0], spec.inputs[0].shape);
}
std::unique_ptr<Kernel> createAllReduce(const InstructionSpec &spec, Group &group) {
  return makeKernel([&group, elements = static_cast<uint64_t>(spec.inputs[0].elements),
                     dtype = spec.inputs[0].dtype](const Operands &o, RunContext &c) {
    c.failure.report(group.allReduce(o.inputs[0], o.outputs[0], elements, dtype));
  });
}

// ---- wait: what it waits for is the executor's; the verifier has seen that it names a collective's views

Status checkWait(const InstructionSpec &spec) {
  return expectOperands(spec, {{"started", AcceptAny}, {"source", AcceptAny}}, {});
}
std::unique_ptr<Kernel> createWait(const InstructionSpec &) {
  return makeKernel([](const Operands &, RunContext &) {});
}

// ---- take_piece: sends nothing, but has to know which member this is

Status checkTakePiece(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"whole", AcceptAny}}, {{"piece", AcceptAny}},
                         {{"group", Text}, {"members", Int}, {"dim", Int}, {"zigzag", Int, Optional}}));
  AMC_TRY(checkSpread(spec, "outputs[0]", spec.outputs[0], spec.inputs[0]));
  int64_t rows = spec.inputs[0].shape[static_cast<size_t>(spec.integer("dim"))], members = spec.integer("members");
  AMC_EXPECT(!spec.flag("zigzag") || (rows % members == 0 && rows / members % 2 == 0), "attributes.zigzag: dimension ",
             spec.integer("dim"), " is ", rows, " and should be divisible by twice the ", members, " members");
  return Status();
}
std::unique_ptr<Kernel> createTakePiece(const InstructionSpec &spec, Group &group) {
  // `taken` rows from `first` on; of two runs of that many also those from `second` on, behind them.
  Split whole = splitAt(spec.inputs[0].shape, static_cast<size_t>(spec.integer("dim")));
  int64_t rows = ceilDiv(whole.axis, spec.integer("members")), first = std::min(rows * group.index(), whole.axis),
          taken = std::min(rows, whole.axis - first), second = 0, runs = 1;
  if (spec.flag("zigzag")) {
    taken = rows / 2;
    first = taken * group.index();
    second = whole.axis - first - taken;
    runs = 2;
  }
  uint64_t row = static_cast<uint64_t>(whole.inner) * dtypeBytes(spec.inputs[0].dtype);
  int64_t outer = whole.outer, axis = whole.axis;
  return makeKernel([=](const Operands &o, RunContext &c) {
    parallelRange(c.pool, outer, rowGrain(rows * static_cast<int64_t>(row)), [=](int64_t begin, int64_t end) {
      uint64_t bytes = static_cast<uint64_t>(taken) * row;
      for (int64_t i = begin; i < end; ++i) {
        std::byte *to = o.outputs[0] + static_cast<uint64_t>(i * rows) * row;
        std::memcpy(to, o.inputs[0] + static_cast<uint64_t>(i * axis + first) * row, bytes);
        if (runs == 2)
          std::memcpy(to + bytes, o.inputs[0] + static_cast<uint64_t>(i * axis + second) * row, bytes);
        else
          std::memset(to + bytes, 0, static_cast<uint64_t>(rows - taken) * row);
      }
    });
  });
}

// ---- all_to_all

struct Parts {
  Split split, concat; // of the operand at split_dim, of a part at concat_dim
  int64_t members = 1;
  uint64_t width = 1;
  explicit Parts(const InstructionSpec &spec)
      : members(spec.integer("members")), width(dtypeBytes(spec.inputs[0].dtype)) {
    std::vector<int64_t> part = spec.inputs[0].shape;
    auto splitDim = static_cast<size_t>(spec.integer("split_dim"));
    split = splitAt(part, splitDim);
    part[splitDim] /= members;
    concat = splitAt(part, static_cast<size_t>(spec.integer("concat_dim")));
  }
  uint64_t bytes() const { return static_cast<uint64_t>(concat.outer * concat.axis * concat.inner) * width; }
  bool packs() const { return split.outer > 1; }
  bool unpacks() const { return concat.outer > 1; }
  uint64_t workspace() const {
    return workspace::allToAll(static_cast<uint64_t>(members) * bytes(), static_cast<uint64_t>(split.outer),
                               static_cast<uint64_t>(concat.outer));
  }
};

Status checkAllToAll(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptAny}}, {{"y", AcceptAny}},
                         {{"group", Text}, {"members", Int}, {"split_dim", Int}, {"concat_dim", Int}}));
  AMC_TRY(checkGroup(spec));
  const TensorSpec &x = spec.inputs[0];
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], x.dtype));
  AMC_TRY(expectAxis(spec, "split_dim", x.rank()));
  AMC_TRY(expectAxis(spec, "concat_dim", x.rank()));
  std::vector<int64_t> shape = x.shape;
  int64_t members = spec.integer("members"), &split = shape[static_cast<size_t>(spec.integer("split_dim"))];
  AMC_EXPECT(split % members == 0, "inputs[0] (x): dimension ", spec.integer("split_dim"), " is ", split,
             " and should be divisible by the ", members, " members");
  split /= members;
  int64_t &concat = shape[static_cast<size_t>(spec.integer("concat_dim"))];
  AMC_EXPECT(concat <= static_cast<int64_t>(maxTensorBytes) / members, "inputs[0] (x): dimension ",
             spec.integer("concat_dim"), " is too large");
  concat *= members;
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], shape));
  return expectWorkspace(spec, Parts(spec).workspace());
}

// Rows of `run` bytes: row (a, b) of [rows, columns] comes from, or goes to, row (b, a) of [columns, rows].
void exchangeRows(ThreadPool &pool, const std::byte *x, std::byte *y, int64_t rows, int64_t columns, uint64_t run) {
  if (run == 0)
    return;
  parallelRange(pool, rows * columns, rowGrain(static_cast<int64_t>(run)), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(y + static_cast<uint64_t>(i) * run, x + static_cast<uint64_t>(i % columns * rows + i / columns) * run,
                  run);
  });
}

std::unique_ptr<Kernel> createAllToAll(const InstructionSpec &spec, Group &group) {
  return makeKernel([&group, parts = Parts(spec)](const Operands &o, RunContext &c) {
    const std::byte *from = o.inputs[0];
    std::byte *to = o.outputs[0];
    std::byte *scratch = parts.workspace() ? o.workspace<std::byte>() : nullptr;
    if (parts.packs()) {
      // The operand is [outer, members, run]; the packed one [members, outer, run].
      uint64_t run = static_cast<uint64_t>(parts.split.axis / parts.members * parts.split.inner) * parts.width;
      exchangeRows(c.pool, from, scratch, parts.members, parts.split.outer, run);
      from = scratch;
      scratch += workspace::allToAll(static_cast<uint64_t>(parts.members) * parts.bytes(), 2, 1);
    }
    if (parts.unpacks())
      to = scratch;
    Status status = group.allToAll(from, to, parts.bytes());
    if (parts.unpacks() && status.ok()) {
      // What came is [members, outer, run]; the result [outer, members, run].
      uint64_t run = static_cast<uint64_t>(parts.concat.axis * parts.concat.inner) * parts.width;
      exchangeRows(c.pool, to, o.outputs[0], parts.concat.outer, parts.members, run);
    }
    c.failure.report(std::move(status));
  });
}

// ---- shift

Status checkShift(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptAny}}, {{"y", AcceptAny}},
                         {{"group", Text}, {"members", Int}, {"distance", Int}}));
  AMC_TRY(checkGroup(spec));
  int64_t members = spec.integer("members"), distance = spec.integer("distance");
  AMC_EXPECT(distance > -members && distance < members, "attributes.distance: is ", distance,
             " and should be between -", members, " and ", members, ", exclusive");
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  return expectShape("outputs[0]", spec.outputs[0], spec.inputs[0].shape);
}
std::unique_ptr<Kernel> createShift(const InstructionSpec &spec, Group &group) {
  int64_t members = spec.integer("members"), distance = spec.integer("distance");
  auto forward = static_cast<unsigned>((distance + members) % members);
  return makeKernel([&group, forward, bytes = spec.inputs[0].bytes](const Operands &o, RunContext &c) {
    c.failure.report(group.shift(o.inputs[0], o.outputs[0], bytes, forward));
  });
}

} // namespace

void registerCollectives(KernelRegistry &registry) {
  auto entry = [](Status (*check)(const InstructionSpec &),
                  std::unique_ptr<Kernel> (*create)(const InstructionSpec &, Group &)) {
    KernelEntry made{check, nullptr};
    made.createInGroup = create;
    return made;
  };
  registry.add("all_gather", entry(checkAllGather, createAllGather));
  registry.add("reduce_scatter", entry(checkReduceScatter, createReduceScatter));
  KernelEntry allReduce = entry(checkAllReduce, createAllReduce);
  allReduce.mayAlias = aliasElementwise;
  registry.add("take_piece", {checkTakePiece, nullptr, nullptr, false, false, createTakePiece});
  registry.add("all_reduce", allReduce);
  KernelEntry allToAll = entry(checkAllToAll, createAllToAll);
  allToAll.scratch = true;
  registry.add("all_to_all", allToAll);
  registry.add("shift", entry(checkShift, createShift));
  registry.add("wait", {checkWait, createWait});
}

} // namespace amc::rt::cpu
