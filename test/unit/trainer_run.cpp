// The trainer end to end on a bigram model: loss and gradients against a computation in double
// precision, evaluation, accumulation, checkpoints and resuming to the bit, stopping, a loss that
// is not finite.
#include "runtime/trainer/RunState.h"
#include "runtime/trainer/Trainer.h"
#include "test/unit/trainer_plan.h"

#include <cmath>
#include <cstring>

using namespace amc::rt;
using namespace amc::rt::test;

namespace {

// A run and what it printed.
struct Outcome {
  Status status;
  std::vector<std::string> results;
  std::string notes;
};

Outcome run(const TrainOptions &options, std::atomic<bool> *stop = nullptr,
            uint64_t stopAfter = 0) {
  Outcome outcome;
  std::atomic<bool> never = false;
  TrainSinks sinks;
  sinks.result = [&](std::string_view line) {
    outcome.results.emplace_back(line);
    if (stop && outcome.results.size() == stopAfter)
      *stop = true;
    return Status();
  };
  sinks.note = [&](std::string_view line) { outcome.notes += std::string(line) + "\n"; };
  outcome.status = runTrainer(options, sinks, stop ? *stop : never);
  return outcome;
}

class Trainer : public testing::Test {
protected:
  // A plan in the folder, and options that train it on `entries` random batches.
  TrainOptions prepare(const BigramOptions &bigram = {}, uint64_t entries = 6) {
    vocabulary = bigram.vocabulary;
    expectOk(writePlanFile(BigramPlan(bigram).plan, dir.path("m.amplan")));
    uint64_t count = entries * bigram.batch * bigram.length;
    ids.resize(count);
    for (uint64_t i = 0; i < count; ++i)
      ids[i] = static_cast<int64_t>((i * i * 7 + i * 3 + i / 5) % vocabulary);
    labels = ids;
    for (uint64_t i = 0; i < count; i += 5)
      labels[i] = -100;
    writeBatches(bigram, entries);
    TrainOptions options;
    options.plan = dir.path("m.amplan");
    options.data = dir.path("batches.safetensors");
    options.steps = 4;
    options.threads = 2;
    return options;
  }

  void writeBatches(const BigramOptions &bigram, uint64_t entries) {
    Shape shape = {entries, bigram.batch, bigram.length};
    auto writer = take(SafetensorsWriter::create(
        dir.path("batches.safetensors"),
        {{"input_ids", amc::plan::I64, shape}, {"labels", amc::plan::I64, shape}}, {}));
    expectOk(writer.write("input_ids", 0, std::as_bytes(std::span(ids))));
    expectOk(writer.write("labels", 0, std::as_bytes(std::span(labels))));
    expectOk(writer.finish());
  }

  // Loss and gradient of rows [0, rows) of `length` tokens, normalised by their labelled tokens.
  double reference(uint64_t rows, uint64_t length, const std::vector<float> &table,
                   std::vector<double> &gradient) const {
    uint64_t tokens = 0;
    for (uint64_t i = 0; i < rows * length; ++i)
      tokens += i % length != 0 && labels[i] != -100;
    double loss = 0;
    gradient.assign(table.size(), 0);
    for (uint64_t i = 0; i + 1 < rows * length; ++i) {
      if ((i + 1) % length == 0 || labels[i + 1] == -100)
        continue;
      const float *row = table.data() + ids[i] * vocabulary;
      double sum = 0;
      for (uint64_t v = 0; v < vocabulary; ++v)
        sum += std::exp(double(row[v]));
      loss += std::log(sum) - row[labels[i + 1]];
      for (uint64_t v = 0; v < vocabulary; ++v)
        gradient[ids[i] * vocabulary + v] +=
            (std::exp(double(row[v])) / sum - (int64_t(v) == labels[i + 1])) / double(tokens);
    }
    return loss / double(tokens);
  }

  std::vector<float> readTensor(const std::string &path, const std::string &name) {
    auto reader = take(SafetensorsReader::open(path));
    const TensorInfo *info = reader.find(name);
    if (!info) {
      ADD_FAILURE() << name << " is not in " << path;
      return {};
    }
    std::vector<float> values(info->elements);
    expectOk(reader.read(*info, 0, info->elements, amc::plan::F32,
                         reinterpret_cast<std::byte *>(values.data())));
    return values;
  }

  TempDir dir;
  uint64_t vocabulary = 0;
  std::vector<int64_t> ids, labels;
};

} // namespace

// The first step's loss and every gradient, under both of the weight's names, for one and for three
// micro-batches.
TEST_F(Trainer, GradientsMatchTheFormula) {
  for (uint64_t accumulation : {1, 3}) {
    TrainOptions options = prepare({.accumulation = accumulation});
    options.steps = 1;
    options.dumpGradients = dir.path("g.safetensors");
    Outcome outcome = run(options);
    expectOk(outcome.status);
    std::vector<double> expected;
    double loss = reference(2 * accumulation, 4, BigramPlan::initialTable(16), expected);
    EXPECT_NEAR(readTensor(options.dumpGradients, "loss").at(0), loss, 1e-6);
    std::vector<float> gradient = readTensor(options.dumpGradients, "grad.table");
    std::vector<float> transposed = readTensor(options.dumpGradients, "grad.head");
    ASSERT_EQ(gradient.size(), expected.size());
    ASSERT_EQ(transposed.size(), expected.size());
    for (uint64_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(gradient[i], expected[i], 1e-6);
      EXPECT_EQ(transposed[i % 16 * 16 + i / 16], gradient[i]);
    }
  }
}

// A line a step, the same as JSON, and a loss that falls.
TEST_F(Trainer, LogsEveryStep) {
  TrainOptions options = prepare();
  options.steps = 13; // two epochs of six, and one step
  options.logJson = dir.path("log.json");
  Outcome outcome = run(options);
  expectOk(outcome.status);
  ASSERT_EQ(outcome.results.size(), 13u);
  EXPECT_TRUE(outcome.results[0].starts_with("step 1 | epoch 0 | loss ")) << outcome.results[0];
  EXPECT_TRUE(outcome.results[6].starts_with("step 7 | epoch 1 | loss ")) << outcome.results[6];
  EXPECT_NE(outcome.results[12].find("epoch 2"), std::string::npos);
  EXPECT_NE(outcome.results[0].find("| lr 1.00e-02 | mem 0.0"), std::string::npos);
  std::string log = slurp(options.logJson);
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 13);
  EXPECT_TRUE(log.starts_with("{\"step\":1,\"epoch\":0,\"loss\":")) << log;
  EXPECT_NE(outcome.notes.find("promised peak "), std::string::npos);
  EXPECT_NE(outcome.notes.find("resident set"), std::string::npos);
  auto lossOf = [&](size_t step) {
    return std::stod(outcome.results[step].substr(outcome.results[step].find("loss ") + 5));
  };
  EXPECT_LT(lossOf(12), lossOf(0));
}

// Evaluation weighs every labelled token alike: over two entries it is the loss of their rows
// together.
TEST_F(Trainer, Evaluates) {
  TrainOptions options = prepare();
  options.steps.reset();
  options.eval = true;
  options.evalSteps = 2;
  Outcome outcome = run(options);
  expectOk(outcome.status);
  ASSERT_EQ(outcome.results.size(), 1u);
  std::vector<double> unused;
  ASSERT_TRUE(outcome.results[0].starts_with("loss "));
  EXPECT_NEAR(std::stod(outcome.results[0].substr(5)),
              reference(4, 4, BigramPlan::initialTable(16), unused), 1e-6);
}

// Saved weights, given back with --init, evaluate to the same bits as the checkpoint they came
// with; the tied name alone is enough.
TEST_F(Trainer, SavedWeightsComeBack) {
  TrainOptions options = prepare();
  options.saveWeights = dir.path("w.safetensors");
  options.checkpointDir = dir.path("ck");
  expectOk(run(options).status);
  std::vector<float> table = readTensor(options.saveWeights, "table");
  EXPECT_EQ(slurp(options.saveWeights), slurp(dir.path("ck/LATEST/model.safetensors")));
  EXPECT_NE(table, BigramPlan::initialTable(16));
  auto writer = take(SafetensorsWriter::create(dir.path("h.safetensors"),
                                               {{"head", amc::plan::F32, {16, 16}}}, {}));
  std::vector<float> head = readTensor(options.saveWeights, "head");
  expectOk(writer.write("head", 0, std::as_bytes(std::span(head))));
  expectOk(writer.finish());
  TrainOptions again = options;
  again.checkpointDir.clear();
  again.init.from = InitialWeights::From::File;
  again.init.path = dir.path("h.safetensors");
  again.saveWeights = dir.path("again.safetensors");
  again.steps = 0;
  expectOk(run(again).status);
  EXPECT_EQ(slurp(again.saveWeights), slurp(options.saveWeights));
}

// Seven steps in one go, and in two runs with a checkpoint between: the same bytes in every file.
TEST_F(Trainer, ResumesToTheBit) {
  TrainOptions options = prepare({.accumulation = 2});
  options.steps = 7;
  options.schedule = ScheduleKind::Cosine;
  options.warmupSteps = 2;
  options.checkpointDir = dir.path("whole");
  expectOk(run(options).status);
  TrainOptions part = options;
  part.checkpointDir = dir.path("parts");
  part.checkpointEvery = 3;
  std::atomic<bool> stop = false;
  Outcome first = run(part, &stop, 5);
  expectOk(first.status);
  EXPECT_EQ(first.results.size(), 5u);
  EXPECT_EQ(dir.list("parts"),
            (std::vector<std::string>{"LATEST", "epoch_0_step_3", "epoch_1_step_5"}));
  // What the checkpoint knows need not be said again.
  part.schedule.reset();
  part.warmupSteps.reset();
  part.resume = true;
  Outcome second = run(part);
  expectOk(second.status);
  ASSERT_EQ(second.results.size(), 2u);
  EXPECT_TRUE(second.results[0].starts_with("step 6 | epoch 1 |"));
  for (const char *name : {"model.safetensors", "optimizer.safetensors", "state.json"})
    EXPECT_EQ(slurp(dir.path("parts/LATEST/") + name), slurp(dir.path("whole/LATEST/") + name))
        << name;
}

// A state is what it was when it is read back; one with a null is none.
TEST(RunState, IsReadBack) {
  RunState state;
  state.step = 3;
  state.schedule = {.kind = ScheduleKind::Linear, .rate = 1e-7, .horizon = 9};
  state.horizonGiven = true;
  state.mesh.size[meshAxes.size() - 1] = 2;
  state.mesh.ep = 2;
  const std::string json = stateToJson(state);
  EXPECT_EQ(take(stateFromJson(json)), state);
  std::string broken = json;
  broken.replace(broken.find("\"step\": 3"), 9, "\"step\": null");
  expectError(stateFromJson(broken).status(), ErrorKind::Input, "'step'");
}

TEST_F(Trainer, KeepsTheNewest) {
  TrainOptions options = prepare();
  options.checkpointDir = dir.path("ck");
  options.checkpointEvery = 1;
  options.keep = 2;
  expectOk(run(options).status);
  EXPECT_EQ(dir.list("ck"),
            (std::vector<std::string>{"LATEST", "epoch_0_step_3", "epoch_0_step_4"}));
  EXPECT_EQ(std::filesystem::read_symlink(dir.path("ck/LATEST")), "epoch_0_step_4");
}

TEST_F(Trainer, ResumeErrors) {
  TrainOptions options = prepare();
  options.checkpointDir = dir.path("ck");
  options.resume = true;
  expectError(run(options).status, ErrorKind::Input, "no checkpoint to resume from");
  options.resume = false;
  expectOk(run(options).status);
  options.resume = true;
  options.seed = 5;
  expectError(run(options).status, ErrorKind::Input, "--seed is 5 and the checkpoint's is 0");
  options.seed.reset();
  Outcome done = run(options);
  expectOk(done.status);
  EXPECT_TRUE(done.results.empty());
  EXPECT_NE(done.notes.find("nothing to train"), std::string::npos);
  TrainOptions other = options;
  other.dumpGradients = dir.path("g.safetensors");
  expectError(run(other).status, ErrorKind::Input, "--dump-gradients: no step is run, since step 4 is done and --steps is 4");
  other = options;
  other.evalFraction = 0.5;
  expectError(run(other).status, ErrorKind::Input, "this one would as 1 micro-batch a step, input_ids [2, 4], labels [2, 4], held out 0.500000");
  dir.write("ck/LATEST/state.json", "{}");
  expectError(run(options).status, ErrorKind::Input, "no state of a run");
  dir.write("ck/LATEST/state.json", slurp(dir.path("ck/LATEST/optimizer.safetensors")));
  expectError(run(options).status, ErrorKind::Input, "no state of a run");
}

// The held-out batches are evaluated on time and never trained on.
TEST_F(Trainer, EvaluatesTheHeldOutShare) {
  TrainOptions options = prepare();
  options.steps = 5;
  options.evalEvery = 2;
  options.evalFraction = 0.5;
  Outcome outcome = run(options);
  expectOk(outcome.status);
  ASSERT_EQ(outcome.results.size(), 7u);
  EXPECT_TRUE(outcome.results[2].starts_with("eval after step 2 | loss ")) << outcome.results[2];
  EXPECT_NE(outcome.results[4].find("step 4 | epoch 1"), std::string::npos) << outcome.results[4];
  // Evaluation leaves training alone.
  options.evalEvery = 0;
  Outcome plain = run(options);
  EXPECT_EQ(plain.results[4].substr(0, plain.results[4].find("| tps")),
            outcome.results[6].substr(0, outcome.results[6].find("| tps")));
}

TEST_F(Trainer, AbsentWeightsNeedInit) {
  TrainOptions options = prepare({.absent = true});
  expectError(run(options).status, ErrorKind::Input,
              "no initial bytes for 1 weight: 'table'; give them with --init");
  options.init.from = InitialWeights::From::Seed;
  options.init.seed = 3;
  options.saveWeights = dir.path("a.safetensors");
  expectOk(run(options).status);
  options.saveWeights = dir.path("b.safetensors");
  expectOk(run(options).status);
  EXPECT_EQ(slurp(dir.path("a.safetensors")), slurp(dir.path("b.safetensors")));
  options.init.seed = 4;
  expectOk(run(options).status);
  EXPECT_NE(slurp(dir.path("a.safetensors")), slurp(dir.path("b.safetensors")));
}

// Weights in a file beside the model: found there, bounded by it, missing with a note.
TEST_F(Trainer, WeightFiles) {
  TrainOptions options = prepare();
  amc::plan::Plan plan = BigramPlan().plan;
  auto *file = plan.mutable_parameters(0)->mutable_source()->mutable_file();
  file->set_path("weights.bin");
  file->set_offset(16);
  file->set_length(1024);
  plan.set_model_path(dir.path("model.onnx"));
  auto tryPlan = [&] {
    expectOk(writePlanFile(plan, options.plan));
    return run(options);
  };
  expectError(tryPlan().status, ErrorKind::Input, "weights.bin: cannot be opened");
  dir.write("weights.bin", std::string(1039, 'x'));
  expectError(tryPlan().status, ErrorKind::Input,
              "1024 bytes at offset 16 exceed the file's 1039 bytes");
  dir.write("weights.bin", std::string(16, 'x') + rawBytes(BigramPlan::initialTable(16)));
  Outcome fromFile = tryPlan();
  expectOk(fromFile.status);
  options = prepare();
  EXPECT_EQ(fromFile.results[3].substr(0, 60), run(options).results[3].substr(0, 60));
  file->set_path("../weights.bin");
  expectError(tryPlan().status, ErrorKind::Input, "should not leave the model's folder");
}

// An infinite weight makes the loss NaN in step 1: the run ends there, names step and tensor,
// writes nothing.
TEST_F(Trainer, NonFiniteLossStops) {
  TrainOptions options = prepare();
  amc::plan::Plan plan = BigramPlan().plan;
  std::vector<float> table = BigramPlan::initialTable(16);
  table[static_cast<uint64_t>(ids[0]) * 16] = INFINITY;
  plan.mutable_parameters(0)->mutable_source()->set_embedded(rawBytes(table));
  expectOk(writePlanFile(plan, options.plan));
  options.saveWeights = dir.path("w.safetensors");
  options.dumpGradients = dir.path("g.safetensors");
  Outcome outcome = run(options);
  expectError(outcome.status, ErrorKind::Input, "step 1: the loss is ");
  expectError(outcome.status, ErrorKind::Input, "table");
  EXPECT_TRUE(outcome.results.empty());
  EXPECT_FALSE(std::filesystem::exists(options.saveWeights));
  EXPECT_EQ(dir.list(), (std::vector<std::string>{"batches.safetensors", "m.amplan"}));
}

TEST_F(Trainer, BadTokensAndLabels) {
  TrainOptions options = prepare();
  std::vector<int64_t> goodIds = ids;
  ids[5] = 99;
  writeBatches({}, 6);
  Outcome outcome = run(options);
  expectError(outcome.status, ErrorKind::Input, "99");
  ids = goodIds;
  labels[6] = 16;
  writeBatches({}, 6);
  expectError(run(options).status, ErrorKind::Input, "16");
}

// A text of 256 possible tokens; a step whose labels are all ignored has loss 0 and trains on.
TEST_F(Trainer, TrainsOnText) {
  TrainOptions options = prepare({.vocabulary = 256, .length = 16});
  std::string corpus;
  for (int i = 0; i < 60; ++i)
    corpus += "the quick brown fox ";
  options.data = dir.write("corpus.txt", corpus);
  options.steps = 30;
  options.learningRate = 0.5;
  Outcome outcome = run(options);
  expectOk(outcome.status);
  EXPECT_NE(outcome.results[0].find("num_label_tokens 30"), std::string::npos)
      << outcome.results[0];
  auto lossOf = [&](size_t i) {
    return std::stod(outcome.results[i].substr(outcome.results[i].find("loss ") + 5));
  };
  EXPECT_GT(lossOf(0), 5);
  EXPECT_LT(lossOf(29), 1);
  labels.assign(ids.size(), -100);
  options = prepare();
  labels.assign(ids.size(), -100);
  writeBatches({}, 6);
  Outcome unlabelled = run(options);
  expectOk(unlabelled.status);
  EXPECT_NE(unlabelled.results[0].find("| loss 0.0000 | grad_norm 0.0000"), std::string::npos);
}
