// amrun --profile: which steps are looked at, what stands in the trace, the table of kernels, and what is refused. The plan
// is the bigram's: 8 instructions a micro-batch (4 of them forward), 3 of the update.
#include "runtime/trainer/Profiler.h"
#include "runtime/trainer/StepRunner.h"
#include "runtime/trainer/Trainer.h"
#include "test/unit/trainer_plan.h"

#include <nlohmann/json.hpp>

using namespace amc::rt;
using namespace amc::rt::test;
using nlohmann::json;

namespace {

class Profile : public testing::Test {
protected:
  // Options that train `steps` steps of two micro-batches, profiled.
  TrainOptions prepare(uint64_t steps) {
    expectOk(writePlanFile(BigramPlan({.accumulation = 2}).plan, dir.path("m.amplan")));
    Shape shape = {6, 2, 4};
    auto writer = take(SafetensorsWriter::create(
        dir.path("b.safetensors"), {{"input_ids", amc::plan::I64, shape}, {"labels", amc::plan::I64, shape}}, {}));
    expectOk(writer.write("input_ids", 0, std::vector<std::byte>(48 * 8)));
    expectOk(writer.write("labels", 0, std::vector<std::byte>(48 * 8)));
    expectOk(writer.finish());
    TrainOptions options;
    options.plan = dir.path("m.amplan");
    options.data = dir.path("b.safetensors");
    options.steps = steps;
    options.threads = 2;
    options.profile = dir.path("trace.json");
    return options;
  }

  Status run(const TrainOptions &options, const std::atomic<bool> &stop = false) {
    notes.clear();
    TrainSinks sinks;
    sinks.result = [&](std::string_view) { return Status(); };
    sinks.note = [&](std::string_view line) { notes += std::string(line) + "\n"; };
    return runTrainer(options, sinks, stop);
  }
  json trace() { return json::parse(slurp(dir.path("trace.json"))); }

  // Names of complete events, in their order.
  static std::vector<std::string> names(const json &trace, const std::string &category) {
    std::vector<std::string> found;
    for (const json &event : trace["traceEvents"])
      if (event["ph"] == "X" && event["cat"] == category)
        found.push_back(event["name"]);
    return found;
  }

  TempDir dir;
  std::string notes;
};

} // namespace

// Of five steps the second and third; each encloses its data, two micro-batches and the update, and those the
// instructions.
TEST_F(Profile, StepsBehindTheFirst) {
  expectOk(run(prepare(5)));
  json t = trace();
  std::vector<std::string> step = {"data", "micro-batch 1", "micro-batch 2", "update"}, expected;
  for (const char *name : {"step 2", "step 3"}) {
    expected.push_back(name);
    expected.insert(expected.end(), step.begin(), step.end());
  }
  EXPECT_EQ(names(t, "step"), expected);
  EXPECT_EQ(names(t, "forward").size(), 2u * 2 * 4);
  EXPECT_EQ(names(t, "backward").size(), 2u * 2 * 4);
  EXPECT_EQ(names(t, "optimizer"), (std::vector<std::string>{"squared_norm", "clip_scale", "adamw", "squared_norm",
                                                             "clip_scale", "adamw"}));
  EXPECT_EQ(t["otherData"]["steps"], (json{2, 3}));
  EXPECT_NE(notes.find("profile of 2 steps, 2 to 3: "), std::string::npos) << notes;
  EXPECT_NE(notes.find("this machine, measured with 2 threads: products "), std::string::npos) << notes;
}

// Every instruction lies within a micro-batch or the update, these within a step; nothing overlaps.
TEST_F(Profile, EventsNest) {
  expectOk(run(prepare(3)));
  std::vector<std::pair<double, double>> open;
  size_t deepest = 0;
  json t = trace();
  for (const json &event : t["traceEvents"]) {
    if (event["ph"] != "X")
      continue;
    double begin = event["ts"], end = begin + event["dur"].get<double>();
    while (!open.empty() && open.back().second <= begin + 0.0015) // three digits behind the point
      open.pop_back();
    if (!open.empty()) {
      EXPECT_LE(end, open.back().second + 0.0015) << event;
    }
    open.emplace_back(begin, end);
    deepest = std::max(deepest, open.size());
  }
  EXPECT_EQ(deepest, 3u); // step, micro-batch, instruction
}

// What each instruction says of itself, and who is who. The bytes are those of its operands, for this plan has no note
// of them: 16 x 16 weights, 2 x 4 tokens and 2 x 4 x 16 logits.
TEST_F(Profile, SaysWhatRan) {
  expectOk(run(prepare(1)));
  json t = trace(), first;
  std::map<std::string, std::string> meta;
  for (const json &event : t["traceEvents"]) {
    if (event["ph"] == "M" && event["args"].contains("name"))
      meta[event["name"].get<std::string>() + std::to_string(event["tid"].get<int>())] = event["args"]["name"];
    if (event["ph"] == "X" && event["name"] == "embedding" && first.is_null())
      first = event;
  }
  EXPECT_EQ(meta["process_name0"], "rank 0");
  EXPECT_EQ(meta["thread_name0"], "compute (2 threads)");
  EXPECT_EQ(meta["thread_name1"], "communication");
  json expected = {{"kernel", "embedding"}, {"node", "/embedding"}, {"phase", "forward"},
                   {"flops", 0},            {"bytes", 256 * 4 + 8 * 8 + 128 * 4}, {"instruction", 0}};
  EXPECT_EQ(first["args"], expected);
  EXPECT_EQ(t["otherData"]["steps"], json{1}) << "of one step that one";
  for (const char *limit : {"fp32_flops", "bf16_flops", "stream_bytes"})
    EXPECT_GT(t["otherData"]["limits"][limit].get<double>(), 0) << limit;
}

// An evaluation of six batches, of which two are looked at: forward alone.
TEST_F(Profile, Evaluation) {
  TrainOptions options = prepare(1);
  options.steps.reset();
  options.eval = true;
  expectOk(run(options));
  EXPECT_EQ(names(trace(), "step"), (std::vector<std::string>{"evaluation 2", "evaluation 3"}));
  EXPECT_EQ(names(trace(), "forward").size(), 2u * 4);
  EXPECT_TRUE(names(trace(), "backward").empty());
  EXPECT_NE(notes.find("profile of 2 batches, 2 to 3: "), std::string::npos) << notes;
}

// Held-out evaluation between the steps is no part of them; more steps than there are are those there are.
TEST_F(Profile, NothingButSteps) {
  TrainOptions options = prepare(4);
  options.evalEvery = 1;
  options.evalFraction = 0.3;
  options.profileSteps = 100;
  expectOk(run(options));
  EXPECT_EQ(trace()["otherData"]["steps"], (json{2, 3, 4}));
  EXPECT_EQ(names(trace(), "forward").size(), 3u * 2 * 4);
}

// A run that is told to stop writes what it has.
TEST_F(Profile, Stopped) {
  expectOk(run(prepare(4), true));
  EXPECT_EQ(trace()["otherData"]["steps"], json::array());
  EXPECT_NE(notes.find("profile of no step: "), std::string::npos) << notes;
}

// Found before anything is run: a folder that is not there, the plan's own file, more events than there is room for.
TEST_F(Profile, Refused) {
  TrainOptions options = prepare(2);
  options.profile = dir.path("none/trace.json");
  expectError(run(options), ErrorKind::Input, "none/trace.json: cannot be written");
  options.profile = options.plan;
  expectError(run(options), ErrorKind::Input, "is read by this run, should be another file");
  options.profile = dir.path("trace.json");
  options.saveWeights = dir.path("./trace.json");
  expectError(run(options), ErrorKind::Input, "is written for --save-weights, should be another file for --profile");
  options = prepare(uint64_t(1) << 40);
  options.profileSteps = uint64_t(1) << 40;
  expectError(run(options), ErrorKind::Input, "--profile-steps is 1099511627776, and a step has 24 events: a trace has "
                                              "room for 1398101 steps");
  EXPECT_FALSE(std::filesystem::exists(dir.path("trace.json")));
}

// Two runs of one instruction and one of another with the same kernel are one line; an idle kernel has none. At 100
// FLOP/s and 50 bytes/s the 60 FLOPs and 20 bytes of two runs take 0.6 and 0.4 s: products bound it.
TEST(Roofline, AddsUpByKernel) {
  amc::plan::Plan plan;
  for (const char *kernel : {"linear", "add", "linear"}) {
    amc::plan::Instruction *made = plan.add_instructions();
    made->set_kernel(kernel);
    made->set_flops(20);
  }
  amc::plan::Attribute *note = plan.add_notes();
  note->set_name("instruction_bytes");
  for (int64_t bytes : {5, 100, 10})
    note->mutable_ints()->add_value(bytes);
  DeviceLimits limits{100, 200, 50};
  std::vector<KernelTime> kernels = timesByKernel(plan, {{0.5, 2}, {0, 0}, {0.5, 1}}, limits);
  ASSERT_EQ(kernels.size(), 1u);
  EXPECT_EQ(kernels[0].kernel, "linear");
  EXPECT_EQ(kernels[0].instructions, 2u);
  EXPECT_EQ(kernels[0].runs, 3u);
  EXPECT_DOUBLE_EQ(kernels[0].seconds, 1);
  EXPECT_DOUBLE_EQ(kernels[0].flops, 60);
  EXPECT_DOUBLE_EQ(kernels[0].bytes, 20);
  EXPECT_DOUBLE_EQ(kernels[0].productSeconds, 0.6);
  EXPECT_DOUBLE_EQ(kernels[0].memorySeconds, 0.4);
  EXPECT_STREQ(boundOf(kernels[0]), "products");
  EXPECT_EQ(kernelTable(kernels, true).back(),
            "  linear                                  3    1.0000 100.0 %       0.0   60.0 %      0.0    40.0 %  products");
  // The slowest stands first.
  EXPECT_EQ(timesByKernel(plan, {{1, 1}, {2, 1}, {0, 0}}, limits)[0].kernel, "add");
  EXPECT_STREQ(boundOf(timesByKernel(plan, {{0, 0}, {2, 1}, {0, 0}}, limits)[0]), "memory");
}

// An instruction with a bf16 operand is held against bf16's rate.
TEST(Roofline, Precision) {
  amc::plan::Plan plan;
  amc::plan::Instruction *made = plan.add_instructions();
  made->set_kernel("linear");
  made->set_flops(20);
  made->add_inputs()->set_dtype(amc::plan::BF16);
  EXPECT_DOUBLE_EQ(timesByKernel(plan, {{1, 1}}, DeviceLimits{100, 200, 50})[0].productSeconds, 0.1);
  EXPECT_DOUBLE_EQ(timesByKernel(plan, {{1, 1}}, {})[0].productSeconds, 0) << "not known";
}

TEST(Options, Profile) {
  CommandLine line = take(parseCommandLine({"m.amplan", "--data", "d", "--eval", "--profile", "t.json"}));
  EXPECT_EQ(line.run->profile, "t.json");
  EXPECT_EQ(line.run->profileSteps, 2u);
  line = take(parseCommandLine({"m.amplan", "--data", "d", "--steps", "9", "--profile=t.json", "--profile-steps", "4"}));
  EXPECT_EQ(line.run->profileSteps, 4u);
  expectError(parseCommandLine({"m.amplan", "--data", "d", "--steps", "9", "--profile-steps", "4"}).status(),
              ErrorKind::Usage, "--profile-steps needs --profile");
  expectError(parseCommandLine({"m.amplan", "--data", "d", "--eval", "--profile", "t", "--profile-steps", "0"}).status(),
              ErrorKind::Usage, "--profile-steps: is '0' and should be a whole number from 1");
}

// What a rank sends of its events is what comes; bytes that end too soon are no events.
TEST(Trace, EventsTravel) {
  RankEvents events;
  events.lanes[0] = {{10, 20, 3, Timeline::Kind::Step}, {11, 15, 7, Timeline::Kind::Instruction}};
  events.lanes[1] = {{5, 6, 1, Timeline::Kind::Instruction}};
  const std::string bytes = events.pack();
  RankEvents back = RankEvents::unpack(bytes);
  ASSERT_EQ(back.lanes[0].size(), 2u);
  ASSERT_EQ(back.lanes[1].size(), 1u);
  EXPECT_EQ(back.lanes[0][1].number, 7u);
  EXPECT_EQ(back.lanes[0][0].kind, Timeline::Kind::Step);
  EXPECT_EQ(back.begin(), 5);
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_EQ(RankEvents::unpack(std::string_view(bytes).substr(0, size)).begin(), std::numeric_limits<int64_t>::max());
}
