// The plan of test/unit/sharded_plan.h on 4 ranks, against what each rank computes for all in double.
#include "runtime/executor/Executor.h"
#include "test/ranks/Worker.h"
#include "test/unit/sharded_plan.h"
#include <cmath>
#include <csignal>
#include <malloc.h>
#include <unistd.h>

namespace amc::rt::test {
namespace {

constexpr unsigned ranks = 4;
constexpr double rate = 0.1;

double dataOf(unsigned rank, int step, uint64_t i) {
  return std::sin(rank * 7.0 + step * 3.0 + static_cast<double>(i));
}

struct Model {
  double w[5][4], y[ranks][2][4], total;
  Model() {
    for (int i = 0; i < 20; ++i)
      w[i / 4][i % 4] = i * 0.25 - 2;
  }
  void step(int number) {
    double grad[5][4] = {};
    total = 0;
    for (unsigned r = 0; r < ranks; ++r)
      for (int b = 0; b < 2; ++b)
        for (int c = 0; c < 4; ++c) {
          y[r][b][c] = 0;
          for (int k = 0; k < 5; ++k)
            y[r][b][c] += dataOf(r, number, static_cast<uint64_t>(b * 5 + k)) * w[k][c];
          total += y[r][b][c];
          for (int k = 0; k < 5; ++k)
            grad[k][c] += dataOf(r, number, static_cast<uint64_t>(b * 5 + k)) * y[r][b][c];
        }
    for (int i = 0; i < 20; ++i)
      w[i / 4][i % 4] -= rate * grad[i / 4][i % 4];
  }
};

Status near(const char *what, float actual, double expected) {
  if (!(std::fabs(actual - expected) <= 1e-4 * std::max(1.0, std::fabs(expected))))
    return inputError(what, ": is ", actual, " and should be ", expected);
  return Status();
}

} // namespace

Status runPlan(Communicator &communicator, const std::string &how) {
  ShardedPlan sharded;
  const bool async = how.rfind("async", 0) == 0;
  if (async)
    sharded.plan = AsyncPlan(sharded).plan;
  ExecutorOptions options;
  options.threads = how == "threads" ? 3 : 1;
  options.communicator = &communicator;
  if (how == "one-rank")
    sharded.plan = planOf({"relu", {random(plan::F32, {4}, 1)}, {{plan::F32, {4}}}, {}, 0, {}});
  Expected<Executor> executor = Executor::create(sharded.plan, options);
  if (!executor.ok())
    return executor.status();
  unsigned rank = communicator.rank(), shard = rank % 2;
  Model model;
  auto values = [&](const plan::View &view) { return static_cast<float *>(executor->view(view).data); };
  for (int i = 0; i < 12; ++i) {
    int row = static_cast<int>(shard) * 3 + i / 4;
    values(sharded.piece)[i] = row < 5 ? static_cast<float>(model.w[row][i % 4]) : 0;
  }
  // MPI's own heap breathes with the others' timing, in and out; what our step allocates makes it larger every time.
  constexpr int steps = 20;
  bool allocates = true;
  for (int step = 0; step < steps; ++step) {
    model.step(step);
    for (uint64_t i = 0; i < 10; ++i)
      values(sharded.x)[i] = static_cast<float>(dataOf(rank, step, i));
    *static_cast<double *>(executor->input(1).data) = rate;
    *static_cast<int64_t *>(executor->input(2).data) = step + 1;
    if (how == "fails" && rank == 3 && step == 2)
      executor->setHook([](uint64_t i) { return i == ShardedPlan::Linear ? inputError("the data ends") : Status(); });
    // Between a start and its wait.
    if (async && rank == 3 && step == 2)
      executor->setHook([&how](uint64_t i) {
        if (i != AsyncPlan::Gather)
          return Status();
        if (how == "async-dies")
          ::_exit(0);
        if (how == "async-stops")
          ::raise(SIGSTOP);
        for (volatile bool forever = how == "async-hangs"; forever;)
          ;
        return how == "async-fails" ? inputError("the data ends") : Status();
      });
    executor->restartCollectives();
    const size_t held = ::mallinfo2().uordblks;
    if (Status s = executor->runMicroBatch(); !s.ok())
      return s;
    if (Status s = executor->runUpdate(); !s.ok())
      return s;
    allocates = allocates && (step < 2 || ::mallinfo2().uordblks > held);
    if (step + 1 == steps && allocates)
      return inputError("a step allocates");
    if (executor->collectivesRun() != collectiveFacts(executor->plan()))
      return inputError("other collectives were run than promised");
    if (Status s = near("total", *values(sharded.total), model.total); !s.ok())
      return s;
    unsigned pair = rank / 2 * 2, next = (rank + 1) % ranks; // shifted by -1: from the next rank
    for (int i = 0; i < 8; ++i) {
      if (Status s = near("y", values(sharded.y)[i], model.y[rank][i / 4][i % 4]); !s.ok())
        return s;
      if (Status s = near("shift", values(sharded.shifted)[i], model.y[next][i / 4][i % 4]); !s.ok())
        return s;
      // Columns [2 * shard, +2) of either member, one below the other.
      if (Status s =
              near("all_to_all", values(sharded.turned)[i],
                   model.y[pair + static_cast<unsigned>(i / 4)][i / 2 % 2][shard * 2 + static_cast<unsigned>(i % 2)]);
          !s.ok())
        return s;
      if (values(sharded.back)[i] != values(sharded.y)[i])
        return inputError("all_to_all: there and back is something else");
    }
    for (int i = 0; i < 12; ++i) {
      int row = static_cast<int>(shard) * 3 + i / 4;
      if (Status s = near("weight", values(sharded.piece)[i], row < 5 ? model.w[row][i % 4] : 0); !s.ok())
        return s;
    }
  }
  // Replicas are equal to the bit; and all results, for another number of threads and the other path.
  std::string bytes(reinterpret_cast<const char *>(values(sharded.piece)), 48);
  Expected<std::vector<std::string>> all = communicator.exchange(bytes);
  if (!all.ok())
    return all.status();
  if ((*all)[rank % 2] != bytes)
    return inputError("replicas have other weights");
  if (rank == 0) {
    std::string hex;
    for (unsigned char c : (*all)[0] + (*all)[1])
      hex += text("0123456789abcdef"[c >> 4], "0123456789abcdef"[c & 15]);
    std::printf("%s\n", hex.c_str());
  }
  return Status();
}

} // namespace amc::rt::test
