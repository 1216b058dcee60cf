// What the driver learns of a product: which bytes it reads and writes, and behind what it is ordered.
#include "test/emulated_cuda/cublaslt/test/Harness.h"

using namespace amc::emulated;
using namespace amc::emulated::test;

namespace {

class Memory : public CublasLt {
protected:
  static constexpr uint64_t size = 8, ld = 12;
  Descriptors with{CUDA_R_32F, CUDA_R_32F, size, size, size};
  Buffer<float> b{elements<float>(uniform(size * size, 1))}, d{std::vector<float>(size * size)};
  std::vector<float> column = elements<float>(uniform(size, 2));
};

// Columns that are there, padding that has never been written: nothing is read beyond the columns.
TEST_F(Memory, PaddingIsNotRead) {
  for (uint64_t columns : {size, size - 1}) {
    CUdeviceptr a;
    MUST(cuMemAlloc(&a, ld * size * sizeof(float)));
    for (uint64_t j = 0; j < columns; ++j)
      MUST(cuMemcpyHtoD(a + j * ld * sizeof(float), column.data(), size * sizeof(float)));
    with.setLd(with.a, ld);
    run(with, reinterpret_cast<void *>(a), b.at(), d.at(), d.at());
    EXPECT_EQ(takeFindings() == "", columns == size); // the last column is missing
    MUST(cuMemFree(a));
  }
}

TEST_F(Memory, MatrixBeyondItsAllocation) {
  Buffer<float> a(elements<float>(uniform(size * size - 1, 3)));
  EXPECT_EQ(run(with, a.at(), b.at(), d.at(), d.at()), CUBLAS_STATUS_EXECUTION_FAILED);
  EXPECT_NE(takeFindings(), "");
}

// A product that reads another one's result on another stream waits for it, or is found.
TEST_F(Memory, StreamsThatDoNotWait) {
  for (bool waits : {true, false}) {
    Buffer<float> a(elements<float>(uniform(size * size, 4))), last(std::vector<float>(size * size));
    CUstream other;
    CUevent done;
    MUST(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    MUST(cuEventCreate(&done, CU_EVENT_DISABLE_TIMING));
    float one = 1, zero = 0;
    auto multiply = [&](void *from, void *to, CUstream stream) {
      EXPECT_EQ(cublasLtMatmul(handle, with.desc, &one, from, with.a, b.at(), with.b, &zero, to, with.d, to, with.d,
                               nullptr, nullptr, 0, stream),
                CUBLAS_STATUS_SUCCESS);
    };
    multiply(a.at(), d.at(), device.stream);
    MUST(cuEventRecord(done, device.stream));
    if (waits)
      MUST(cuStreamWaitEvent(other, done, 0));
    multiply(d.at(), last.at(), other);
    MUST(cuStreamSynchronize(other));
    MUST(cuStreamSynchronize(device.stream));
    EXPECT_EQ(takeFindings() == "", waits);
    MUST(cuEventDestroy(done));
    MUST(cuStreamDestroy(other));
  }
}

} // namespace
