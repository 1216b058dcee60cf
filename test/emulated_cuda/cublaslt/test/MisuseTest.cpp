// Everything that the library refuses, each beside a control that differs in that alone. The original may accept some
// of it: then the finding is the point.
#include "test/emulated_cuda/cublaslt/test/Harness.h"

using namespace amc::emulated;
using namespace amc::emulated::test;

namespace {

class Misuse : public CublasLt {
protected:
  // A product of 32 x 16 x 256 bf16 that is right, to be made wrong in one way.
  static constexpr uint64_t m = 32, n = 16, k = 256;
  Descriptors with{CUDA_R_16BF, CUDA_R_16BF, m, n, k};
  Buffer<BFloat16> a{elements<BFloat16>(uniform(m * k + 64, 1))}, b{elements<BFloat16>(uniform(k * n + 64, 2))},
      d{elements<BFloat16>(uniform(2 * m * n + 64, 3))};
  Buffer<char> workspace{std::vector<char>(1 << 17)};
  float one = 1, zero = 0;

  struct Arguments {
    const void *a, *b, *c;
    void *d;
    const cublasLtMatmulAlgo_t *algo;
    void *workspace;
    size_t workspaceBytes;
    float beta = 0;
  };
  cublasLtMatmulHeuristicResult_t chosen{};

  Arguments right() {
    auto offered = with.choose(handle);
    chosen = offered.empty() ? chosen : offered[0];
    return {a.at(), b.at(), d.at(), d.at(), &chosen.algo, workspace.at(), chosen.workspaceSize};
  }
  cublasStatus_t call(const Arguments &with_) {
    cublasStatus_t status =
        cublasLtMatmul(handle, with.desc, &one, with_.a, with.a, with_.b, with.b, &with_.beta, with_.c, with.d, with_.d,
                       with.d, with_.algo, with_.workspace, with_.workspaceBytes, device.stream);
    MUST(cuStreamSynchronize(device.stream));
    return status;
  }
  void expectRefused(const Arguments &arguments, const char *finding,
                     cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE) {
    EXPECT_EQ(call(arguments), status);
    std::string found = takeFindings();
    EXPECT_NE(found.find(finding), std::string::npos) << found;
  }
  void expectRefusedByHeuristic(const char *finding, cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE) {
    cublasStatus_t got;
    EXPECT_TRUE(with.choose(handle, &got).empty());
    EXPECT_EQ(got, status);
    std::string found = takeFindings();
    EXPECT_NE(found.find(finding), std::string::npos) << found;
  }
};

TEST_F(Misuse, Control) {
  Arguments arguments = right();
  EXPECT_GT(arguments.workspaceBytes, 0u);
  EXPECT_EQ(call(arguments), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(takeFindings(), "");
}

TEST_F(Misuse, EpilogueThatDoesNotExist) {
  EXPECT_EQ(with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t(3)), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_NE(takeFindings().find("an epilogue that does not exist"), std::string::npos);
  EXPECT_EQ(with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE, uint64_t(1)), CUBLAS_STATUS_INVALID_VALUE); // 4 bytes
  EXPECT_EQ(with.setDesc(CUBLASLT_MATMUL_DESC_TRANSA, int32_t(7)), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_NE(takeFindings().find("an operation"), std::string::npos);
  uint32_t kept = 0;
  size_t written = 0;
  EXPECT_EQ(cublasLtMatmulDescGetAttribute(with.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &kept, sizeof kept, &written),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(kept, uint32_t(CUBLASLT_EPILOGUE_DEFAULT));
}

TEST_F(Misuse, LeadingDimensionLessThanTheRows) {
  with.setLd(with.a, m - 1);
  expectRefusedByHeuristic("leading dimension 31 of A is less than its rows of 32");
}

TEST_F(Misuse, ShapesThatDoNotFit) {
  Descriptors::setLayout(with.b, CUBLASLT_MATRIX_LAYOUT_ROWS, uint64_t(k - 8));
  expectRefusedByHeuristic("op(A) is 32 x 256, op(B) 248 x 16");
}

TEST_F(Misuse, BatchesThatDoNotFit) {
  with.setBatch(with.a, 2, m * k);
  expectRefusedByHeuristic("batches of");
}

TEST_F(Misuse, BatchWrittenToOnePlace) {
  for (cublasLtMatrixLayout_t layout : {with.a, with.b, with.d})
    with.setBatch(layout, 2, 0);
  expectRefusedByHeuristic("written to one place");
}

TEST_F(Misuse, BatchThatOverlapsItself) {
  for (cublasLtMatrixLayout_t layout : {with.a, with.b})
    with.setBatch(layout, 2, 0); // broadcast
  with.setBatch(with.d, 2, m * n);
  EXPECT_EQ(call(right()), CUBLAS_STATUS_SUCCESS);
  with.setBatch(with.d, 2, m * n - 16);
  expectRefused(right(), "overlap in D");
}

TEST_F(Misuse, TypesThatDoNotGoTogether) {
  Descriptors::setLayout(with.b, CUBLASLT_MATRIX_LAYOUT_TYPE, uint32_t(CUDA_R_32F));
  cublasStatus_t status;
  EXPECT_TRUE(with.choose(handle, &status).empty());
  EXPECT_EQ(status, CUBLAS_STATUS_NOT_SUPPORTED); // as the original says: no finding
}

TEST_F(Misuse, PointerLessAlignedThanPromised) {
  Arguments arguments = right();
  arguments.b = b.at(4); // 8 bytes; 16 were promised
  expectRefused(arguments, "is not aligned to 16 bytes");
  with.align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 2);
  arguments = right(); // the chain, which takes any
  EXPECT_EQ(arguments.workspaceBytes, 0u);
  arguments.b = b.at(4);
  EXPECT_EQ(call(arguments), CUBLAS_STATUS_SUCCESS);
}

TEST_F(Misuse, AlgorithmOfOtherTypes) {
  Descriptors other(CUDA_R_32F, CUDA_R_32F, m, n, k);
  auto offered = other.choose(handle);
  Arguments arguments = right();
  arguments.algo = &offered[0].algo;
  expectRefused(arguments, "made for other types");
}

TEST_F(Misuse, AlgorithmThatIsNone) {
  cublasLtMatmulAlgo_t nothing{};
  Arguments arguments = right();
  arguments.algo = &nothing;
  expectRefused(arguments, "never been initialised");
}

TEST_F(Misuse, WorkspaceTooSmall) {
  Arguments arguments = right();
  arguments.workspaceBytes -= 256;
  expectRefused(arguments, "the algorithm needs");
}

TEST_F(Misuse, WorkspaceMisaligned) {
  Arguments arguments = right();
  arguments.workspace = workspace.at(128);
  expectRefused(arguments, "is not aligned to 256 bytes");
}

TEST_F(Misuse, WorkspaceOverOperands) {
  Buffer<char> whole(std::vector<char>(1 << 18, 0));
  Arguments arguments = right();
  arguments.d = whole.at(0);
  arguments.c = whole.at(0);
  arguments.workspace = whole.at(1024); // D is exactly that long
  EXPECT_EQ(call(arguments), CUBLAS_STATUS_SUCCESS);
  arguments.workspace = whole.at(768);
  expectRefused(arguments, "overlaps the workspace");
}

TEST_F(Misuse, ResultOverItsOperand) {
  Arguments arguments = right();
  arguments.c = arguments.d = const_cast<void *>(arguments.b);
  expectRefused(arguments, "D, which is written, overlaps B");
}

// Two halves of the columns of one matrix are apart although their hulls are not.
TEST_F(Misuse, InterleavedOperandsAreApart) {
  for (uint64_t shift : {uint64_t(16), uint64_t(15)}) {
    Descriptors square(CUDA_R_32F, CUDA_R_32F, 16, 16, 16);
    Buffer<float> all(elements<float>(uniform(32 * 16, 9)));
    square.setLd(square.a, 32);
    square.setLd(square.d, 32);
    square.align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, 4);
    Buffer<float> other(elements<float>(uniform(256, 8)));
    cublasStatus_t status = run(square, all.at(), other.at(), all.at(shift), all.at(shift));
    EXPECT_EQ(status, shift == 16 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE);
    EXPECT_EQ(takeFindings().find("overlaps A") != std::string::npos, shift == 15);
  }
}

TEST_F(Misuse, InPlaceMeansExactly) {
  Arguments arguments = right();
  arguments.beta = 1;
  EXPECT_EQ(call(arguments), CUBLAS_STATUS_SUCCESS);
  arguments.c = d.at(m * n); // elsewhere
  EXPECT_EQ(call(arguments), CUBLAS_STATUS_SUCCESS);
  arguments.c = d.at(8);
  expectRefused(arguments, "D, which is written, overlaps C");
}

TEST_F(Misuse, ScalesThatAreNotWhereTheModeSays) {
  Arguments arguments = right();
  Buffer<float> onDevice({1});
  EXPECT_EQ(cublasLtMatmul(handle, with.desc, onDevice.at(), arguments.a, with.a, arguments.b, with.b, &zero,
                           arguments.c, with.d, arguments.d, with.d, nullptr, nullptr, 0, device.stream),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_NE(takeFindings().find("the pointer mode says host"), std::string::npos);
}

TEST_F(Misuse, AuxThatIsTooNarrow) {
  with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t(CUBLASLT_EPILOGUE_GELU_AUX));
  with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, a.at());
  with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t(m - 8));
  expectRefusedByHeuristic("the leading dimension 24 of aux");
  with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t(CUBLASLT_EPILOGUE_RELU_AUX));
  with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t(m)); // a mask's are multiples of 128
  expectRefusedByHeuristic("multiple of 128");
}

// A bias that the epilogue does not look at may be gone.
TEST_F(Misuse, BiasThatIsNotUsed) {
  with.setDesc(CUBLASLT_MATMUL_DESC_BIAS_POINTER, Buffer<BFloat16>(std::vector<BFloat16>(m + 8)).at());
  EXPECT_EQ(call(right()), CUBLAS_STATUS_SUCCESS);
}

TEST_F(Misuse, BiasThatIsMissingOrMisaligned) {
  with.setDesc(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t(CUBLASLT_EPILOGUE_BIAS));
  EXPECT_EQ(call(right()), CUBLAS_STATUS_INVALID_VALUE);
  Buffer<BFloat16> bias(std::vector<BFloat16>(m + 8));
  with.setDesc(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.at());
  EXPECT_EQ(call(right()), CUBLAS_STATUS_SUCCESS);
  with.setDesc(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.at(2));
  expectRefused(right(), "the bias at");
}

TEST_F(Misuse, WorkspaceIsNotTheCallersAfterwards) {
  Arguments arguments = right();
  ASSERT_EQ(call(arguments), CUBLAS_STATUS_SUCCESS);
  std::vector<char> left(arguments.workspaceBytes);
  MUST(cuMemcpyDtoH(left.data(), CUdeviceptr(arguments.workspace), left.size()));
  EXPECT_EQ(left, std::vector<char>(left.size(), char(0xff)));
}

TEST_F(Misuse, WorkspaceBoundIsKept) {
  for (uint64_t bound : {uint64_t(0), uint64_t(2 * m * n * 4 - 1), uint64_t(2 * m * n * 4), uint64_t(1) << 30}) {
    with.allowWorkspace(bound);
    size_t most = 0;
    for (const auto &one : with.choose(handle)) {
      EXPECT_LE(one.workspaceSize, bound);
      most = std::max(most, one.workspaceSize);
    }
    EXPECT_EQ(most, bound >> 30 ? 4 * m * n * 4 : bound == 2 * m * n * 4 ? bound : 0);
  }
}

TEST_F(Misuse, AlgorithmsCanBeStored) {
  auto offered = with.choose(handle);
  ASSERT_GE(offered.size(), 2u);
  cublasLtMatmulAlgo_t stored = offered[0].algo;
  cublasLtMatmulHeuristicResult_t checked{};
  EXPECT_EQ(cublasLtMatmulAlgoCheck(handle, with.desc, with.a, with.b, with.d, with.d, &stored, &checked),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(checked.workspaceSize, offered[0].workspaceSize);
  int32_t splits = 1000;
  EXPECT_EQ(cublasLtMatmulAlgoConfigSetAttribute(&stored, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits, sizeof splits),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasLtMatmulAlgoCheck(handle, with.desc, with.a, with.b, with.d, with.d, &stored, &checked),
            CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(CublasLt, DescriptorsEndOnce) {
  cublasLtMatrixLayout_t layout;
  ASSERT_EQ(cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, 4, 4, 4), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasLtMatrixLayoutDestroy(layout), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(takeFindings(), "");
  EXPECT_EQ(cublasLtMatrixLayoutDestroy(layout), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_NE(takeFindings().find("has been destroyed"), std::string::npos);
  int64_t ld = 8;
  EXPECT_EQ(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_LD, &ld, sizeof ld),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_NE(takeFindings().find("has been destroyed"), std::string::npos);
  cublasLtMatrixLayoutOpaque_t mine;
  ASSERT_EQ(cublasLtMatrixLayoutInit(&mine, CUDA_R_32F, 4, 4, 4), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasLtMatrixLayoutDestroy(&mine), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_NE(takeFindings().find("initialised in the caller's memory"), std::string::npos);
  EXPECT_EQ(cublasLtMatmulDescDestroy(reinterpret_cast<cublasLtMatmulDesc_t>(&mine)), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_NE(takeFindings().find("no matmul descriptor"), std::string::npos);
}

TEST_F(Misuse, HandleOfAnotherDevice) {
  int devices = 0;
  MUST(cuDeviceGetCount(&devices));
  if (devices < 2)
    GTEST_SKIP() << "one device";
  Arguments arguments = right();
  {
    Device other(1);
    EXPECT_EQ(cublasLtMatmul(handle, with.desc, &one, arguments.a, with.a, arguments.b, with.b, &zero, arguments.c,
                             with.d, arguments.d, with.d, nullptr, nullptr, 0, other.stream),
              CUBLAS_STATUS_INVALID_VALUE);
    EXPECT_NE(takeFindings().find("a handle of device 0 while the current context is of device 1"), std::string::npos);
  }
  MUST(cuCtxSetCurrent(device.context));
}

// What is left behind fails the process, although every call has succeeded.
TEST(Leaks, FailTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  auto leave = [](bool leak) {
    MUST(cuInit(0));
    cublasLtMatrixLayout_t layout;
    cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, 4, 4, 4);
    if (!leak)
      cublasLtMatrixLayoutDestroy(layout);
    std::exit(0);
  };
  EXPECT_EXIT(leave(false), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(leave(true), testing::ExitedWithCode(86), "1 object of kind matrix layout not destroyed");
}

} // namespace
