// A plan for 4 ranks by hand: a linear layer on a mesh of dp_replicate 2 x dp_shard 2, its weight sharded unevenly (5
// rows, 3 and 2). Gather, use, reduce-scatter over the shards, sum over the replicas, update; and every other
// collective.
//   y = x W, loss = sum of y over all ranks, W' = W - lr * sum over all ranks of x^T y
#ifndef AMC_TEST_UNIT_SHARDED_PLAN_H
#define AMC_TEST_UNIT_SHARDED_PLAN_H

#include "runtime/plan/Workspace.h"
#include "test/unit/runtime_support.h"

namespace amc::rt::test {

class ShardedPlan {
public:
  ShardedPlan() { build(); }
  plan::Plan plan;
  // Buffers, and the instructions that are collectives.
  plan::View piece, x, whole, y, sum, total, grad, gradPiece, turned, back, shifted;
  enum : int { Gather, Linear, Sum, Total, Turn, Back, Shift, WeightGrad, Scatter, Replicate, Update, Count };

private:
  plan::View buffer(plan::DType dtype, const Shape &shape, plan::Category category, bool persistent = false) {
    plan::Buffer &made = *plan.add_buffers();
    made.set_offset(arena);
    made.set_bytes(elements(shape) * dtypeBytes(dtype));
    made.set_category(category);
    made.set_first(0);
    made.set_last(Count);
    made.set_persistent(persistent);
    arena += (made.bytes() + 63) / 64 * 64;
    plan::View view;
    view.set_buffer(static_cast<uint64_t>(plan.buffers_size() - 1));
    view.set_dtype(dtype);
    for (uint64_t dim : shape)
      view.add_shape(dim);
    return view;
  }
  plan::View activation(const Shape &shape) { return buffer(plan::F32, shape, plan::ACTIVATION); }

  plan::Instruction &add(const char *kernel, plan::Phase phase, const std::vector<plan::View> &inputs,
                         plan::View output, const Attributes &attributes = {}) {
    plan::Instruction &made = *plan.add_instructions();
    made.set_kernel(kernel);
    made.set_phase(phase);
    for (const plan::View &view : inputs)
      *made.add_inputs() = view;
    *made.add_outputs() = output;
    for (const plan::Attribute &a : attributes)
      *made.add_attributes() = a;
    return made;
  }
  void input(const char *name, plan::InputRole role, const plan::View &view) {
    plan::Input &made = *plan.add_inputs();
    made.set_name(name);
    made.set_role(role);
    *made.mutable_view() = view;
  }
  static Attributes over(const char *group, int members, Attributes more = {}) {
    more.push_back(attribute("group", group));
    more.push_back(attribute("members", members));
    return more;
  }
  static void split(plan::Split &split) {
    split.set_dim(0);
    split.set_group("dp_shard");
    split.set_size(5);
  }

  void build() {
    plan.set_target("cpu");
    plan.set_alignment(64);
    plan.set_accumulation(1);
    plan.mutable_mesh()->set_dp_replicate(2);
    plan.mutable_mesh()->set_dp_shard(2);
    plan.set_strategy("fsdp2");
    plan.set_forward_end(Shift + 1);
    plan.set_micro_batch_end(Replicate + 1);
    piece = buffer(plan::F32, {3, 4}, plan::PARAMETER, true);
    x = buffer(plan::F32, {2, 5}, plan::INPUT);
    plan::View rate = buffer(plan::F64, {}, plan::INPUT), step = buffer(plan::I64, {}, plan::INPUT);
    plan::View one = buffer(plan::F32, {}, plan::CONSTANT, true);
    whole = activation({5, 4});
    y = activation({2, 4});
    sum = activation({});
    total = activation({});
    turned = activation({4, 2});
    back = activation({2, 4});
    shifted = activation({2, 4});
    grad = buffer(plan::F32, {5, 4}, plan::GRADIENT);
    gradPiece = buffer(plan::F32, {3, 4}, plan::GRADIENT);
    uint64_t scratchBytes = workspace::allToAll(32, 2, 1);
    plan::View scratch = buffer(plan::U8, {scratchBytes}, plan::WORKSPACE);

    Attributes shard = over("dp_shard", 2, {attribute("dim", 0)});
    Attributes gather = over("dp_shard", 2, {attribute("dim", 0), attribute("reshard", 1)});
    add("all_gather", plan::FORWARD, {piece}, whole, gather);
    add("linear", plan::FORWARD, {x, whole, {}}, y);
    add("reduce_sum", plan::FORWARD, {y}, sum,
        {attribute("axes", std::vector<int64_t>{0, 1}), attribute("keepdims", false)});
    add("all_reduce", plan::FORWARD, {sum}, total, over("dp_replicate+dp_shard", 4));
    *add("all_to_all", plan::FORWARD, {y}, turned,
         over("dp_shard", 2, {attribute("concat_dim", 0), attribute("split_dim", 1)}))
         .add_workspaces() = scratch;
    *add("all_to_all", plan::FORWARD, {turned}, back,
         over("dp_shard", 2, {attribute("concat_dim", 1), attribute("split_dim", 0)}))
         .add_workspaces() = scratch;
    add("shift", plan::FORWARD, {y}, shifted, over("dp_replicate+dp_shard", 4, {attribute("distance", -1)}));
    add("linear_weight_grad", plan::BACKWARD, {x, y}, grad);
    add("reduce_scatter", plan::BACKWARD, {grad}, gradPiece, shard);
    add("all_reduce", plan::BACKWARD, {gradPiece}, gradPiece, over("dp_replicate", 2));
    add("sgd", plan::OPTIMIZER, {piece, gradPiece, one, rate, step, {}}, piece,
        {attribute("momentum", 0.0), attribute("weight_decay", 0.0)});

    plan::Parameter &w = *plan.add_parameters();
    w.set_name("w");
    *w.mutable_view() = piece;
    w.set_trainable(true);
    split(*w.add_splits());
    split(*w.add_gradient_splits());
    *w.mutable_gradient() = gradPiece;
    w.set_gradient_ready(Replicate);
    w.mutable_source()->set_embedded(std::string(80, '\0')); // of the whole
    plan::Constant &constant = *plan.add_constants();
    *constant.mutable_view() = one;
    float value = 1;
    constant.set_data(std::string(reinterpret_cast<const char *>(&value), 4));
    input("x", plan::DATA, x);
    input("lr", plan::LEARNING_RATE, rate);
    input("step", plan::STEP_NUMBER, step);
    plan.set_optimizer("sgd");
    complete(plan);
  }

  uint64_t arena = 0;
};

// The same, with four collectives that run beside others, each with its wait. The numbers of its instructions:
struct AsyncPlan {
  enum : int {
    Gather, GatherWait, Linear, Sum, Total, Turn, Back, TotalWait, Shift, WeightGrad, Scatter, ScatterWait, Replicate,
    ReplicateWait, Update, Count
  };
  plan::Plan plan;
  explicit AsyncPlan(const ShardedPlan &sharded = {}) : plan(sharded.plan) {
    plan.clear_instructions();
    std::vector<int> place; // of the old instructions, behind the waits in front of them
    auto wait = [&](int start) {
      const plan::Instruction &started = plan.instructions(start);
      plan::Instruction made;
      made.set_kernel("wait");
      made.set_phase(started.phase());
      *made.add_inputs() = started.outputs(0);
      *made.add_inputs() = started.inputs(0);
      *plan.add_instructions() = made;
    };
    for (int i = 0; i < ShardedPlan::Count; ++i) {
      for (auto [start, reader] : {std::pair<int, int>(Gather, ShardedPlan::Linear), {Total, ShardedPlan::Shift},
                                   {Scatter, ShardedPlan::Replicate}, {Replicate, ShardedPlan::Update}})
        if (reader == i)
          wait(start);
      place.push_back(plan.instructions_size());
      *plan.add_instructions() = sharded.plan.instructions(i);
    }
    for (int i : {Gather, Total, Scatter, Replicate}) // by name, as attributes are
      *plan.mutable_instructions(i)->add_attributes() = attribute("async", 1);
    plan.set_forward_end(static_cast<uint64_t>(place[plan.forward_end()]));
    plan.set_micro_batch_end(static_cast<uint64_t>(place[plan.micro_batch_end()]));
    plan.mutable_parameters(0)->set_gradient_ready(ReplicateWait);
    for (plan::Buffer &buffer : *plan.mutable_buffers())
      buffer.set_last(Count);
    complete(plan);
  }
};

} // namespace amc::rt::test

#endif
