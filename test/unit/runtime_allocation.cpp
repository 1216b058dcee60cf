// A step allocates nothing; loading survives every allocation that fails. malloc and its relatives are replaced in this
// executable and hand on to glibc's under their other names.
#include "runtime/plan/PlanFile.h"
#include "runtime_support.h"
#include "runtime/plan/Workspace.h"
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>

extern "C" void *__libc_malloc(size_t);
extern "C" void *__libc_calloc(size_t, size_t);
extern "C" void *__libc_realloc(void *, size_t);
extern "C" void *__libc_memalign(size_t, size_t);

#if !defined(__SANITIZE_ADDRESS__) // which has a malloc of its own

namespace {
std::atomic<uint64_t> allocations{0};
std::atomic<int64_t> failAfter{-1}; // -1: never
std::atomic<bool> refused{false};   // has an allocation failed?

bool refuse() {
  allocations.fetch_add(1);
  if (failAfter.load() < 0)
    return false;
  if (failAfter.fetch_sub(1) != 0)
    return false;
  failAfter.store(0); // all later ones fail, too
  refused.store(true);
  return true;
}
} // namespace

extern "C" void *malloc(size_t bytes) { return refuse() ? (errno = ENOMEM, nullptr) : __libc_malloc(bytes); }
extern "C" void *calloc(size_t n, size_t bytes) { return refuse() ? (errno = ENOMEM, nullptr) : __libc_calloc(n, bytes); }
extern "C" void *realloc(void *p, size_t bytes) { return refuse() ? (errno = ENOMEM, nullptr) : __libc_realloc(p, bytes); }
extern "C" void *memalign(size_t a, size_t bytes) { return refuse() ? (errno = ENOMEM, nullptr) : __libc_memalign(a, bytes); }
extern "C" void *aligned_alloc(size_t a, size_t bytes) { return memalign(a, bytes); }
extern "C" int posix_memalign(void **out, size_t a, size_t bytes) {
  *out = memalign(a, bytes);
  return *out ? 0 : ENOMEM;
}

namespace amc::rt::test {
namespace {

// A step with a kernel of each family in it, on four threads.
plan::Plan manyKernels() {
  uint64_t n = 64;
  std::vector<Call> calls = {
      {"matmul", {random(plan::F32, {512, 512}, 1), random(plan::F32, {512, 512}, 2)}, {{plan::F32, {512, 512}}}, {}, 0, {}},
      {"attention", {random(plan::F32, {2, 4, n, 16}, 1), random(plan::F32, {2, 4, n, 16}, 2), random(plan::F32, {2, 4, n, 16}, 3), {}, {}},
       {{plan::F32, {2, 4, n, 16}}, {plan::F32, {2, 4, n}}},
       {attribute("masked_rows", "zero"), attribute("scale", 0.25), attribute("softcap", 0.0), attribute("right", 0)},
       workspace::attention(2, 4, n, 16, 16, 4), {}},
      {"rms_norm_backward", {random(plan::F32, {200, n}, 1), random(plan::F32, {200, n}, 2), random(plan::F32, {200}, 3), random(plan::F32, {n}, 4)},
       {{plan::F32, {200, n}}, {plan::F32, {n}}}, {}, workspace::rmsNormBackward(200, n, true, 4), {}},
      {"softmax", {random(plan::F32, {300, 100}, 1)}, {{plan::F32, {300, 100}}}, {attribute("axis", 1)}, 0, {}},
      {"transpose", {random(plan::F32, {300, 200}, 1)}, {{plan::F32, {200, 300}}}, {attribute("permutation", std::vector<int64_t>{1, 0})}, 0, {}},
      {"add", {random(plan::BF16, {300, 200}, 1), random(plan::BF16, {200}, 2)}, {{plan::BF16, {300, 200}}}, {}, 0, {}},
      {"linear", {random(plan::BF16, {600, n}, 1), random(plan::BF16, {n, 700}, 2), {}}, {{plan::BF16, {600, 700}}}, {},
       workspace::product(600, 700, n, 2), {}},
      {"linear_weight_grad", {random(plan::BF16, {600, n}, 1), random(plan::BF16, {600, 700}, 2)}, {{plan::BF16, {n, 700}}}, {},
       workspace::product(n, 700, 600, 2), {}},
      {"attention", {random(plan::BF16, {2, 4, n, 16}, 1), random(plan::BF16, {2, 4, n, 16}, 2), random(plan::BF16, {2, 4, n, 16}, 3), {}, {}},
       {{plan::BF16, {2, 4, n, 16}}, {plan::F32, {2, 4, n}}},
       {attribute("masked_rows", "zero"), attribute("scale", 0.25), attribute("softcap", 0.0), attribute("right", 0)},
       workspace::attention(2, 4, n, 16, 16, 2), {}},
      {"embedding_backward", {random(plan::BF16, {90, n}, 1), randomIndices(plan::I64, {90}, 2, 0, 40)}, {{plan::BF16, {40, n}}}, {attribute("rows", 40)},
       workspace::sortedSources(40, 90), {}},
      {"reduce_sum", {random(plan::F32, {300000}, 1)}, {{plan::F32, {}}}, {attribute("axes", std::vector<int64_t>{0}), attribute("keepdims", false)}, 0, {}},
      {"embedding_backward", {random(plan::F32, {90, n}, 1), randomIndices(plan::I64, {90}, 2, 0, 40)}, {{plan::F32, {40, n}}}, {attribute("rows", 40)}, 0, {}},
      {"grouped_matmul", {random(plan::F32, {90, n}, 1), random(plan::F32, {4, n, n}, 2), randomIndices(plan::I64, {90}, 3, 0, 4)},
       {{plan::F32, {90, n}}}, {}, workspace::groupedMatmul(90, n, n, 4, 4), {}},
      {"squared_norm", {random(plan::F32, {300, 200}, 1)}, {{plan::F64, {}}}, {}, 0, {}},
  };
  plan::Plan all;
  for (const Call &call : calls) {
    plan::Plan one = planOf(call);
    uint64_t buffers = static_cast<uint64_t>(all.buffers_size());
    auto shift = [&](auto *views) {
      for (plan::View &v : *views)
        v.set_buffer(v.buffer() + buffers);
    };
    shift(one.mutable_instructions(0)->mutable_inputs());
    shift(one.mutable_instructions(0)->mutable_outputs());
    shift(one.mutable_instructions(0)->mutable_workspaces());
    uint64_t base = all.arena_bytes();
    for (plan::Buffer b : one.buffers()) {
      b.set_offset(b.offset() + base);
      *all.add_buffers() = b;
    }
    *all.add_instructions() = one.instructions(0);
    for (plan::Input i : one.inputs()) {
      i.mutable_view()->set_buffer(i.view().buffer() + buffers);
      *all.add_inputs() = i;
    }
    all.set_arena_bytes(base + one.arena_bytes());
  }
  all.set_target("cpu");
  all.set_alignment(64);
  all.set_accumulation(1);
  uint64_t count = static_cast<uint64_t>(all.instructions_size());
  all.set_micro_batch_end(count);
  all.set_forward_end(count);
  for (plan::Buffer &b : *all.mutable_buffers())
    b.set_last(count);
  complete(all);
  return all;
}

TEST(RuntimeAllocation, AStepAllocatesNothing) {
  Expected<Executor> executor = Executor::create(manyKernels(), {4, false});
  ASSERT_TRUE(executor.ok()) << executor.status().message();
  uint64_t before = allocations.load();
  EXPECT_GT(before, 0u) << "allocations are not counted";
  for (int step = 0; step < 3; ++step)
    ASSERT_TRUE(executor->runMicroBatch().ok());
  EXPECT_EQ(allocations.load(), before);
}

// Every allocation of reading and preparing a plan fails once, the others after it too: an error each time, never a
// crash, until it succeeds.
TEST(RuntimeAllocation, LoadingSurvivesFailure) {
  std::string bytes = *serializePlan(manyKernels());
  bool done = false;
  for (int64_t at = 0; !done && at < 20000; ++at) {
    refused.store(false);
    failAfter.store(at);
    ErrorKind kind = ErrorKind::Usage;
    bool ok = false;
    {
      Expected<plan::Plan> plan = parsePlan(bytes);
      if (!plan.ok()) {
        kind = plan.status().kind();
      } else {
        Expected<Executor> executor = Executor::create(std::move(*plan), {2, false});
        ok = executor.ok();
        kind = ok ? kind : executor.status().kind();
      }
      failAfter.store(-1);
      done = !refused.load();
    }
    EXPECT_TRUE(ok == done && (ok || kind == ErrorKind::Limit)) << "allocation " << at;
  }
  EXPECT_TRUE(done);
}

} // namespace
} // namespace amc::rt::test

#endif
