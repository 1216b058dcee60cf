// The emulated libraries are the original ones to whoever links them: each function that they export has the type that
// the original's header declares (they are compiled against it; here it is written out a second time, so that a header
// which has changed is noticed), is in the original library where that is installed, and is nothing else.
#include <array>
#include <cstdio>
#include <cublasLt.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <nccl.h>
#include <set>
#include <sstream>
#include <string>
#include <type_traits>

namespace {

// clang-format off
#define CUBLASLT_FUNCTIONS(F) \
  F(cublasLtCreate, cublasStatus_t(cublasLtHandle_t *)) \
  F(cublasLtDestroy, cublasStatus_t(cublasLtHandle_t)) \
  F(cublasLtGetVersion, size_t()) \
  F(cublasLtGetCudartVersion, size_t()) \
  F(cublasLtGetProperty, cublasStatus_t(libraryPropertyType, int *)) \
  F(cublasLtGetStatusName, const char *(cublasStatus_t)) \
  F(cublasLtGetStatusString, const char *(cublasStatus_t)) \
  F(cublasLtMatmul, cublasStatus_t(cublasLtHandle_t, cublasLtMatmulDesc_t, const void *, const void *, cublasLtMatrixLayout_t, const void *, cublasLtMatrixLayout_t, const void *, const void *, cublasLtMatrixLayout_t, void *, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t *, void *, size_t, cudaStream_t)) \
  F(cublasLtMatmulDescInit_internal, cublasStatus_t(cublasLtMatmulDesc_t, size_t, cublasComputeType_t, cudaDataType_t)) \
  F(cublasLtMatmulDescCreate, cublasStatus_t(cublasLtMatmulDesc_t *, cublasComputeType_t, cudaDataType_t)) \
  F(cublasLtMatmulDescDestroy, cublasStatus_t(cublasLtMatmulDesc_t)) \
  F(cublasLtMatmulDescSetAttribute, cublasStatus_t(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void *, size_t)) \
  F(cublasLtMatmulDescGetAttribute, cublasStatus_t(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, void *, size_t, size_t *)) \
  F(cublasLtMatrixLayoutInit_internal, cublasStatus_t(cublasLtMatrixLayout_t, size_t, cudaDataType, uint64_t, uint64_t, int64_t)) \
  F(cublasLtMatrixLayoutCreate, cublasStatus_t(cublasLtMatrixLayout_t *, cudaDataType, uint64_t, uint64_t, int64_t)) \
  F(cublasLtMatrixLayoutDestroy, cublasStatus_t(cublasLtMatrixLayout_t)) \
  F(cublasLtMatrixLayoutSetAttribute, cublasStatus_t(cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t, const void *, size_t)) \
  F(cublasLtMatrixLayoutGetAttribute, cublasStatus_t(cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t, void *, size_t, size_t *)) \
  F(cublasLtMatmulPreferenceInit_internal, cublasStatus_t(cublasLtMatmulPreference_t, size_t)) \
  F(cublasLtMatmulPreferenceCreate, cublasStatus_t(cublasLtMatmulPreference_t *)) \
  F(cublasLtMatmulPreferenceDestroy, cublasStatus_t(cublasLtMatmulPreference_t)) \
  F(cublasLtMatmulPreferenceSetAttribute, cublasStatus_t(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, const void *, size_t)) \
  F(cublasLtMatmulPreferenceGetAttribute, cublasStatus_t(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, void *, size_t, size_t *)) \
  F(cublasLtMatmulAlgoGetHeuristic, cublasStatus_t(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int, cublasLtMatmulHeuristicResult_t[], int *)) \
  F(cublasLtMatmulAlgoGetIds, cublasStatus_t(cublasLtHandle_t, cublasComputeType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t, int, int[], int *)) \
  F(cublasLtMatmulAlgoInit, cublasStatus_t(cublasLtHandle_t, cublasComputeType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t, int, cublasLtMatmulAlgo_t *)) \
  F(cublasLtMatmulAlgoCheck, cublasStatus_t(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t *, cublasLtMatmulHeuristicResult_t *)) \
  F(cublasLtMatmulAlgoCapGetAttribute, cublasStatus_t(const cublasLtMatmulAlgo_t *, cublasLtMatmulAlgoCapAttributes_t, void *, size_t, size_t *)) \
  F(cublasLtMatmulAlgoConfigSetAttribute, cublasStatus_t(cublasLtMatmulAlgo_t *, cublasLtMatmulAlgoConfigAttributes_t, const void *, size_t)) \
  F(cublasLtMatmulAlgoConfigGetAttribute, cublasStatus_t(const cublasLtMatmulAlgo_t *, cublasLtMatmulAlgoConfigAttributes_t, void *, size_t, size_t *))

#define NCCL_FUNCTIONS(F) \
  F(ncclGetVersion, ncclResult_t(int *)) \
  F(ncclGetUniqueId, ncclResult_t(ncclUniqueId *)) \
  F(ncclCommInitRank, ncclResult_t(ncclComm_t *, int, ncclUniqueId, int)) \
  F(ncclCommInitRankConfig, ncclResult_t(ncclComm_t *, int, ncclUniqueId, int, ncclConfig_t *)) \
  F(ncclCommSplit, ncclResult_t(ncclComm_t, int, int, ncclComm_t *, ncclConfig_t *)) \
  F(ncclCommFinalize, ncclResult_t(ncclComm_t)) \
  F(ncclCommDestroy, ncclResult_t(ncclComm_t)) \
  F(ncclCommAbort, ncclResult_t(ncclComm_t)) \
  F(ncclCommCount, ncclResult_t(const ncclComm_t, int *)) \
  F(ncclCommUserRank, ncclResult_t(const ncclComm_t, int *)) \
  F(ncclCommCuDevice, ncclResult_t(const ncclComm_t, int *)) \
  F(ncclCommGetAsyncError, ncclResult_t(ncclComm_t, ncclResult_t *)) \
  F(ncclGetErrorString, const char *(ncclResult_t)) \
  F(ncclGetLastError, const char *(ncclComm_t)) \
  F(ncclGroupStart, ncclResult_t()) \
  F(ncclGroupEnd, ncclResult_t()) \
  F(ncclAllReduce, ncclResult_t(const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t)) \
  F(ncclReduce, ncclResult_t(const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, int, ncclComm_t, cudaStream_t)) \
  F(ncclBroadcast, ncclResult_t(const void *, void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t)) \
  F(ncclBcast, ncclResult_t(void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t)) \
  F(ncclReduceScatter, ncclResult_t(const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t)) \
  F(ncclAllGather, ncclResult_t(const void *, void *, size_t, ncclDataType_t, ncclComm_t, cudaStream_t)) \
  F(ncclAlltoAll, ncclResult_t(const void *, void *, size_t, ncclDataType_t, ncclComm_t, cudaStream_t)) \
  F(ncclGather, ncclResult_t(const void *, void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t)) \
  F(ncclScatter, ncclResult_t(const void *, void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t)) \
  F(ncclSend, ncclResult_t(const void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t)) \
  F(ncclRecv, ncclResult_t(void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t))
// clang-format on

#define IS_SAME(name, ...) static_assert(std::is_same_v<decltype(name), __VA_ARGS__>, #name " is declared otherwise");
CUBLASLT_FUNCTIONS(IS_SAME)
NCCL_FUNCTIONS(IS_SAME)

#define NAME(name, ...) #name,
const std::set<std::string> cublasLtFunctions{CUBLASLT_FUNCTIONS(NAME)}, ncclFunctions{NCCL_FUNCTIONS(NAME)};

// Dynamic symbols that a library defines, without their versions, which are absolute symbols themselves.
std::set<std::string> exportedBy(const std::filesystem::path &library) {
  std::set<std::string> symbols;
  FILE *nm = popen((AMC_NM " -D --defined-only '" + library.string() + "'").c_str(), "r");
  std::array<char, 4096> line;
  while (nm && fgets(line.data(), line.size(), nm)) {
    std::istringstream words(line.data());
    std::string address, type, name;
    words >> address >> type >> name;
    if (type != "A")
      symbols.insert(name.substr(0, name.find('@')));
  }
  EXPECT_TRUE(nm && pclose(nm) == 0) << library;
  return symbols;
}

std::set<std::string> without(const std::set<std::string> &all, const std::set<std::string> &those) {
  std::set<std::string> rest;
  for (const std::string &one : all)
    if (!those.count(one))
      rest.insert(one);
  return rest;
}

const std::filesystem::path emulated = AMC_EMULATED_LIBRARY_DIR, original = AMC_CUDA_LIBRARY_DIR;

TEST(Exports, AreWhatIsListed) {
  EXPECT_EQ(exportedBy(emulated / "libcublasLt.so.13"), cublasLtFunctions);
  EXPECT_EQ(exportedBy(emulated / "libnccl.so.2"), ncclFunctions);
}

class Originals : public testing::TestWithParam<const char *> {};

TEST_P(Originals, HaveWhatTheEmulatedExport) {
  std::filesystem::path has = original / GetParam();
  if (!std::filesystem::exists(has))
    GTEST_SKIP() << has << " is not installed";
  std::filesystem::path name = has.filename() == "libcuda.so" ? "libcuda.so.1" : has.filename();
  std::set<std::string> beyond;
  for (const std::string &one : without(exportedBy(emulated / name), exportedBy(has)))
    if (one.rfind("emulatedCuda", 0) != 0) // the driver's, for these libraries
      beyond.insert(one);
  EXPECT_EQ(beyond, std::set<std::string>());
}

INSTANTIATE_TEST_SUITE_P(Libraries, Originals,
                         testing::Values("libcublasLt.so.13", "libnccl.so.2", "stubs/libcuda.so"));

} // namespace
