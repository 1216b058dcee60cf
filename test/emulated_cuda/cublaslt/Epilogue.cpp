// What is made of the sums: v = alpha * sum, + beta * C (fused), + bias, then aux and the activation, everything in
// fp32 (f64), rounded once on the way to D.
//
//   GELU is the tanh approximation, 0.5 v (1 + tanh(sqrt(2/pi) (v + 0.044715 v^3))); aux is its argument v in D's type,
//   of which DGELU takes the derivative, times v.
//   RELU's aux is a mask, bit i % 8 of byte i / 8 of a column for row i, set where v > 0; all ld bits of a column are
//   written, the padding as 0. DRELU keeps v where the bit is set.
//   A bias gradient with DGELU or DRELU sums the rows of what goes to D before it is rounded, columns ascending. (Those
//   of A and B are sums of the operand alone, and made in Product.cpp.)
#include "test/emulated_cuda/Elements.h"
#include "test/emulated_cuda/cublaslt/Product.h"
#include <cmath>
#include <type_traits>

namespace amc::emulated {
namespace {

template <class T> constexpr T geluScale = T(0.79788456080286535588L); // sqrt(2/pi)
template <class T> constexpr T geluCubic = T(0.044715L);

template <class T> T gelu(T v) { return T(0.5) * v * (1 + std::tanh(geluScale<T> * (v + geluCubic<T> * v * v * v))); }

template <class T> T geluDerivative(T v) {
  T t = std::tanh(geluScale<T> * (v + geluCubic<T> * v * v * v));
  return T(0.5) * (1 + t) + T(0.5) * v * (1 - t * t) * geluScale<T> * (1 + 3 * geluCubic<T> * v * v);
}

// E is D's type, and that of C, bias and aux.
template <class T, class E>
void finishAs(const Problem &problem, const Operands &operands, T alpha, T beta, const Panel<T> &panel,
              std::vector<T> &biasSums) {
  const uint32_t epilogue = problem.desc.epilogue;
  const size_t m = problem.m;
  const E *bias = problem.addsBias() ? static_cast<const E *>(operands.bias) : nullptr;
  const bool sumsRows = (epilogue & 16) != 0;
  auto at = [](const MatrixLayout &layout, size_t i, size_t j) {
    return layout.order == CUBLASLT_ORDER_ROW ? i * layout.ld + j : j * layout.ld + i;
  };
  std::vector<T> column(m);
  for (size_t j = panel.first; j < panel.first + panel.count; ++j) {
    const T *sums = panel.values + (j - panel.first) * panel.ld;
    for (size_t i = 0; i < m; ++i)
      column[i] = alpha * sums[i];
    if (operands.c)
      for (size_t i = 0; i < m; ++i)
        column[i] = std::fma(beta, T(widen(static_cast<const E *>(operands.c)[at(problem.c(), i, j)])), column[i]);
    if (bias)
      for (size_t i = 0; i < m; ++i)
        column[i] += T(widen(bias[i]));
    if (problem.auxIsMask()) {
      uint8_t *mask = static_cast<uint8_t *>(operands.aux) + j * problem.desc.auxLd / 8;
      if (problem.backward()) {
        for (size_t i = 0; i < m; ++i)
          column[i] = mask[i / 8] >> (i % 8) & 1 ? column[i] : T(0);
      } else {
        std::fill_n(mask, problem.desc.auxLd / 8, uint8_t(0));
        for (size_t i = 0; i < m; ++i)
          mask[i / 8] |= uint8_t(column[i] > 0) << (i % 8);
      }
    } else if (problem.hasAux()) {
      E *aux = static_cast<E *>(operands.aux) + j * problem.desc.auxLd;
      for (size_t i = 0; i < m; ++i)
        if (problem.backward())
          column[i] *= geluDerivative(T(widen(aux[i])));
        else
          narrow(column[i], aux[i]);
    }
    if (epilogue & CUBLASLT_EPILOGUE_RELU)
      for (size_t i = 0; i < m; ++i)
        column[i] = column[i] < 0 ? T(0) : column[i]; // NaN stays
    if (epilogue & CUBLASLT_EPILOGUE_GELU)
      for (size_t i = 0; i < m; ++i)
        column[i] = gelu(column[i]);
    if (sumsRows)
      for (size_t i = 0; i < m; ++i)
        biasSums[i] += column[i];
    for (size_t i = 0; i < m; ++i)
      narrow(column[i], static_cast<E *>(operands.d)[at(problem.d(), i, j)]);
  }
}

} // namespace

template <class T>
void finish(const Problem &problem, const Operands &operands, T alpha, T beta, const Panel<T> &panel,
            std::vector<T> &biasSums) {
  if constexpr (std::is_same_v<T, double>)
    finishAs<double, double>(problem, operands, alpha, beta, panel, biasSums);
  else if (problem.d().type == CUDA_R_16F)
    finishAs<float, Half>(problem, operands, alpha, beta, panel, biasSums);
  else if (problem.d().type == CUDA_R_16BF)
    finishAs<float, BFloat16>(problem, operands, alpha, beta, panel, biasSums);
  else
    finishAs<float, float>(problem, operands, alpha, beta, panel, biasSums);
}

template void finish<float>(const Problem &, const Operands &, float, float, const Panel<float> &,
                            std::vector<float> &);
template void finish<double>(const Problem &, const Operands &, double, double, const Panel<double> &,
                             std::vector<double> &);

} // namespace amc::emulated
