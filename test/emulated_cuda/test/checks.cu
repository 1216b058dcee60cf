// Kernels for checks.cpp: each as it should be, and with one mistake.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline.h>

enum Mutant { None, NoFirstBarrier, NoSecondBarrier, DivergentBarrier, HalfWarpShuffle, IndexOutOfRange };

// Sums of rows of 256 values, one block of 256 threads each.
template <Mutant M> __device__ void sumRows(const float *in, float *out) {
  __shared__ float partial[8];
  __shared__ float total;
  float x = in[blockIdx.x * 256 + threadIdx.x];
  for (int i = 16; i; i /= 2)
    if (M != HalfWarpShuffle || threadIdx.x % 32 < 16)
      x += __shfl_down_sync(0xffffffff, x, i);
  if (threadIdx.x % 32 == 0)
    partial[threadIdx.x / 32 + (M == IndexOutOfRange)] = x;
  if (M == DivergentBarrier) {
    if (threadIdx.x % 32 < 16)
      __syncthreads();
  } else if (M != NoFirstBarrier) {
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int i = 0; i < 8; ++i)
      sum += partial[i];
    total = sum;
  }
  if (M != NoSecondBarrier)
    __syncthreads();
  if (threadIdx.x == 255)
    out[blockIdx.x] = total;
}

extern "C" {
__global__ void sum_rows(const float *in, float *out) { sumRows<None>(in, out); }
__global__ void sum_no_first(const float *in, float *out) { sumRows<NoFirstBarrier>(in, out); }
__global__ void sum_no_second(const float *in, float *out) { sumRows<NoSecondBarrier>(in, out); }
__global__ void sum_divergent(const float *in, float *out) { sumRows<DivergentBarrier>(in, out); }
__global__ void sum_half_warp(const float *in, float *out) { sumRows<HalfWarpShuffle>(in, out); }
__global__ void sum_out_of_range(const float *in, float *out) { sumRows<IndexOutOfRange>(in, out); }

__global__ void add_one(float *x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n)
    x[i] += 1;
}
__global__ void add_one_past(float *x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n)
    x[i] = 1;
}
__global__ void copy4(const float *in, float *out, int shift) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  reinterpret_cast<float4 *>(out)[i] = *reinterpret_cast<const float4 *>(in + 4 * i + shift);
}
__global__ void count_atomic(int *counter) { atomicAdd(counter, 1); }
__global__ void count_plain(int *counter) { *counter += 1; }
__global__ void neighbours(int *x) { // each block reads what the next one writes
  x[blockIdx.x] = 1;
  x[gridDim.x + blockIdx.x] = x[(blockIdx.x + 1) % gridDim.x];
}
__global__ void one_block_exchange(int *x, int barrier) {
  x[threadIdx.x] = threadIdx.x;
  if (barrier)
    __syncthreads();
  x[blockDim.x + threadIdx.x] = x[(threadIdx.x + 1) % blockDim.x];
}
__global__ void warp_exchange(int *out, int sync) {
  __shared__ int s[32];
  s[threadIdx.x] = threadIdx.x;
  if (sync)
    __syncwarp();
  out[threadIdx.x] = s[31 - threadIdx.x];
}
// The last block to finish sums what the others left: ordered by fences and an atomic.
__global__ void last_block(const float *in, float *partial, unsigned *counter, float *out, int fence) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = in[blockIdx.x];
    if (fence)
      __threadfence();
    last = atomicAdd(counter, 1) == gridDim.x - 1;
    if (fence)
      __threadfence();
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    float sum = 0;
    for (int i = 0; i < gridDim.x; ++i)
      sum += partial[i];
    *out = sum;
    *counter = 0;
  }
}
__global__ void uninitialised_shared(int *out, int all) {
  __shared__ int s[64];
  if (all || threadIdx.x < 32)
    s[threadIdx.x] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = s[63 - threadIdx.x];
}
__global__ void one_shared_variable(int *out, int last) {
  __shared__ int s[63];
  for (int i = threadIdx.x; i <= last; i += blockDim.x)
    s[i] = i;
  __syncthreads();
  out[threadIdx.x] = s[last - threadIdx.x];
}
__global__ void dynamic_shared(int *out) {
  extern __shared__ int d[];
  for (int i = threadIdx.x; i < 16384; i += blockDim.x)
    d[i] = i;
  __syncthreads();
  out[threadIdx.x] = d[16383 - threadIdx.x];
}
__global__ void copy_async(const int *in, int *out, int wait) {
  __shared__ int s[256];
  __pipeline_memcpy_async(&s[threadIdx.x], &in[threadIdx.x], 4);
  __pipeline_commit();
  if (wait)
    __pipeline_wait_prior(0);
  __syncthreads();
  out[threadIdx.x] = s[255 - threadIdx.x];
}
__global__ void spin(volatile int *x) {
  while (*x == 0)
    ;
}
__global__ void fill(int *x, int value) { x[blockIdx.x * blockDim.x + threadIdx.x] = value; }
__global__ void scale(const int *in, int *out) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = in[i] * 3 + 1;
}
__global__ void note_order(int *next, int *order) { order[atomicAdd(next, 1)] = blockIdx.x; }
__global__ void asserts(int *x) {
  if (*x != 7)
    asm volatile("trap;");
}
// A spin lock within a warp, which needs lanes to advance independently.
__global__ void spin_lock(int *lock, int *count) {
  for (bool done = false; !done;) {
    if (atomicCAS(lock, 0, 1) == 0) {
      __threadfence();
      atomicAdd(count, 1);
      __threadfence();
      atomicExch(lock, 0);
      done = true;
    }
  }
}
__global__ void named_barriers(int *out, int wrong) { // warp 0 makes what warp 1 takes; 2 and 3 among themselves
  __shared__ int s[64];
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (warp == 0)
    s[lane] = lane;
  if (warp == 2)
    s[32 + lane] = 2 * lane;
  asm volatile("bar.sync %0, 64;" ::"r"(warp / 2 + 1) : "memory");
  if (warp == 1)
    out[lane] = s[(wrong ? 32 : 0) + 31 - lane];
  if (warp == 3)
    out[32 + lane] = s[32 + 31 - lane];
}
}
