// Collectives that run beside other instructions: from a valid plan a thing is changed, and that one error is expected;
// what the executor makes of them on one rank.
#include "runtime/collective/SelfGroup.h"
#include "runtime/executor/Channel.h"
#include "runtime/plan/PlanRanks.h"
#include "test/unit/sharded_plan.h"
#include "test/unit/verified_plan.h"
#include <atomic>

namespace amc::rt::test {
namespace {

using A = AsyncPlan;

struct Mutation {
  const char *error;
  void (*change)(plan::Plan &);
  size_t errors = 1;
};

void dropAsync(plan::Plan &p, int instruction) {
  auto &attributes = *p.mutable_instructions(instruction)->mutable_attributes();
  for (int i = 0; i < attributes.size(); ++i)
    if (attributes[i].name() == "async")
      return attributes.DeleteSubrange(i, 1);
}

// A copy of instruction `of`, which becomes number `at`.
void insertCopy(plan::Plan &p, int of, int at) {
  *p.add_instructions() = p.instructions(of);
  for (int i = p.instructions_size() - 1; i > at; --i)
    p.mutable_instructions()->SwapElements(i, i - 1);
  auto behind = [&](uint64_t i) { return i + (i >= static_cast<uint64_t>(at)); };
  p.set_forward_end(behind(p.forward_end()));
  p.set_micro_batch_end(behind(p.micro_batch_end()));
  p.mutable_parameters(0)->set_gradient_ready(behind(p.parameters(0).gradient_ready()));
  for (plan::Buffer &b : *p.mutable_buffers())
    b.set_last(static_cast<uint64_t>(p.instructions_size()));
}

const Mutation mutations[] = {
    {"instructions[0].attributes.async: nothing waits for it before forward_end, 8", [](plan::Plan &p) {
       p.mutable_instructions()->DeleteSubrange(A::GatherWait, 1);
       p.set_forward_end(p.forward_end() - 1); p.set_micro_batch_end(p.micro_batch_end() - 1);
       p.mutable_parameters(0)->set_gradient_ready(A::ReplicateWait - 1);
       for (plan::Buffer &b : *p.mutable_buffers()) b.set_last(A::Count - 1); }, 2}, // and it is read
    {"instructions[1].inputs[0]: waits for buffer 5, which no collective has been started to write", [](plan::Plan &p) {
       dropAsync(p, A::Gather); }},
    {"instructions[8].inputs[0]: waits for buffer 8, which no collective has been started to write", [](plan::Plan &p) {
       insertCopy(p, A::TotalWait, A::TotalWait); }}, // once more
    {"instructions[1].inputs[1]: reads buffer 5, which instructions[0] (all_gather) has been started to write and not waited for",
     [](plan::Plan &p) { p.mutable_instructions()->SwapElements(A::GatherWait, A::Linear); }},
    {"instructions[1].inputs[0]: should be all that instructions[0] (all_gather) writes", [](plan::Plan &p) {
       p.mutable_instructions(A::GatherWait)->mutable_inputs(0)->set_shape(0, 4); }},
    {"instructions[1].inputs[1]: should be what instructions[0] (all_gather) reads", [](plan::Plan &p) {
       *p.mutable_instructions(A::GatherWait)->mutable_inputs(1) = p.instructions(A::Linear).inputs(0); }},
    // the sum once more, while it is being added up
    {"instructions[5].outputs[0]: writes buffer 7, which a collective has been started to read and not waited for",
     [](plan::Plan &p) { insertCopy(p, A::Sum, A::Total + 1); }},
    // into the total
    {"instructions[5].outputs[0]: writes buffer 8, which instructions[4] (all_reduce) has been started to write and not "
     "waited for", [](plan::Plan &p) { insertCopy(p, A::Sum, A::Total + 1);
       *p.mutable_instructions(A::Total + 1)->mutable_outputs(0) = p.instructions(A::Total).outputs(0); }},
    // started twice
    {"instructions[1].outputs[0]: writes buffer 5, which instructions[0] (all_gather) has been started to write and not "
     "waited for", [](plan::Plan &p) { insertCopy(p, A::Gather, A::Gather); }},
    {"instructions[8].attributes.async: 'shift' does not run beside others", [](plan::Plan &p) {
       *p.mutable_instructions(A::Shift)->add_attributes() = attribute("async", 1); }, 2}, // and the kernel says so
    {"instructions[2].attributes.async: 'linear' does not run beside others", [](plan::Plan &p) {
       *p.mutable_instructions(A::Linear)->add_attributes() = attribute("async", 1); }, 2},
    {"parameters[0].gradient_ready: is 12, when instructions[12] (all_reduce) has been started and not waited for",
     [](plan::Plan &p) { p.mutable_parameters(0)->set_gradient_ready(A::Replicate); }},
    {"instructions[1] (wait): should name what a collective writes, and what it reads", [](plan::Plan &p) {
       p.mutable_instructions(A::GatherWait)->mutable_inputs()->RemoveLast(); }, 4}, // the kernel, and what then is open
};

TEST(PlanAsync, TheValidPlanIsValid) {
  EXPECT_TRUE(verify(A().plan).ok()) << all(verify(A().plan));
  EXPECT_TRUE(verifyPlanStructure(A().plan).ok());
}

TEST(PlanAsync, EachChangeGivesItsError) {
  for (const Mutation &m : mutations) {
    plan::Plan plan = A().plan;
    m.change(plan);
    complete(plan);
    PlanDiagnostics d = verify(plan);
    ASSERT_FALSE(d.ok()) << m.error;
    bool found = false;
    for (const std::string &error : d.errors)
      found = found || error == m.error;
    EXPECT_TRUE(found) << m.error << "\n" << all(d);
    EXPECT_EQ(d.errors.size(), m.errors) << m.error << "\n" << all(d);
  }
}

// Windows end where a caller may stop.
TEST(PlanAsync, WindowsStayInTheirSection) {
  plan::Plan plan = A().plan;
  plan.set_micro_batch_end(A::ReplicateWait);
  plan.mutable_instructions(A::ReplicateWait)->set_phase(plan::OPTIMIZER);
  complete(plan);
  EXPECT_NE(all(verify(plan)).find("instructions[12].attributes.async: nothing waits for it before micro_batch_end, 13"),
            std::string::npos);
}

// The order of starts is the sequence that is promised, and waits are none.
TEST(PlanAsync, TheSequenceIsThatOfTheStarts) {
  EXPECT_EQ(collectiveFacts(A().plan), collectiveFacts(ShardedPlan().plan));
}

// ---- the thread that communicates

TEST(Channel, RunsInOrderAndJoinsUpToAPoint) {
  std::vector<uint64_t> ran;
  std::atomic<bool> hold{true};
  Expected<std::unique_ptr<Channel>> made = Channel::create(3, [&](uint64_t i) {
    while (i == 12 && hold.load())
      ;
    ran.push_back(i);
    return Status();
  });
  ASSERT_TRUE(made.ok());
  Channel &channel = **made;
  EXPECT_TRUE(channel.settle().ok()); // nothing
  uint32_t first = channel.start(11), second = channel.start(12);
  EXPECT_TRUE(channel.join(first).ok()); // while the second is held
  hold = false;
  EXPECT_TRUE(channel.join(second).ok());
  for (uint64_t i = 0; i < 1000; ++i)
    EXPECT_TRUE(channel.join(channel.start(i)).ok());
  ASSERT_EQ(ran.size(), 1002u);
  EXPECT_EQ(ran[1], 12u);
  EXPECT_EQ(ran[1001], 999u);
}

TEST(Channel, TheFirstFailureEndsIt) {
  std::atomic<int> ran{0};
  Expected<std::unique_ptr<Channel>> made = Channel::create(4, [&](uint64_t i) {
    ++ran;
    return i == 2 ? limitError("rank 3 died") : Status();
  });
  ASSERT_TRUE(made.ok());
  uint32_t one = (*made)->start(1), two = (*made)->start(2), three = (*made)->start(3);
  EXPECT_EQ((*made)->join(three).message(), "rank 3 died");
  EXPECT_EQ((*made)->join(two).message(), "rank 3 died");
  EXPECT_TRUE((*made)->join(one).ok());
  EXPECT_FALSE((*made)->settle().ok());
  EXPECT_EQ(ran, 2);
}

} // namespace
} // namespace amc::rt::test
