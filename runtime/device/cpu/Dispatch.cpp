// Where rows go that other ranks have the experts of: expert_slots, place_rows, take_rows.
//
// Slots are given out in ascending order of rows by one thread, so they do not depend on how many there are. Rows of any
// float are copied, a piece for each range of rows; two rows in one slot, which expert_slots never makes, would leave
// either. An id, or a slot, out of range is a failure at run time. No result overlaps an operand. Reference: ExpertOps.cpp.
#include "runtime/device/cpu/Indices.h"
#include "runtime/plan/Ranges.h"
#include <algorithm>
#include <array>
#include <cstring>

namespace amc::rt::cpu {
namespace {

// ---- expert_slots

Status checkExpertSlots(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec, {{"ids", AcceptIndex}}, {{"slots", AcceptI64}, {"groups", AcceptI64}, {"dropped", 1u << plan::F64}},
                         {{"experts", Int}, {"members", Int}, {"capacity", Int}}));
  const TensorSpec &ids = spec.inputs[0];
  const int64_t experts = spec.integer("experts"), members = spec.integer("members"), capacity = spec.integer("capacity");
  AMC_EXPECT(ids.rank() == 1, "inputs[0] (ids): rank is ", ids.rank(), " and should be 1");
  AMC_EXPECT(members >= 1 && experts >= members && experts % members == 0, "attributes.experts: is ", experts,
             " and should be a multiple of the ", members, " members");
  AMC_EXPECT(capacity >= 0 && capacity <= ids.shape[0] &&
                 (capacity == 0 || members <= static_cast<int64_t>(maxTensorBytes) / capacity),
             "attributes.capacity: is ", capacity, " and should be in [0, ", ids.shape[0], "]");
  AMC_TRY(expectShape("outputs[0]", spec.outputs[0], ids.shape));
  AMC_TRY(expectShape("outputs[1]", spec.outputs[1], {members * capacity}));
  return expectShape("outputs[2]", spec.outputs[2], {});
}

std::unique_ptr<Kernel> createExpertSlots(const InstructionSpec &spec) {
  const int64_t rows = spec.inputs[0].shape[0], experts = spec.integer("experts"), members = spec.integer("members"),
                capacity = spec.integer("capacity"), each = experts / members;
  const plan::DType idType = spec.inputs[0].dtype;
  return makeKernel([=](const Operands &o, RunContext &c) {
    Indices ids = Indices::of(o, 0, idType);
    int64_t *slots = o.out<int64_t>(0), *groups = o.out<int64_t>(1), dropped = 0;
    std::fill_n(groups, members * capacity, each);
    // Of some members at a time, how many slots are filled.
    constexpr int64_t atOnce = 1024;
    std::array<int64_t, atOnce> filled;
    for (int64_t first = 0; first < members; first += atOnce) {
      filled.fill(0);
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t expert = ids.raw(row), member = expert / each;
        if (expert < 0 || expert >= experts) {
          slots[row] = members * capacity;
          c.failure.report("expert", static_cast<uint64_t>(row), expert, 0, experts);
        } else if (member >= first && member < first + atOnce) {
          int64_t &next = filled[static_cast<size_t>(member - first)];
          slots[row] = next < capacity ? member * capacity + next : members * capacity;
          if (next < capacity)
            groups[slots[row]] = expert % each;
          else
            ++dropped;
          ++next;
        }
      }
    }
    *o.out<double>(2) = static_cast<double>(dropped);
  });
}

// ---- place_rows, take_rows

// Rows of `bytes`; `count` of them have a slot among `slots`.
struct SlottedRows {
  int64_t count, slots;
  uint64_t bytes;
  plan::DType slotType;
};

Status checkRows(const InstructionSpec &spec, const std::vector<AttributeRule> &attributes) {
  AMC_TRY(expectOperands(spec, {{"x", AcceptFloat}, {"slots", AcceptIndex}}, {{"y", AcceptFloat}}, attributes));
  AMC_TRY(expectDType("outputs[0]", spec.outputs[0], spec.inputs[0].dtype));
  AMC_EXPECT(spec.inputs[0].rank() >= 1 && spec.inputs[1].rank() == 1, "inputs: ranks are ", spec.inputs[0].rank(),
             " and ", spec.inputs[1].rank(), " and should be at least 1, and 1");
  return Status();
}

SlottedRows rowsFrom(const InstructionSpec &spec, const TensorSpec &slotted) {
  Split split = splitAt(slotted.shape, 0);
  return {spec.inputs[1].shape[0], split.axis, static_cast<uint64_t>(split.inner) * dtypeBytes(slotted.dtype),
          spec.inputs[1].dtype};
}

// Calls move(row, slot) for the rows that have one, others(row) for those that have none.
template <class Move, class Others>
void forEachRow(const SlottedRows &rows, const Operands &o, RunContext &c, Move move, Others others) {
  Indices slots = Indices::of(o, 1, rows.slotType);
  parallelRange(c.pool, rows.count, rowGrain(static_cast<int64_t>(rows.bytes / 4 + 1)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t slot = slots.raw(row);
      if (slot < 0 || slot > rows.slots)
        c.failure.report("slot", static_cast<uint64_t>(row), slot, 0, rows.slots + 1);
      else if (slot < rows.slots)
        move(static_cast<uint64_t>(row), static_cast<uint64_t>(slot));
      else
        others(static_cast<uint64_t>(row));
    }
  });
}

Status checkPlaceRows(const InstructionSpec &spec) {
  AMC_TRY(checkRows(spec, {{"rows", Int}}));
  std::vector<int64_t> shape = spec.inputs[0].shape;
  AMC_EXPECT(shape[0] == spec.inputs[1].shape[0], "inputs: have ", shape[0], " rows and ", spec.inputs[1].shape[0],
             " slots and should have as many");
  shape[0] = spec.integer("rows");
  return expectShape("outputs[0]", spec.outputs[0], shape);
}

std::unique_ptr<Kernel> createPlaceRows(const InstructionSpec &spec) {
  return makeKernel([rows = rowsFrom(spec, spec.outputs[0])](const Operands &o, RunContext &c) {
    parallelRange(c.pool, rows.slots, rowGrain(static_cast<int64_t>(rows.bytes / 4 + 1)), [&](int64_t begin, int64_t end) {
      std::memset(o.outputs[0] + static_cast<uint64_t>(begin) * rows.bytes, 0, static_cast<uint64_t>(end - begin) * rows.bytes);
    });
    forEachRow(
        rows, o, c,
        [&](uint64_t row, uint64_t slot) {
          std::memcpy(o.outputs[0] + slot * rows.bytes, o.inputs[0] + row * rows.bytes, rows.bytes);
        },
        [](uint64_t) {});
  });
}

Status checkTakeRows(const InstructionSpec &spec) {
  AMC_TRY(checkRows(spec, {}));
  std::vector<int64_t> shape = spec.inputs[0].shape;
  shape[0] = spec.inputs[1].shape[0];
  return expectShape("outputs[0]", spec.outputs[0], shape);
}

std::unique_ptr<Kernel> createTakeRows(const InstructionSpec &spec) {
  return makeKernel([rows = rowsFrom(spec, spec.inputs[0])](const Operands &o, RunContext &c) {
    forEachRow(
        rows, o, c,
        [&](uint64_t row, uint64_t slot) {
          std::memcpy(o.outputs[0] + row * rows.bytes, o.inputs[0] + slot * rows.bytes, rows.bytes);
        },
        [&](uint64_t row) { std::memset(o.outputs[0] + row * rows.bytes, 0, rows.bytes); });
  });
}

} // namespace

void registerDispatch(KernelRegistry &registry) {
  registry.add("expert_slots", {checkExpertSlots, createExpertSlots});
  registry.add("place_rows", {checkPlaceRows, createPlaceRows});
  registry.add("take_rows", {checkTakeRows, createTakeRows});
}

} // namespace amc::rt::cpu
