// What a warp computes together: tensor-core products against plain loops, shuffles, votes and reductions.
#include "test/emulated_cuda/test/Harness.h"
#include <bit>

namespace {

class Tensor : public Emulated {
protected:
  void SetUp() override {
    Emulated::SetUp();
    module = load(compiled("tensor"));
  }
  CUmodule module;
};

uint16_t toBf16(float x) { return std::bit_cast<uint32_t>(x) >> 16; }

TEST_F(Tensor, Bf16Product) {
  std::vector<uint16_t> a(256), b(128);
  std::vector<float> c(128), want(128);
  auto valueA = [](int r, int k) { return (float)((r * 5 + k * 3) % 17 - 8); };
  auto valueB = [](int k, int n) { return (float)((k * 7 + n * 2) % 13 - 6) / 4; };
  for (int r = 0; r < 16; ++r)
    for (int k = 0; k < 16; ++k)
      a[r * 16 + k] = toBf16(valueA(r, k));
  for (int n = 0; n < 8; ++n)
    for (int k = 0; k < 16; ++k)
      b[n * 16 + k] = toBf16(valueB(k, n));
  for (int r = 0; r < 16; ++r)
    for (int n = 0; n < 8; ++n) {
      float sum = c[r * 8 + n] = r - n;
      for (int k = 0; k < 16; ++k)
        sum += valueA(r, k) * valueB(k, n);
      want[r * 8 + n] = sum; // exact: small multiples of 1/4
    }
  CUdeviceptr pa = upload(a), pb = upload(b), pc = upload(c);
  OK(run(function(module, "mma_bf16"), 1, 32, pa, pb, pc));
  EXPECT_EQ(difference(download<float>(pc, 128), want, 0), "");
}

TEST_F(Tensor, Tf32Product) {
  std::vector<float> a(128), b(64), want(128);
  for (size_t i = 0; i < a.size(); ++i)
    a[i] = (float)(i * 11 % 31) - 15;
  for (size_t i = 0; i < b.size(); ++i)
    b[i] = (float)(i * 13 % 29) / 8;
  for (int r = 0; r < 16; ++r)
    for (int n = 0; n < 8; ++n)
      for (int k = 0; k < 8; ++k)
        want[r * 8 + n] += a[r * 8 + k] * b[n * 8 + k];
  CUdeviceptr pa = upload(a), pb = upload(b), pc = allocate(512);
  OK(run(function(module, "mma_tf32"), 1, 32, pa, pb, pc));
  EXPECT_EQ(difference(download<float>(pc, 128), want, 0), "");
}

TEST_F(Tensor, Transposes) {
  std::vector<uint16_t> in(64), want(64);
  for (int r = 0; r < 8; ++r)
    for (int c = 0; c < 8; ++c)
      in[r * 8 + c] = want[c * 8 + r] = r * 100 + c;
  CUdeviceptr from = upload(in), to = allocate(128);
  OK(run(function(module, "transpose"), 1, 32, from, to));
  EXPECT_EQ(download<uint16_t>(to, 64), want);
}

TEST_F(Tensor, WarpReductions) {
  std::vector<int> in(32);
  for (int i = 0; i < 32; ++i)
    in[i] = i * 5 % 11 - 4;
  CUdeviceptr from = upload(in), to = allocate(8 * 32 * 4);
  OK(run(function(module, "reductions"), 1, 32, from, to));
  std::vector<int> got = download<int>(to, 256);
  unsigned ballot = 0;
  int sum = 0, least = 100, any = 0;
  for (int i = 0; i < 32; ++i) {
    ballot |= unsigned(in[i] > 0) << i;
    sum += in[i];
    least = std::min(least, in[i]);
    any |= in[i] == 7;
  }
  for (int i = 0; i < 32; ++i) {
    unsigned same = 0;
    for (int j = 0; j < 32; ++j)
      same |= unsigned(in[i] == in[j]) << j;
    int want[] = {(int)ballot,       sum,       least,  (int)same, in[i % 16 < 3 ? i : i - 3],
                  in[i / 8 * 8 + 5], in[i ^ 9], 2 + any};
    for (int k = 0; k < 8; ++k)
      EXPECT_EQ(got[k * 32 + i], want[k]) << "value " << k << " of lane " << i;
  }
}

TEST_F(Tensor, WantsTheWholeWarp) {
  CUdeviceptr x = upload(std::vector<int>(256, 0));
  EXPECT_EQ(run(function(module, "mma_tf32"), 1, 16, x, x, x), CUDA_ERROR_LAUNCH_FAILED);
  std::string text = takeFindings();
  EXPECT_NE(text.find("all lanes of the warp"), std::string::npos) << text;
  renewContext();
}

} // namespace
