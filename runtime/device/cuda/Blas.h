// Matrix products by cuBLASLt, which is told about them once.
//
// Matrices are row-major; cuBLASLt takes them as column-major ones of the transposed shape. Operands of bf16 are multiplied
// as they are stored and added up in fp32; fp32 is multiplied as fp32 (no TF32). Of the algorithms that it proposes for a
// product's shape and workspace the first is taken, when the kernel is prepared: so the same shapes give the same bits for
// as long as GPU and library stay the same, whatever the plan's other decisions.
#ifndef AMC_RUNTIME_DEVICE_CUDA_BLAS_H
#define AMC_RUNTIME_DEVICE_CUDA_BLAS_H

#include "runtime/device/cuda/Kernel.h"

namespace amc::rt::cuda {

// y[rows, columns] = alpha * a[rows, inner] b[inner, columns] + beta * y + bias[columns], for each of a batch.
struct ProductShape {
  int64_t rows = 0, columns = 0, inner = 0;
  plan::DType operands = plan::F32, result = plan::F32;
  bool transposeA = false, transposeB = false; // stored as [inner, rows], [columns, inner]
  // Elements from one row of what is stored to the next; 0: rows stand one behind the other.
  int64_t strideA = 0, strideB = 0, strideY = 0;
  int64_t batches = 1, batchA = 0, batchB = 0, batchY = 0; // elements from one matrix of the batch to the next
  // Elements, or a divisor of them, from the operands and the result of one call to those of another; 0: there is one place.
  int64_t apartA = 0, apartB = 0, apartY = 0;
  bool biased = false; // of the operands' type
  float alpha = 1, beta = 0;
  uint64_t workspace = 0; // bytes
};

class Product {
public:
  virtual ~Product() = default;
  // `bias` and `workspace` may be null where the shape has none. `y` overlaps no operand.
  virtual Status enqueue(Stream &stream, const std::byte *a, const std::byte *b, const std::byte *bias, std::byte *y,
                         std::byte *workspace) const = 0;
};

class Blas {
public:
  // The library is loaded for the first product.
  explicit Blas(Context &context) : context(context) {}
  ~Blas();
  Blas(const Blas &) = delete;
  Blas &operator=(const Blas &) = delete;

  Expected<std::unique_ptr<Product>> prepare(const ProductShape &shape);
  uint64_t deviceBytes() const { return bytes; } // that the library took when it started

private:
  Status start();

  Context &context;
  const BlasLibrary *library = nullptr;
  cublasLtHandle_t handle = nullptr;
  uint64_t bytes = 0;
};

} // namespace amc::rt::cuda

#endif
