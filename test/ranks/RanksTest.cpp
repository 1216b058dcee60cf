// Starts ranks under mpirun, and looks at what they say, how they end, when, and that none is left.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <fstream>
#include <gtest/gtest.h>
#include <regex>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

struct Ended {
  std::string out;                 // of all ranks, both streams
  std::vector<std::string> errors; // lines that begin with "error: ", or the program's name and that
  int code = -1;
  double seconds = 0;
  int left = 0; // processes that are still there
};

// Processes of this test's program, zombies excepted, which are their parent's matter.
int processesLeft(const std::string &mark) {
  int count = 0;
  DIR *folder = ::opendir("/proc");
  while (dirent *entry = folder ? ::readdir(folder) : nullptr) {
    std::ifstream environment(std::string("/proc/") + entry->d_name + "/environ", std::ios::binary);
    std::string all((std::istreambuf_iterator<char>(environment)), std::istreambuf_iterator<char>());
    if (all.find(mark) != all.npos && entry->d_name != std::to_string(::getpid()))
      ++count;
  }
  if (folder)
    ::closedir(folder);
  return count;
}

Ended start(unsigned ranks, const std::string &arguments, const std::string &environment = "") {
  static int number = 0;
  std::string mark = "TEST_RANKS_MARK=" + std::to_string(::getpid()) + "." + std::to_string(++number) + ".";
  std::string command = "env " + mark + " AMC_NUM_THREADS=1 " + environment + " timeout -k 5 60 " MPIRUN " -n " +
                        std::to_string(ranks) + " " WORKER " " + arguments + " </dev/null 2>&1";
  Ended ended;
  auto begin = std::chrono::steady_clock::now();
  FILE *pipe = ::popen(command.c_str(), "r");
  char buffer[4096];
  while (size_t length = std::fread(buffer, 1, sizeof buffer, pipe))
    ended.out.append(buffer, length);
  int status = ::pclose(pipe);
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
  ended.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::istringstream lines(ended.out);
  for (std::string line; std::getline(lines, line);)
    for (std::string begins : {"error: ", "test-ranks: error: "})
      if (line.rfind(begins, 0) == 0)
        ended.errors.push_back(line.substr(begins.size()));
  // The launcher may be a moment faster than the last of its ranks.
  for (int i = 0; i < 20 && (ended.left = processesLeft(mark)) > 0; ++i)
    ::usleep(100000);
  return ended;
}

// The first line, without the name of the path.
std::string hashOf(const Ended &ended) {
  std::smatch found;
  return std::regex_search(ended.out, found, std::regex("(?:shm|mpi) ([0-9a-f]{16})")) ? found[1].str() : ended.out;
}

void expectSamePaths(unsigned ranks) {
  Ended shm = start(ranks, "collectives", "AMC_COLLECTIVES=shm"),
        mpi = start(ranks, "collectives", "AMC_COLLECTIVES=mpi");
  EXPECT_EQ(shm.code, 0) << shm.out;
  EXPECT_EQ(mpi.code, 0) << mpi.out;
  EXPECT_EQ(shm.out.rfind("shm ", 0), 0u) << shm.out;
  EXPECT_EQ(mpi.out.rfind("mpi ", 0), 0u) << mpi.out;
  EXPECT_EQ(hashOf(shm), hashOf(mpi));
}

TEST(Collectives, TwoRanks) { expectSamePaths(2); }
TEST(Collectives, FourRanks) { expectSamePaths(4); }
// More ranks than processors; an odd number has groups of unequal sizes.
TEST(Collectives, EightRanks) { EXPECT_EQ(start(8, "collectives").code, 0); }
TEST(Collectives, ThreeRanks) { EXPECT_EQ(start(3, "collectives").code, 0); }

TEST(Join, TheEnvironmentChooses) {
  Ended wrong = start(2, "collectives", "AMC_COLLECTIVES=carrier-pigeon");
  ASSERT_FALSE(wrong.errors.empty()) << wrong.out;
  EXPECT_EQ(wrong.errors[0], "AMC_COLLECTIVES is 'carrier-pigeon' and should be shm or mpi");
  EXPECT_EQ(wrong.code, 2);
}

TEST(Join, OneRankIsAlone) {
  Ended one = start(1, "collectives");
  EXPECT_EQ(one.out, "error: there is one rank\n");
}

// ---- failures: who is told of, by whom, how soon

struct Failure {
  const char *how;
  const char *error; // of the only line
  int code;          // of the launcher; -1: what it makes of a rank that was killed
  double seconds;
};

void expectFailure(const Failure &failure, const std::string &environment) {
  Ended ended = start(4, std::string("fails ") + failure.how, environment);
  EXPECT_EQ(ended.errors.size(), 1u) << failure.how << ":\n" << ended.out;
  if (!ended.errors.empty()) {
    EXPECT_TRUE(std::regex_match(ended.errors[0], std::regex(failure.error))) << failure.how << ":\n" << ended.out;
  }
  if (failure.code >= 0) {
    EXPECT_EQ(ended.code, failure.code) << failure.how << ":\n" << ended.out;
  } else {
    EXPECT_NE(ended.code, 0) << failure.how;
  }
  EXPECT_LT(ended.seconds, failure.seconds) << failure.how << ":\n" << ended.out;
  EXPECT_EQ(ended.left, 0) << failure.how << ":\n" << ended.out;
  EXPECT_EQ(ended.out.find("Abort("), ended.out.npos) << failure.how << ":\n" << ended.out; // MPICH's own word
}

#define DISAGREE "; all have to run the same plan with the same options"

TEST(Failures, OnOneHost) {
  for (const Failure &f : {
           Failure{"exit", "rank 3 \\(pid [0-9]+\\) died", 3, 8},
           {"kill", "rank 3 \\(pid [0-9]+\\) died", -1, 8},
           {"crash", "rank 3 \\(pid [0-9]+\\) died", -1, 8},
           {"leave", "rank 3 has ended, and rank [0-2] waits for it in all_reduce of 50000 f32", 3, 8},
           {"abort", "rank 3: the data has 3 entries and should have 4", 3, 8},
           {"all-alike", "the plan is no plan", 1, 8},
           {"other-call",
            "ranks disagree: rank 0 calls all_reduce of 50000 f32, rank 3 calls reduce_scatter of 1 x 50000 x 1 "
            "f32" DISAGREE,
            1, 8},
           {"other-place",
            "ranks disagree: rank 0 calls all_reduce of 50000 f32 from byte 0 to byte 0 of the arena, rank 3 calls "
            "all_reduce of 50000 f32 from byte 64 to byte 64 of the arena" DISAGREE,
            1, 8},
           {"other-group",
            "ranks disagree: rank [03] is in all_reduce of 50000 f32 with ranks 0 (to|and) 3, rank [03] in all_reduce "
            "of 50000 f32 with ranks 0 (to|and) 3" DISAGREE,
            1, 8},
           {"arena",
            "ranks disagree: rank 0 has an arena of 1048576 bytes, rank 3 one of 2097152; all have to run the same "
            "plan",
            1, 8},
       })
    expectFailure(f, "AMC_COLLECTIVES=shm");
}

TEST(Failures, StoppedAndHangingOnOneHost) {
  expectFailure({"stop", "rank 3 \\(pid [0-9]+\\) has stopped responding for 5 s; killed it", -1, 12}, "");
  expectFailure({"spin",
                 "rank 3 \\(pid [0-9]+\\) hangs: it has been in the same place for 2 s \\([0-9]+ collectives and 20 "
                 "signs of progress "
                 "since the start\\); killed it",
                 -1, 8},
                "TEST_RANK_TIMEOUT=2");
}

// A rank that computes for long without a collective hears of nothing, and is ended.
TEST(Failures, BusyRanksEndToo) { expectFailure({"busy", "rank 3: the data ends", 3, 10}, ""); }

// The launcher's SIGTERM comes to the ranks, once: as the trainer wants it.
TEST(Signals, ReachTheRanks) {
  Ended ended = start(2, "fails term");
  EXPECT_EQ(ended.code, 0) << ended.out;
  EXPECT_EQ(ended.out, "stopped by a signal\nstopped by a signal\n");
  EXPECT_EQ(ended.left, 0);
}

TEST(Failures, TwoCausesAreToldOfApart) {
  Ended ended = start(4, "fails first-and-last");
  std::sort(ended.errors.begin(), ended.errors.end());
  EXPECT_EQ(ended.errors,
            (std::vector<std::string>{"rank 0: the first has a problem", "rank 3: the last has a problem"}))
      << ended.out;
}

// Signs of life for longer than the limit.
TEST(Failures, SlowIsNotDead) {
  for (const char *path : {"shm", "mpi"}) {
    Ended ended = start(4, "fails slow", std::string("TEST_RANK_TIMEOUT=2 AMC_COLLECTIVES=") + path);
    EXPECT_EQ(ended.code, 0) << path << ":\n" << ended.out;
  }
}

// A rank that dies is its supervisor's to tell of here.
TEST(Failures, OverMpi) {
  for (const Failure &f : {
           Failure{"exit",
                   "rank 3 \\(pid [0-9]+ on [^ ]+\\) died: it ended with exit code 0 in the middle of the run", 3, 8},
           {"kill", "rank 3 \\(pid [0-9]+ on [^ ]+\\) died: killed by signal 9 \\(Killed\\)", 3, 8},
           {"crash", "rank 3 \\(pid [0-9]+ on [^ ]+\\) died: killed by signal 11 \\(Segmentation fault\\)", 3, 8},
           {"leave", "rank 3 has ended, and others wait for it in all_reduce of 50000 f32", 3, 8},
           {"abort", "rank 3: the data has 3 entries and should have 4", 3, 8},
           {"all-alike", "the plan is no plan", 3, 8},
           {"other-call",
            "ranks disagree: rank 0 calls all_reduce of 50000 f32, rank 3 calls reduce_scatter of 1 x 50000 x 1 "
            "f32" DISAGREE,
            3, 8},
           {"other-group",
            "ranks disagree: rank [03] calls all_reduce of 50000 f32, rank [03] calls all_reduce of 50000 f32 in "
            "another "
            "group of ranks" DISAGREE,
            3, 8},
           {"arena",
            "ranks disagree: rank 0 has an arena of 1048576 bytes, rank 3 one of 2097152; all have to run the same "
            "plan",
            3, 8},
       })
    expectFailure(f, "AMC_COLLECTIVES=mpi");
}

// Joining has the same time limit, which a busy machine needs.
TEST(Failures, HangingOverMpi) {
  for (const char *how : {"stop", "spin"})
    expectFailure({how,
                   "rank 3 hangs or is stopped: others wait for it in all_reduce of 50000 f32, and it has shown no "
                   "progress for (5|10) s",
                   3, 20},
                  "TEST_RANK_TIMEOUT=5 TEST_LOST_TIMEOUT=60 AMC_COLLECTIVES=mpi");
}

// As a host is that is lost: test/ranks/namespaces.py has real ones.
TEST(Failures, OutOfReachOverMpi) {
  expectFailure({"stop",
                 "rank 3 \\(on [^ ]+\\) is out of reach: [^ ]+ has heard nothing for 4 s; the host, the network between "
                 "or the process has stopped",
                 3, 12},
                "TEST_LOST_TIMEOUT=4 AMC_COLLECTIVES=mpi");
}

// ---- attention in a ring

void expectSameRing(unsigned ranks) {
  Ended shm = start(ranks, "ring", "AMC_COLLECTIVES=shm"), mpi = start(ranks, "ring", "AMC_COLLECTIVES=mpi");
  EXPECT_EQ(shm.code, 0) << shm.out;
  EXPECT_EQ(mpi.code, 0) << mpi.out;
  EXPECT_EQ(shm.out.rfind("shm ", 0), 0u) << shm.out;
  EXPECT_EQ(mpi.out.rfind("mpi ", 0), 0u) << mpi.out;
  EXPECT_EQ(hashOf(shm), hashOf(mpi));
}
TEST(Ring, TwoRanks) { expectSameRing(2); }
TEST(Ring, FourRanks) { expectSameRing(4); }

// ---- a plan

TEST(Plan, RunsOnFourRanks) {
  Ended shm = start(4, "plan run", "AMC_COLLECTIVES=shm"), mpi = start(4, "plan run", "AMC_COLLECTIVES=mpi"),
        threads = start(4, "plan threads", "AMC_COLLECTIVES=shm");
  EXPECT_EQ(shm.code, 0) << shm.out;
  EXPECT_EQ(shm.out, mpi.out);
  EXPECT_EQ(shm.out, threads.out);
}

// Beside computation, on a thread of their own, collectives give the same bits.
TEST(Plan, RunsAsynchronouslyToo) {
  Ended plain = start(4, "plan run", "AMC_COLLECTIVES=shm"), shm = start(4, "plan async", "AMC_COLLECTIVES=shm"),
        mpi = start(4, "plan async", "AMC_COLLECTIVES=mpi");
  EXPECT_EQ(shm.code, 0) << shm.out;
  EXPECT_EQ(shm.out, plain.out);
  EXPECT_EQ(mpi.out, plain.out);
}

// A rank that goes wrong between a start and its wait: the thread that communicates finds out, or others do.
TEST(Plan, FailuresBesideComputation) {
  auto expect = [](const char *how, const char *error, const std::string &environment, double seconds) {
    Ended ended = start(4, std::string("plan async-") + how, environment);
    ASSERT_EQ(ended.errors.size(), 1u) << how << ":\n" << ended.out;
    EXPECT_TRUE(std::regex_match(ended.errors[0], std::regex(error))) << how << ":\n" << ended.out;
    EXPECT_NE(ended.code, 0) << how;
    EXPECT_LT(ended.seconds, seconds) << how << ":\n" << ended.out;
    EXPECT_EQ(ended.left, 0) << how << ":\n" << ended.out;
  };
  const char *place = "(instructions\\[[0-9]+\\] \\([a-z_]+\\): )?";
  expect("fails", "rank 3: the data ends", "AMC_COLLECTIVES=shm", 8);
  expect("fails", "rank 3: the data ends", "AMC_COLLECTIVES=mpi", 8);
  expect("dies", (std::string(place) + "rank 3 \\(pid [0-9]+\\) died").c_str(), "AMC_COLLECTIVES=shm", 8);
  expect("stops", (std::string(place) + "rank 3 \\(pid [0-9]+\\) has stopped responding for 5 s; killed it").c_str(),
         "AMC_COLLECTIVES=shm", 12);
  expect("hangs", (std::string(place) + "rank 3 \\(pid [0-9]+\\) hangs: .* killed it").c_str(),
         "TEST_RANK_TIMEOUT=4 AMC_COLLECTIVES=shm", 20);
  expect("hangs", (std::string(place) + "rank 3 hangs or is stopped: .*").c_str(),
         "TEST_RANK_TIMEOUT=4 AMC_COLLECTIVES=mpi", 20);
}

TEST(Plan, OfOtherRanksIsRefused) {
  Ended two = start(2, "plan run");
  ASSERT_EQ(two.errors.size(), 1u) << two.out;
  EXPECT_EQ(two.errors[0], "the plan is for 4 ranks (dp_replicate 2 x dp_shard 2) and there are 2; start it with "
                           "--nproc-per-node 4 or mpirun -n 4");
  EXPECT_EQ(two.code, 1);
  Ended one = start(2, "plan one-rank");
  ASSERT_EQ(one.errors.size(), 1u) << one.out;
  EXPECT_EQ(one.errors[0],
            "the plan is for 1 rank and there are 2; start it without mpirun, or compile it for 2 (--dp-size 2)");
}

TEST(Plan, AFailureNamesRankAndReason) {
  Ended ended = start(4, "plan fails");
  ASSERT_EQ(ended.errors.size(), 1u) << ended.out;
  EXPECT_EQ(ended.errors[0], "rank 3: the data ends");
}

} // namespace
