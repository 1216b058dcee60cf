// Starting other programs and ranks: through the mpirun of this machine, and through one that stands in for Open MPI's.
#include "runtime/launch/LaunchedRanks.h"
#include "runtime/launch/Ranks.h"
#include "runtime/plan/PlanFile.h"
#include "test/unit/trainer_support.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace plan = amc::plan;
using namespace amc::rt;
using namespace amc::rt::test;

namespace {

void ignore(std::string_view) {}

plan::Plan planFor(uint64_t replicate, uint64_t shard, uint64_t cp, uint64_t tp) {
  plan::Plan plan;
  plan.mutable_mesh()->set_dp_replicate(replicate);
  plan.mutable_mesh()->set_dp_shard(shard);
  plan.mutable_mesh()->set_cp(cp);
  plan.mutable_mesh()->set_tp(tp);
  return plan;
}

// Until all of these are there, or for a minute on a machine with other work.
void waitFor(const std::vector<std::string> &files) {
  for (const std::string &file : files)
    for (int i = 0; i < 1200 && !std::filesystem::exists(file); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

// PATH for a while.
struct PathIs {
  explicit PathIs(const std::string &value) : before(std::getenv("PATH")) { ::setenv("PATH", value.c_str(), 1); }
  ~PathIs() { ::setenv("PATH", before.c_str(), 1); }
  std::string before;
};

} // namespace

TEST(Process, KeepsWhatIsPrinted) {
  ProgramEnd end = take(runCaptured({"/bin/sh", "-c", "echo out; echo err >&2; exit 5"}));
  EXPECT_EQ(end.code, 5);
  EXPECT_EQ(end.signal, 0);
  EXPECT_EQ(end.out, "out\n");
  EXPECT_EQ(end.err, "err\n");
}

TEST(Process, EndsBySignalsAndAbsentPrograms) {
  EXPECT_EQ(take(runCaptured({"/bin/sh", "-c", "kill -9 $$"})).signal, 9);
  Expected<ProgramEnd> absent = runCaptured({"/no/such/program"});
  ASSERT_FALSE(absent.ok());
  EXPECT_EQ(absent.status().message(), "/no/such/program: cannot be started: No such file or directory");
  EXPECT_EQ(findInPath("no-such-program"), "");
  EXPECT_NE(findInPath("sh"), "");
}

// A signal to this process reaches the command, which decides what it means.
TEST(Process, ForwardsSignals) {
  std::thread sender([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    ::kill(::getpid(), SIGTERM);
  });
  ProgramEnd end = take(runForwarding({"/bin/sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"}));
  sender.join();
  EXPECT_EQ(end.code, 7);
}

TEST(Ranks, OfPlans) {
  EXPECT_EQ(ranksOf(plan::Plan()), 1u);
  EXPECT_EQ(ranksOf(planFor(2, 4, 0, 2)), 16u); // 0 stands for 1
  EXPECT_EQ(take(ranksToStart(planFor(1, 4, 1, 1), "p", 0)), 4u);
  EXPECT_EQ(take(ranksToStart(planFor(1, 4, 1, 1), "p", 4)), 4u);
  expectError(
      ranksToStart(planFor(1, 4, 1, 2), "p", 4).status(), ErrorKind::Input,
      "p: is a plan for 8 ranks (dp_shard 4 x tp 2), --nproc-per-node is 4; give --nproc-per-node 8 or auto, or "
      "compile for 4 (amc compile --ranks 4 --dp-size none)");
  expectError(ranksToStart(plan::Plan(), "p", 2).status(), ErrorKind::Input,
              "p: is a plan for 1 rank, --nproc-per-node is 2;");
}

TEST(Ranks, DivideTheProcessors) {
  EXPECT_GE(threadsPerRank(1), 1u);
  EXPECT_EQ(threadsPerRank(1000000), 1u);
}

TEST(Ranks, SeeTheirLauncher) {
  ::unsetenv("PMI_SIZE");
  EXPECT_EQ(ranksOfLauncher(), std::nullopt);
  ::setenv("OMPI_COMM_WORLD_SIZE", "3", 1);
  EXPECT_EQ(ranksOfLauncher(), 3u);
  ::unsetenv("OMPI_COMM_WORLD_SIZE");
  ::setenv("PMI_SIZE", "x", 1);
  EXPECT_EQ(ranksOfLauncher(), std::nullopt);
  ::unsetenv("PMI_SIZE");
}

TEST(Ranks, StartThroughMpirun) {
  if (findInPath("mpirun").empty())
    GTEST_SKIP() << "no mpirun";
  std::string folder = testing::TempDir() + "ranks";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directory(folder);
  // Ranks that end at once may meet MPICH's mpirun before it is ready: a broken pipe, or 255.
  const std::string script = "touch \"$1/$PMI_RANK$OMPI_COMM_WORLD_RANK\"; sleep 0.3; exit 2";
  EXPECT_EQ(take(runRanks(2, "/bin/sh", {"-c", script, "sh", folder}, ignore)), 2);
  EXPECT_TRUE(std::filesystem::exists(folder + "/0"));
  EXPECT_TRUE(std::filesystem::exists(folder + "/1"));
  EXPECT_EQ(take(runRanks(2, "/bin/sh", {"-c", "sleep 0.3; exit 0"}, ignore)), 0);
  expectError(runRanks(2, "/bin/sh", {"-c", "sleep 0.3; exit 77"}, ignore).status(), ErrorKind::Limit, "77");
}

TEST(Ranks, EndOnASignal) {
  if (findInPath("mpirun").empty())
    GTEST_SKIP() << "no mpirun";
  TempDir folder;
  std::thread sender([&] {
    waitFor({folder.path("0"), folder.path("1")});
    ::kill(::getpid(), SIGTERM);
  });
  const std::string script = "trap 'exit 0' TERM; touch \"$1/$PMI_RANK$OMPI_COMM_WORLD_RANK\"; "
                             "while :; do sleep 0.05; done";
  Expected<int> code = runRanks(2, "/bin/sh", {"-c", script, "sh", folder.path("")}, ignore);
  sender.join();
  EXPECT_EQ(take(std::move(code)), 0);
}

// Signals within a second are one request, whatever they are; a later one is another. The launcher hears of each once;
// it is a script here, for MPICH's, once it has passed a signal on, at times ends with 0 whatever its ranks end with.
TEST(Ranks, AreAskedOnceASecond) {
  TempDir folder;
  folder.write("mpirun", text("#!/bin/sh\n[ \"$1\" = --version ] && echo HYDRA && exit 0\n"
                              "trap 'n=$((n+1))' TERM; trap 'n=$((n+10))' INT; n=0; touch ",
                              folder.path("ready"), "\nwhile [ ! -e ", folder.path("end"),
                              " ]; do sleep 0.05; done; exit $n\n"));
  ::chmod(folder.path("mpirun").c_str(), 0755);
  PathIs path(folder.path("") + ":/usr/bin:/bin");
  std::thread sender([&] {
    waitFor({folder.path("ready")});
    for (auto [signal, milliseconds] : {std::pair(SIGINT, 50), {SIGINT, 50}, {SIGTERM, 1500}, {SIGINT, 500}}) {
      ::kill(::getpid(), signal);
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    }
    folder.write("end", "");
  });
  std::string said;
  Expected<int> code = runRanks(2, "/x/amrun", {}, [&](std::string_view line) { said = line; });
  sender.join();
  EXPECT_EQ(take(std::move(code)), 2);
  EXPECT_EQ(said, "ended by a second signal");
}

// A launcher that ends with 0 does not hide that a rank has failed: here both do, for MPI knows of one.
TEST(Ranks, FailWhateverTheirLauncherSays) {
  TempDir folder;
  folder.write("mpirun", "#!/bin/sh\n[ \"$1\" = --version ] && echo HYDRA && exit 0\nshift 2\nexport PMI_SIZE=2\n"
                         "PMI_RANK=0 \"$@\" &\nPMI_RANK=1 \"$@\" &\nwait\nexit 0\n");
  ::chmod(folder.path("mpirun").c_str(), 0755);
  PathIs path(folder.path("") + ":/usr/bin:/bin");
  const std::string amrun = std::filesystem::path(ownProgram()).parent_path() / "amrun";
  testing::internal::CaptureStderr();
  Expected<int> code = runRanks(2, amrun, {"plan", "--data", "d", "--steps", "1"}, ignore);
  const std::string errors = testing::internal::GetCapturedStderr();
  EXPECT_EQ(take(std::move(code)), 1);
  EXPECT_NE(errors.find("2 ranks and MPI that there are 1"), std::string::npos) << errors;
}

TEST(Ranks, NeedWhoStartedThem) {
  ::setenv("PMI_RANK", "1", 1);
  ::setenv("AMC_LAUNCHED_BY", "nobody", 1);
  expectError(meetLauncher(), ErrorKind::Limit, "rank 1 cannot reach the process that has started the ranks");
  ::unsetenv("PMI_RANK");
  expectOk(meetLauncher()); // is no rank
  ::unsetenv("AMC_LAUNCHED_BY");
}

// What Open MPI needs to hear, from a script that says it is that.
TEST(Ranks, TellOpenMpi) {
  std::string folder = testing::TempDir() + "openmpi";
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/mpirun") << "#!/bin/sh\n"
                                       "[ \"$1\" = --version ] && echo 'mpirun (Open MPI) 4.1.4' && exit 0\n"
                                       "printf '%s ' \"$@\" > "
                                    << folder << "/words\n";
  ::chmod((folder + "/mpirun").c_str(), 0755);
  PathIs path(folder + ":/usr/bin:/bin");
  EXPECT_EQ(take(runRanks(4, "/x/amrun", {"p", "--steps", "1"}, ignore)), 0);
  std::string words;
  std::getline(std::ifstream(folder + "/words") >> std::ws, words);
  EXPECT_EQ(words, std::string("-n 4 --oversubscribe --bind-to none ") +
                       (::geteuid() == 0 ? "--allow-run-as-root " : "") + "/x/amrun p --steps 1 ");
}

// amrun itself, with a plan for two ranks: started twice by the launcher, without what only the first takes, and with
// its share of the processors unless the user says how many threads.
TEST(Ranks, AreAmrunAgain) {
  const std::string amrun = std::filesystem::path(ownProgram()).parent_path() / "amrun";
  ASSERT_TRUE(std::filesystem::exists(amrun));
  TempDir folder;
  ASSERT_TRUE(writePlanFile(planFor(1, 2, 1, 1), folder.path("p.amplan")).ok());
  folder.write("mpirun", "#!/bin/sh\n[ \"$1\" = --version ] && echo HYDRA && exit 0\nshift 3\necho \"$@\" > " +
                             folder.path("words") + "\necho a page of its own\nexit 3\n");
  ::chmod(folder.path("mpirun").c_str(), 0755);
  PathIs path(folder.path("") + ":/usr/bin:/bin");
  ::unsetenv("AMC_NUM_THREADS");
  ::unsetenv("PMI_SIZE");
  std::vector<std::string> command = {amrun, "--nproc-per-node=auto", folder.path("p.amplan"), "--data", "d", "--steps",
                                      "1"};
  ProgramEnd end = take(runCaptured(command));
  EXPECT_EQ(end.code, 3);
  EXPECT_EQ(end.out, ""); // what a launcher has to say is no result
  auto words = [&] { return slurp(folder.path("words")); };
  EXPECT_EQ(words(), text(folder.path("p.amplan"), " --data d --steps 1 --threads ", threadsPerRank(2), "\n"));
  EXPECT_NE(end.err.find("starting 2 ranks through "), std::string::npos) << end.err;
  command.insert(command.end(), {"--threads", "7"});
  take(runCaptured(command));
  EXPECT_EQ(words(), folder.path("p.amplan") + " --data d --steps 1 --threads 7\n");
  command[1] = "--nproc-per-node=4";
  end = take(runCaptured(command));
  EXPECT_EQ(end.code, 1);
  EXPECT_NE(end.err.find("is a plan for 2 ranks (dp_shard 2), --nproc-per-node is 4;"), std::string::npos) << end.err;
}

TEST(Ranks, NeedALauncher) {
  PathIs path("/no/such/folder");
  expectError(runRanks(2, "/x/amrun", {}, ignore).status(), ErrorKind::Limit, "mpirun, which is not in PATH");
}
