// expert_slots, place_rows and take_rows against their definitions.
#include "runtime_support.h"

namespace amc::rt::test {
namespace {

using Values = std::vector<double>;

Call slotsOf(const Array &ids, int64_t experts, int64_t members, int64_t capacity) {
  uint64_t slots = static_cast<uint64_t>(members * capacity);
  return {"expert_slots",
          {ids},
          {{plan::I64, ids.shape}, {plan::I64, {slots}}, {plan::F64, {}}},
          {attribute("capacity", capacity), attribute("experts", experts), attribute("members", members)},
          0,
          {}};
}

// Six experts of three members: rows in order, an empty slot has no expert, the third row for member 1 is dropped.
TEST(RuntimeDispatch, SlotsFillInOrderOfRows) {
  for (plan::DType dtype : {plan::I64, plan::I32}) {
    Array ids = array(dtype, {7}, {2, 0, 3, 5, 2, 1, 0});
    expectCall(slotsOf(ids, 6, 3, 2), {{2, 0, 3, 4, 6, 1, 6}, {0, 1, 0, 1, 1, 2}, {2}}, 0);
    expectCall(slotsOf(ids, 6, 3, 7),
               {{7, 0, 8, 14, 9, 1, 2}, {0, 1, 0, 2, 2, 2, 2, 0, 1, 0, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2}, {0}}, 0);
    expectCall(slotsOf(ids, 6, 3, 0), {Values(7, 0), {}, {7}}, 0);
  }
  // More members than are counted at once.
  Array many = randomIndices(plan::I64, {5000}, 3, 0, 2500);
  Values slots, groups(2500 * 2, 1), filled(2500);
  double dropped = 0;
  for (double id : many.values) {
    auto member = static_cast<size_t>(id);
    bool fits = filled[member] < 2;
    slots.push_back(fits ? id * 2 + filled[member]++ : 5000);
    if (fits)
      groups[static_cast<size_t>(slots.back())] = 0;
    dropped += !fits;
  }
  EXPECT_GT(dropped, 0);
  expectCall(slotsOf(many, 2500, 2500, 2), {slots, groups, {dropped}}, 0);
}

TEST(RuntimeDispatch, RowsGoAndComeBack) {
  const uint64_t rows = 900, slots = 1300, width = 37;
  Array where = array(plan::I64, {rows}, Values(rows));
  for (uint64_t i = 0; i < rows; ++i) // no two alike, every seventh nowhere
    where.values[i] = static_cast<double>(i % 7 == 0 ? slots : i * 571 % slots);
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16, plan::F16})
    for (const Shape &tail : {Shape{width}, Shape{}, Shape{3, 5}}) {
      Shape near{rows}, far{slots};
      near.insert(near.end(), tail.begin(), tail.end());
      far.insert(far.end(), tail.begin(), tail.end());
      const uint64_t each = elements(tail);
      Array x = random(dtype, near, 1), y = random(dtype, far, 2);
      Values placed(elements(far)), taken(elements(near));
      for (uint64_t i = 0; i < rows; ++i)
        for (uint64_t k = 0; where.values[i] < static_cast<double>(slots) && k < each; ++k) {
          uint64_t at = static_cast<uint64_t>(where.values[i]) * each + k;
          placed[at] = x.values[i * each + k];
          taken[i * each + k] = y.values[at];
        }
      expectCall({"place_rows", {x, where}, {{dtype, far}}, {attribute("rows", int64_t(slots))}, 0, {}}, {placed}, 0);
      expectCall({"take_rows", {y, where}, {{dtype, near}}, {}, 0, {}}, {taken}, 0);
    }
}

TEST(RuntimeDispatch, WhatIsOutOfRangeIsSaid) {
  Outcome bad = run(slotsOf(array(plan::I64, {3}, {1, -1, 4}), 4, 2, 3));
  ASSERT_FALSE(bad.status.ok());
  EXPECT_NE(bad.status.message().find("expert -1 at element 1 should be in [0, 4)"), std::string::npos) << bad.status.message();
  bad = run({"take_rows", {random(plan::F32, {4, 2}, 1), array(plan::I64, {2}, {4, 5})}, {{plan::F32, {2, 2}}}, {}, 0, {}});
  ASSERT_FALSE(bad.status.ok());
  EXPECT_NE(bad.status.message().find("slot 5 at element 1 should be in [0, 5)"), std::string::npos) << bad.status.message();
}

} // namespace
} // namespace amc::rt::test
