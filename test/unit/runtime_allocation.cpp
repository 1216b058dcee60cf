// A step allocates nothing but what the matrix library asks for in a product; loading survives every allocation that
// fails. malloc and its relatives are replaced in this executable and hand on to glibc's under their other names.
#include "runtime/device/cpu/Gemm.h"
#include "runtime/plan/PlanFile.h"
#include "runtime_support.h"
#include "runtime/plan/Workspace.h"
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <new>
#include <sys/resource.h>

extern "C" void *__libc_malloc(size_t);
extern "C" void *__libc_calloc(size_t, size_t);
extern "C" void *__libc_realloc(void *, size_t);
extern "C" void *__libc_memalign(size_t, size_t);

#if !defined(__SANITIZE_ADDRESS__) // which has a malloc of its own

namespace {
std::atomic<uint64_t> allocations{0};
std::atomic<int64_t> failAfter{-1}; // -1: never
std::atomic<bool> refused{false};   // has an allocation failed?

// What the matrix library asks for: a buffer in each product (runtime/device/cpu/Gemm.h).
std::atomic<uint64_t> libraryRequests{0}, largestRequest{0};
std::atomic<bool> refuseLibrary{false};

// Where a shared library's code lies.
struct Code {
  const char *name;
  uintptr_t begin = 0, end = 0;
  explicit Code(const char *name) : name(name) {
    dl_iterate_phdr([](dl_phdr_info *info, size_t, void *data) {
      Code &code = *static_cast<Code *>(data);
      for (int i = 0; std::strstr(info->dlpi_name, code.name) && i < info->dlpi_phnum; ++i)
        if (const auto &part = info->dlpi_phdr[i]; part.p_type == PT_LOAD && part.p_flags & PF_X) {
          code.begin = info->dlpi_addr + part.p_vaddr;
          code.end = code.begin + part.p_memsz;
        }
      return 0;
    }, this);
  }
  bool has(const void *address) const {
    auto at = reinterpret_cast<uintptr_t>(address);
    return at >= begin && at < end;
  }
};
const Code library("libdnnl.so"), openMp("libgomp.so");

bool refuse(const void *caller, size_t bytes) {
  // OpenMP's runtime ends the process where it finds no memory for the few bytes it keeps of a thread.
  if (openMp.has(caller))
    return false;
  if (library.has(caller)) {
    libraryRequests.fetch_add(1);
    if (bytes > largestRequest.load())
      largestRequest.store(bytes);
    return refuseLibrary.load();
  }
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

#define REFUSED(bytes) refuse(__builtin_return_address(0), bytes)
extern "C" void *malloc(size_t bytes) { return REFUSED(bytes) ? (errno = ENOMEM, nullptr) : __libc_malloc(bytes); }
extern "C" void *calloc(size_t n, size_t bytes) { return REFUSED(n * bytes) ? (errno = ENOMEM, nullptr) : __libc_calloc(n, bytes); }
extern "C" void *realloc(void *p, size_t bytes) { return REFUSED(bytes) ? (errno = ENOMEM, nullptr) : __libc_realloc(p, bytes); }
extern "C" void *memalign(size_t a, size_t bytes) { return REFUSED(bytes) ? (errno = ENOMEM, nullptr) : __libc_memalign(a, bytes); }
extern "C" void *aligned_alloc(size_t a, size_t bytes) { return REFUSED(bytes) ? (errno = ENOMEM, nullptr) : __libc_memalign(a, bytes); }
extern "C" int posix_memalign(void **out, size_t a, size_t bytes) {
  *out = REFUSED(bytes) ? nullptr : __libc_memalign(a, bytes);
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

uint64_t minorFaults() {
  rusage usage;
  EXPECT_EQ(getrusage(RUSAGE_SELF, &usage), 0);
  return static_cast<uint64_t>(usage.ru_minflt);
}

// The matrix library alone asks for anything, for no more in a product than the device has said, and gets memory that
// the process has: once the arena has been touched, no page is new.
TEST(RuntimeAllocation, AStepAllocatesNothing) {
  for (unsigned threads : {1, 2, 4}) {
    Expected<Executor> executor = Executor::create(manyKernels(), {threads, false});
    ASSERT_TRUE(executor.ok()) << executor.status().message();
    EXPECT_EQ(executor->scratchBytes(), threads * cpu::libraryBytes);
    // Which threads' parts of a workspace a step uses is a matter of timing, and so would be when they are touched first.
    for (const plan::Instruction &instruction : executor->plan().instructions())
      for (const plan::View &workspace : instruction.workspaces()) {
        Tensor scratch = executor->view(workspace);
        std::memset(scratch.data, 0, scratch.bytes);
      }
    for (int step = 0; step < 5; ++step)
      ASSERT_TRUE(executor->runMicroBatch().ok());
    uint64_t before = allocations.load(), asked = libraryRequests.load(), faults = minorFaults();
    EXPECT_GT(before, 0u) << "allocations are not counted";
    for (int step = 0; step < 50; ++step)
      ASSERT_TRUE(executor->runMicroBatch().ok());
    faults = minorFaults() - faults;
    EXPECT_EQ(allocations.load(), before);
    EXPECT_LE(faults, threads) << "pages"; // a stack may still grow by one
    EXPECT_GT(libraryRequests.load(), asked) << "the library's requests are not seen";
    EXPECT_LE(largestRequest.load(), cpu::libraryBytes);
  }
}

// No product of Gemm.h's grid, in either type and stored either way, asks for more.
TEST(RuntimeAllocation, NoProductAsksForMoreThanIsReserved) {
  constexpr int64_t rows = workspace::productWideRowTile;
  const int64_t columns = cpu::ProductGrid::columnTile<float>();
  std::vector<float> a(4096 * rows, 1), b(4096 * columns, 1), c(rows * columns);
  largestRequest.store(0);
  for (int64_t inner : {64, 600, 1024, 4096})
    for (int kind = 0; kind < 4; ++kind) {
      bool ta = kind & 1, tb = kind & 2;
      cpu::gemm(ta, tb, rows, columns, inner, 1.0f, a.data(), ta ? rows : inner, b.data(), tb ? inner : columns, 0.0f,
                c.data(), columns);
      if (cpu::multipliesBf16())
        cpu::gemm(ta, tb, rows, columns, inner, 1.0f, reinterpret_cast<cpu::BFloat16 *>(a.data()), ta ? rows : inner,
                  reinterpret_cast<cpu::BFloat16 *>(b.data()), tb ? inner : columns, 0.0f, c.data(), columns);
    }
  EXPECT_GT(largestRequest.load(), 0u);
  EXPECT_LE(largestRequest.load(), cpu::libraryBytes);
}

// A product that finds no memory is an error of the step, and the next step is right again.
TEST(RuntimeAllocation, AProductWithoutMemoryIsAnError) {
  Expected<Executor> executor = Executor::create(manyKernels(), {2, false});
  ASSERT_TRUE(executor.ok()) << executor.status().message();
  refuseLibrary.store(true);
  Status status = executor->runMicroBatch();
  refuseLibrary.store(false);
  EXPECT_EQ(status.kind(), ErrorKind::Limit);
  EXPECT_NE(status.message().find("found no memory"), std::string::npos) << status.message();
  EXPECT_TRUE(executor->runMicroBatch().ok());
}

// Every allocation of reading and preparing a plan fails once, the others after it too: an error each time, never a
// crash, until it succeeds.
TEST(RuntimeAllocation, LoadingSurvivesFailure) {
  std::string bytes = *serializePlan(manyKernels());
  // What the matrix library makes once is there already: an exception in that ends the process, in the C library.
  ASSERT_TRUE(Executor::create(manyKernels(), {2, false}).ok());
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
