// Attention in a ring: the members run at the same time here, each in a thread, and what they have together is compared
// with plain attention of the whole sequence; both ways in which pieces of keys come to a member, which give the same
// bits, and what is sent, with what a plan promises. Also which steps there are (runtime/plan/Ring.h).
#include "runtime/device/Device.h"
#include "runtime/plan/PlanRanks.h"
#include "test/unit/runtime_context.h"
#include <barrier>
#include <memory>
#include <thread>

namespace amc::rt::test {
namespace {

// ---- members in threads

// What members share. A member's memory is one piece, laid out alike on all.
struct Circle {
  Circle(unsigned members, bool inPlace) : inPlace(inPlace), meeting(members), memory(members), sending(members), sent(members) {}
  bool inPlace; // whether members can read each other's memory
  std::barrier<> meeting;
  struct Memory {
    std::unique_ptr<std::byte, decltype(&std::free)> data{nullptr, &std::free};
    size_t size = 0;
    void allocate(size_t bytes) {
      size = (bytes + 63) / 64 * 64;
      data.reset(static_cast<std::byte *>(std::aligned_alloc(64, size)));
      std::memset(data.get(), 0xff, size);
    }
  };
  std::vector<Memory> memory;
  std::vector<const std::byte *> sending;
  std::vector<uint64_t> sent; // bytes, by member
};

class CircleGroup final : public Group {
public:
  CircleGroup(Circle &circle, unsigned self) : circle(circle), self(self) {}
  unsigned size() const override { return static_cast<unsigned>(circle.memory.size()); }
  unsigned index() const override { return self; }
  Status allGather(const std::byte *, std::byte *, const SpreadShape &) override { return unwanted(); }
  Status reduceScatter(const std::byte *, std::byte *, const SpreadShape &) override { return unwanted(); }
  Status allReduce(const std::byte *, std::byte *, uint64_t, plan::DType) override { return unwanted(); }
  Status allToAll(const std::byte *, std::byte *, uint64_t) override { return unwanted(); }
  Status shift(const std::byte *in, std::byte *out, uint64_t bytes, unsigned distance) override {
    EXPECT_FALSE(circle.inPlace);
    EXPECT_GT(distance, 0u);
    circle.sending[self] = in;
    circle.meeting.arrive_and_wait();
    std::memcpy(out, circle.sending[(self + size() - distance) % size()], bytes);
    circle.sent[self] += bytes;
    circle.meeting.arrive_and_wait();
    return Status();
  }
  const std::byte *peerOf(unsigned member, const std::byte *own, uint64_t bytes) const override {
    const Circle::Memory &mine = circle.memory[self];
    EXPECT_TRUE(own >= mine.data.get() && own + bytes <= mine.data.get() + mine.size);
    return circle.inPlace ? circle.memory[member].data.get() + (own - mine.data.get()) : nullptr;
  }
  Status barrier() override {
    circle.meeting.arrive_and_wait();
    return Status();
  }

private:
  static Status unwanted() { return inputError("nobody asked for that"); }
  Circle &circle;
  unsigned self;
};

// A member's call, in its memory: operands, results and workspace, each with a margin that nobody may write.
class Member {
public:
  Member(Circle &circle, unsigned self, const Call &call, unsigned threads)
      : circle(circle), self(self), call(call), communicator(circle, self) {
    unsigned members = communicator.size();
    Expected<std::unique_ptr<Device>> made = createDevice("cpu", {threads, false, &communicator, {{1, 1, members, 1}}});
    EXPECT_TRUE(made.ok());
    device = std::move(*made);
    plan::Plan plan = planOf(call);
    outcome.status = device->signatures().check(plan.instructions(0));
    if (!outcome.status.ok())
      return;
    promised = bytesSent(plan.instructions(0));
    Expected<std::unique_ptr<Kernel>> prepared = device->prepare(InstructionSpec::create(plan.instructions(0)).value());
    EXPECT_TRUE(prepared.ok());
    kernel = std::move(*prepared);
    for (const Array &a : call.inputs)
      inputs.push_back(a.dtype == plan::DTYPE_UNSPECIFIED ? none : place(a.values.size() * dtypeBytes(a.dtype)));
    for (const Result &r : call.outputs)
      outputs.push_back(place(elements(r.shape) * dtypeBytes(r.dtype)));
    workspace = place(call.workspace);
    circle.memory[self].allocate(end);
  }

  void run() {
    std::byte *memory = circle.memory[self].data.get();
    std::vector<std::byte *> in, out, scratch = {memory + workspace};
    for (size_t at : inputs)
      in.push_back(at == none ? nullptr : memory + at);
    for (size_t at : outputs)
      out.push_back(memory + at);
    for (size_t k = 0; k < in.size(); ++k)
      for (size_t i = 0; in[k] && i < call.inputs[k].values.size(); ++i)
        encode(call.inputs[k].dtype, call.inputs[k].values[i], in[k] + i * dtypeBytes(call.inputs[k].dtype));
    outcome.status = device->execute(*kernel, {in.data(), out.data(), scratch.data()});
    for (auto [at, bytes] : margins)
      EXPECT_TRUE(std::all_of(memory + at, memory + at + bytes, [](std::byte b) { return b == std::byte(0xff); }))
          << call.kernel << " writes behind its buffers";
    for (size_t k = 0; k < out.size(); ++k) {
      const Result &r = call.outputs[k];
      Array a{r.dtype, r.shape, {}};
      uint64_t width = dtypeBytes(r.dtype), n = elements(r.shape);
      for (uint64_t i = 0; i < n; ++i)
        a.values.push_back(decode(r.dtype, out[k] + i * width));
      outcome.bytes.emplace_back(reinterpret_cast<const char *>(out[k]), n * width);
      outcome.outputs.push_back(std::move(a));
    }
  }

  Outcome outcome;
  uint64_t promised = 0;

private:
  static constexpr size_t none = ~size_t(0);
  size_t place(uint64_t bytes) {
    constexpr uint64_t margin = 256;
    size_t at = end;
    margins.emplace_back(at + bytes, (bytes + 63) / 64 * 64 - bytes + margin);
    end = margins.back().first + margins.back().second;
    return at;
  }

  Circle &circle;
  unsigned self;
  const Call &call;
  CommunicatorOf<CircleGroup> communicator;
  std::unique_ptr<Device> device;
  std::unique_ptr<Kernel> kernel;
  std::vector<size_t> inputs, outputs;
  std::vector<std::pair<size_t, size_t>> margins; // begin, bytes
  size_t workspace = 0, end = 0;
};

// All members' calls. Where peers' memory cannot be read, what each sends is what a plan would promise.
std::vector<Outcome> runTogether(const std::vector<Call> &calls, bool inPlace, unsigned threads = 1) {
  Circle circle(static_cast<unsigned>(calls.size()), inPlace);
  std::vector<std::unique_ptr<Member>> members;
  for (unsigned m = 0; m < calls.size(); ++m)
    members.push_back(std::make_unique<Member>(circle, m, calls[m], threads));
  std::vector<Outcome> outcomes;
  if (members[0]->outcome.status.ok()) {
    std::vector<std::jthread> running;
    for (std::unique_ptr<Member> &member : members)
      running.emplace_back([&member] { member->run(); });
  }
  for (unsigned m = 0; m < calls.size(); ++m) {
    if (!inPlace && members[m]->outcome.status.ok()) {
      EXPECT_EQ(circle.sent[m], members[m]->promised);
    }
    outcomes.push_back(std::move(members[m]->outcome));
  }
  return outcomes;
}

// ---- attention

struct Together {
  std::vector<Outcome> forward, backward;
};

Together inRing(const ContextCase &c, const Tensors &whole, uint64_t members, bool zigzag, bool inPlace, unsigned threads = 1) {
  const RingShape ring = ringOf(c, whole.q.dtype, members, zigzag);
  const Indices order = storageOrder(c.length, members, zigzag);
  std::vector<Call> forward, backward;
  for (uint64_t m = 0; m < members; ++m) {
    forward.push_back(forwardOf(c, ringPieceOf(whole, order, m, members)));
    putInRing(forward.back(), members, zigzag, ring.forwardWorkspace());
  }
  Together together{runTogether(forward, inPlace, threads), {}};
  for (uint64_t m = 0; m < members && together.forward[0].status.ok(); ++m) {
    backward.push_back(backwardOf(c, ringPieceOf(whole, order, m, members), together.forward[m]));
    putInRing(backward.back(), members, zigzag, ring.backwardWorkspace());
  }
  if (!backward.empty())
    together.backward = runTogether(backward, inPlace, threads);
  return together;
}

class RuntimeRing : public testing::TestWithParam<std::tuple<plan::DType, unsigned, bool>> {};

TEST_P(RuntimeRing, MembersTogetherAreTheWhole) {
  auto [dtype, members, zigzag] = GetParam();
  for (const ContextCase &c : contexts) {
    SCOPED_TRACE(c.what);
    Tensors whole = tensorsOf(c, dtype);
    Outcome y = run(forwardOf(c, whole)), d = run(backwardOf(c, whole, y));
    ASSERT_TRUE(y.status.ok() && d.status.ok()) << y.status.message() << d.status.message();
    Together shared = inRing(c, whole, members, zigzag, true), sent = inRing(c, whole, members, zigzag, false),
             threaded = inRing(c, whole, members, zigzag, true, 3);
    const Indices order = storageOrder(c.length, members, zigzag);
    const uint64_t rows = c.length / members;
    for (unsigned m = 0; m < members; ++m) {
      ASSERT_TRUE(shared.forward[m].status.ok()) << shared.forward[m].status.message();
      ASSERT_TRUE(shared.backward[m].status.ok()) << shared.backward[m].status.message();
      Indices at(order.begin() + m * static_cast<long>(rows), order.begin() + (m + 1) * static_cast<long>(rows));
      for (size_t i : {0, 1})
        EXPECT_TRUE(close(shared.forward[m].outputs[i].values, select(y.outputs[i], 2, at).values, allowed(dtype)))
            << (i ? "lse" : "y") << " of member " << m;
      for (size_t i : {0, 1, 2})
        EXPECT_TRUE(close(shared.backward[m].outputs[i].values, select(d.outputs[i], 2, at).values, allowed(dtype)))
            << (i == 0 ? "dq" : i == 1 ? "dk" : "dv") << " of member " << m;
      EXPECT_EQ(sent.forward[m].bytes, shared.forward[m].bytes);
      EXPECT_EQ(sent.backward[m].bytes, shared.backward[m].bytes);
      EXPECT_EQ(threaded.forward[m].bytes, shared.forward[m].bytes);
      EXPECT_EQ(threaded.backward[m].bytes, shared.backward[m].bytes);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Members, RuntimeRing,
                         testing::Combine(testing::Values(plan::F32, plan::F64, plan::BF16), testing::Values(1u, 2u, 4u),
                                          testing::Bool()));

// Alone, a member looks at all keys in the order in which plain attention does: the bits are the same.
TEST(RuntimeRingBits, AGroupOfOneIsNone) {
  for (plan::DType dtype : {plan::F32, plan::BF16})
    for (const ContextCase &c : {contexts[3], contexts[7]}) {
      Tensors whole = tensorsOf(c, dtype);
      Outcome y = run(forwardOf(c, whole));
      Together alone = inRing(c, whole, 1, false, true);
      EXPECT_EQ(alone.forward[0].bytes, y.bytes);
      EXPECT_EQ(alone.backward[0].bytes, run(backwardOf(c, whole, y)).bytes);
    }
}

// Sums are of fp32 until the end: dk of bf16 is as near to that of the exact sum as one rounding.
TEST(RuntimeRingBits, GradientsAreRoundedOnce) {
  ContextCase c{"", 1, 8, 1, 64, 8, 8, -1, 0};
  Tensors narrow = tensorsOf(c, plan::BF16), wide = narrow;
  for (Array *a : {&wide.q, &wide.k, &wide.v, &wide.dy})
    a->dtype = plan::F32;
  Together rounded = inRing(c, narrow, 4, true, true), exact = inRing(c, wide, 4, true, true);
  for (unsigned m = 0; m < 4; ++m)
    for (size_t i : {1, 2}) // y is rounded between forward and backward, which only dq and dk know of
      EXPECT_TRUE(close(rounded.backward[m].outputs[i].values, exact.backward[m].outputs[i].values, i == 1 ? 2e-2 : multiplied(plan::BF16, 1e-4),
                        storageRounding(plan::BF16)));
}

// What a window hides from all is neither computed nor sent.
TEST(RuntimeRingBits, HiddenStepsAreLeftOut) {
  ContextCase c{"", 1, 1, 1, 1024, 8, 8, 100, 0};
  EXPECT_EQ(ringOf(c, plan::F32, 8, false).steps(), 1u); // the neighbour's keys, of chunks of 128
  EXPECT_EQ(ringOf(c, plan::F32, 4, true).steps(), 2u);  // early chunks' neighbours before, late ones' behind
  for (bool inPlace : {false, true}) {
    Together got = inRing(c, tensorsOf(c, plan::F32), 8, false, inPlace);
    ASSERT_TRUE(got.backward[7].status.ok());
    Tensors whole = tensorsOf(c, plan::F32);
    Outcome y = run(forwardOf(c, whole));
    Indices last(128);
    std::iota(last.begin(), last.end(), 896u);
    EXPECT_TRUE(close(got.forward[7].outputs[0].values, select(y.outputs[0], 2, last).values, 1e-5));
  }
}

// Every band, order and number of members against looking at all pairs.
TEST(Ring, StepsAreThoseThatSomebodyNeeds) {
  for (uint64_t members : {1u, 2u, 3u, 4u, 6u})
    for (uint64_t rows : {0u, 1u, 2u, 4u, 6u})
      for (bool zigzag : {false, true}) {
        if (zigzag && rows % 2)
          continue;
        const Indices order = storageOrder(members * rows, members, zigzag);
        for (int64_t left : {-9, -2, -1, 0, 1, 3, 5, 8, 13})
          for (int64_t right : {-9, -2, -1, 0, 1, 2, 4, 7, 30}) {
            RingShape ring{members, 1, 1, 1, rows, 1, 1, 4, left, right, zigzag, false};
            uint64_t steps = 0;
            for (uint64_t d = 1; d < members; ++d) {
              bool seen = false;
              for (uint64_t who = 0; who < members; ++who)
                for (uint64_t i = 0; i < rows; ++i)
                  for (uint64_t j = 0; j < rows; ++j) {
                    int64_t ahead = static_cast<int64_t>(order[(who + members - d) % members * rows + j]) -
                                    static_cast<int64_t>(order[who * rows + i]);
                    seen |= ahead <= right && -ahead <= left;
                  }
              EXPECT_EQ(ring.needs(d), seen) << members << " x " << rows << ", " << d << ": " << left << ", " << right << zigzag;
              steps += seen;
            }
            EXPECT_EQ(ring.steps(), steps);
          }
      }
  RingShape causal{4, 1, 1, 1, 8, 1, 1, 4, {}, 0, false, false};
  EXPECT_EQ(causal.steps(), 3u);
  EXPECT_EQ((RingShape{4, 1, 1, 1, 8, 1, 1, 4, 2, 0, false, true}.steps()), 3u); // averaged rows need everything
}

// What the signature refuses: from a valid call one thing is changed.
TEST(RuntimeRingBits, SignaturesRefuse) {
  ContextCase c{"", 1, 2, 2, 32, 8, 8, -1, 0, 0, true};
  Call valid = forwardOf(c, ringPieceOf(tensorsOf(c, plan::F32), storageOrder(32, 2, true), 0, 2));
  putInRing(valid, 2, true, ringOf(c, plan::F32, 2, true).forwardWorkspace());
  struct Refusal {
    const char *error;
    void (*change)(Call &);
  };
  const Refusal refusals[] = {
      {"queries are 16 and keys 32 and should be as many",
       [](Call &f) { f.inputs[1] = f.inputs[2] = random(plan::F32, {1, 2, 32, 8}, 1); }},
      {"padding", [](Call &f) { f.inputs[3] = randomIndices(plan::BOOL, {1, 16}, 1, 0, 2); }},
      {"workspace", [](Call &f) { f.workspace -= 64; }},
  };
  for (const Refusal &refusal : refusals) {
    Call call = valid;
    refusal.change(call);
    Outcome o = std::move(runTogether({call, call}, true)[0]);
    ASSERT_FALSE(o.status.ok()) << refusal.error;
    EXPECT_NE(o.status.message().find(refusal.error), std::string::npos) << o.status.message();
  }
  Call lone = forwardOf(c, tensorsOf(c, plan::F32));
  lone.attributes.push_back(attribute("ring", 1));
  EXPECT_NE(run(lone).status.message().find("attributes.ring: there should be a group"), std::string::npos);
}

} // namespace
} // namespace amc::rt::test
