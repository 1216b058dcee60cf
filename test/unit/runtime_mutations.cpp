// One small valid call of every kernel of the CPU device (a kernel without one fails the test), and what happens when
// anything in it is changed: the verifier refuses it, or it runs without touching a byte that is not its own. Under
// the sanitizers this is where a hole in a signature check shows.
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/Ring.h"
#include "runtime_support.h"
#include <map>
#include <set>

namespace amc::rt::test {
namespace {

constexpr plan::DType F = plan::F32;
using Ints = std::vector<int64_t>;

Array f(Shape shape, uint64_t seed = 1) { return random(F, std::move(shape), seed, 0.1, 0.9); }
Array ids(Shape shape, int64_t limit) { return randomIndices(plan::I64, std::move(shape), 3, 0, limit); }
Array b(Shape shape) { return randomIndices(plan::BOOL, std::move(shape), 4, 0, 2); }
Array scalar(plan::DType dtype, double value) { return array(dtype, {}, {value}); }

} // namespace

std::map<std::string, Call> samples() {
  std::map<std::string, Call> all;
  auto add = [&](const char *name, std::vector<Array> inputs, std::vector<Result> outputs, Attributes attributes = {},
                 uint64_t workspace = 0, std::vector<int> replaces = {}) {
    all[name] = {name, std::move(inputs), std::move(outputs), std::move(attributes), workspace, std::move(replaces)};
  };
  for (const char *name : {"abs", "neg", "exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tan", "asin", "acos",
                           "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "tanh", "sigmoid", "erf", "relu", "silu",
                           "softplus", "ceil", "floor", "round", "sign"})
    add(name, {f({3, 5})}, {{F, {3, 5}}});
  add("gelu", {f({3, 5})}, {{F, {3, 5}}}, {attribute("approximate", "none")});
  add("dropout", {f({3, 5}), scalar(plan::I64, 1), scalar(plan::I64, 2), scalar(plan::I64, 0)}, {{F, {3, 5}}},
      {attribute("probability", 0.5), attribute("stream", 3)});
  add("elu", {f({3, 5})}, {{F, {3, 5}}}, {attribute("alpha", 1.0)});
  add("is_nan", {f({3, 5})}, {{plan::BOOL, {3, 5}}});
  add("is_inf", {f({3, 5})}, {{plan::BOOL, {3, 5}}}, {attribute("positive", true), attribute("negative", true)});
  add("not", {b({7})}, {{plan::BOOL, {7}}});
  add("bitwise_not", {ids({7}, 99)}, {{plan::I64, {7}}});
  for (const char *name : {"add", "sub", "mul", "div", "pow", "max", "min", "mod"})
    add(name, {f({3, 5}), f({5})}, {{F, {3, 5}}});
  for (const char *name : {"equal", "less", "less_equal"})
    add(name, {f({3, 5}), f({3, 1})}, {{plan::BOOL, {3, 5}}});
  for (const char *name : {"and", "or", "xor"})
    add(name, {b({3, 5}), b({5})}, {{plan::BOOL, {3, 5}}});
  for (const char *name : {"bitwise_and", "bitwise_or", "bitwise_xor"})
    add(name, {ids({4}, 99), ids({4}, 99)}, {{plan::I64, {4}}});
  add("select", {b({3, 1}), f({3, 5}), f({5})}, {{F, {3, 5}}});
  add("cast", {f({9})}, {{plan::BF16, {9}}}, {attribute("to", "bf16")});
  add("gated_activation", {f({9}), f({9})}, {{F, {9}}}, {attribute("activation", "silu")});
  add("gated_activation_backward", {f({9}), f({9}), f({9})}, {{F, {9}}, {F, {9}}}, {attribute("activation", "relu")});
  add("silu_backward", {f({9}), f({9})}, {{F, {9}}});
  add("gelu_backward", {f({9}), f({9})}, {{F, {9}}}, {attribute("approximate", "tanh")});

  add("transpose", {f({3, 4, 5})}, {{F, {5, 3, 4}}}, {attribute("permutation", Ints{2, 0, 1})});
  add("slice", {f({6, 7})}, {{F, {2, 3}}}, {attribute("starts", Ints{4, 1}), attribute("sizes", Ints{2, 3}), attribute("steps", Ints{-3, 2})});
  add("concat", {f({2, 3}), f({2, 4})}, {{F, {2, 7}}}, {attribute("axis", 1)});
  add("broadcast", {f({3, 1})}, {{F, {2, 3, 4}}}, {attribute("shape", Ints{2, 3, 4})});
  add("full", {}, {{F, {2, 3}}}, {attribute("value", 2.0), attribute("shape", Ints{2, 3}), attribute("element", "f32")});
  add("iota", {}, {{F, {2, 3}}}, {attribute("start", 0.0), attribute("step", 1.0), attribute("axis", 1), attribute("shape", Ints{2, 3}), attribute("element", "f32")});
  add("pad", {f({2, 3})}, {{F, {4, 8}}}, {attribute("low", Ints{1, 2}), attribute("high", Ints{1, 1}), attribute("interior", Ints{0, 1}), attribute("value", 0.0)});
  add("triangle", {f({4, 4})}, {{F, {4, 4}}}, {attribute("upper", true), attribute("k", 1)});

  add("gather", {f({6, 4}), ids({3}, 6)}, {{F, {3, 4}}}, {attribute("axis", 0)});
  add("gather_backward", {f({3, 4}), ids({3}, 6)}, {{F, {6, 4}}}, {attribute("axis", 0), attribute("shape", Ints{6, 4})});
  add("embedding", {f({6, 4}), ids({3}, 6)}, {{F, {3, 4}}});
  add("embedding_backward", {f({3, 4}), ids({3}, 6)}, {{F, {6, 4}}}, {attribute("rows", 6)});
  add("gather_elements", {f({4, 5}), ids({4, 3}, 5)}, {{F, {4, 3}}}, {attribute("axis", 1)});
  add("gather_nd", {f({4, 5, 6}), ids({3, 2}, 4)}, {{F, {3, 6}}}, {attribute("batch_dims", 0)});
  add("gather_nd_backward", {f({3, 6}), ids({3, 2}, 4)}, {{F, {4, 5, 6}}}, {attribute("batch_dims", 0), attribute("shape", Ints{4, 5, 6})});
  add("scatter_elements", {f({4, 5}), ids({4, 3}, 5), f({4, 3})}, {{F, {4, 5}}}, {attribute("axis", 1), attribute("reduction", "add")});
  add("scatter_nd", {f({4, 5, 6}), ids({3, 2}, 4), f({3, 6})}, {{F, {4, 5, 6}}}, {attribute("reduction", "none")});
  add("one_hot", {ids({4}, 5)}, {{F, {4, 5}}}, {attribute("depth", 5), attribute("axis", 1), attribute("element", "f32")});
  add("top_k", {f({4, 9})}, {{F, {4, 2}}, {plan::I64, {4, 2}}}, {attribute("k", 2), attribute("axis", 1), attribute("largest", true)});
  add("arg_max", {f({4, 9})}, {{plan::I64, {4}}}, {attribute("axis", 1), attribute("keepdims", false)});
  add("cumsum", {f({4, 9})}, {{F, {4, 9}}}, {attribute("axis", 1)});

  for (const char *name : {"reduce_sum", "reduce_mean", "reduce_prod", "reduce_max", "reduce_min"})
    add(name, {f({4, 5, 6})}, {{F, {5}}}, {attribute("axes", Ints{0, 2}), attribute("keepdims", false)});
  for (const char *name : {"softmax", "log_softmax"})
    add(name, {f({4, 5})}, {{F, {4, 5}}}, {attribute("axis", 1)});
  for (const char *name : {"softmax_backward", "log_softmax_backward"})
    add(name, {f({4, 5}), f({4, 5})}, {{F, {4, 5}}}, {attribute("axis", 1)});
  add("rms_norm", {f({4, 5}), f({5})}, {{F, {4, 5}}, {F, {4}}}, {attribute("epsilon", 1e-5)});
  add("rms_norm_backward", {f({4, 5}), f({4, 5}), f({4}), f({5})}, {{F, {4, 5}}, {F, {5}}}, {}, workspace::rmsNormBackward(4, 5, true, 4));
  add("layer_norm", {f({4, 5}), f({5}), f({5})}, {{F, {4, 5}}, {F, {4}}, {F, {4}}}, {attribute("epsilon", 1e-5)});
  add("layer_norm_backward", {f({4, 5}), f({4, 5}), f({4}), f({4}), f({5})}, {{F, {4, 5}}, {F, {5}}, {F, {5}}}, {},
      workspace::layerNormBackward(4, 5, true, 4));

  add("matmul", {f({2, 3, 4}), f({4, 5})}, {{F, {2, 3, 5}}});
  add("linear", {f({2, 3, 4}), f({5, 4}), f({5})}, {{F, {2, 3, 5}}}, {attribute("transpose_w", 1)});
  add("linear_weight_grad", {f({2, 3, 4}), f({2, 3, 5})}, {{F, {4, 5}}});
  add("grouped_matmul", {f({6, 4}), f({3, 4, 5}), ids({6}, 3)}, {{F, {6, 5}}}, {}, workspace::groupedMatmul(6, 4, 5, 3, 4));
  add("grouped_matmul_weight_grad", {f({6, 4}), f({6, 5}), ids({6}, 3)}, {{F, {3, 4, 5}}}, {attribute("groups", 3)},
      workspace::groupedMatmulWeightGrad(6, 4, 5, 3, 4));
  add("expert_slots", {ids({6}, 4)}, {{plan::I64, {6}}, {plan::I64, {8}}, {plan::F64, {}}},
      {attribute("capacity", 4), attribute("experts", 4), attribute("members", 2)});
  add("place_rows", {f({3, 4}), array(plan::I64, {3}, {4, 0, 6})}, {{F, {7, 4}}}, {attribute("rows", 7)});
  add("take_rows", {f({7, 4}), ids({3}, 7)}, {{F, {3, 4}}});
  add("gated_mlp", {f({2, 3, 4}), f({4, 6}), f({6, 4}), f({6, 5})}, {{F, {2, 3, 5}}},
      {attribute("activation", "silu"), attribute("transpose_up", 1)}, workspace::gatedMlp(6, 4, 6, 5, 4));
  add("gated_mlp_backward", {f({2, 3, 5}), f({2, 3, 4}), f({4, 6}), f({6, 4}), f({6, 5})},
      {{F, {2, 3, 4}}, {F, {4, 6}}, {F, {6, 4}}, {F, {6, 5}}}, {attribute("activation", "gelu"), attribute("transpose_up", 1)},
      workspace::gatedMlpBackward(6, 4, 6, 5, true, 4));
  for (const char *name : {"rotary", "rotary_backward"})
    add(name, {f({2, 3, 4, 6}), f({1, 1, 4, 6}), f({1, 1, 4, 6})}, {{F, {2, 3, 4, 6}}});
  Attributes attention = {attribute("masked_rows", "average"), attribute("right", 0), attribute("scale", 0.5), attribute("softcap", 2.0)};
  add("attention", {f({1, 4, 6, 8}), f({1, 2, 7, 8}), f({1, 2, 7, 5}), b({1, 7}), f({1, 1, 6, 7})}, {{F, {1, 4, 6, 5}}, {F, {1, 4, 6}}},
      attention, workspace::attention(1, 4, 6, 8, 5, 4));
  add("attention_backward",
      {f({1, 4, 6, 5}), f({1, 4, 6, 8}), f({1, 2, 7, 8}), f({1, 2, 7, 5}), f({1, 4, 6, 5}), f({1, 4, 6}), b({1, 7}), f({1, 1, 6, 7})},
      {{F, {1, 4, 6, 8}}, {F, {1, 2, 7, 8}}, {F, {1, 2, 7, 5}}}, attention, workspace::attentionBackward(1, 4, 2, 6, 7, 8, 5, 4));

  auto withDropout = [&](const char *plain, const char *name) {
    Call call = all[plain];
    for (double counter : {7, 2, 0})
      call.inputs.push_back(scalar(plan::I64, counter));
    call.attributes.insert(call.attributes.begin(), attribute("dropout", 0.4));
    call.attributes.push_back(attribute("stream", 3));
    add(name, call.inputs, call.outputs, call.attributes, call.workspace);
  };
  withDropout("attention", "attention_dropout");
  withDropout("attention_backward", "attention_dropout_backward");

  add("shift_labels", {ids({2, 5}, 9)}, {{plan::I64, {2, 5}}}, {attribute("ignore_index", -100)});
  Attributes loss = {attribute("ignore_index", -100), attribute("label_smoothing", 0.1), attribute("z_loss", 0.01)};
  add("cross_entropy", {f({2, 5, 9}), ids({2, 5}, 9), f({9})}, {{F, {}}, {F, {2, 5}}}, loss);
  add("cross_entropy_backward", {scalar(F, 1), f({2, 5, 9}), ids({2, 5}, 9), f({2, 5}), f({9})}, {{F, {2, 5, 9}}}, loss);
  loss.insert(loss.end(), {attribute("softcap", 2.0), attribute("tokens_in_flight", 2), attribute("transpose_w", 1)});
  workspace::LceShape lce{10, 4, 9, 4, false, true, 2};
  add("linear_cross_entropy", {f({2, 5, 4}), f({9, 4}), f({9}), ids({2, 5}, 9), f({9})}, {{F, {}}, {F, {2, 5}}}, loss,
      workspace::linearCrossEntropy(lce));
  add("linear_cross_entropy_backward", {scalar(F, 1), f({2, 5, 4}), f({9, 4}), f({9}), ids({2, 5}, 9), f({9}), f({2, 5})},
      {{F, {2, 5, 4}}, {F, {9, 4}}, {F, {9}}}, loss, workspace::linearCrossEntropyBackward(lce, true, true, true));
  add("squared_norm", {f({70})}, {{plan::F64, {}}});
  add("sum_scalars", {scalar(plan::F64, 1), scalar(plan::F64, 2)}, {{plan::F64, {}}});
  add("clip_scale", {scalar(plan::F64, 1), scalar(plan::F64, 2)}, {{F, {}}, {F, {}}}, {attribute("max_norm", 1.0)});
  add("accumulate", {f({9}), f({9}), scalar(plan::I64, 1)}, {{F, {9}}}, {}, 0, {0});
  add("adamw", {f({9}), f({9}), f({9}), f({9}), scalar(F, 1), scalar(plan::F64, 0.1), scalar(plan::I64, 1)}, {{F, {9}}, {F, {9}}, {F, {9}}},
      {attribute("beta1", 0.9), attribute("beta2", 0.9), attribute("epsilon", 1e-8), attribute("weight_decay", 0.0)}, 0, {0, 2, 3});
  add("sgd", {f({9}), f({9}), scalar(F, 1), scalar(plan::F64, 0.1), scalar(plan::I64, 1), f({9})}, {{F, {9}}, {F, {9}}},
      {attribute("momentum", 0.9), attribute("weight_decay", 0.0)}, 0, {0, 5});
  // Of one rank: every group of its mesh has one member.
  Attributes alone = {attribute("group", "dp_shard"), attribute("members", 1), attribute("dim", 1)};
  for (const char *name : {"all_gather", "reduce_scatter"})
    add(name, {f({2, 5, 3})}, {{F, {2, 5, 3}}}, alone);
  add("take_piece", {f({2, 4, 3})}, {{F, {2, 4, 3}}}, {alone[0], alone[1], alone[2], attribute("zigzag", 1)});
  add("all_reduce", {f({9})}, {{F, {9}}}, {alone[0], alone[1]}, 0, {0});
  add("all_to_all", {f({2, 4, 3})}, {{F, {2, 4, 3}}},
      {attribute("concat_dim", 2), alone[0], alone[1], attribute("split_dim", 1)}, workspace::allToAll(96, 2, 8));
  add("shift", {f({9})}, {{F, {9}}}, {attribute("distance", 0), alone[0], alone[1]});
  // What may do without a group, with one.
  attention.insert(attention.end(), {alone[0], alone[1], attribute("zigzag", 1)});
  all["attention of a member"] = {"attention", {f({1, 4, 6, 8}), f({1, 2, 6, 8}), f({1, 2, 6, 5}), b({1, 6}), f({1, 4, 1, 1})},
                                  {{F, {1, 4, 6, 5}}, {F, {1, 4, 6}}}, attention, workspace::attention(1, 4, 6, 8, 5, 4), {}};
  all["attention_backward of a member"] = {
      "attention_backward",
      {f({1, 4, 6, 5}), f({1, 4, 6, 8}), f({1, 2, 6, 8}), f({1, 2, 6, 5}), f({1, 4, 6, 5}), f({1, 4, 6}), b({1, 6}), f({1, 4, 1, 1})},
      {{F, {1, 4, 6, 8}}, {F, {1, 2, 6, 8}}, {F, {1, 2, 6, 5}}}, attention, workspace::attentionBackward(1, 4, 2, 6, 6, 8, 5, 4), {}};
  RingShape ring{1, 1, 4, 2, 6, 8, 5, 4, {}, 0, true, true};
  for (auto [of, bytes] : {std::pair("attention", ring.forwardWorkspace()), {"attention_backward", ring.backwardWorkspace()}}) {
    Call call = all[std::string(of) + " of a member"];
    call.attributes.push_back(attribute("ring", 1));
    call.workspace = bytes;
    all[std::string(of) + " in a ring"] = call;
  }
  return all;
}

namespace {

TEST(RuntimeMutations, EveryKernelHasASampleThatRuns) {
  std::map<std::string, Call> all = samples();
  cpu::KernelRegistry registry;
  for (const std::string &name : registry.names())
    EXPECT_TRUE(all.count(name) || name == "wait") // which is nothing alone: runtime_async.cpp
         << "kernel '" << name << "' has no sample";
  for (const auto &[name, call] : all) {
    if (!hasKernel(call.kernel) || (onCuda() && name.ends_with("in a ring")))
      continue; // runtime_cuda.cpp lists the former; a CUDA device refuses the latter
    Outcome o = run(call, 2);
    EXPECT_TRUE(o.status.ok()) << o.status.message();
  }
}

// Random numbers, the same in every run.
struct Dice {
  uint64_t state;
  uint64_t roll(uint64_t sides) {
    state = state * 6364136223846793005 + 1442695040888963407;
    return (state >> 33) % sides;
  }
};

int64_t oddNumber(Dice &dice, int64_t old) {
  auto bits = static_cast<uint64_t>(old); // wraps around
  const int64_t odd[] = {static_cast<int64_t>(bits + 1), static_cast<int64_t>(bits - 1), 0, 1, -1, 2, 7,
                         static_cast<int64_t>(0 - bits), static_cast<int64_t>(bits * 2), int64_t(1) << 31,
                         int64_t(1) << 47, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
  return odd[dice.roll(std::size(odd))];
}

void changeView(Dice &dice, plan::View &view) {
  switch (dice.roll(4)) {
  case 0: view.set_dtype(static_cast<plan::DType>(dice.roll(15))); break;
  case 1:
    if (view.shape_size())
      view.set_shape(static_cast<int>(dice.roll(static_cast<uint64_t>(view.shape_size()))),
                     static_cast<uint64_t>(oddNumber(dice, 3)));
    break;
  case 2: dice.roll(2) && view.shape_size() ? view.mutable_shape()->RemoveLast() : view.add_shape(dice.roll(3)); break;
  case 3: view.set_buffer(dice.roll(6)); break;
  }
}

void changeAttribute(Dice &dice, plan::Attribute &a) {
  switch (a.value_case()) {
  case plan::Attribute::kI: a.set_i(oddNumber(dice, a.i())); break;
  case plan::Attribute::kF: a.set_f(dice.roll(2) ? nan : static_cast<double>(oddNumber(dice, 1))); break;
  case plan::Attribute::kS: a.set_s(dice.roll(2) ? "f64" : "none"); break;
  case plan::Attribute::kInts:
    if (a.ints().value_size() && dice.roll(3))
      a.mutable_ints()->set_value(static_cast<int>(dice.roll(static_cast<uint64_t>(a.ints().value_size()))),
                                  oddNumber(dice, a.ints().value(0)));
    else
      a.mutable_ints()->add_value(1);
    break;
  default: break;
  }
}

void change(Dice &dice, plan::Plan &plan, const std::vector<std::string> &names) {
  plan::Instruction &i = *plan.mutable_instructions(0);
  auto pick = [&](auto *views) {
    if (views->size())
      changeView(dice, *views->Mutable(static_cast<int>(dice.roll(static_cast<uint64_t>(views->size())))));
  };
  switch (dice.roll(8)) {
  case 0: case 1: pick(i.mutable_inputs()); break;
  case 2: case 3: pick(i.mutable_outputs()); break;
  case 4: pick(i.mutable_workspaces()); break;
  case 5: case 6:
    if (i.attributes_size())
      changeAttribute(dice, *i.mutable_attributes(static_cast<int>(dice.roll(static_cast<uint64_t>(i.attributes_size())))));
    break;
  case 7: i.set_kernel(names[dice.roll(names.size())]); break;
  }
}

// All of the arena.
Tensor arenaOf(const Executor &executor) {
  const plan::Plan &plan = executor.plan();
  Tensor arena;
  arena.data = static_cast<char *>(executor.input(0).data) - plan.buffers(static_cast<int>(plan.inputs(0).view().buffer())).offset();
  arena.bytes = plan.arena_bytes();
  return arena;
}

// The bytes that no result and no workspace covers.
std::string untouchable(const Executor &executor) {
  const plan::Plan &plan = executor.plan();
  std::vector<std::byte> arena(plan.arena_bytes());
  EXPECT_TRUE(executor.readInto(arenaOf(executor), arena.data()).ok());
  std::vector<bool> covered(plan.arena_bytes());
  auto cover = [&](const auto &views) {
    for (const plan::View &v : views)
      if (v.dtype() != plan::DTYPE_UNSPECIFIED) {
        uint64_t begin = plan.buffers(static_cast<int>(v.buffer())).offset() + v.byte_offset();
        std::fill_n(covered.begin() + static_cast<long>(begin), *viewBytes(v), true);
      }
  };
  cover(plan.instructions(0).outputs());
  cover(plan.instructions(0).workspaces());
  std::string bytes;
  for (uint64_t i = 0; i < plan.arena_bytes(); ++i)
    if (!covered[i])
      bytes.push_back(static_cast<char>(arena[i]));
  return bytes;
}

TEST(RuntimeMutations, AnythingChangedIsRefusedOrRuns) {
  std::map<std::string, Call> all = samples();
  std::vector<std::string> names = cpu::KernelRegistry().names();
  cpu::KernelRegistry registry;
  Dice dice{42};
  uint64_t refused = 0, ran = 0;
  const int trials = onCuda() ? 15 : 150; // a GPU takes long to open
  for (const auto &[name, call] : all)
    for (int trial = 0; trial < trials; ++trial) {
      plan::Plan plan = planOf(call);
      for (uint64_t changes = 1 + dice.roll(3); changes > 0; --changes)
        change(dice, plan, names);
      // The verifier alone first: preparing threads and arena for every refusal would take most of the time.
      if (!verifyPlan(plan, registry).ok()) {
        ++refused;
        continue;
      }
      ++ran;
      if (plan.inputs_size() == 0)
        continue; // full, iota: nothing that could be overwritten
      Expected<Executor> executor = Executor::create(plan, {2, false});
      if (onCuda() && !executor.ok() && executor.status().kind() == ErrorKind::Input)
        continue; // what GPUs alone refuse
      ASSERT_TRUE(executor.ok()) << executor.status().message();
      EXPECT_TRUE(executor->write(arenaOf(*executor), std::vector<std::byte>(plan.arena_bytes()).data()).ok());
      for (size_t k = 0; k < static_cast<size_t>(plan.inputs_size()); ++k) { // any bytes at all
        Tensor tensor = executor->input(k);
        std::vector<std::byte> bytes(tensor.bytes);
        for (std::byte &byte : bytes)
          byte = static_cast<std::byte>(dice.roll(tensor.dtype == plan::BOOL ? 2 : 256));
        EXPECT_TRUE(executor->write(tensor, bytes.data()).ok());
      }
      std::string before = untouchable(*executor);
      (void)executor->runMicroBatch().ok(); // an index out of range is an error, and fine
      EXPECT_EQ(before, untouchable(*executor)) << plan.instructions(0).DebugString();
    }
  EXPECT_GT(refused, 7u * static_cast<unsigned>(trials));
  EXPECT_GT(ran, static_cast<unsigned>(trials));
}

} // namespace
} // namespace amc::rt::test
