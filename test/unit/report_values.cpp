// What the report says about a plan, on plans small enough to know the answers by hand.
#include "compiler/emit/EmitPlan.h"
#include "compiler/report/PageFacts.h"
#include "compiler/report/Peak.h"
#include "compiler/report/Report.h"
#include "compiler/report/Table.h"
#include <gtest/gtest.h>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

using namespace amc;
using namespace amc::report;

namespace {

// A weight w; forward a = f(x, w), b = g(a) in place of nothing; the loss reads b. Backward runs g
// again as b', writes the gradient of a over the bytes of a, and that of w.
//   0 f: x w -> a    1 g: a -> b    2 loss: b -> l    3 g again: a -> b'
//   4 grad: b' l a -> da over a    5 weight grad: x da -> dw    6 update: w dw, in place
class SmallPlan {
public:
  plan::Plan plan;

  SmallPlan() {
    plan.set_model_path("small.onnx");
    plan.set_target("cpu");
    plan.set_precision("fp32");
    plan.set_ac_policy("full");
    plan.set_accumulation(1);
    buffer("x", 400, plan::INPUT, 0, 6);
    buffer("w", 1000, plan::PARAMETER, 0, 7);
    buffer("grad of a", 800, plan::ACTIVATION, 0, 6); // called after the last value in it
    buffer("b", 600, plan::ACTIVATION, 1, 3);
    buffer("l", 4, plan::ACTIVATION, 2, 5);
    buffer("b again", 600, plan::ACTIVATION, 3, 5);
    buffer("grad.w", 1000, plan::GRADIENT, 5, 7);
    buffer("scratch", 64, plan::WORKSPACE, 4, 5);
    plan.add_inputs()->set_name("x");
    view(*plan.mutable_inputs(0)->mutable_view(), 0, {100});
    plan::Parameter &w = *plan.add_parameters();
    w.set_name("w");
    view(*w.mutable_view(), 1, {250});
    view(*w.mutable_gradient(), 6, {250});
    add("f", plan::FORWARD, {0, 1}, {2}, 100, "/f");
    add("g", plan::FORWARD, {2}, {3}, 10, "/g");
    add("loss", plan::FORWARD, {3}, {4}, 1, "/loss");
    add("g", plan::RECOMPUTE, {2}, {5}, 10, "/g");
    add("f_backward", plan::BACKWARD, {5, 4, 2}, {2}, 200, "/f");
    view(*plan.mutable_instructions(4)->add_workspaces(), 7, {64});
    add("weight_grad", plan::BACKWARD, {0, 2}, {6}, 100, "/f");
    add("update", plan::OPTIMIZER, {1, 6}, {1}, 5, "");
    plan.set_forward_end(3);
    plan.set_micro_batch_end(6);
    plan.set_arena_bytes(4096);
    note("instruction_bytes", {1400, 1400, 604, 1400, 2804, 2200, 3000});
    note("instruction_blocks", {0, 1, -1, 1, 1, 0, -1});
    *plan.mutable_promise() = computePromise(plan);
  }
  void note(const char *name, const std::vector<int64_t> &numbers) {
    plan::Attribute &note = *plan.add_notes();
    note.set_name(name);
    for (int64_t number : numbers)
      note.mutable_ints()->add_value(number);
  }

private:
  void buffer(const char *name, uint64_t bytes, plan::Category category, uint64_t first,
              uint64_t last) {
    plan::Buffer &buffer = *plan.add_buffers();
    buffer.set_name(name);
    buffer.set_bytes(bytes);
    buffer.set_category(category);
    buffer.set_first(first);
    buffer.set_last(last);
    buffer.set_persistent(category == plan::PARAMETER);
    buffer.set_offset(offset);
    offset += bytes;
  }
  static void view(plan::View &view, uint64_t buffer, std::initializer_list<uint64_t> shape) {
    view.set_buffer(buffer);
    view.set_dtype(plan::F32);
    for (uint64_t dim : shape)
      view.add_shape(dim);
  }
  void add(const char *kernel, plan::Phase phase, std::vector<uint64_t> inputs,
           std::vector<uint64_t> outputs, uint64_t flops, const char *location) {
    plan::Instruction &instruction = *plan.add_instructions();
    instruction.set_kernel(kernel);
    instruction.set_phase(phase);
    instruction.set_flops(flops);
    instruction.set_location(location);
    for (uint64_t input : inputs)
      view(*instruction.add_inputs(), input, {plan.buffers(static_cast<int>(input)).bytes() / 4});
    for (uint64_t output : outputs)
      view(*instruction.add_outputs(), output, {plan.buffers(static_cast<int>(output)).bytes() / 4});
  }
  uint64_t offset = 0;
};

const Value *find(const Values &values, uint32_t buffer, uint64_t at) {
  for (const Value &value : values.all)
    if (value.buffer == buffer && value.first <= at && at < value.last)
      return &value;
  return nullptr;
}

TEST(ReportValues, FollowsOneValueAfterAnotherThroughABuffer) {
  SmallPlan small;
  Values values(small.plan);
  const Value *a = find(values, 2, 1), *gradient = find(values, 2, 4);
  ASSERT_TRUE(a && gradient);
  EXPECT_EQ(a->role, Role::Saved);
  EXPECT_EQ(a->last, 4u);
  EXPECT_EQ(a->nextPhaseReader, 3u);
  EXPECT_EQ(values.name(*a), "/f"); // not what the buffer is called after
  EXPECT_EQ(gradient->role, Role::Backward);
  EXPECT_EQ(gradient->last, 6u);
  EXPECT_EQ(find(values, 3, 1)->role, Role::Forward);
  EXPECT_EQ(find(values, 5, 3)->role, Role::Recomputed);
  EXPECT_EQ(find(values, 7, 4)->role, Role::Workspace);
  EXPECT_EQ(find(values, 6, 5)->role, Role::Gradient);
  EXPECT_EQ(find(values, 1, 6)->role, Role::Parameter); // updated in place: one value
  EXPECT_EQ(values.shape(*find(values, 1, 0)), "250");
}

TEST(ReportValues, SaysWhyAValueIsKept) {
  SmallPlan small;
  EXPECT_EQ(Values(small.plan).why(*find(Values(small.plan), 2, 1)),
            "enters block 1, whose inputs are kept: read by g at 3 (/g)");
  small.plan.set_ac_policy("none");
  Values values(small.plan);
  EXPECT_EQ(values.why(*find(values, 2, 1)),
            "checkpointing is off: kept for backward, read by g at 3 (/g)");
  EXPECT_EQ(values.why(*find(values, 5, 3)),
            "run again instead of kept since the forward pass, until f_backward at 4 (/f)");
}

TEST(ReportValues, WhatIsAliveAddsUpAtEveryInstruction) {
  SmallPlan small;
  Values values(small.plan);
  std::vector<uint64_t> live = gather(small.plan).live;
  for (uint64_t at = 0; at < live.size(); ++at) {
    uint64_t sum = 0;
    for (const Value *value : values.aliveAt(at))
      sum += values.buffer(*value).bytes();
    EXPECT_EQ(sum, live[at]) << at;
  }
  // x 400, w 1000, the gradient over a 800, dw 1000.
  EXPECT_EQ(small.plan.promise().peak_instruction(), 5u);
  EXPECT_EQ(small.plan.promise().max_live_bytes(), 3200u);
}

TEST(ReportValues, TakesPlansThatDoNotSayMore) {
  SmallPlan small;
  small.plan.clear_notes();
  EXPECT_FALSE(modelledTime(small.plan, "cpu"));
  EXPECT_NE(inspectText(small.plan).find("alive at the peak"), std::string::npos);
  EXPECT_NE(html(small.plan).find("</html>"), std::string::npos);
  EXPECT_NE(html(plan::Plan()).find("</html>"), std::string::npos); // no instruction at all
}

TEST(ReportPeak, ModelsRecomputationBesideTheRest) {
  SmallPlan small;
  // Launch 5 us and bytes at 20 GB/s decide on the cpu: seven instructions, one of them recomputed.
  std::optional<ModelledTime> time = modelledTime(small.plan, "cpu");
  ASSERT_TRUE(time);
  EXPECT_NEAR(time->recompute, 5e-6 + 1400 / 2e10, 1e-12);
  EXPECT_NEAR(time->step, 6 * 5e-6 + (1400 + 1400 + 604 + 2804 + 2200 + 3000) / 2e10, 1e-11);
  small.plan.set_accumulation(3); // the update runs once
  EXPECT_NEAR(modelledTime(small.plan, "cpu")->recompute, 3 * time->recompute, 1e-12);
  EXPECT_NEAR(modelledTime(small.plan, "cpu")->step,
              3 * time->step - 2 * (5e-6 + 3000 / 2e10), 1e-11);
  EXPECT_FALSE(modelledTime(small.plan, "abacus"));
  // The recomputed instruction works in two parts, the second three times and half as fast.
  small.plan.set_accumulation(1);
  small.note("instruction_parts", {3, 0, 2000, 1, 100, 3, 0, 4000, 3, 200});
  EXPECT_NEAR(modelledTime(small.plan, "cpu")->recompute, 4 * 5e-6 + (2000 + 3 * 2 * 4000) / 2e10, 1e-12);
}

// 50 of 100 MB at 5 GB/s and 20 us to begin, while products take 2 GFLOP at 200 GFLOP/s: beside them 15 us are left (a
// launch takes 5). Where it is waited for at once, all of it.
TEST(ReportPeak, FollowsTheWindowsOfCollectives) {
  plan::Plan plan;
  plan.set_micro_batch_end(3);
  plan.mutable_mesh()->set_dp_shard(2);
  auto view = [](uint64_t buffer, uint64_t elements) {
    plan::View made;
    made.set_buffer(buffer);
    made.set_dtype(plan::F32);
    made.add_shape(elements);
    return made;
  };
  auto attribute = [](plan::Instruction &instruction, const char *name) {
    plan::Attribute &made = *instruction.add_attributes();
    made.set_name(name);
    return &made;
  };
  plan::Instruction &gather = *plan.add_instructions(), &product = *plan.add_instructions(),
                    &wait = *plan.add_instructions();
  gather.set_kernel("all_gather");
  *gather.add_inputs() = view(0, 12'500'000);
  *gather.add_outputs() = view(1, 25'000'000);
  attribute(gather, "async")->set_i(1);
  attribute(gather, "group")->set_s("dp_shard");
  attribute(gather, "members")->set_i(2);
  product.set_kernel("linear");
  product.set_flops(2'000'000'000);
  wait.set_kernel("wait");
  *wait.add_inputs() = view(1, 25'000'000);
  *wait.add_inputs() = view(0, 12'500'000);
  plan::Attribute &moved = *plan.add_notes();
  moved.set_name("instruction_bytes");
  for (int i = 0; i < 3; ++i)
    moved.mutable_ints()->add_value(0);
  std::optional<ModelledTime> time = modelledTime(plan, "cpu");
  ASSERT_TRUE(time);
  EXPECT_NEAR(time->communication, 0.01002, 1e-9);
  EXPECT_NEAR(time->exposed, 1.5e-5, 1e-9);
  EXPECT_NEAR(time->step, 5e-6 + 0.01002, 1e-9);
  plan.mutable_instructions()->SwapElements(1, 2);
  time = modelledTime(plan, "cpu");
  EXPECT_NEAR(time->exposed, 0.01002, 1e-9);
  EXPECT_NEAR(time->step, 5e-6 + 0.01002 + 0.010005, 1e-9);
}

std::vector<std::string> words(const std::string &line) {
  std::istringstream in(line);
  return {std::istream_iterator<std::string>(in), {}};
}

TEST(ReportTable, ColumnsAddUpToThePeakAsPrinted) {
  SmallPlan small;
  // Every part rounds down; only together they give the printed peak.
  for (plan::Buffer &buffer : *small.plan.mutable_buffers())
    buffer.set_bytes(buffer.bytes() * 1024 + 5);
  *small.plan.mutable_promise() = computePromise(small.plan);
  small.plan.mutable_promise()->set_arena_bytes(small.plan.promise().max_live_bytes() + 700);
  std::string text = tableText({"m.onnx", "", "fp32", {}, 0, {}}, {{"one", "--ac=full", small.plan, {}}});
  std::string line = text.substr(text.find("\n 1  one") + 1);
  std::vector<std::string> cells = words(line.substr(0, line.find('\n')));
  ASSERT_GE(cells.size(), 10u) << text;
  double sum = 0;
  for (size_t i = 3; i < 10; ++i)
    sum += std::stod(cells[i]);
  EXPECT_NEAR(sum, std::stod(cells[2]), 1e-9) << line;
}

TEST(ReportTable, SaysWhatCannotBeDoneAndWhatDecidesEqualPeaks) {
  SmallPlan small;
  std::vector<TableRow> rows = {{"one", "--ac=none", small.plan, {}},
                                {"two", "--ac=full", small.plan, {}},
                                {"three", "--loss-impl=x", {}, {"the head is read elsewhere"}}};
  TableRequest request{"m.onnx", "x=4", "fp32", 4096 + 10, 11, {}};
  std::string text = tableText(request, rows);
  EXPECT_NE(text.find("cannot be done, see below"), std::string::npos) << text;
  EXPECT_NE(text.find("3  three: the head is read elsewhere"), std::string::npos);
  EXPECT_NE(text.find("the same peak as 1: what decides is f32 250 of grad.w (gradient)"),
            std::string::npos);
  EXPECT_NE(text.find("does not fit"), std::string::npos); // one byte too many with the reserve
  request.reserve = 10;
  EXPECT_EQ(tableText(request, rows).find("does not fit"), std::string::npos);
  nlohmann::json json = nlohmann::json::parse(tableJson(request, rows));
  EXPECT_EQ(json["rows"][0]["peak_bytes"], 4096);
  EXPECT_EQ(json["rows"][0]["fits"], true);
  EXPECT_EQ(json["rows"][2]["errors"][0], "the head is read elsewhere");
}

TEST(ReportPage, IsBoundedAndSaysSo) {
  SmallPlan small;
  PageLimits limits;
  limits.columns = 3;
  limits.tensors = 2;
  limits.text = 5;
  small.plan.mutable_instructions(0)->set_location("/ab\xC3\xA9\xC3\xA9"); // 7 bytes, cut at 4
  small.plan.mutable_instructions(5)->set_location("</script><b>");
  Values values(small.plan);
  PageFacts facts = pageFacts(values, limits);
  EXPECT_EQ(facts.tensors, 2u);
  EXPECT_EQ(facts.allTensors, values.all.size());
  EXPECT_LT(facts.drawnShare, 1);
  EXPECT_EQ(facts.json.find('<'), std::string::npos);
  nlohmann::json json = nlohmann::json::parse(facts.json);
  ASSERT_EQ(json["columns"].size(), 3u);
  EXPECT_EQ(json["columns"][0]["begin"], 0);
  EXPECT_EQ(json["columns"][2]["at"], 5); // the peak is the fullest of its column
  uint64_t peak = 0;
  for (uint64_t bytes : json["columns"][2]["bytes"])
    peak += bytes;
  EXPECT_EQ(peak, small.plan.promise().max_live_bytes());
  EXPECT_NE(std::find(json["strings"].begin(), json["strings"].end(), "</scr\u2026"),
            json["strings"].end());
}

TEST(ReportPage, EscapesNamesAndLoadsNothing) {
  SmallPlan small;
  small.plan.set_model_path("<img src=x onerror=alert(1)>&\".onnx");
  small.plan.mutable_buffers(1)->set_name("</script><script>alert(2)</script>");
  std::string page = html(small.plan);
  EXPECT_EQ(page.find("<img"), std::string::npos);
  EXPECT_EQ(page.find("</script><script>alert"), std::string::npos);
  EXPECT_NE(page.find("&lt;img src=x"), std::string::npos);
  EXPECT_EQ(page.find("http:"), std::string::npos);
  EXPECT_EQ(page.find("https:"), std::string::npos);
  EXPECT_EQ(page.find(" src="), page.find(" src=x onerror")); // escaped text, no attribute
}

} // namespace
