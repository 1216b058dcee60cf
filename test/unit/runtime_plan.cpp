// Plan files (every truncation, every flipped bit) and the verifier: from a valid plan one thing is changed, and that
// one error is expected.
#include "runtime/plan/ByteSet.h"
#include "runtime/plan/PlanFile.h"
#include "runtime_support.h"
#include "test/unit/verified_plan.h"
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace amc::rt::test {
namespace {

// y = x w; loss = sum of squares of y, as reduce_sum(mul(y, y)); grad = x^T dy; w is updated by SGD. Buffer by buffer,
// so that tests can name them.
enum BufferIndex : int { W, X, Y, Square, Loss, Grad, Scale, Rate, Step, Literal, BufferCount };

plan::View view(int buffer, plan::DType dtype, Shape shape) {
  plan::View v;
  v.set_buffer(static_cast<uint64_t>(buffer));
  v.set_dtype(dtype);
  for (uint64_t dim : shape)
    v.add_shape(dim);
  return v;
}

plan::Instruction &add(plan::Plan &plan, const char *kernel, std::vector<plan::View> inputs,
                       std::vector<plan::View> outputs, plan::Phase phase, Attributes attributes = {}) {
  plan::Instruction &instruction = *plan.add_instructions();
  instruction.set_kernel(kernel);
  instruction.set_phase(phase);
  for (const plan::View &v : inputs)
    *instruction.add_inputs() = v;
  for (const plan::View &v : outputs)
    *instruction.add_outputs() = v;
  for (const plan::Attribute &a : attributes)
    *instruction.add_attributes() = a;
  return instruction;
}

void input(plan::Plan &plan, const char *name, plan::InputRole role, plan::View v) {
  plan::Input &i = *plan.add_inputs();
  i.set_name(name);
  i.set_role(role);
  *i.mutable_view() = v;
}

plan::Plan validPlan() {
  plan::Plan plan;
  plan.set_producer("test");
  plan.set_target("cpu");
  plan.set_alignment(64);
  plan.set_accumulation(1);
  plan.set_forward_end(3);
  plan.set_micro_batch_end(4);
  struct {
    uint64_t offset, bytes;
    plan::Category category;
    uint64_t first, last;
    bool persistent;
  } const buffers[BufferCount] = {
      {0, 48, plan::PARAMETER, 0, 6, true},       // W [4, 3]
      {64, 32, plan::INPUT, 0, 4, false},         // X [2, 4]
      {128, 24, plan::ACTIVATION, 0, 4, false},   // Y [2, 3]
      {192, 24, plan::ACTIVATION, 1, 3, false},   // Square
      {256, 4, plan::ACTIVATION, 2, 4, false},    // Loss
      {192, 48, plan::GRADIENT, 3, 6, false},     // Grad, where Square was
      {320, 8, plan::ACTIVATION, 4, 6, false},    // Scale: norm and factor
      {384, 8, plan::INPUT, 0, 6, false},         // Rate
      {448, 8, plan::INPUT, 0, 6, false},         // Step
      {512, 8, plan::CONSTANT, 0, 6, true},       // Literal, the squared norm
  };
  for (const auto &b : buffers) {
    plan::Buffer &buffer = *plan.add_buffers();
    buffer.set_offset(b.offset);
    buffer.set_bytes(b.bytes);
    buffer.set_category(b.category);
    buffer.set_first(b.first);
    buffer.set_last(b.last);
    buffer.set_persistent(b.persistent);
  }
  plan::View w = view(W, plan::F32, {4, 3}), x = view(X, plan::F32, {2, 4}), y = view(Y, plan::F32, {2, 3});
  plan::View grad = view(Grad, plan::F32, {4, 3}), norm = view(Scale, plan::F32, {}), scale = norm;
  scale.set_byte_offset(4);
  add(plan, "linear", {x, w, {}}, {y}, plan::FORWARD).set_flops(48);
  add(plan, "mul", {y, y}, {view(Square, plan::F32, {2, 3})}, plan::FORWARD);
  add(plan, "reduce_sum", {view(Square, plan::F32, {2, 3})}, {view(Loss, plan::F32, {})}, plan::FORWARD,
      {attribute("axes", std::vector<int64_t>{0, 1}), attribute("keepdims", false)});
  add(plan, "linear_weight_grad", {x, y}, {grad}, plan::BACKWARD).set_flops(48);
  add(plan, "clip_scale", {view(Literal, plan::F64, {})}, {norm, scale}, plan::OPTIMIZER, {attribute("max_norm", 1.0)});
  add(plan, "sgd", {w, grad, scale, view(Rate, plan::F64, {}), view(Step, plan::I64, {}), {}}, {w}, plan::OPTIMIZER,
      {attribute("momentum", 0.0), attribute("weight_decay", 0.0)});
  plan::Parameter &parameter = *plan.add_parameters();
  parameter.set_name("w");
  *parameter.mutable_view() = w;
  parameter.set_trainable(true);
  *parameter.mutable_gradient() = grad;
  parameter.set_gradient_ready(3);
  parameter.mutable_source()->set_embedded(std::string(48, '\0'));
  parameter.add_tied()->set_name("w2");
  parameter.mutable_tied(0)->add_permutation(1);
  parameter.mutable_tied(0)->add_permutation(0);
  plan::Constant &constant = *plan.add_constants();
  *constant.mutable_view() = view(Literal, plan::F64, {});
  double four = 4;
  constant.set_data(std::string(reinterpret_cast<const char *>(&four), 8));
  input(plan, "x", plan::DATA, x);
  input(plan, "lr", plan::LEARNING_RATE, view(Rate, plan::F64, {}));
  input(plan, "step", plan::STEP_NUMBER, view(Step, plan::I64, {}));
  plan::Output &loss = *plan.add_outputs();
  loss.set_name("loss");
  *loss.mutable_view() = view(Loss, plan::F32, {});
  loss.set_ready(2);
  loss.set_sum_over_micro_batches(true);
  complete(plan);
  plan.mutable_promise()->set_flops_forward(48);
  plan.mutable_promise()->set_flops_backward(48);
  return plan;
}

// ---- files

TEST(ByteSet, CoversAndTouches) {
  ByteSet set;
  set.add(16, 32);
  set.add(48, 64);
  EXPECT_TRUE(set.covers(16, 32));
  EXPECT_FALSE(set.covers(8, 24));
  for (auto [begin, end] : {std::pair(8, 24), {24, 40}, {0, 100}, {20, 24}, {40, 49}})
    EXPECT_TRUE(set.touches(uint64_t(begin), uint64_t(end))) << begin;
  for (auto [begin, end] : {std::pair(0, 16), {32, 48}, {64, 70}, {20, 20}})
    EXPECT_FALSE(set.touches(uint64_t(begin), uint64_t(end))) << begin;
}

TEST(PlanFile, RoundTripIsTheSameBytes) {
  plan::Plan plan = validPlan();
  Expected<std::string> bytes = serializePlan(plan);
  ASSERT_TRUE(bytes.ok());
  Expected<plan::Plan> read = parsePlan(*bytes);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->SerializeAsString(), plan.SerializeAsString());
  EXPECT_EQ(*serializePlan(*read), *bytes);
}

TEST(PlanFile, EveryTruncationIsAnError) {
  std::string bytes = *serializePlan(validPlan());
  for (size_t length = 0; length < bytes.size(); ++length) {
    Expected<plan::Plan> read = parsePlan(std::string_view(bytes).substr(0, length));
    ASSERT_FALSE(read.ok()) << length;
    EXPECT_EQ(read.status().kind(), ErrorKind::Input);
  }
}

TEST(PlanFile, EveryFlippedBitIsAnError) {
  std::string bytes = *serializePlan(validPlan());
  for (size_t i = 0; i < bytes.size(); ++i)
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = bytes;
      flipped[i] = static_cast<char>(flipped[i] ^ 1 << bit);
      ASSERT_FALSE(parsePlan(flipped).ok()) << "bit " << bit << " of byte " << i;
    }
}

void expectParseError(std::string bytes, const char *part) {
  Expected<plan::Plan> read = parsePlan(bytes);
  ASSERT_FALSE(read.ok());
  EXPECT_NE(read.status().message().find(part), std::string::npos) << read.status().message();
}

TEST(PlanFile, ErrorsNameTheFault) {
  std::string bytes = *serializePlan(validPlan());
  expectParseError("", "the file is empty");
  expectParseError("once upon a time, in a text file", "not a plan file");
  expectParseError(bytes.substr(0, 20), "truncated: 20 bytes");
  expectParseError(bytes.substr(0, 100), "truncated: its payload has 64 bytes");
  expectParseError(bytes + "x", "has 1 bytes behind its payload");
  std::string newer = bytes;
  newer[8] = 2;
  expectParseError(newer, "format version 2 and this program reads up to 1");
  std::string damaged = bytes;
  damaged.back() ^= 1;
  expectParseError(damaged, "checksum is wrong");
}

TEST(PlanFile, WritesWholeFilesOnly) {
  char folder[] = "/tmp/amc-plan-XXXXXX";
  ASSERT_TRUE(::mkdtemp(folder));
  std::string path = std::string(folder) + "/a.amplan";
  ASSERT_TRUE(writePlanFile(validPlan(), path).ok());
  Expected<plan::Plan> read = readPlanFile(path);
  ASSERT_TRUE(read.ok()) << read.status().message();
  // A limit on the size of files is a full disk: the old file stays, nothing is left beside it.
  struct rlimit before, small;
  ::getrlimit(RLIMIT_FSIZE, &before);
  small = before;
  small.rlim_cur = 100;
  auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  Status full = writePlanFile(validPlan(), path);
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, ignored);
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.kind(), ErrorKind::Limit);
  EXPECT_TRUE(readPlanFile(path).ok());
  EXPECT_EQ(std::remove(path.c_str()), 0);
  EXPECT_EQ(::rmdir(folder), 0) << "something was left behind";
  EXPECT_EQ(writePlanFile(validPlan(), path).kind(), ErrorKind::Input);
  EXPECT_FALSE(readPlanFile(path).ok());
  EXPECT_FALSE(readPlanFile("/tmp").ok());
}

TEST(PlanFile, PendingFilesAppearAtCommitOnly) {
  char folder[] = "/tmp/amc-plan-XXXXXX";
  ASSERT_TRUE(::mkdtemp(folder));
  std::string path = std::string(folder) + "/a";
  {
    Expected<PendingFile> dropped = PendingFile::write("x", path);
    ASSERT_TRUE(dropped.ok()) << dropped.status().message();
    EXPECT_NE(::access(path.c_str(), F_OK), 0);
  }
  EXPECT_EQ(::rmdir(folder), 0) << "something was left behind";
  ASSERT_EQ(::mkdir(folder, 0700), 0);
  Expected<PendingFile> kept = PendingFile::write("x", path);
  ASSERT_TRUE(kept.ok()) << kept.status().message();
  EXPECT_TRUE(kept->commit().ok());
  EXPECT_EQ(readTextFile(path, "a file").value(), "x");
  EXPECT_EQ(std::remove(path.c_str()), 0);
  EXPECT_EQ(::rmdir(folder), 0);
}

// Of 6 GiB, which the disk does not hold, blocks are hashed: the first one and the size count.
TEST(PlanFile, HashesLargeFilesInBlocks) {
  char folder[] = "/tmp/amc-plan-XXXXXX";
  ASSERT_TRUE(::mkdtemp(folder));
  std::string path = std::string(folder) + "/weights";
  std::ofstream(path) << "weights";
  const std::string small = hashFile(path).value();
  const off_t bytes = off_t(6) << 30;
  ASSERT_EQ(::truncate(path.c_str(), bytes), 0);
  const std::string first = hashFile(path).value();
  EXPECT_NE(first, small);
  ASSERT_EQ(::truncate(path.c_str(), bytes + 1), 0);
  EXPECT_NE(hashFile(path).value(), first);
  ASSERT_EQ(::truncate(path.c_str(), bytes), 0);
  std::fstream(path, std::ios::in | std::ios::out) << "Weights";
  EXPECT_NE(hashFile(path).value(), first);
  EXPECT_FALSE(hashFile(std::string(folder) + "/none").ok());
  EXPECT_EQ(std::remove(path.c_str()), 0);
  EXPECT_EQ(::rmdir(folder), 0);
}

// ---- verifier

using Change = std::function<void(plan::Plan &)>;
struct Mutation {
  const char *error; // the one error, or the start of it
  Change change;
  bool promise = true; // recompute the promise
  size_t errors = 1;
};

// Changes that keep everything else valid, and what the verifier says of each.
const Mutation mutations[] = {
    {"alignment: is 48", [](plan::Plan &p) { p.set_alignment(48); }},
    {"alignment: is 8192", [](plan::Plan &p) { p.set_alignment(8192); }},
    {"micro_batch_end: is 7", [](plan::Plan &p) { p.set_micro_batch_end(7); }},
    {"forward_end: is 5", [](plan::Plan &p) { p.set_forward_end(5); }},
    {"class_weights[1]: is -1", [](plan::Plan &p) { p.add_class_weights(2), p.add_class_weights(-1); }},
    {"accumulation: is 0", [](plan::Plan &p) { p.set_accumulation(0); }},
    {"loss: 9", [](plan::Plan &p) { p.set_loss(static_cast<plan::LossKind>(9)); }},
    // buffers
    {"buffers[9]: 18446744073709551552 + 8 exceeds arena", [](plan::Plan &p) {
       p.mutable_buffers(Literal)->set_offset(~uint64_t(63)); }, false},
    {"buffers[9]: 512 + 18446744073709551615 exceeds arena", [](plan::Plan &p) {
       p.mutable_buffers(Literal)->set_bytes(~uint64_t(0)); }, false},
    {"buffers[8].offset: 456 should be a multiple of 64", [](plan::Plan &p) { p.mutable_buffers(Step)->set_offset(456); }},
    {"buffers[2].category: 0", [](plan::Plan &p) { p.mutable_buffers(Y)->set_category(plan::CATEGORY_UNSPECIFIED); }},
    {"buffers[3]: lifetime [3, 3)", [](plan::Plan &p) { p.mutable_buffers(Square)->set_first(3); }},
    {"buffers[5]: lifetime [3, 7)", [](plan::Plan &p) { p.mutable_buffers(Grad)->set_last(7); }},
    {"buffers[0]: persists, so its lifetime [0, 5)", [](plan::Plan &p) { p.mutable_buffers(W)->set_last(5); }},
    {"buffers[2]: bytes [64, 88) overlap those of buffers[1]", [](plan::Plan &p) { p.mutable_buffers(Y)->set_offset(64); },
     true, 2}, // and the instruction that has both
    {"buffers[5]: bytes [192, 240) overlap those of buffers[2]", [](plan::Plan &p) {
       p.mutable_buffers(Y)->set_offset(192); p.mutable_buffers(Square)->set_offset(128);
       p.mutable_buffers(Y)->set_last(5); }, true, 2},
    {"instructions[3].outputs[0]: overlaps inputs[1]", [](plan::Plan &p) { // Y's last instruction writes over it
       p.mutable_buffers(Y)->set_offset(192); p.mutable_buffers(Square)->set_offset(128); }},
    {"buffers[5]: bytes [256, 304) overlap those of buffers[4]", [](plan::Plan &p) { // an output stays to its end
       p.mutable_buffers(Grad)->set_offset(256); }},
    // views
    {"instructions[0].inputs[0]: 4 + 32 exceeds buffer 1 of 32 bytes", [](plan::Plan &p) {
       p.mutable_instructions(0)->mutable_inputs(0)->set_byte_offset(4); }},
    {"instructions[0].inputs[0]: 18446744073709551612 + 32 exceeds buffer 1", [](plan::Plan &p) {
       p.mutable_instructions(0)->mutable_inputs(0)->set_byte_offset(~uint64_t(3)); }},
    {"instructions[0].inputs[0]: dtype 1 is unknown or the tensor is larger", [](plan::Plan &p) {
       p.mutable_instructions(0)->mutable_inputs(0)->set_shape(0, uint64_t(1) << 63); }},
    {"instructions[0].inputs[0]: dtype 77 is unknown", [](plan::Plan &p) {
       p.mutable_instructions(0)->mutable_inputs(0)->set_dtype(static_cast<plan::DType>(77)); }},
    {"instructions[0].inputs[1]: buffer 99 does not exist", [](plan::Plan &p) {
       p.mutable_instructions(0)->mutable_inputs(1)->set_buffer(99); }},
    {"instructions[4].outputs[1]: arena offset 322 should be a multiple of the element's 4 bytes", [](plan::Plan &p) {
       p.mutable_instructions(4)->mutable_outputs(1)->set_byte_offset(2); }, true, 2}, // and its reader
    {"instructions[3].inputs[0]: buffer 1 lives in [0, 3), not at instruction 3", [](plan::Plan &p) {
       p.mutable_buffers(X)->set_last(3); }},
    {"instructions[2].outputs[0]: buffer 4 lives in [3, 4), not at instruction 2", [](plan::Plan &p) {
       p.mutable_buffers(Loss)->set_first(3); p.mutable_outputs(0)->set_ready(3); }},
    // order
    {"instructions[0].inputs[0]: reads bytes of buffer 3 that nothing has written", [](plan::Plan &p) {
       *p.mutable_instructions(0) = p.instructions(1); p.mutable_instructions(0)->set_flops(48);
       *p.mutable_instructions(0)->mutable_outputs(0) = view(Y, plan::F32, {2, 3});
       for (int i : {0, 1}) *p.mutable_instructions(0)->mutable_inputs(i) = p.instructions(1).outputs(0);
       p.mutable_buffers(Square)->set_first(0); }, true, 2},
    // aliasing
    {"instructions[1].outputs[0]: overlaps inputs[0]", [](plan::Plan &p) { // shifted: not exactly the operand
       p.mutable_buffers(Y)->set_bytes(40);
       *p.mutable_instructions(1)->mutable_outputs(0) = view(Y, plan::F32, {2, 3});
       p.mutable_instructions(1)->mutable_outputs(0)->set_byte_offset(8);
       *p.mutable_instructions(2)->mutable_inputs(0) = p.instructions(1).outputs(0); }, true, 2},
    {"instructions[5].outputs[0]: should be the same view as inputs[0]", [](plan::Plan &p) {
       *p.mutable_instructions(5)->mutable_outputs(0) = view(Y, plan::F32, {4, 3});
       p.mutable_buffers(Y)->set_bytes(48); p.mutable_buffers(Y)->set_last(6); }},
    {"instructions[4].outputs[0]: overlaps outputs[1]", [](plan::Plan &p) {
       p.mutable_instructions(4)->mutable_outputs(1)->set_byte_offset(0);
       p.mutable_instructions(5)->mutable_inputs(2)->set_byte_offset(0); }},
    // kernels
    {"instructions[1] (mull): kernel 'mull' is not one", [](plan::Plan &p) { p.mutable_instructions(1)->set_kernel("mull"); }},
    {"instructions[2] (reduce_sum): attributes.axes: [0, 2] should be ascending and in [0, 2)", [](plan::Plan &p) {
       p.mutable_instructions(2)->mutable_attributes(0)->mutable_ints()->set_value(1, 2); }},
    {"instructions[2] (reduce_sum): attributes.keepdims: is absent", [](plan::Plan &p) {
       p.mutable_instructions(2)->mutable_attributes()->RemoveLast(); }},
    {"instructions[2] (reduce_sum): attributes.extra: kernel 'reduce_sum' has no such attribute", [](plan::Plan &p) {
       *p.mutable_instructions(2)->add_attributes() = attribute("extra", 1); }},
    {"instructions[2] (reduce_sum): attributes.keepdims: should be an integer", [](plan::Plan &p) {
       *p.mutable_instructions(2)->mutable_attributes(1) = attribute("keepdims", 1.0); }},
    {"instructions[0] (linear): inputs: there are 2 and should be 3", [](plan::Plan &p) {
       p.mutable_instructions(0)->mutable_inputs()->RemoveLast(); }},
    {"instructions[3] (linear_weight_grad): outputs[0]: shape is [3, 4] and should be [4, 3]", [](plan::Plan &p) {
       *p.mutable_instructions(3)->mutable_outputs(0) = view(Grad, plan::F32, {3, 4}); }},
    {"instructions[1] (mul): workspaces: there are 1 and should be 0", [](plan::Plan &p) {
       plan::Buffer &scratch = *p.add_buffers();
       scratch = p.buffers(Square);
       scratch.set_offset(576);
       scratch.set_category(plan::WORKSPACE);
       *p.mutable_instructions(1)->add_workspaces() = view(BufferCount, plan::U8, {24}); }},
    {"instructions[1].phase: 0", [](plan::Plan &p) { p.mutable_instructions(1)->set_phase(plan::PHASE_UNSPECIFIED); }},
    // parameters, constants, inputs, outputs
    {"parameters[1].name: 'w' is another parameter's name", [](plan::Plan &p) {
       plan::Parameter &q = *p.add_parameters(); q.set_name("w"); *q.mutable_view() = view(Literal, plan::F32, {0}); }},
    {"parameters[1].view: shares bytes", [](plan::Plan &p) {
       plan::Parameter &q = *p.add_parameters(); q.set_name("v"); *q.mutable_view() = view(W, plan::F32, {2}); }},
    {"parameters[0].states[0].view: buffer 7 should be persistent", [](plan::Plan &p) {
       *p.mutable_parameters(0)->add_states()->mutable_view() = view(Rate, plan::F32, {0}); }},
    {"parameters[0].states[0].view: should be f32, of the shape of the parameter", [](plan::Plan &p) {
       plan::OptimizerState &master = *p.mutable_parameters(0)->add_states();
       master.set_name("master");
       *master.mutable_view() = view(Literal, plan::F32, {2}); }, true, 2}, // and the constant that is there
    {"parameters[0].source: has 40 bytes and should have 48", [](plan::Plan &p) {
       p.mutable_parameters(0)->mutable_source()->mutable_file()->set_length(40); }},
    {"parameters[0].source: has 48 bytes and should have 24", [](plan::Plan &p) {
       p.mutable_parameters(0)->set_initializer_dtype("bf16"); }},
    {"parameters[0].initializer_dtype: 'f33'", [](plan::Plan &p) { p.mutable_parameters(0)->set_initializer_dtype("f33"); }},
    {"parameters[0].tied[0].permutation: is no permutation", [](plan::Plan &p) {
       p.mutable_parameters(0)->mutable_tied(0)->set_permutation(0, 0); }},
    {"parameters[0].gradient: is there and the parameter is frozen", [](plan::Plan &p) {
       p.mutable_parameters(0)->set_trainable(false); }},
    {"parameters[0].gradient_ready: instruction 6 does not exist", [](plan::Plan &p) {
       p.mutable_parameters(0)->set_gradient_ready(6); }},
    {"parameters[0].gradient_ready: buffer 5 is not alive at instruction 2", [](plan::Plan &p) {
       p.mutable_parameters(0)->set_gradient_ready(2); }},
    {"parameters[0].gradient: its shape", [](plan::Plan &p) { p.mutable_parameters(0)->mutable_gradient()->set_shape(0, 2); }},
    {"constants[0].data: has 7 bytes and should have 8", [](plan::Plan &p) { p.mutable_constants(0)->set_data("1234567"); }},
    {"inputs[0]: is written before the first instruction", [](plan::Plan &p) {
       p.mutable_buffers(X)->set_first(1);
       *p.mutable_instructions(0)->mutable_inputs(0) = view(W, plan::F32, {2, 4}); }},
    {"inputs[1].view: dtype is i64 and should be f64", [](plan::Plan &p) {
       p.mutable_inputs(1)->mutable_view()->set_dtype(plan::I64); }},
    {"inputs[2].view: rank is 1 and should be 0", [](plan::Plan &p) { p.mutable_inputs(2)->mutable_view()->add_shape(1); }},
    {"inputs[0].role: 0", [](plan::Plan &p) { p.mutable_inputs(0)->set_role(plan::INPUT_ROLE_UNSPECIFIED); }},
    {"outputs[0].ready: is 1, and not all of the tensor has been written", [](plan::Plan &p) {
       p.mutable_buffers(Loss)->set_first(1); p.mutable_outputs(0)->set_ready(1); }},
    {"outputs[0]: buffer 4 dies at 3 and should live until 4", [](plan::Plan &p) { p.mutable_buffers(Loss)->set_last(3); }},
    // promise
    {"promise.arena_bytes: is 1", [](plan::Plan &p) { p.mutable_promise()->set_arena_bytes(1); }, false},
    {"promise.max_live_bytes: is 1", [](plan::Plan &p) { p.mutable_promise()->set_max_live_bytes(1); }, false},
    {"promise.peak_instruction: is 1", [](plan::Plan &p) { p.mutable_promise()->set_peak_instruction(1); }, false},
    {"promise.parameter_bytes: is 1", [](plan::Plan &p) { p.mutable_promise()->set_parameter_bytes(1); }, false},
    {"promise.gradient_bytes: is 1", [](plan::Plan &p) { p.mutable_promise()->set_gradient_bytes(1); }, false},
    {"promise.optimizer_state_bytes: is 1", [](plan::Plan &p) { p.mutable_promise()->set_optimizer_state_bytes(1); }, false},
    {"promise.activation_bytes: is 1", [](plan::Plan &p) { p.mutable_promise()->set_activation_bytes(1); }, false},
    {"promise.workspace_bytes: is 1", [](plan::Plan &p) { p.mutable_promise()->set_workspace_bytes(1); }, false},
    {"promise.input_bytes: is 1", [](plan::Plan &p) { p.mutable_promise()->set_input_bytes(1); }, false},
    {"promise.constant_bytes: is 1", [](plan::Plan &p) { p.mutable_promise()->set_constant_bytes(1); }, false},
    {"promise.flops_backward: is 1", [](plan::Plan &p) { p.mutable_promise()->set_flops_backward(1); }, false},
    {"promise.flops_backward: is 48 and the plan has 47", [](plan::Plan &p) { p.mutable_instructions(3)->set_recompute_flops(1); }, false, 2},
    {"instructions[0].recompute_flops: is 1, should be at most 0", [](plan::Plan &p) {
       p.mutable_instructions(0)->set_recompute_flops(1); }, false, 3},
    {"instructions[3].recompute_flops: is 49, should be at most 48", [](plan::Plan &p) {
       p.mutable_instructions(3)->set_recompute_flops(49); }, false, 3},
};

TEST(PlanVerifier, AcceptsTheValidPlan) {
  PlanDiagnostics d = verify(validPlan());
  EXPECT_TRUE(d.ok()) << all(d);
  EXPECT_TRUE(verifyPlanStructure(validPlan()).ok());
}

TEST(PlanVerifier, EachChangeGivesItsError) {
  for (const Mutation &m : mutations) {
    plan::Plan plan = validPlan();
    m.change(plan);
    if (m.promise)
      complete(plan);
    PlanDiagnostics d = verify(plan);
    ASSERT_FALSE(d.ok()) << m.error;
    EXPECT_EQ(d.errors[0].substr(0, std::string(m.error).size()), m.error) << all(d);
    EXPECT_EQ(d.errors.size(), m.errors) << all(d);
  }
}

// What one instruction reads for the last time and writes over may be two buffers.
TEST(PlanVerifier, InPlaceAcrossBuffers) {
  plan::Plan plan = validPlan();
  plan.mutable_buffers(Square)->set_offset(128); // mul writes over y …
  plan.mutable_buffers(Y)->set_last(2);          // … whose last reader it is
  *plan.mutable_instructions(3)->mutable_inputs(1) = view(Square, plan::F32, {2, 3});
  plan.mutable_buffers(Square)->set_last(4);
  complete(plan);
  PlanDiagnostics d = verify(plan);
  EXPECT_TRUE(d.ok()) << all(d);
  plan.mutable_buffers(Y)->set_last(3); // one longer and it is an overlap
  complete(plan);
  d = verify(plan);
  ASSERT_EQ(d.errors.size(), 1u) << all(d);
  EXPECT_EQ(d.errors[0].substr(0, 33), "buffers[3]: bytes [128, 152) over");
}

TEST(PlanVerifier, ReportsAllErrors) {
  plan::Plan plan = validPlan();
  plan.mutable_instructions(1)->set_kernel("a");
  plan.mutable_instructions(2)->set_kernel("b");
  plan.mutable_promise()->set_max_live_bytes(0);
  EXPECT_EQ(verify(plan).errors.size(), 3u);
}

// A valid plan runs, and the numbers come out.
TEST(PlanVerifier, TheValidPlanRuns) {
  Expected<Executor> executor = Executor::create(validPlan(), {1, false});
  ASSERT_TRUE(executor.ok()) << executor.status().message();
  auto *w = static_cast<float *>(executor->parameter(0).data);
  auto *x = static_cast<float *>(executor->input(0).data);
  std::fill_n(w, 12, 1.0f);
  std::fill_n(x, 8, 1.0f);
  *static_cast<double *>(executor->input(1).data) = 0.5;
  *static_cast<int64_t *>(executor->input(2).data) = 1;
  ASSERT_TRUE(executor->runMicroBatch().ok());
  EXPECT_EQ(*static_cast<float *>(executor->output(0).data), 96.0f); // six times 4^2
  EXPECT_EQ(*static_cast<float *>(executor->gradient(0).data), 8.0f);
  ASSERT_TRUE(executor->runUpdate().ok());
  EXPECT_NEAR(w[0], 1 - 0.5 * 8 / (2 + 1e-6), 1e-6);
  EXPECT_GE(executor->arenaBytes(), executor->plan().arena_bytes());
}

TEST(PlanVerifier, NearLinear) {
  plan::Plan plan;
  plan.set_target("cpu");
  plan.set_alignment(64);
  plan.set_accumulation(1);
  constexpr uint64_t n = 40000;
  for (uint64_t i = 0; i <= n; ++i) { // a chain of buffers that all live to the end
    plan::Buffer &b = *plan.add_buffers();
    b.set_offset(i * 64);
    b.set_bytes(64);
    b.set_category(i ? plan::ACTIVATION : plan::INPUT);
    b.set_first(i ? i - 1 : 0);
    b.set_last(n);
    if (i)
      add(plan, "neg", {view(static_cast<int>(i - 1), plan::F32, {16})}, {view(static_cast<int>(i), plan::F32, {16})}, plan::FORWARD);
  }
  input(plan, "x", plan::DATA, view(0, plan::F32, {16}));
  plan.set_micro_batch_end(n);
  plan.set_forward_end(n);
  complete(plan);
  auto start = std::chrono::steady_clock::now();
  PlanDiagnostics d = verify(plan);
  EXPECT_TRUE(d.ok()) << all(d);
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 5.0); // quadratic: minutes
}

} // namespace
} // namespace amc::rt::test
