// A plan by hand for the trainer's tests: a bigram model. One weight, `table` [V, V] (tied to
// `head`, stored transposed): the logits after token t are row t. Causal-LM loss, gradient
// accumulation, clipping, AdamW. Every buffer has bytes of its own and lives throughout.
#ifndef AMC_TEST_UNIT_TRAINER_PLAN_H
#define AMC_TEST_UNIT_TRAINER_PLAN_H

#include "runtime/plan/PlanFile.h"
#include "runtime/plan/PlanVerifier.h"
#include "test/unit/trainer_support.h"

namespace amc::rt::test {

struct BigramOptions {
  uint64_t vocabulary = 16, batch = 2, length = 4, accumulation = 1;
  double maxNorm = 1.0;
  bool absent = false; // no initial bytes
};

// Every buffer lives throughout; what the plan promises follows.
inline void promise(plan::Plan &plan, uint64_t arena) {
  for (plan::Buffer &buffer : *plan.mutable_buffers())
    buffer.set_last(static_cast<uint64_t>(plan.instructions_size()));
  LivePeak peak = findLivePeak(plan);
  plan::Promise *promised = plan.mutable_promise();
  promised->set_arena_bytes(arena);
  promised->set_max_live_bytes(peak.bytes);
  promised->set_peak_instruction(peak.instruction);
  promised->set_parameter_bytes(peak.byCategory[plan::PARAMETER]);
  promised->set_gradient_bytes(peak.byCategory[plan::GRADIENT]);
  promised->set_optimizer_state_bytes(peak.byCategory[plan::OPTIMIZER_STATE]);
  promised->set_activation_bytes(peak.byCategory[plan::ACTIVATION]);
  promised->set_workspace_bytes(peak.byCategory[plan::WORKSPACE]);
  promised->set_input_bytes(peak.byCategory[plan::INPUT]);
  promised->set_constant_bytes(peak.byCategory[plan::CONSTANT]);
  promised->set_saved_bytes(savedBytes(plan));
}

class BigramPlan {
public:
  explicit BigramPlan(const BigramOptions &options = {}) : o(options) { build(); }

  // The initial weights: element i is ((i * 37) % 64 - 32) / 64.
  static std::vector<float> initialTable(uint64_t vocabulary) {
    std::vector<float> table(vocabulary * vocabulary);
    for (uint64_t i = 0; i < table.size(); ++i)
      table[i] = static_cast<float>(static_cast<int64_t>(i * 37 % 64) - 32) / 64;
    return table;
  }

  plan::Plan plan;

private:
  using Views = std::vector<plan::View>;

  plan::View buffer(const std::string &name, plan::DType dtype, const Shape &shape,
                    plan::Category category, bool persistent = false) {
    uint64_t bytes = *elementCount(shape) * dtypeBytes(dtype);
    plan::Buffer *made = plan.add_buffers();
    made->set_offset(arena);
    made->set_bytes(bytes);
    made->set_category(category);
    made->set_name(name);
    made->set_persistent(persistent);
    arena += (bytes + 63) / 64 * 64;
    plan::View view;
    view.set_buffer(static_cast<uint64_t>(plan.buffers_size() - 1));
    view.set_dtype(dtype);
    for (uint64_t dimension : shape)
      view.add_shape(dimension);
    return view;
  }

  plan::Instruction *instruction(const std::string &kernel, plan::Phase phase, const Views &inputs,
                                 const Views &outputs) {
    plan::Instruction *made = plan.add_instructions();
    made->set_kernel(kernel);
    made->set_phase(phase);
    made->set_location("/" + kernel);
    for (const plan::View &view : inputs)
      *made->add_inputs() = view;
    for (const plan::View &view : outputs)
      *made->add_outputs() = view;
    return made;
  }
  static void attribute(plan::Instruction *to, const std::string &name, int64_t value) {
    plan::Attribute *made = to->add_attributes();
    made->set_name(name);
    made->set_i(value);
  }
  static void attribute(plan::Instruction *to, const std::string &name, double value) {
    plan::Attribute *made = to->add_attributes();
    made->set_name(name);
    made->set_f(value);
  }

  plan::View input(const std::string &name, plan::InputRole role, plan::DType dtype,
                   const Shape &shape) {
    plan::Input *made = plan.add_inputs();
    made->set_name(name);
    made->set_role(role);
    // Persistent: the learning rate and the step number are fed once a step, before all of its
    // micro-batches.
    *made->mutable_view() = buffer(name, dtype, shape, plan::INPUT, true);
    return made->view();
  }

  void output(const std::string &name, const plan::View &view, uint64_t ready, bool sum) {
    plan::Output *made = plan.add_outputs();
    made->set_name(name);
    *made->mutable_view() = view;
    made->set_ready(ready);
    made->set_sum_over_micro_batches(sum);
  }

  void build();
  void finish();

  BigramOptions o;
  uint64_t arena = 0;
};

inline void BigramPlan::build() {
  Shape tokens = {o.batch, o.length}, logitsShape = {o.batch, o.length, o.vocabulary};
  Shape tableShape = {o.vocabulary, o.vocabulary};
  auto activation = [&](const std::string &name, plan::DType dtype, const Shape &shape) {
    return buffer(name, dtype, shape, plan::ACTIVATION);
  };
  plan::View table = buffer("table", plan::F32, tableShape, plan::PARAMETER, true);
  plan::View expAvg = buffer("exp_avg", plan::F32, tableShape, plan::OPTIMIZER_STATE, true);
  plan::View expAvgSq = buffer("exp_avg_sq", plan::F32, tableShape, plan::OPTIMIZER_STATE, true);
  plan::View accumulator = buffer("accumulator", plan::F32, tableShape, plan::GRADIENT, true);
  plan::View ids = input("input_ids", plan::DATA, plan::I64, tokens);
  plan::View labels = input("labels", plan::LABELS, plan::I64, tokens);
  plan::View normalizer = input("num_label_tokens", plan::LOSS_NORMALIZER, plan::F32, {});
  plan::View rate = input("learning_rate", plan::LEARNING_RATE, plan::F64, {});
  plan::View step = input("step", plan::STEP_NUMBER, plan::I64, {});
  plan::View micro = input("micro_batch", plan::MICRO_BATCH, plan::I64, {});
  plan::View one = buffer("one", plan::F32, {}, plan::CONSTANT, true);
  plan::Constant *constant = plan.add_constants();
  *constant->mutable_view() = one;
  constant->set_data(rawBytes<float>({1.0f}));

  plan::View logits = activation("logits", plan::F32, logitsShape);
  plan::View shifted = activation("shifted", plan::I64, tokens);
  plan::View sum = activation("sum", plan::F32, {});
  plan::View lse = activation("lse", plan::F32, tokens);
  plan::View loss = activation("loss", plan::F32, {});
  plan::View dsum = activation("dsum", plan::F32, {});
  plan::View dlogits = activation("dlogits", plan::F32, logitsShape);
  plan::View dtable = activation("dtable", plan::F32, tableShape);
  plan::View squared = activation("squared", plan::F64, {});
  plan::View norm = activation("norm", plan::F32, {});
  plan::View scale = activation("scale", plan::F32, {});

  instruction("embedding", plan::FORWARD, {table, ids}, {logits});
  attribute(instruction("shift_labels", plan::FORWARD, {labels}, {shifted}), "ignore_index",
            int64_t(-100));
  attribute(instruction("cross_entropy", plan::FORWARD, {logits, shifted, {}}, {sum, lse}),
            "ignore_index", int64_t(-100));
  instruction("div", plan::FORWARD, {sum, normalizer}, {loss});
  instruction("div", plan::BACKWARD, {one, normalizer}, {dsum});
  attribute(instruction("cross_entropy_backward", plan::BACKWARD, {dsum, logits, shifted, lse, {}},
                        {dlogits}),
            "ignore_index", int64_t(-100));
  attribute(instruction("embedding_backward", plan::BACKWARD, {dlogits, ids}, {dtable}), "rows",
            static_cast<int64_t>(o.vocabulary));
  instruction("accumulate", plan::BACKWARD, {accumulator, dtable, micro}, {accumulator});
  instruction("squared_norm", plan::OPTIMIZER, {accumulator}, {squared});
  attribute(instruction("clip_scale", plan::OPTIMIZER, {squared}, {norm, scale}), "max_norm",
            o.maxNorm);
  plan::Instruction *adamw = instruction("adamw", plan::OPTIMIZER,
                                         {table, accumulator, expAvg, expAvgSq, scale, rate, step},
                                         {table, expAvg, expAvgSq});
  attribute(adamw, "beta1", 0.9);
  attribute(adamw, "beta2", 0.999);
  attribute(adamw, "epsilon", 1e-8);
  attribute(adamw, "weight_decay", 0.01);

  output("loss", loss, 3, true);
  output("grad_norm", norm, 9, false);
  plan::Parameter *parameter = plan.add_parameters();
  parameter->set_name("table");
  *parameter->mutable_view() = table;
  parameter->set_trainable(true);
  if (!o.absent)
    parameter->mutable_source()->set_embedded(rawBytes(initialTable(o.vocabulary)));
  plan::TiedName *tied = parameter->add_tied();
  tied->set_name("head");
  tied->add_permutation(1);
  tied->add_permutation(0);
  for (auto [name, view] : {std::pair("exp_avg", expAvg), {"exp_avg_sq", expAvgSq}}) {
    plan::OptimizerState *state = parameter->add_states();
    state->set_name(name);
    *state->mutable_view() = view;
  }
  *parameter->mutable_gradient() = accumulator;
  parameter->set_gradient_ready(7);
  finish();
}

inline void BigramPlan::finish() {
  plan.set_producer("test");
  plan.set_model_path("model.onnx");
  plan.set_arena_bytes(arena);
  plan.set_alignment(64);
  plan.set_forward_end(4);
  plan.set_micro_batch_end(8);
  plan.set_accumulation(o.accumulation);
  plan.set_loss(plan::LOSS_CAUSAL_LM);
  plan.set_ignore_index(-100);
  plan.set_optimizer("adamw");
  plan.set_default_learning_rate(0.01);
  plan.set_max_grad_norm(o.maxNorm);
  plan.set_target("cpu");
  plan.set_precision("fp32");
  promise(plan, arena);
}

} // namespace amc::rt::test

#endif
