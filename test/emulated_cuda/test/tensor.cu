// Tensor-core instructions for tensor.cpp: C = A B + C of one tile, A and B by ldmatrix.
#include <cstdint>

extern "C" {
// A is 16 x 16 by rows, B 8 x 16 (columns of B are its rows), C 16 x 8.
__global__ void mma_bf16(const uint32_t *a, const uint32_t *b, float *c) {
  __shared__ __align__(16) uint32_t sa[16 * 8], sb[8 * 8];
  int lane = threadIdx.x;
  for (int i = lane; i < 128; i += 32)
    sa[i] = a[i];
  for (int i = lane; i < 64; i += 32)
    sb[i] = b[i];
  __syncwarp();
  uint32_t fa[4], fb[2];
  unsigned pa = (unsigned)__cvta_generic_to_shared(&sa[(lane % 16) * 8 + lane / 16 * 4]);
  unsigned pb = (unsigned)__cvta_generic_to_shared(&sb[(lane % 8) * 8 + lane / 8 % 2 * 4]);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fa[0]), "=r"(fa[1]), "=r"(fa[2]), "=r"(fa[3]) : "r"(pa));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(fb[0]), "=r"(fb[1]) : "r"(pb));
  int row = lane / 4, column = lane % 4 * 2;
  float f[4] = {c[row * 8 + column], c[row * 8 + column + 1], c[(row + 8) * 8 + column], c[(row + 8) * 8 + column + 1]};
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(f[0]), "+f"(f[1]), "+f"(f[2]), "+f"(f[3])
               : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[0]), "r"(fb[1]));
  c[row * 8 + column] = f[0];
  c[row * 8 + column + 1] = f[1];
  c[(row + 8) * 8 + column] = f[2];
  c[(row + 8) * 8 + column + 1] = f[3];
}

// A is 16 x 8, B 8 x 8 by columns, C 16 x 8.
__global__ void mma_tf32(const uint32_t *a, const uint32_t *b, float *c) {
  int row = threadIdx.x / 4, column = threadIdx.x % 4;
  float f[4] = {0, 0, 0, 0};
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(f[0]), "+f"(f[1]), "+f"(f[2]), "+f"(f[3])
               : "r"(a[row * 8 + column]), "r"(a[(row + 8) * 8 + column]), "r"(a[row * 8 + column + 4]),
                 "r"(a[(row + 8) * 8 + column + 4]), "r"(b[row * 8 + column]), "r"(b[row * 8 + column + 4]));
  for (int i = 0; i < 4; ++i)
    c[(row + i / 2 * 8) * 8 + column * 2 + i % 2] = f[i];
}

// Transposes 8 x 8 halves.
__global__ void transpose(const uint32_t *in, uint32_t *out) {
  __shared__ __align__(16) uint32_t s[32];
  s[threadIdx.x] = in[threadIdx.x];
  __syncwarp();
  unsigned p = (unsigned)__cvta_generic_to_shared(&s[threadIdx.x % 8 * 4]);
  uint32_t f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(f) : "r"(p));
  out[threadIdx.x] = f;
}

__global__ void reductions(const int *in, int *out) {
  int x = in[threadIdx.x];
  unsigned ballot = __ballot_sync(0xffffffff, x > 0);
  int sum = __reduce_add_sync(0xffffffff, x), least = __reduce_min_sync(0xffffffff, x);
  unsigned same = __match_any_sync(0xffffffff, x);
  int up = __shfl_up_sync(0xffffffff, x, 3, 16), at = __shfl_sync(0xffffffff, x, 5, 8),
      across = __shfl_xor_sync(0xffffffff, x, 9);
  int all = __all_sync(0xffffffff, x > -100), any = __any_sync(0xffffffff, x == 7);
  int values[] = {(int)ballot, sum, least, (int)same, up, at, across, all * 2 + any};
  for (int i = 0; i < 8; ++i)
    out[i * 32 + threadIdx.x] = values[i];
}
}
