// Ranks as processes, forked before anything of CUDA has been touched.
#ifndef AMC_TEST_EMULATED_CUDA_NCCL_TEST_HARNESS_H
#define AMC_TEST_EMULATED_CUDA_NCCL_TEST_HARNESS_H

#include "test/emulated_cuda/LibraryTest.h"
#include <functional>
#include <gtest/gtest.h>
#include <nccl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace amc::emulated::test {

inline constexpr int failed = 1, found = 86; // exit codes of a rank: an expectation, a finding

// What a rank's process has: a device of its own, and a communicator of all.
class Rank {
public:
  Rank(ncclUniqueId id, int rank, int ranks) : rank(rank), ranks(ranks), device(rank) {
    EXPECT_EQ(ncclCommInitRank(&comm, ranks, id, rank), ncclSuccess);
  }
  ~Rank() {
    if (comm) {
      EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess);
    }
  }
  void synchronize() { MUST(cuStreamSynchronize(device.stream)); }
  ncclResult_t asyncError() {
    ncclResult_t error;
    EXPECT_EQ(ncclCommGetAsyncError(comm, &error), ncclSuccess);
    return error;
  }
  cudaStream_t stream() { return device.stream; }

  const int rank, ranks;
  Device device;
  ncclComm_t comm = nullptr; // set it to null to keep it
};

// Runs `body` in a process for each rank; their exit codes, 128 + signal for the killed.
inline std::vector<int> runProcesses(int ranks, const std::function<void(int rank)> &body) {
  std::vector<pid_t> children;
  fflush(nullptr);
  for (int rank = 0; rank < ranks; ++rank) {
    pid_t child = fork();
    if (child == 0) {
      alarm(300); // nothing here may hang
      body(rank);
      std::exit(testing::Test::HasFailure() ? failed : 0);
    }
    children.push_back(child);
  }
  std::vector<int> codes;
  for (pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    codes.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  }
  return codes;
}

inline std::vector<int> runRanks(int ranks, const std::function<void(Rank &)> &body) {
  ncclUniqueId id;
  EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  return runProcesses(ranks, [&](int rank) {
    Rank self(id, rank, ranks);
    if (self.comm)
      body(self);
  });
}

inline std::vector<int> all(int ranks, int code = 0) { return std::vector<int>(ranks, code); }

// Takes the findings, which have to be there and to say this.
inline void expectFinding(const std::string &what) {
  std::string text = takeFindings();
  EXPECT_NE(text.find(what), std::string::npos) << text;
}

} // namespace amc::emulated::test

#endif
