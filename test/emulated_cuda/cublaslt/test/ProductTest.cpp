// Results: against a loop in double precision, and bit for bit against the order of addition that each algorithm
// promises.
#include "test/emulated_cuda/cublaslt/test/Harness.h"
#include <algorithm>

using namespace amc::emulated;
using namespace amc::emulated::test;

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

TEST(Worst, NanInfinityAndSizesNeverPass) {
  double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(worst({1, 2}, {1, 2}, {0, 0}), 0);
  EXPECT_EQ(worst({1.5}, {1}, {0.5}), 1);
  EXPECT_FALSE(worst({1.5}, {1}, {0.25}) <= 1);
  for (double bad : {nan, infinity}) {
    EXPECT_FALSE(worst({0, bad, 0}, {0, 1, 0}, {1, 1, 1}) <= 1);
    EXPECT_FALSE(worst({0, 1, 0}, {0, bad, 0}, {1, 1, 1}) <= 1);
  }
  EXPECT_FALSE(worst({1}, {1, 1}, {1, 1}) <= 1);
}

// Matrices of a batch in memory, with padding that must neither be read nor written.
struct Placed {
  uint64_t rows, cols;
  bool rowMajor;
  int64_t ld, stride;
  int32_t batch;
  size_t at(int32_t i, uint64_t row, uint64_t col) const {
    return i * stride + (rowMajor ? row * ld + col : col * ld + row);
  }
  size_t elements() const { return at(batch - 1, rows - 1, cols - 1) + 1; }
  void describe(cublasLtMatrixLayout_t layout) const {
    Descriptors::setLayout(layout, CUBLASLT_MATRIX_LAYOUT_ORDER,
                           int32_t(rowMajor ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL));
    Descriptors::setLd(layout, ld);
    Descriptors::setBatch(layout, batch, stride);
  }
  // NaN where no element is.
  template <class E> std::vector<E> fill(const std::vector<double> &values) const {
    std::vector<E> all(elements(), element<E>(nan));
    size_t next = 0;
    for (int32_t i = 0; i < batch; ++i)
      for (uint64_t row = 0; row < rows; ++row)
        for (uint64_t col = 0; col < cols; ++col)
          all[at(i, row, col)] = element<E>(values[next++]);
    return all;
  }
};

Placed place(uint64_t rows, uint64_t cols, bool rowMajor, int64_t padding, int32_t batch) {
  int64_t ld = (rowMajor ? cols : rows) + padding;
  return {rows, cols, rowMajor, ld, ld * int64_t(rowMajor ? rows : cols) + padding, batch};
}

struct Shape {
  uint64_t m, n, k;
  bool transA, transB, rowA, rowB, rowD;
  int64_t padding;
  int32_t batch;
  double alpha, beta;
};

void PrintTo(const Shape &s, std::ostream *out) {
  *out << s.m << "x" << s.n << "x" << s.k << (s.transA ? " T" : " N") << (s.transB ? "T" : "N") << " rows " << s.rowA
       << s.rowB << s.rowD << " padding " << s.padding << " batch " << s.batch;
}

class Products : public CublasLt, public testing::WithParamInterface<Shape> {
protected:
  // Every algorithm that is offered, and none.
  template <class E, class O> void compareAll(double inEpsilon, double outEpsilon) {
    const Shape &s = GetParam();
    Placed a = place(s.transA ? s.k : s.m, s.transA ? s.m : s.k, s.rowA, s.padding, s.batch),
           b = place(s.transB ? s.n : s.k, s.transB ? s.k : s.n, s.rowB, s.padding, s.batch),
           d = place(s.m, s.n, s.rowD, s.padding, s.batch);
    std::vector<E> aValues = a.fill<E>(uniform(s.batch * a.rows * a.cols, 1)),
                   bValues = b.fill<E>(uniform(s.batch * b.rows * b.cols, 2));
    std::vector<O> dValues = d.fill<O>(uniform(s.batch * d.rows * d.cols, 3));
    std::vector<double> want = numbers(dValues), bounds(want.size());
    std::vector<bool> padding(want.size());
    for (size_t j = 0; j < want.size(); ++j)
      if ((padding[j] = std::isnan(want[j])))
        want[j] = 0;
    for (int32_t i = 0; i < s.batch; ++i)
      for (uint64_t row = 0; row < s.m; ++row)
        for (uint64_t col = 0; col < s.n; ++col) {
          double sum = 0, magnitude = 0;
          for (uint64_t x = 0; x < s.k; ++x) {
            double product = double(widen(aValues[s.transA ? a.at(i, x, row) : a.at(i, row, x)])) *
                             double(widen(bValues[s.transB ? b.at(i, col, x) : b.at(i, x, col)]));
            sum += product;
            magnitude += std::fabs(product);
          }
          double &to = want[d.at(i, row, col)];
          magnitude = std::fabs(s.alpha) * magnitude + std::fabs(s.beta * to);
          to = s.alpha * sum + s.beta * to;
          bounds[d.at(i, row, col)] = (s.k + 3) * inEpsilon * magnitude + outEpsilon * (std::fabs(to) + 1e-30);
        }
    Descriptors with(typeOf<E>(), typeOf<O>(), s.m, s.n, s.k, s.transA, s.transB);
    a.describe(with.a);
    b.describe(with.b);
    d.describe(with.d);
    auto offered = with.choose(handle);
    ASSERT_FALSE(offered.empty());
    Buffer<E> aBuffer(aValues), bBuffer(bValues);
    for (size_t i = 0; i <= offered.size(); ++i) {
      Buffer<O> dBuffer(dValues);
      ASSERT_EQ(run(with, aBuffer.at(), bBuffer.at(), dBuffer.at(), dBuffer.at(),
                    i < offered.size() ? &offered[i] : nullptr, s.alpha, s.beta),
                CUBLAS_STATUS_SUCCESS);
      std::vector<double> got = numbers(dBuffer.read());
      for (size_t j = 0; j < got.size(); ++j)
        if (padding[j]) {
          EXPECT_TRUE(std::isnan(got[j])) << j;
          got[j] = 0;
        }
      EXPECT_LE(worst(got, want, bounds), 1) << "algorithm " << i;
    }
  }
};

TEST_P(Products, Fp32) { compareAll<float, float>(0x1p-24, 0x1p-24); }
TEST_P(Products, Bf16) { compareAll<BFloat16, BFloat16>(0x1p-24, 0x1p-8); }
TEST_P(Products, Bf16ToFp32) { compareAll<BFloat16, float>(0x1p-24, 0x1p-24); }
TEST_P(Products, F16) { compareAll<Half, Half>(0x1p-24, 0x1p-10); }
TEST_P(Products, F16ToFp32) { compareAll<Half, float>(0x1p-24, 0x1p-24); }
TEST_P(Products, F64) { compareAll<double, double>(0x1p-53, 0x1p-53); }

INSTANTIATE_TEST_SUITE_P(Shapes, Products,
                         testing::Values(Shape{1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0},       //
                                         Shape{16, 6, 8, 0, 0, 0, 0, 0, 0, 1, 1, 0},      // one tile
                                         Shape{17, 7, 9, 1, 0, 0, 0, 0, 0, 1, 2, 0.5},    // and a bit
                                         Shape{40, 24, 520, 0, 1, 0, 0, 0, 8, 1, 1, 0},   // parts of k, padding
                                         Shape{32, 200, 264, 1, 1, 0, 0, 0, 0, 1, -1, 1}, // two panels
                                         Shape{136, 16, 64, 1, 0, 0, 0, 0, 8, 3, 1, 0},   // blocks of rows, a batch
                                         Shape{24, 32, 40, 0, 0, 1, 1, 1, 8, 2, 0.5, 2},  // rows
                                         Shape{24, 32, 300, 1, 1, 1, 0, 1, 0, 1, 1, 0},   // mixed
                                         Shape{13, 11, 300, 0, 1, 0, 1, 0, 3, 2, 1, 1})); // nothing is aligned

// The order of addition, of each algorithm by itself.
class Order : public CublasLt {
protected:
  static constexpr uint64_t m = 16, n = 8, k = 520;
  std::vector<double> aValues = uniform(m * k, 4), bValues = uniform(k * n, 5);
  float productOf(uint64_t i, uint64_t j, uint64_t x, float sum) const {
    return std::fma(float(aValues[i + x * m]), float(bValues[x + j * k]), sum);
  }
  // Chains of `length`, their sums added ascending.
  std::vector<double> expected(uint64_t length) const {
    std::vector<double> want(m * n);
    for (uint64_t j = 0; j < n; ++j)
      for (uint64_t i = 0; i < m; ++i) {
        float sum = 0;
        for (uint64_t begin = 0; begin < k; begin += length) {
          float chain = 0;
          for (uint64_t x = begin; x < std::min(begin + length, k); ++x)
            chain = productOf(i, j, x, chain);
          sum += chain;
        }
        want[i + j * m] = sum;
      }
    return want;
  }
};

TEST_F(Order, IsWhatTheAlgorithmsPromise) {
  Descriptors with(CUDA_R_32F, CUDA_R_32F, m, n, k);
  Buffer<float> a(elements<float>(aValues)), b(elements<float>(bValues)), d(std::vector<float>(m * n));
  auto offered = with.choose(handle);
  ASSERT_EQ(offered.size(), 4u); // k is long: 4 parts, 2 parts, blocks, a chain
  uint64_t lengths[] = {130, 260, 128, k};
  for (size_t i = 0; i < offered.size(); ++i) {
    EXPECT_EQ(offered[i].workspaceSize, i == 0 ? 4 * m * n * 4 : i == 1 ? 2 * m * n * 4 : 0);
    ASSERT_EQ(run(with, a.at(), b.at(), d.at(), d.at(), &offered[i]), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(numbers(d.read()), expected(lengths[i])) << i;
  }
  EXPECT_NE(expected(k), expected(128)); // or the test would say nothing
}

// beta = 0: C is not read, so that its NaN does no harm; of an alpha and beta on the device it might be.
TEST_F(CublasLt, ScalesOnTheDevice) {
  Descriptors with(CUDA_R_32F, CUDA_R_32F, 4, 4, 4);
  Buffer<float> a(elements<float>(uniform(16, 6))), b(elements<float>(uniform(16, 7))), scales({2, 0}),
      c(std::vector<float>(16, float(nan))), host(std::vector<float>(16)), onDevice(std::vector<float>(16));
  ASSERT_EQ(run(with, a.at(), b.at(), c.at(), host.at(), nullptr, 2, 0), CUBLAS_STATUS_SUCCESS);
  with.setDesc(CUBLASLT_MATMUL_DESC_POINTER_MODE, int32_t(CUBLASLT_POINTER_MODE_DEVICE));
  ASSERT_EQ(cublasLtMatmul(handle, with.desc, scales.at(0), a.at(), with.a, b.at(), with.b, scales.at(1), c.at(),
                           with.d, onDevice.at(), with.d, nullptr, nullptr, 0, device.stream),
            CUBLAS_STATUS_SUCCESS);
  MUST(cuStreamSynchronize(device.stream));
  EXPECT_EQ(numbers(host.read()), numbers(onDevice.read()));
  EXPECT_FALSE(std::isnan(host.read()[0]));
}

// TF32 is refused, with a finding, unless the environment asks for it.
TEST_F(CublasLt, Tf32HasToBeAskedFor) {
  Descriptors with(CUDA_R_32F, CUDA_R_32F, 4, 4, 4);
  with.setDesc(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, int32_t(CUBLAS_COMPUTE_32F_FAST_TF32));
  std::vector<float> one(16, 0), almost(16, 0);
  one[0] = 1;
  almost[0] = 1 + 0x1p-12f;
  Buffer<float> a(one), b(almost), d(one);
  EXPECT_EQ(run(with, a.at(), b.at(), d.at(), d.at()), CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_NE(takeFindings().find("TF32"), std::string::npos);
  setenv("EMULATED_CUBLASLT_TF32", "1", 1);
  EXPECT_EQ(run(with, a.at(), b.at(), d.at(), d.at()), CUBLAS_STATUS_SUCCESS);
  unsetenv("EMULATED_CUBLASLT_TF32");
  EXPECT_EQ(d.read()[0], 1);
}

// A product in a graph runs once for each launch, on what is in memory then.
TEST_F(CublasLt, CapturedProductsRunAgain) {
  Descriptors with(CUDA_R_32F, CUDA_R_32F, 2, 2, 2);
  Buffer<float> a({1, 0, 0, 1}), b({1, 2, 3, 4}), d({1, 1, 1, 1});
  float one = 1;
  MUST(cuStreamBeginCapture(device.stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  ASSERT_EQ(cublasLtMatmul(handle, with.desc, &one, a.at(), with.a, b.at(), with.b, &one, d.at(), with.d, d.at(),
                           with.d, nullptr, nullptr, 0, device.stream),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_FALSE(with.choose(handle).empty()); // may be asked during a capture
  CUgraph graph;
  CUgraphExec launchable;
  MUST(cuStreamEndCapture(device.stream, &graph));
  MUST(cuGraphInstantiate(&launchable, graph, 0));
  for (int i = 0; i < 2; ++i)
    MUST(cuGraphLaunch(launchable, device.stream));
  MUST(cuStreamSynchronize(device.stream));
  EXPECT_EQ(d.read(), (std::vector<float>{3, 5, 7, 9}));
  MUST(cuGraphExecDestroy(launchable));
  MUST(cuGraphDestroy(graph));
}

} // namespace
