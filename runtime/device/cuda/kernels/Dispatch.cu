// Where rows go that other ranks have the experts of: expert_slots, place_rows, take_rows. Slots are given out in ascending
// order of rows; a block has a member, and looks at all rows for those that go there.
#include "Common.cuh"

using namespace amc;

namespace {

constexpr int slotThreads = 1024;

__device__ inline i64 indexAt(const void *indices, int wide, i64 at) {
  return wide ? static_cast<const i64 *>(indices)[at] : static_cast<const int *>(indices)[at];
}

} // namespace

// `each`: experts of a member. A row without a slot has members * capacity.
extern "C" __global__ void __launch_bounds__(1024)
    expert_slots(const void *ids, int wide, i64 *slots, i64 *groups, i64 rows, i64 experts, i64 each, i64 capacity,
                 u64 *failure) {
  __shared__ int counts[slotThreads / 32];
  const i64 member = blockIdx.x, none = gridDim.x * capacity;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (i64 i = threadIdx.x; i < capacity; i += slotThreads)
    groups[member * capacity + i] = each; // the barriers below stand before what others write there
  i64 filled = 0;
  for (i64 begin = 0; begin < rows; begin += slotThreads) {
    const i64 row = begin + threadIdx.x, expert = row < rows ? indexAt(ids, wide, row) : -1;
    const bool valid = expert >= 0 && expert < experts, mine = valid && expert / each == member;
    if (member == 0 && row < rows && !valid) {
      slots[row] = none;
      fail(failure, row, expert);
    }
    const unsigned all = __ballot_sync(wholeWarp, mine);
    if (lane == 0)
      counts[warp] = __popc(all);
    __syncthreads();
    i64 place = filled + __popc(all & ((1u << lane) - 1));
    for (int w = 0; w < slotThreads / 32; ++w) {
      place += w < warp ? counts[w] : 0;
      filled += counts[w];
    }
    if (mine) {
      slots[row] = place < capacity ? member * capacity + place : none;
      if (place < capacity)
        groups[member * capacity + place] = expert % each;
    }
    __syncthreads();
  }
}

// How many rows of valid experts have no slot, by one block.
extern "C" __global__ void count_dropped(const void *ids, int wide, const i64 *slots, double *dropped, i64 rows, i64 experts,
                                         i64 none) {
  __shared__ i64 partial[32];
  i64 count = 0;
  for (i64 row = threadIdx.x; row < rows; row += blockDim.x) {
    const i64 expert = indexAt(ids, wide, row);
    count += expert >= 0 && expert < experts && slots[row] == none;
  }
  count = sumOfBlock(count, partial);
  if (threadIdx.x == 0)
    *dropped = static_cast<double>(count);
}

// Rows of `inner` elements go to their slots, or come from there; a slot may be `slots`, which is none.
template <class T, bool place>
__device__ inline void moveRows(const T *x, T *y, const void *slotOf, int wide, i64 n, i64 inner, i64 slots, u64 *failure) {
  const i64 i = globalThread();
  if (i >= n)
    return;
  const i64 row = i / inner, slot = indexAt(slotOf, wide, row);
  if (slot < 0 || slot > slots)
    fail(failure, row, slot);
  const bool valid = slot >= 0 && slot < slots;
  const i64 there = slot * inner + i % inner;
  if (!place)
    y[i] = valid ? x[there] : T{};
  else if (valid)
    y[there] = x[i];
}

#define MAKE(T, suffix)                                                                                                \
  extern "C" __global__ void place_rows_##suffix(const T *x, T *y, const void *slotOf, int wide, i64 n, i64 inner,     \
                                                 i64 slots, u64 *failure) {                                            \
    moveRows<T, true>(x, y, slotOf, wide, n, inner, slots, failure);                                                   \
  }                                                                                                                    \
  extern "C" __global__ void take_rows_##suffix(const T *x, T *y, const void *slotOf, int wide, i64 n, i64 inner,      \
                                                i64 slots, u64 *failure) {                                             \
    moveRows<T, false>(x, y, slotOf, wide, n, inner, slots, failure);                                                  \
  }
AMC_FOR_WIDTHS(MAKE)
MAKE(uint4, 16)
#undef MAKE
