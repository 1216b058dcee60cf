// Plans for several ranks: from a valid one a thing is changed, and that one error is expected; what the executor says
// where the ranks are not those of the plan; the promise of collectives; collectives of one rank.
#include "runtime/collective/SelfGroup.h"
#include "runtime/plan/PlanRanks.h"
#include "test/unit/sharded_plan.h"
#include "test/unit/verified_plan.h"

namespace amc::rt::test {
namespace {

using S = ShardedPlan;

// A parameter that every rank has as a whole, and updates its shard of: what is sharded becomes a state.
plan::Plan shardUpdatedPlan() {
  S sharded;
  plan::Plan plan = sharded.plan;
  plan::Parameter &w = *plan.mutable_parameters(0);
  plan::OptimizerState &shard = *w.add_states();
  shard.set_name("shard");
  *shard.mutable_view() = sharded.piece;
  *shard.mutable_splits() = w.splits();
  *w.mutable_view() = sharded.whole;
  w.clear_splits();
  plan::Buffer &whole = *plan.mutable_buffers(static_cast<int>(sharded.whole.buffer()));
  whole.set_persistent(true);
  whole.set_category(plan::PARAMETER);
  plan.mutable_buffers(static_cast<int>(sharded.piece.buffer()))->set_category(plan::OPTIMIZER_STATE);
  // The gather moves to the end.
  plan::Instruction gather = plan.instructions(S::Gather);
  gather.set_phase(plan::OPTIMIZER);
  plan.mutable_instructions()->DeleteSubrange(S::Gather, 1);
  *plan.add_instructions() = gather;
  plan.set_forward_end(plan.forward_end() - 1);
  plan.set_micro_batch_end(plan.micro_batch_end() - 1);
  w.set_gradient_ready(w.gradient_ready() - 1);
  complete(plan);
  return plan;
}

struct Mutation {
  const char *error;
  void (*change)(plan::Plan &);
  bool promise = true; // recomputed
  size_t errors = 1;
};
plan::Attribute &attributeOf(plan::Plan &p, int instruction, const char *name) {
  for (plan::Attribute &a : *p.mutable_instructions(instruction)->mutable_attributes())
    if (a.name() == name)
      return a;
  return *p.mutable_instructions(instruction)->add_attributes();
}

const Mutation mutations[] = {
    // mesh and groups
    {"mesh: has more than 16777216 ranks", [](plan::Plan &p) { p.mutable_mesh()->set_tp(uint64_t(1) << 60); }},
    {"instructions[0].attributes.members: is 2 and group 'dp_shard' of the mesh has 1", [](plan::Plan &p) {
       p.mutable_mesh()->set_dp_replicate(4); p.mutable_mesh()->set_dp_shard(1); p.mutable_instructions()->DeleteSubrange(1, 10);
       for (plan::Buffer &b : *p.mutable_buffers()) b.set_last(1);
       p.set_forward_end(1); p.set_micro_batch_end(1); p.clear_parameters(); p.clear_optimizer();
       plan::Input &i = *p.add_inputs(); i.set_role(plan::DATA); *i.mutable_view() = p.instructions(0).inputs(0); }},
    {"instructions[3].attributes.group: 'dp_shard+dp_replicate' is no group of the mesh's ranks", [](plan::Plan &p) {
       attributeOf(p, S::Total, "group").set_s("dp_shard+dp_replicate"); }, true, 2}, // and the kernel says so
    {"instructions[3].attributes.members: is 3 and group 'dp_replicate+dp_shard' of the mesh has 4", [](plan::Plan &p) {
       attributeOf(p, S::Total, "members").set_i(3); }},
    // collectives
    {"instructions[3].attributes.members: is 0 and group", [](plan::Plan &p) {
       attributeOf(p, S::Total, "members").set_i(0); }, true, 2}, // and the kernel says so
    {"instructions[0] (all_gather): inputs[0]: shape is [3, 4] and should be [5, 2]", [](plan::Plan &p) {
       attributeOf(p, S::Gather, "dim").set_i(1); }},
    {"instructions[0] (all_gather): attributes.dim: is 2 and should be in [0, 2)", [](plan::Plan &p) {
       attributeOf(p, S::Gather, "dim").set_i(2); }},
    {"instructions[0] (all_gather): attributes.size: is 6 and dimension 0 of the result 5", [](plan::Plan &p) {
       *p.mutable_instructions(S::Gather)->add_attributes() = attribute("size", 6); }},
    {"instructions[8] (reduce_scatter): outputs[0]: shape is [3, 4] and should be [5, 2]", [](plan::Plan &p) {
       attributeOf(p, S::Scatter, "dim").set_i(1); }},
    {"instructions[4] (all_to_all): outputs[0]: shape is [4, 2] and should be [2, 4]", [](plan::Plan &p) {
       attributeOf(p, S::Turn, "concat_dim").set_i(1); }},
    {"instructions[4] (all_to_all): workspaces: there are 0 and should be 1", [](plan::Plan &p) {
       p.mutable_instructions(S::Turn)->clear_workspaces(); }},
    {"instructions[6] (shift): attributes.distance: is 4 and should be between -4 and 4", [](plan::Plan &p) {
       attributeOf(p, S::Shift, "distance").set_i(4); }},
    // splits
    {"parameters[0].splits[0].dim: is 2 and the tensor has 2 dimensions", [](plan::Plan &p) {
       p.mutable_parameters(0)->mutable_splits(0)->set_dim(2); }},
    {"parameters[0].splits[0].group: 'shards' is no group", [](plan::Plan &p) {
       p.mutable_parameters(0)->mutable_splits(0)->set_group("shards"); }},
    {"parameters[0].splits: leave 4 elements of dimension 0, and the tensor has 3", [](plan::Plan &p) {
       p.mutable_parameters(0)->mutable_splits(0)->set_size(7); }},
    {"parameters[0].source: has 80 bytes and should have 96", [](plan::Plan &p) { // and the gradient is of another
       p.mutable_parameters(0)->mutable_splits(0)->set_size(6); }, true, 2},
    {"parameters[0].splits[1].group: an earlier split spreads over ranks of dp_shard, too", [](plan::Plan &p) {
       *p.mutable_parameters(0)->add_splits() = p.parameters(0).splits(0); }},
    {"parameters[0].splits[1].size: is 5 and should be 3", [](plan::Plan &p) {
       *p.mutable_parameters(0)->add_splits() = p.parameters(0).splits(0); p.mutable_parameters(0)->mutable_splits(1)->set_group("tp"); }},
    {"parameters[0].splits[0].blocks: is 2, which does not divide the size 5", [](plan::Plan &p) {
       p.mutable_parameters(0)->mutable_splits(0)->set_blocks(2); }},
    {"parameters[0].splits: leave 5 elements of dimension 0, and the tensor has 3", [](plan::Plan &p) { // 5 blocks of one
       p.mutable_parameters(0)->mutable_splits(0)->set_blocks(5); }},
    {"parameters[0].splits[1].dim: splits[0] spreads dimension 0, too, and one of them is in blocks", [](plan::Plan &p) {
       plan::Split &second = *p.mutable_parameters(0)->add_splits(); second.set_group("tp"); second.set_size(3); second.set_blocks(3); }},
    {"parameters[0].gradient.splits[0].blocks: is 4, which does not divide the size 5", [](plan::Plan &p) {
       p.mutable_parameters(0)->mutable_gradient_splits(0)->set_blocks(4); }},
    {"parameters[0].view: dtype 1 is unknown or the tensor is larger", [](plan::Plan &p) {
       p.mutable_parameters(0)->mutable_splits(0)->set_size(uint64_t(1) << 48);
       p.mutable_parameters(0)->mutable_view()->set_shape(0, uint64_t(1) << 47); }, true, 2}, // and its splits are of one that is too large
    {"parameters[0].gradient: its shape should be the parameter's", [](plan::Plan &p) {
       p.mutable_parameters(0)->clear_gradient_splits(); }},
    {"parameters[0].gradient.splits: leave 4 elements of dimension 0", [](plan::Plan &p) {
       p.mutable_parameters(0)->mutable_gradient_splits(0)->set_size(8); }},
    // promise
    {"promise.collectives: is 6 and the plan has 7", [](plan::Plan &p) { p.mutable_promise()->set_collectives(6); }, false},
    {"promise.collective_bytes: is 1", [](plan::Plan &p) { p.mutable_promise()->set_collective_bytes(1); }, false},
    {"promise.collective_sequence: is ''", [](plan::Plan &p) { p.mutable_promise()->clear_collective_sequence(); }, false},
    {"promise.collective_sequence: is '", [](plan::Plan &p) { // another order
       p.mutable_instructions()->SwapElements(S::Turn, S::Shift); p.mutable_instructions()->SwapElements(S::Back, S::Shift); }, false},
};

TEST(PlanRanks, TheValidPlansAreValid) {
  EXPECT_TRUE(verify(S().plan).ok()) << all(verify(S().plan));
  EXPECT_TRUE(verify(shardUpdatedPlan()).ok()) << all(verify(shardUpdatedPlan()));
  EXPECT_TRUE(verifyPlanStructure(S().plan).ok());
}

// 6 rows as 3 blocks of 2, of which every rank has one row: as many as of 6 in one block.
TEST(PlanRanks, BlocksAreValid) {
  plan::Plan plan = S().plan;
  plan::Parameter &w = *plan.mutable_parameters(0);
  w.mutable_source()->set_embedded(std::string(96, '\0'));
  for (plan::Split *split : {w.mutable_splits(0), w.mutable_gradient_splits(0)}) {
    split->set_size(6);
    split->set_blocks(3);
  }
  EXPECT_TRUE(verify(plan).ok()) << all(verify(plan));
}

TEST(PlanRanks, EachChangeGivesItsError) {
  for (const Mutation &m : mutations) {
    plan::Plan plan = S().plan;
    m.change(plan);
    if (m.promise)
      complete(plan);
    PlanDiagnostics d = verify(plan);
    ASSERT_FALSE(d.ok()) << m.error;
    EXPECT_EQ(d.errors[0].substr(0, std::string(m.error).size()), m.error) << all(d);
    EXPECT_EQ(d.errors.size(), m.errors) << m.error << "\n" << all(d);
  }
}

// The parameter is written again from the shard that was updated, by nothing else, and nobody reads it behind that.
TEST(PlanRanks, ShardsThatAreUpdated) {
  auto errorOf = [](void (*change)(plan::Plan &)) {
    plan::Plan plan = shardUpdatedPlan();
    change(plan);
    complete(plan);
    return all(verify(plan));
  };
  EXPECT_NE(errorOf([](plan::Plan &p) { // the gather before the update
    p.mutable_instructions()->SwapElements(p.instructions_size() - 1, p.instructions_size() - 2);
  }).find("parameters[0]: 'w' is not written behind instruction 10, which updates its shard"), std::string::npos);
  EXPECT_NE(errorOf([](plan::Plan &p) { // and not at all
    p.mutable_instructions()->RemoveLast();
    for (plan::Buffer &b : *p.mutable_buffers())
      b.set_last(static_cast<uint64_t>(p.instructions_size()));
  }).find("parameters[0]: 'w' is not written behind instruction 9, which updates its shard"), std::string::npos);
  EXPECT_NE(errorOf([](plan::Plan &p) { // in front of a reader
    plan::Instruction linear = p.instructions(0);
    linear.set_phase(plan::OPTIMIZER);
    *p.add_instructions() = linear;
    for (plan::Buffer &b : *p.mutable_buffers())
      b.set_last(static_cast<uint64_t>(p.instructions_size()));
  }).find("instructions[11].inputs[1]: reads parameter 'w', which instruction 10 has updated"), std::string::npos);
  EXPECT_NE(errorOf([](plan::Plan &p) { // from the gradient, which has the shard's type
    *p.mutable_instructions(p.instructions_size() - 1)->mutable_inputs(0) = p.parameters(0).gradient();
  }).find("instructions[10].outputs[0]: writes parameter 'w', which only a gather of its shard should"), std::string::npos);
  EXPECT_NE(errorOf([](plan::Plan &p) { // over other ranks
    attributeOf(p, p.instructions_size() - 1, "group").set_s("dp_replicate");
  }).find("instructions[10].outputs[0]: writes parameter 'w', which only a gather of its shard should"), std::string::npos);
  EXPECT_NE(errorOf([](plan::Plan &p) { // to somewhere else
    *p.mutable_instructions(p.instructions_size() - 1)->mutable_outputs(0) = ShardedPlan().grad;
  }).find("instructions[10].inputs[0]: reads the shard of parameter 'w', which instruction 9 has updated"), std::string::npos);
  EXPECT_NE(errorOf([](plan::Plan &p) { p.mutable_parameters(0)->mutable_states(0)->clear_splits(); })
                .find("parameters[0].states[0].view: should be a part of the parameter"), std::string::npos);
}

// gather: 80 bytes in 2 pieces: 40. Sum of 4 bytes in 4: 2 * 3. Twice 32 bytes all to all in 2: 16 each. Shift of 32. Scatter
// of 80 in 2: 40. Sum of 48 in 2: 2 * 24. In all 40 + 6 + 16 + 16 + 32 + 40 + 48.
TEST(PlanRanks, CollectivesArePromised) {
  plan::Plan plan = S().plan;
  CollectiveFacts facts = collectiveFacts(plan);
  EXPECT_EQ(facts.count, 7u);
  EXPECT_EQ(facts.bytes, 198u);
  EXPECT_EQ(facts.sequence.size(), 32u);
  EXPECT_EQ(CollectiveTrace::lineOf(plan.instructions(S::Total)), "all_reduce dp_replicate+dp_shard 6\n");
  EXPECT_EQ(CollectiveTrace::lineOf(plan.instructions(S::Linear)), "");
  EXPECT_EQ(collectiveFacts(plan, 3).count, 21u);
  EXPECT_EQ(describeMesh(meshOf(plan)), "4 ranks (dp_replicate 2 x dp_shard 2)");
  plan.mutable_instructions()->SwapElements(S::Turn, S::Back);
  EXPECT_EQ(collectiveFacts(plan), facts); // the same lines
  plan.mutable_instructions()->SwapElements(S::Turn, S::Shift);
  EXPECT_NE(collectiveFacts(plan).sequence, facts.sequence);
}

TEST(PlanRanks, TheExecutorWantsTheRanksOfThePlan) {
  Expected<Executor> one = Executor::create(S().plan, {1, false});
  ASSERT_FALSE(one.ok());
  EXPECT_EQ(one.status().kind(), ErrorKind::Input);
  EXPECT_EQ(one.status().message(), "the plan is for 4 ranks (dp_replicate 2 x dp_shard 2) and there is 1; start it with "
                                    "--nproc-per-node 4 or mpirun -n 4");
}

// Two parts of [2, 3]: rows of the operand's dimension 1 for each member; here one member gets all of them.
TEST(PlanRanks, CollectivesOfOneRankCopy) {
  Attributes alone = {attribute("group", "tp"), attribute("members", 1)};
  Array x = random(plan::F32, {2, 3}, 1);
  auto with = [&](Attributes more) {
    more.insert(more.end(), alone.begin(), alone.end());
    return more;
  };
  expectCall({"all_gather", {x}, {{plan::F32, {2, 3}}}, with({attribute("dim", 0)})}, {x.values}, 0);
  expectCall({"reduce_scatter", {x}, {{plan::F32, {2, 3}}}, with({attribute("dim", 1)})}, {x.values}, 0);
  expectCall({"all_reduce", {x}, {{plan::F32, {2, 3}}}, alone}, {x.values}, 0);
  expectCall({"shift", {x}, {{plan::F32, {2, 3}}}, with({attribute("distance", 0)})}, {x.values}, 0);
  expectCall({"all_to_all", {x}, {{plan::F32, {2, 3}}}, with({attribute("split_dim", 1), attribute("concat_dim", 1)}),
              workspace::allToAll(24, 2, 2)}, {x.values}, 0);
}

} // namespace
} // namespace amc::rt::test
