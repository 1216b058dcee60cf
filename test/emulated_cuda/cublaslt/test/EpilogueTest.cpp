// Epilogues against double precision: what goes to D, to aux and to a bias gradient.
#include "test/emulated_cuda/cublaslt/test/Harness.h"
#include <functional>

using namespace amc::emulated;
using namespace amc::emulated::test;

namespace {

double gelu(double v) { return 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))); }
double geluSlope(double v) { return (gelu(v + 1e-5) - gelu(v - 1e-5)) / 2e-5; }

// fp32, 20 x 10 x 12, of which everything before the epilogue is computed here.
class Epilogue : public CublasLt {
protected:
  static constexpr uint64_t m = 20, n = 10, k = 12;
  static constexpr int64_t maskLd = 128, auxLd = 24;
  std::vector<double> a = uniform(m * k, 1), b = uniform(k * n, 2), bias = uniform(m, 3), pre = uniform(auxLd * n, 4);
  Descriptors with{CUDA_R_32F, CUDA_R_32F, m, n, k};
  Buffer<float> aBuffer{elements<float>(a)}, bBuffer{elements<float>(b)}, biasBuffer{elements<float>(bias)},
      nBuffer{std::vector<float>(n)}, preBuffer{elements<float>(pre)}, dBuffer{std::vector<float>(m * n)};
  Buffer<uint8_t> maskBuffer{std::vector<uint8_t>(maskLd / 8 * n, 0xaa)};

  double sum(uint64_t i, uint64_t j) const {
    double total = 0;
    for (uint64_t x = 0; x < k; ++x)
      total += double(float(a[i + x * m])) * double(float(b[x + j * k]));
    return total;
  }
  double biased(uint64_t i, uint64_t j) const { return sum(i, j) + double(float(bias[i])); }
  double preAt(uint64_t i, uint64_t j) const { return double(float(pre[i + j * auxLd])); }

  void set(uint32_t epilogue, void *biasPointer, void *aux, int64_t ld) {
    EXPECT_EQ(with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue), CUBLAS_STATUS_SUCCESS);
    with.setDesc(CUBLASLT_MATMUL_DESC_BIAS_POINTER, biasPointer);
    with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux);
    with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, ld);
  }
  void expectD(const std::function<double(uint64_t, uint64_t)> &want) {
    ASSERT_EQ(run(with, aBuffer.at(), bBuffer.at(), dBuffer.at(), dBuffer.at()), CUBLAS_STATUS_SUCCESS);
    std::vector<double> all;
    for (uint64_t j = 0; j < n; ++j)
      for (uint64_t i = 0; i < m; ++i)
        all.push_back(want(i, j));
    expectNear(numbers(dBuffer.read()), all);
  }
  static void expectNear(const std::vector<double> &got, const std::vector<double> &want) {
    EXPECT_LE(worst(got, want, std::vector<double>(want.size(), 4e-6)), 1);
  }
};

TEST_F(Epilogue, Bias) {
  set(CUBLASLT_EPILOGUE_BIAS, biasBuffer.at(), nullptr, 0);
  expectD([&](uint64_t i, uint64_t j) { return biased(i, j); });
}

TEST_F(Epilogue, Relu) {
  set(CUBLASLT_EPILOGUE_RELU, nullptr, nullptr, 0);
  expectD([&](uint64_t i, uint64_t j) { return std::max(0.0, sum(i, j)); });
}

TEST_F(Epilogue, ReluBias) {
  set(CUBLASLT_EPILOGUE_RELU_BIAS, biasBuffer.at(), nullptr, 0);
  expectD([&](uint64_t i, uint64_t j) { return std::max(0.0, biased(i, j)); });
}

TEST_F(Epilogue, ReluAuxBiasLeavesAMaskThatDreluReads) {
  set(CUBLASLT_EPILOGUE_RELU_AUX_BIAS, biasBuffer.at(), maskBuffer.at(), maskLd);
  expectD([&](uint64_t i, uint64_t j) { return std::max(0.0, biased(i, j)); });
  std::vector<uint8_t> mask = maskBuffer.read();
  for (uint64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < maskLd; ++i)
      EXPECT_EQ(mask[j * maskLd / 8 + i / 8] >> (i % 8) & 1, i < int64_t(m) && biased(i, j) > 0) << i << " " << j;
  set(CUBLASLT_EPILOGUE_DRELU, nullptr, maskBuffer.at(), maskLd);
  expectD([&](uint64_t i, uint64_t j) { return biased(i, j) > 0 ? sum(i, j) : 0; });
}

TEST_F(Epilogue, DreluBgrad) {
  set(CUBLASLT_EPILOGUE_DRELU_BGRAD, biasBuffer.at(), maskBuffer.at(), maskLd); // bits 1, 3, 5 …
  auto kept = [&](uint64_t i, uint64_t j) { return i % 2 ? sum(i, j) : 0; };
  expectD(kept);
  std::vector<double> sums(m);
  for (uint64_t i = 0; i < m; ++i)
    for (uint64_t j = 0; j < n; ++j)
      sums[i] += kept(i, j);
  expectNear(numbers(biasBuffer.read()), sums);
}

TEST_F(Epilogue, Gelu) {
  set(CUBLASLT_EPILOGUE_GELU, nullptr, nullptr, 0);
  expectD([&](uint64_t i, uint64_t j) { return gelu(sum(i, j)); });
}

TEST_F(Epilogue, GeluAuxBiasLeavesItsArgument) {
  set(CUBLASLT_EPILOGUE_GELU_AUX_BIAS, biasBuffer.at(), preBuffer.at(), auxLd);
  expectD([&](uint64_t i, uint64_t j) { return gelu(biased(i, j)); });
  std::vector<double> want = numbers(elements<float>(pre)); // padding stays
  for (uint64_t j = 0; j < n; ++j)
    for (uint64_t i = 0; i < m; ++i)
      want[i + j * auxLd] = biased(i, j);
  expectNear(numbers(preBuffer.read()), want);
}

TEST_F(Epilogue, DgeluBgrad) {
  set(CUBLASLT_EPILOGUE_DGELU_BGRAD, biasBuffer.at(), preBuffer.at(), auxLd);
  auto gradient = [&](uint64_t i, uint64_t j) { return sum(i, j) * geluSlope(preAt(i, j)); };
  expectD(gradient);
  std::vector<double> sums(m);
  for (uint64_t i = 0; i < m; ++i)
    for (uint64_t j = 0; j < n; ++j)
      sums[i] += gradient(i, j);
  expectNear(numbers(biasBuffer.read()), sums);
}

TEST_F(Epilogue, BiasGradientsOfTheOperands) {
  auto asFloat = [](double value) { return double(float(value)); };
  set(CUBLASLT_EPILOGUE_BGRADA, biasBuffer.at(), nullptr, 0);
  expectD([&](uint64_t i, uint64_t j) { return sum(i, j); });
  std::vector<double> ofA(m), ofB(n);
  for (uint64_t x = 0; x < k; ++x) {
    for (uint64_t i = 0; i < m; ++i)
      ofA[i] += asFloat(a[i + x * m]);
    for (uint64_t j = 0; j < n; ++j)
      ofB[j] += asFloat(b[x + j * k]);
  }
  expectNear(numbers(biasBuffer.read()), ofA);
  set(CUBLASLT_EPILOGUE_BGRADB, nBuffer.at(), nullptr, 0);
  expectD([&](uint64_t i, uint64_t j) { return sum(i, j); });
  expectNear(numbers(nBuffer.read()), ofB);
}

// An epilogue sees the sums of all parts of k, and every column once, whatever the algorithm.
TEST_F(CublasLt, EpiloguesDoNotDependOnTheAlgorithm) {
  constexpr uint64_t m = 16, n = 400, k = 256;
  Descriptors with(CUDA_R_16BF, CUDA_R_16BF, m, n, k);
  Buffer<BFloat16> a(elements<BFloat16>(uniform(m * k, 1))), b(elements<BFloat16>(uniform(k * n, 2))),
      aux(elements<BFloat16>(uniform(m * n, 3))), bias{std::vector<BFloat16>(m)}, d(std::vector<BFloat16>(m * n));
  with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t(CUBLASLT_EPILOGUE_DGELU_BGRAD));
  with.setDesc(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.at());
  with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux.at());
  with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t(m));
  std::vector<double> first;
  for (const auto &chosen : with.choose(handle)) {
    ASSERT_EQ(run(with, a.at(), b.at(), d.at(), d.at(), &chosen), CUBLAS_STATUS_SUCCESS);
    std::vector<double> got = numbers(bias.read()), bounds;
    if (first.empty())
      first = got;
    for (double value : first)
      bounds.push_back(0x1p-7 * std::fabs(value)); // a rounding of bf16
    EXPECT_LE(worst(got, first, bounds), 1);
  }
}

} // namespace
