// What the runtime's kernels have in common. Their functions are extern "C" and named after what they do and the type they do
// it for (Registry.h: suffixOf). Sums are made in an order that shapes fix; nothing is added atomically.
#ifndef AMC_RUNTIME_DEVICE_CUDA_KERNELS_COMMON_CUH
#define AMC_RUNTIME_DEVICE_CUDA_KERNELS_COMMON_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace amc {

using i64 = long long;
using u64 = unsigned long long;

// Where threads of a grid of one dimension stand.
__device__ inline i64 globalThread() { return static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; }

// What is stored, as what is computed with; and back, rounded to nearest even.
template <class T> struct Wide { using type = float; };
template <> struct Wide<double> { using type = double; };
template <class T> using WideOf = typename Wide<T>::type;
__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float widen(__half x) { return __half2float(x); }
template <class T> __device__ inline T narrow(WideOf<T> x);
template <> __device__ inline float narrow<float>(float x) { return x; }
template <> __device__ inline double narrow<double>(double x) { return x; }
template <> __device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ inline __half narrow<__half>(float x) { return __float2half_rn(x); }

// A value outside of [low, high): Kernel.h's Failures has the other side. The first element is kept.
__device__ inline void fail(u64 *slot, i64 element, i64 value) {
  const u64 at = element < 0xfffffffell ? static_cast<u64>(element) : 0xfffffffeull;
  const int shown = value > 2147483647ll ? 2147483647 : value < -2147483648ll ? -2147483647 - 1 : static_cast<int>(value);
  atomicMin(slot, at << 32 | static_cast<unsigned>(shown));
}

constexpr unsigned wholeWarp = 0xffffffff;

// The sum over all threads of a block of blockDim.x (a multiple of 32) threads, in a fixed tree, for all of them. `partial`
// has room for 32 values and may be used again behind the next barrier.
template <class T> __device__ inline T sumOfBlock(T x, T *partial) {
  for (int step = 16; step > 0; step /= 2)
    x += __shfl_xor_sync(wholeWarp, x, step);
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
  if (threadIdx.x % 32 == 0)
    partial[warp] = x;
  __syncthreads();
  x = static_cast<int>(threadIdx.x % 32) < warps ? partial[threadIdx.x % 32] : T(0);
  for (int step = 16; step > 0; step /= 2)
    x += __shfl_xor_sync(wholeWarp, x, step);
  __syncthreads();
  return x;
}

template <class T> __device__ inline T maxOfBlock(T x, T *partial) {
  for (int step = 16; step > 0; step /= 2)
    x = max(x, __shfl_xor_sync(wholeWarp, x, step));
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
  if (threadIdx.x % 32 == 0)
    partial[warp] = x;
  __syncthreads();
  x = partial[static_cast<int>(threadIdx.x % 32) < warps ? threadIdx.x % 32 : 0];
  for (int step = 16; step > 0; step /= 2)
    x = max(x, __shfl_xor_sync(wholeWarp, x, step));
  __syncthreads();
  return x;
}

} // namespace amc

// One function for each type: AMC_FOR_DATA(MAKE) expands MAKE(type, suffix).
#define AMC_FOR_DATA(MAKE) MAKE(float, f32) MAKE(__nv_bfloat16, bf16)
#define AMC_FOR_FLOATS(MAKE) AMC_FOR_DATA(MAKE) MAKE(__half, f16) MAKE(double, f64)
#define AMC_FOR_INTEGERS(MAKE)                                                                                         \
  MAKE(long long, i64) MAKE(int, i32) MAKE(short, i16) MAKE(signed char, i8)                                           \
  MAKE(unsigned long long, u64) MAKE(unsigned, u32) MAKE(unsigned short, u16) MAKE(unsigned char, u8)
// By width, where bytes are only moved.
#define AMC_FOR_WIDTHS(MAKE) MAKE(unsigned char, 1) MAKE(unsigned short, 2) MAKE(unsigned, 4) MAKE(unsigned long long, 8)

#endif
