// Context parallelism: kernels that are told which member of a group they work for. The members run here one after the
// other, and what they have together is compared with the whole: attention and its backward, in both orders that a
// sequence may be stored in, and take_piece, which makes that order.
#include "runtime/device/Device.h"
#include "test/unit/runtime_context.h"

namespace amc::rt::test {
namespace {

// ---- one member at a time

// Knows who it is; nobody may ask it for more.
class Somebody final : public Group {
public:
  Somebody(unsigned members, unsigned member) : members(members), member(member) {}
  unsigned size() const override { return members; }
  unsigned index() const override { return member; }
  Status allGather(const std::byte *, std::byte *, const SpreadShape &) override { return alone(); }
  Status reduceScatter(const std::byte *, std::byte *, const SpreadShape &) override { return alone(); }
  Status allReduce(const std::byte *, std::byte *, uint64_t, plan::DType) override { return alone(); }
  Status allToAll(const std::byte *, std::byte *, uint64_t) override { return alone(); }
  Status shift(const std::byte *, std::byte *, uint64_t, unsigned) override { return alone(); }
  Status barrier() override { return alone(); }

private:
  static Status alone() { return inputError("there is nobody else"); }
  unsigned members, member;
};

// Bytes with a margin behind them; full of what a kernel should not leave.
class Block {
public:
  explicit Block(uint64_t bytes) : size((bytes + 63) / 64 * 64 + margin), data(static_cast<std::byte *>(std::aligned_alloc(64, size))) {
    std::memset(data, 0xff, size);
    used = bytes;
  }
  Block(Block &&other) noexcept : size(other.size), data(std::exchange(other.data, nullptr)), used(other.used) {}
  ~Block() { std::free(data); }
  std::byte *begin() const { return data; }
  bool isIntact() const {
    return std::all_of(data + used, data + size, [](std::byte b) { return b == std::byte(0xff); });
  }

private:
  static constexpr uint64_t margin = 4096;
  uint64_t size;
  std::byte *data;
  uint64_t used = 0;
};

std::vector<std::byte *> addresses(const std::vector<Block> &blocks) {
  std::vector<std::byte *> result;
  for (const Block &block : blocks)
    result.push_back(block.begin());
  return result;
}

// What the kernel gives one of `members` of the group "cp".
Outcome runAs(unsigned member, unsigned members, Call call, unsigned threads = 2) {
  call.attributes.push_back(attribute("group", "cp"));
  call.attributes.push_back(attribute("members", static_cast<int64_t>(members)));
  CommunicatorOf<Somebody> communicator(members, member);
  Expected<std::unique_ptr<Device>> device = createDevice("cpu", {threads, false, &communicator, {{1, 1, members, 1}}});
  if (!device.ok())
    return {device.status(), {}, {}};
  plan::Plan plan = planOf(call);
  const plan::Instruction &instruction = plan.instructions(0);
  if (Status status = (*device)->signatures().check(instruction); !status.ok())
    return {status, {}, {}};
  Expected<InstructionSpec> spec = InstructionSpec::create(instruction);
  if (!spec.ok())
    return {spec.status(), {}, {}};
  Expected<std::unique_ptr<Kernel>> kernel = (*device)->prepare(*spec);
  if (!kernel.ok())
    return {kernel.status(), {}, {}};
  std::vector<Block> inputs, outputs, workspaces;
  std::vector<std::byte *> inputAddresses;
  for (const Array &a : call.inputs) {
    uint64_t bytes = a.dtype == plan::DTYPE_UNSPECIFIED ? 0 : dtypeBytes(a.dtype);
    inputs.emplace_back(a.values.size() * bytes);
    for (size_t i = 0; i < a.values.size(); ++i)
      encode(a.dtype, a.values[i], inputs.back().begin() + i * bytes);
    inputAddresses.push_back(bytes ? inputs.back().begin() : nullptr);
  }
  for (const Result &r : call.outputs)
    outputs.emplace_back(elements(r.shape) * dtypeBytes(r.dtype));
  workspaces.emplace_back(call.workspace);
  std::vector<std::byte *> outputAddresses = addresses(outputs), workspaceAddresses = addresses(workspaces);
  Outcome outcome;
  outcome.status = (*device)->execute(**kernel, {inputAddresses.data(), outputAddresses.data(), workspaceAddresses.data()});
  for (const std::vector<Block> *blocks : {&outputs, &workspaces})
    for (const Block &block : *blocks)
      EXPECT_TRUE(block.isIntact()) << call.kernel << " writes behind its buffers";
  for (size_t k = 0; k < call.outputs.size(); ++k) {
    const Result &r = call.outputs[k];
    Array a{r.dtype, r.shape, {}};
    for (uint64_t i = 0; i < elements(r.shape); ++i)
      a.values.push_back(decode(r.dtype, outputs[k].begin() + i * dtypeBytes(r.dtype)));
    outcome.bytes.emplace_back(reinterpret_cast<const char *>(outputs[k].begin()), elements(r.shape) * dtypeBytes(r.dtype));
    outcome.outputs.push_back(std::move(a));
  }
  return outcome;
}

void add(std::vector<double> &sum, const Array &a) {
  sum.resize(a.values.size());
  for (size_t i = 0; i < sum.size(); ++i)
    sum[i] += a.values[i];
}

class RuntimeContext : public testing::TestWithParam<std::tuple<plan::DType, unsigned, bool>> {};

TEST_P(RuntimeContext, MembersTogetherAreTheWhole) {
  auto [dtype, members, zigzag] = GetParam();
  for (const ContextCase &c : contexts) {
    SCOPED_TRACE(c.what);
    Tensors whole = tensorsOf(c, dtype);
    Outcome y = run(forwardOf(c, whole)), d = run(backwardOf(c, whole, y));
    ASSERT_TRUE(y.status.ok() && d.status.ok()) << y.status.message() << d.status.message();
    Indices order = storageOrder(c.length, members, zigzag);
    std::vector<double> dk, dv;
    for (unsigned member = 0; member < members; ++member) {
      Tensors own = pieceOf(whole, order, member, members);
      Call forward = forwardOf(c, own);
      forward.attributes.push_back(attribute("zigzag", zigzag));
      Outcome ownY = runAs(member, members, forward);
      ASSERT_TRUE(ownY.status.ok()) << ownY.status.message();
      Call backward = backwardOf(c, own, ownY);
      backward.attributes.push_back(attribute("zigzag", zigzag));
      Outcome ownD = runAs(member, members, backward);
      ASSERT_TRUE(ownD.status.ok()) << ownD.status.message();
      uint64_t rows = c.length / members;
      Indices at(order.begin() + member * static_cast<long>(rows), order.begin() + (member + 1) * static_cast<long>(rows));
      for (size_t i : {0, 1})
        EXPECT_TRUE(close(ownY.outputs[i].values, select(y.outputs[i], 2, at).values, allowed(dtype)))
            << (i ? "lse" : "y") << " of member " << member;
      EXPECT_TRUE(close(ownD.outputs[0].values, select(d.outputs[0], 2, at).values, allowed(dtype)))
          << "dq of member " << member;
      add(dk, ownD.outputs[1]);
      add(dv, ownD.outputs[2]);
      EXPECT_EQ(runAs(member, members, forward, 1).bytes, ownY.bytes);
      EXPECT_EQ(runAs(member, members, backward, 3).bytes, ownD.bytes);
    }
    EXPECT_TRUE(close(dk, select(d.outputs[1], 2, order).values, allowed(dtype))) << "dk";
    EXPECT_TRUE(close(dv, select(d.outputs[2], 2, order).values, allowed(dtype))) << "dv";
  }
}

INSTANTIATE_TEST_SUITE_P(Members, RuntimeContext,
                         testing::Combine(testing::Values(plan::F32, plan::F64, plan::BF16), testing::Values(2u, 4u),
                                          testing::Bool()));

// A group of one has all queries and all keys, in either order: the bits are those without a group.
TEST(RuntimeContextBits, AGroupOfOneIsNone) {
  for (plan::DType dtype : {plan::F32, plan::BF16})
    for (const ContextCase &c : {contexts[3], contexts[10]}) {
      Tensors whole = tensorsOf(c, dtype);
      Call forward = forwardOf(c, whole);
      Outcome y = run(forward);
      Call backward = backwardOf(c, whole, y);
      EXPECT_EQ(runAs(0, 1, forward).bytes, y.bytes);
      EXPECT_EQ(runAs(0, 1, backward).bytes, run(backward).bytes);
    }
}

// Blocks that the mask hides altogether are not looked at: values that are NaN would show, even with a weight of zero.
// Chunks of 128 are blocks of keys.
TEST(RuntimeContextBits, WhatIsHiddenIsLeftOut) {
  constexpr unsigned members = 4;
  for (bool zigzag : {false, true})
    for (int64_t left : {int64_t(-1), int64_t(100)})
      for (unsigned member = 0; member < members; ++member) {
        ContextCase c{"", 1, 1, 1, 1024, 8, 8, left, 0};
        Indices order = storageOrder(c.length, members, zigzag);
        Tensors own = pieceOf(tensorsOf(c, plan::F32), order, member, members);
        std::vector<bool> seen(8); // chunks, by position
        for (uint64_t i = 0; i < 256; ++i) {
          uint64_t chunk = order[member * 256 + i] / 128;
          for (uint64_t j = left < 0 ? 0 : chunk - (chunk > 0); j <= chunk; ++j)
            seen[j] = true;
        }
        for (uint64_t j = 0; j < c.length; ++j)
          for (uint64_t w = 0; w < 8 && !seen[order[j] / 128]; ++w)
            own.v.values[j * 8 + w] = nan;
        Call forward = forwardOf(c, own);
        forward.attributes.push_back(attribute("zigzag", zigzag));
        Outcome y = runAs(member, members, forward);
        ASSERT_TRUE(y.status.ok()) << y.status.message();
        EXPECT_TRUE(std::all_of(y.outputs[0].values.begin(), y.outputs[0].values.end(), [](double x) { return std::isfinite(x); }));
        Call backward = backwardOf(c, own, y);
        backward.attributes.push_back(attribute("zigzag", zigzag));
        for (const Array &a : runAs(member, members, backward).outputs)
          EXPECT_TRUE(std::all_of(a.values.begin(), a.values.end(), [](double x) { return std::isfinite(x); }));
      }
}

// Two chunks of 30 queries are two pieces of work, with the workspace of one block of 60; wide ones, so that a second
// thread would find one to do.
TEST(RuntimeContextBits, FewQueriesHaveTheWorkspaceOfABlock) {
  ContextCase c{"", 1, 1, 1, 120, 2048, 2048, -1, 0};
  Tensors own = pieceOf(tensorsOf(c, plan::F32), storageOrder(c.length, 2, true), 1, 2);
  Call forward = forwardOf(c, own);
  EXPECT_EQ(forward.workspace, workspace::attentionSlot(2048, 2048, 4, c.length));
  forward.attributes.push_back(attribute("zigzag", true));
  Outcome one = runAs(1, 2, forward, 1);
  ASSERT_TRUE(one.status.ok()) << one.status.message();
  for (int repeat = 0; repeat < 5; ++repeat)
    EXPECT_EQ(runAs(1, 2, forward, 4).bytes, one.bytes);
}

// What the signature refuses: from a valid call one thing is changed.
TEST(RuntimeContextBits, SignaturesRefuse) {
  ContextCase c{"", 1, 2, 2, 16, 8, 8, -1, 0};
  struct Refusal {
    const char *error;
    void (*change)(Call &);
  };
  const Refusal refusals[] = {
      {"queries are 8 and keys 12 and should be even and 2 times as many",
       [](Call &f) { f.inputs[1] = f.inputs[2] = random(plan::F32, {1, 2, 12, 8}, 1); }},
      {"queries are 7 and keys 14 and should be even",
       [](Call &f) {
         f.inputs[0] = random(plan::F32, {1, 2, 7, 8}, 1);
         f.inputs[1] = f.inputs[2] = random(plan::F32, {1, 2, 14, 8}, 1);
         f.outputs[0].shape[2] = f.outputs[1].shape[2] = 7;
       }},
      {"should have dimensions 2 and 3 of size 1", [](Call &f) { f.inputs[4] = random(plan::F32, {1, 1, 1, 16}, 1); }},
      {"kernel 'attention_dropout' has no such attribute", [](Call &f) {
         f.kernel = "attention_dropout";
         for (int i = 0; i < 3; ++i)
           f.inputs.push_back(array(plan::I64, {}, {1}));
         f.attributes.push_back(attribute("dropout", 0.5));
         f.attributes.push_back(attribute("stream", 1));
       }},
  };
  Tensors own = pieceOf(tensorsOf(c, plan::F32), storageOrder(16, 2, true), 0, 2);
  Call valid = forwardOf(c, own);
  valid.attributes.push_back(attribute("zigzag", true));
  EXPECT_TRUE(runAs(0, 2, valid).status.ok());
  EXPECT_NE(runAs(0, 0, valid).status.message().find("attributes.members: is 0"), std::string::npos);
  for (const Refusal &refusal : refusals) {
    Call call = valid;
    refusal.change(call);
    Outcome o = runAs(0, 2, call);
    ASSERT_FALSE(o.status.ok()) << refusal.error;
    EXPECT_NE(o.status.message().find(refusal.error), std::string::npos) << o.status.message();
  }
  Call lone = forwardOf(c, tensorsOf(c, plan::F32));
  lone.attributes.push_back(attribute("zigzag", true));
  EXPECT_NE(run(lone).status.message().find("there should be a group"), std::string::npos);
  lone.attributes.back() = attribute("members", 1);
  EXPECT_NE(run(lone).status.message().find("group and members should be there both or not"), std::string::npos);
}

// ---- take_piece

TEST(RuntimeContextBits, TakePieceMakesTheOrder) {
  for (plan::DType dtype : {plan::F32, plan::BF16, plan::BOOL, plan::I64})
    for (uint64_t members : {1u, 2u, 4u, 6u})
      for (bool zigzag : {false, true})
        for (size_t dim : {0u, 1u, 2u}) {
          Shape shape = {3, 5, 7};
          shape[dim] = 24;
          Array whole = randomIndices(dtype, shape, 3, 0, 2);
          Indices order = storageOrder(24, members, zigzag);
          uint64_t rows = 24 / members;
          for (uint64_t member = 0; member < members; ++member) {
            Shape piece = shape;
            piece[dim] = rows;
            Outcome o = runAs(static_cast<unsigned>(member), static_cast<unsigned>(members),
                              {"take_piece", {whole}, {{dtype, piece}}, {attribute("dim", static_cast<int64_t>(dim)), attribute("zigzag", zigzag)}, 0, {}});
            ASSERT_TRUE(o.status.ok()) << o.status.message();
            Indices own(order.begin() + static_cast<long>(member * rows), order.begin() + static_cast<long>((member + 1) * rows));
            EXPECT_EQ(o.outputs[0].values, select(whole, dim, own).values) << member << " of " << members << ", " << dim;
          }
        }
  Call odd{"take_piece", {random(plan::F32, {6, 2}, 1)}, {{plan::F32, {3, 2}}}, {attribute("dim", 0), attribute("zigzag", true)}, 0, {}};
  EXPECT_NE(runAs(0, 2, odd).status.message().find("dimension 0 is 6 and should be divisible by twice the 2 members"), std::string::npos);
  // Without zigzag the last piece is filled up with zeros: 5 rows of 3 members.
  Outcome last = runAs(2, 3, {"take_piece", {array(plan::F32, {5}, {1, 2, 3, 4, 5})}, {{plan::F32, {2}}}, {attribute("dim", 0)}, 0, {}});
  ASSERT_TRUE(last.status.ok()) << last.status.message();
  EXPECT_EQ(last.outputs[0].values, (std::vector<double>{5, 0}));
}

} // namespace
} // namespace amc::rt::test
