// A run of several ranks, as threads: who reads which data, what normalises the loss, evaluation,
// and whole runs on a mesh whose ranks need no collectives (neighbours along cp read the same data,
// so they compute the same).
#include "runtime/trainer/RunState.h"
#include "runtime/trainer/StepRunner.h"
#include "runtime/trainer/Trainer.h"
#include "test/unit/trainer_ranks.h"

#include <atomic>
#include <cstring>
#include <set>

using namespace amc::rt;
using namespace amc::rt::test;

namespace {

amc::plan::Plan bigramOn(const MeshShape &mesh, const BigramOptions &options = {}) {
  amc::plan::Plan plan = BigramPlan(options).plan;
  if (mesh.ranks() > 1) {
    plan.mutable_mesh()->set_dp_replicate(mesh.size[0]);
    plan.mutable_mesh()->set_dp_shard(mesh.size[1]);
    plan.mutable_mesh()->set_cp(mesh.size[2]);
    plan.mutable_mesh()->set_tp(mesh.size[3]);
  }
  return plan;
}

// Entries of tokens that depend on the entry; every fifth label or so is ignored. Remembers what
// was read.
class Recorder final : public DataSource {
public:
  explicit Recorder(uint64_t entries) { trained = entries; }
  std::string describe() const override { return "a recorder"; }
  uint64_t memoryBytes() const override { return 0; }
  std::vector<uint64_t> read_; // epoch * entries + entry, in order

protected:
  Status read(uint64_t epoch, uint64_t entry, bool,
              std::span<std::vector<std::byte>> buffers) override {
    read_.push_back(epoch * trained + entry);
    for (size_t input = 0; input < buffers.size(); ++input) {
      int64_t *values = reinterpret_cast<int64_t *>(buffers[input].data());
      for (uint64_t i = 0; i < buffers[input].size() / 8; ++i) {
        uint64_t token = (entry * 31 + i * i * 7 + i) % 16;
        values[i] = input == 1 && (token + entry) % 5 == 0 ? -100 : static_cast<int64_t>(token);
      }
    }
    return {};
  }
};

// What the runners of all ranks saw, by rank.
struct Seen {
  std::vector<uint64_t> entries;
  std::vector<float> normalizers;
  uint64_t tokens = 0, labels = 0;
  EvalResult evaluated;
};

std::vector<Seen> runSteps(const MeshShape &mesh, uint64_t accumulation, uint64_t steps) {
  std::vector<Seen> seen(mesh.ranks());
  expectAllOk(
      onRanks(static_cast<unsigned>(mesh.ranks()), [&](Communicator &communicator) -> Status {
        Ranks ranks(&communicator);
        expectOk(ranks.setMesh(mesh));
        amc::plan::Plan plan = bigramOn(mesh, {.accumulation = accumulation});
        DataRequest request = requestFor(plan);
        Executor executor = take(Executor::create(std::move(plan), executorOptions(communicator)));
        auto runner = take(StepRunner::create(executor, ranks, request));
        Recorder source(7);
        Seen &mine = seen[ranks.rank()];
        for (uint64_t step = 1; step <= steps; ++step) {
          EXPECT_FALSE(take(runner->stage(source, (step - 1) * runner->entriesPerStep())));
          mine.labels = take(runner->run(step, 0.01, 0)).labelTokens;
          for (int i = 0; i < executor.plan().inputs_size(); ++i)
            if (executor.plan().inputs(i).role() == amc::plan::LOSS_NORMALIZER)
              mine.normalizers.push_back(*static_cast<float *>(executor.input(i).data));
        }
        mine.tokens = runner->tokensPerStep();
        mine.entries = source.read_;
        return {};
      }));
  return seen;
}

std::vector<EvalResult> evaluateOn(const MeshShape &mesh, amc::plan::LossKind loss,
                                   uint64_t entries) {
  std::vector<EvalResult> results(mesh.ranks());
  expectAllOk(
      onRanks(static_cast<unsigned>(mesh.ranks()), [&](Communicator &communicator) -> Status {
        Ranks ranks(&communicator);
        expectOk(ranks.setMesh(mesh));
        amc::plan::Plan plan = bigramOn(mesh);
        plan.set_loss(loss);
        DataRequest request = requestFor(plan);
        Executor executor = take(Executor::create(std::move(plan), executorOptions(communicator)));
        std::vector<float> table = BigramPlan::initialTable(16);
        std::memcpy(executor.parameter(0).data, table.data(), table.size() * 4);
        auto runner = take(StepRunner::create(executor, ranks, request));
        Recorder source(7);
        results[ranks.rank()] = take(runner->evaluate(source, false, entries, 0));
        return {};
      }));
  return results;
}

// A run on some ranks: what each returned and printed.
struct Outcome {
  std::vector<Status> status;
  std::vector<std::vector<std::string>> results;
  std::vector<std::string> notes;
};

using Change = std::function<void(unsigned rank, TrainOptions &, TrainSinks &)>;

Outcome runRanks(unsigned size, const TrainOptions &options, const Change &change = {},
                 std::vector<std::atomic<bool>> *stops = nullptr) {
  Outcome outcome;
  outcome.results.resize(size);
  outcome.notes.resize(size);
  std::atomic<bool> never = false;
  outcome.status = onRanks(size, [&](Communicator &communicator) {
    unsigned rank = communicator.rank();
    TrainOptions mine = options;
    TrainSinks sinks;
    sinks.result = [&, rank](std::string_view line) {
      outcome.results[rank].emplace_back(line);
      return Status();
    };
    sinks.note = [&, rank](std::string_view line) {
      outcome.notes[rank] += std::string(line) + "\n";
    };
    if (change)
      change(rank, mine, sinks);
    return runTrainer(mine, sinks, stops ? (*stops)[rank] : never,
                      size == 1 ? nullptr : &communicator);
  });
  return outcome;
}

class Parallel : public testing::Test {
protected:
  // Plans for one rank and for two neighbours along cp, and a text.
  TrainOptions prepare() {
    BigramOptions bigram = {.vocabulary = 256, .length = 16};
    expectOk(writePlanFile(bigramOn(MeshShape(), bigram), dir.path("one.amplan")));
    expectOk(writePlanFile(bigramOn(meshShape({1, 1, 2, 1}), bigram), dir.path("two.amplan")));
    std::string corpus;
    for (int i = 0; i < 60; ++i)
      corpus += "the quick brown fox ";
    TrainOptions options;
    options.plan = dir.path("two.amplan");
    options.data = dir.write("corpus.txt", corpus);
    options.steps = 4;
    options.threads = 1;
    return options;
  }
  TempDir dir;
};

} // namespace

// Accumulation outermost, then the ranks that take data; neighbours along cp and tp read the same.
// Together each entry once, over an epoch's end as well (7 entries an epoch, 3 steps of 12).
TEST(DataByRank, IsDealtOutOnce) {
  MeshShape mesh = meshShape({2, 2, 2, 1});
  std::vector<Seen> seen = runSteps(mesh, 3, 3);
  std::set<uint64_t> all;
  for (uint64_t rank = 0; rank < 8; ++rank) {
    uint64_t d = rank / 2;
    std::vector<uint64_t> expected;
    for (uint64_t at = d; at < 36; at += 4)
      expected.push_back(at);
    EXPECT_EQ(seen[rank].entries, expected) << "rank " << rank;
    EXPECT_EQ(seen[rank].tokens, 3u * 4 * 2 * 4) << "micro-batches of 2 x 4 tokens";
    if (rank % 2 == 0) {
      for (uint64_t entry : expected)
        EXPECT_TRUE(all.insert(entry).second) << "entry " << entry << " twice";
    }
  }
  EXPECT_EQ(all.size(), 36u);
}

// Every rank normalises by the labels of all, to the bit what one rank with as many micro-batches
// does.
TEST(DataByRank, NormaliserIsOneRanks) {
  Seen one = runSteps(MeshShape(), 12, 3).front();
  for (const Seen &rank : runSteps(meshShape({2, 2, 1, 2}), 3, 3)) {
    EXPECT_EQ(rank.normalizers, one.normalizers);
    EXPECT_EQ(rank.labels, one.labels);
    EXPECT_EQ(rank.tokens, one.tokens);
  }
}

// The plans here do not sum the loss over ranks, so each rank has its share of it. The entries do
// not divide among the ranks: what is left is filled up with ignored labels, or, for a loss of the
// model's own, taken one by one.
TEST(DataByRank, EvaluationIsOneRanks) {
  for (auto loss : {amc::plan::LOSS_CAUSAL_LM, amc::plan::LOSS_MODEL})
    for (uint64_t entries : {1, 2, 4, 5, 7}) {
      EvalResult one = evaluateOn(MeshShape(), loss, entries).front();
      std::vector<EvalResult> many = evaluateOn(meshShape({1, 3, 2, 1}), loss, entries);
      double sum = 0;
      for (size_t rank = 0; rank < many.size(); rank += 2) {
        sum += many[rank].loss;
        EXPECT_EQ(many[rank].loss, many[rank + 1].loss) << "neighbours along cp";
        EXPECT_EQ(many[rank].entries, entries);
        EXPECT_EQ(many[rank].labelTokens, one.labelTokens);
      }
      EXPECT_NEAR(sum, one.loss, 1e-5 * one.loss) << entries;
    }
}

// Two ranks that compute the same end with the weights, gradients and log of one; rank 0 alone
// speaks.
TEST_F(Parallel, TrainsLikeOneRank) {
  TrainOptions options = prepare();
  options.saveWeights = dir.path("w2.safetensors");
  options.dumpGradients = dir.path("g2.safetensors");
  options.logJson = dir.path("log2.json");
  Outcome two = runRanks(2, options);
  expectAllOk(two.status);
  options.plan = dir.path("one.amplan");
  options.saveWeights = dir.path("w1.safetensors");
  options.dumpGradients = dir.path("g1.safetensors");
  options.logJson = dir.path("log1.json");
  Outcome one = runRanks(1, options);
  expectAllOk(one.status);
  EXPECT_EQ(slurp(dir.path("w2.safetensors")), slurp(dir.path("w1.safetensors")));
  EXPECT_EQ(slurp(dir.path("g2.safetensors")), slurp(dir.path("g1.safetensors")));
  ASSERT_EQ(two.results[0].size(), 4u);
  for (size_t step = 0; step < 4; ++step)
    EXPECT_EQ(two.results[0][step].substr(0, two.results[0][step].find("| tps")),
              one.results[0][step].substr(0, one.results[0][step].find("| tps")));
  std::string line = two.results[0][3], tail = line.substr(line.find("tps ") + 4);
  EXPECT_NEAR(std::stod(tail), 2 * std::stod(tail.substr(tail.find('(') + 1)), 0.02) << line;
  std::string log = slurp(dir.path("log2.json"));
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 4) << "written by one rank";
  EXPECT_TRUE(two.results[1].empty());
  EXPECT_TRUE(two.notes[1].empty());
  EXPECT_NE(two.notes[0].find("memory of 2 ranks: resident set from "), std::string::npos)
      << two.notes[0];
}

// One rank is told to stop: both stop behind the same step and save it. Resumed on two ranks it
// ends with the files of a run in one go; resumed on one rank with its weights, and the change of
// mesh is said.
TEST_F(Parallel, StopsTogetherAndResumes) {
  TrainOptions options = prepare();
  options.steps = 8;
  options.checkpointDir = dir.path("whole");
  expectAllOk(runRanks(2, options).status);
  options.checkpointDir = dir.path("parts");
  std::vector<std::atomic<bool>> stops(2);
  Outcome part = runRanks(
      2, options,
      [&](unsigned rank, TrainOptions &, TrainSinks &sinks) {
        if (rank == 0)
          sinks.result = [&](std::string_view line) {
            if (line.starts_with("step 3 "))
              stops[1] = true;
            return Status();
          };
      },
      &stops);
  expectAllOk(part.status);
  EXPECT_NE(part.notes[0].find("stopped by a signal after step "), std::string::npos)
      << part.notes[0];
  EXPECT_LT(take(stateFromJson(slurp(dir.path("parts/LATEST/state.json")))).step, 8u);
  std::filesystem::copy(dir.path("parts"), dir.path("single"),
                        std::filesystem::copy_options::recursive |
                            std::filesystem::copy_options::copy_symlinks);
  options.resume = true;
  expectAllOk(runRanks(2, options).status);
  std::vector<std::string> files = dir.list("whole/LATEST");
  EXPECT_EQ(files, dir.list("parts/LATEST"));
  EXPECT_EQ(files.size(), 4u) << "index, model, optimizer and state: rank 1 holds what rank 0 does";
  for (const std::string &file : files)
    EXPECT_EQ(slurp(dir.path("whole/LATEST/" + file)), slurp(dir.path("parts/LATEST/" + file)))
        << file;
  options.plan = dir.path("one.amplan");
  options.checkpointDir = dir.path("single");
  Outcome single = runRanks(1, options);
  expectAllOk(single.status);
  EXPECT_NE(single.notes[0].find("the checkpoint is of cp 2, this run of 1 rank: "),
            std::string::npos)
      << single.notes[0];
  options.resume = false;
  options.checkpointDir = dir.path("one");
  expectAllOk(runRanks(1, options).status);
  for (const char *file : {"model.safetensors", "optimizer.safetensors"})
    EXPECT_EQ(slurp(dir.path("one/LATEST/") + file), slurp(dir.path("single/LATEST/") + file))
        << file;
}

// On another mesh a step may take more data; on the same one that is another run.
TEST_F(Parallel, ResumesWithOtherSteps) {
  TrainOptions options = prepare();
  options.checkpointDir = dir.path("ck");
  options.steps = 2;
  expectAllOk(runRanks(2, options).status);
  BigramOptions bigram = {.vocabulary = 256, .length = 16, .accumulation = 3};
  options.resume = true;
  options.steps = 3;
  expectOk(writePlanFile(bigramOn(meshShape({1, 1, 2, 1}), bigram), dir.path("two.amplan")));
  expectError(runRanks(2, options).status[0], ErrorKind::Input,
              "took its data as 1 micro-batch a step, input_ids [2, 16], labels [2, 16], this one "
              "would as 3 micro-batches a step");
  expectOk(writePlanFile(bigramOn(MeshShape(), bigram), options.plan = dir.path("three.amplan")));
  Outcome outcome = runRanks(1, options);
  expectAllOk(outcome.status);
  EXPECT_NE(outcome.notes[0].find("it goes on with the entry behind the last one taken"),
            std::string::npos);
  EXPECT_EQ(take(stateFromJson(slurp(dir.path("ck/LATEST/state.json")))).position, 2u + 3u);
}

// What differs between ranks ends all of them; rank 0 says it, once.
TEST_F(Parallel, RanksHaveToRunTheSame) {
  TrainOptions options = prepare();
  auto fails = [&](const Change &change, const std::string &part) {
    Outcome outcome = runRanks(2, options, change);
    expectError(outcome.status[0], ErrorKind::Input, part);
    ASSERT_FALSE(outcome.status[1].ok());
    EXPECT_EQ(outcome.status[1].message(), "");
    EXPECT_TRUE(outcome.results[0].empty());
  };
  auto onOne = [](auto change) {
    return [change](unsigned rank, TrainOptions &mine, TrainSinks &) {
      if (rank == 1)
        change(mine);
    };
  };
  fails(onOne([](TrainOptions &mine) { mine.steps = 5; }),
        "--steps differs: rank 1 has 5, rank 0 has 4; all ranks have to run the same");
  fails(onOne([](TrainOptions &mine) { mine.learningRate = 0.5; }),
        "--lr differs: rank 1 has 0.5, rank 0 has none");
  fails(onOne([](TrainOptions &mine) { mine.epochs = 1; }), "--epochs differs: rank 1 has 1, rank 0 has none");
  fails(onOne([](TrainOptions &mine) { mine.initLearningRate = 0.5; }), "--init-lr differs: rank 1 has 0.5, rank 0 has none");
  fails(onOne([](TrainOptions &mine) { mine.decaySteps = 9; }), "--lr-decay-steps differs: rank 1 has 9, rank 0 has none");
  fails(onOne([](TrainOptions &mine) { mine.wsdSteps = 2; }), "--wsd-decay-steps differs: rank 1 has 2, rank 0 has none");
  fails(onOne([](TrainOptions &mine) { mine.wsdStyle = DecayStyle::Cosine; }),
        "--wsd-decay-style differs: rank 1 has cosine, rank 0 has none");
  dir.write("other.txt", slurp(options.data) + "x");
  fails(onOne([&](TrainOptions &mine) { mine.data = dir.path("other.txt"); }),
        "the data differs: rank 1 has 1201 bytes");
  fails(onOne([&](TrainOptions &mine) { mine.data = dir.path("none.txt"); }),
        "rank 1: " + dir.path("none.txt"));
  amc::plan::Plan plan = take(readPlanFile(options.plan));
  plan.set_default_learning_rate(0.5);
  expectOk(writePlanFile(plan, dir.path("other.amplan")));
  fails(onOne([&](TrainOptions &mine) { mine.plan = dir.path("other.amplan"); }),
        "the plan differs: rank 1 has ");
  options.plan = dir.path("one.amplan");
  fails({}, "the plan is for 1 rank, and this run has 2");
  options.plan = dir.path("two.amplan");
  expectError(runRanks(1, options).status[0], ErrorKind::Input,
              "the plan is for 2 ranks (cp 2), and this run has 1; start it with --nproc-per-node "
              "2 or mpirun -n 2");
}

// A rank that fails by itself ends the others, which say whom they follow.
TEST_F(Parallel, OneRankFails) {
  TrainOptions options = prepare();
  Outcome outcome = runRanks(2, options, [](unsigned rank, TrainOptions &, TrainSinks &sinks) {
    if (rank == 0)
      sinks.result = [](std::string_view) {
        return limitError("standard output cannot be written");
      };
  });
  // Whose message it is, the communicator says: one that only has threads does not.
  expectError(outcome.status[0], ErrorKind::Limit, "standard output cannot be written");
  expectError(outcome.status[1], ErrorKind::Input,
              "rank 0 failed: standard output cannot be written");
}
