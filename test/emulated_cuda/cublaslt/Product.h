// The product itself: a few columns of op(A) op(B) at a time, accumulated as an algorithm says, then what the epilogue
// makes of them. The loop is blocked and vectorised, because training runs are tested on it, but an element's sum is
// the same chain of fused multiply-adds wherever in a block it lies.
#ifndef AMC_TEST_EMULATED_CUDA_CUBLASLT_PRODUCT_H
#define AMC_TEST_EMULATED_CUDA_CUBLASLT_PRODUCT_H

#include "test/emulated_cuda/cublaslt/Algorithms.h"
#include <vector>

namespace amc::emulated {

// The operands of one product of a batch, as addresses of the host.
struct Operands {
  const void *a, *b, *c; // c: null where it is not read
  void *d, *bias, *aux;
  void *workspace; // of this product
};

// Columns of D computed at a time, column-major; columns stand `ld` elements apart.
template <class T> struct Panel {
  const T *values;
  size_t ld;
  uint64_t first, count; // columns
};

// Memory that is kept from one product to the next.
template <class T> struct Scratch { std::vector<T> sums, packedA, packedB; };

// T is what is accumulated in, float or double, and the type of alpha and beta.
template <class T>
void multiply(const Problem &problem, const Algorithm &algorithm, const Operands &operands, T alpha, T beta,
              Scratch<T> &scratch);

// D, aux and the bias gradient of a panel. `biasSums` holds the m sums of a bias gradient so far.
template <class T>
void finish(const Problem &problem, const Operands &operands, T alpha, T beta, const Panel<T> &panel,
            std::vector<T> &biasSums);

} // namespace amc::emulated

#endif
