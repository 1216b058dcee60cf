// No allocation during a step: this program's malloc counts, for all threads, what a step of the
// trainer asks for, from reading its data to the weights' update. Under the sanitizers, which bring
// their own malloc, there is nothing to count.
#include "runtime/trainer/Profiler.h"
#include "runtime/trainer/StepRunner.h"
#include "test/unit/trainer_plan.h"

#include <atomic>

#if !defined(__SANITIZE_ADDRESS__)

namespace {
std::atomic<bool> counting = false;
std::atomic<uint64_t> allocations = 0;
void count() {
  if (counting.load(std::memory_order_relaxed))
    ++allocations;
}
} // namespace

extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void *malloc(size_t size) {
  count();
  return __libc_malloc(size);
}
void *calloc(size_t number, size_t size) {
  count();
  return __libc_calloc(number, size);
}
void *realloc(void *block, size_t size) {
  count();
  return __libc_realloc(block, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
  count();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void **block, size_t alignment, size_t size) {
  count();
  *block = __libc_memalign(alignment, size);
  return *block ? 0 : ENOMEM;
}
}

using namespace amc::rt;
using namespace amc::rt::test;

// That the interposition works at all: a vector is one allocation.
TEST(Allocations, AreCounted) {
  allocations = 0;
  counting = true;
  std::vector<char> block(1000);
  block[10] = 1;
  counting = false;
  EXPECT_EQ(block[10], 1);
  EXPECT_EQ(allocations, 1u);
}

// Twelve steps of three micro-batches on three threads, over two ends of an epoch, on text and on
// named batches; five of them are profiled.
TEST(Allocations, NoneInAStep) {
  TempDir dir;
  std::string corpus(200, 'a');
  dir.write("corpus.txt", corpus);
  Shape shape = {7, 2, 4};
  auto writer = take(SafetensorsWriter::create(
      dir.path("b.safetensors"),
      {{"input_ids", amc::plan::I64, shape}, {"labels", amc::plan::I64, shape}}, {}));
  expectOk(writer.write("input_ids", 0, std::vector<std::byte>(448)));
  expectOk(writer.write("labels", 0, std::vector<std::byte>(448)));
  expectOk(writer.finish());
  for (const char *data : {"corpus.txt", "b.safetensors"}) {
    amc::plan::Plan plan = BigramPlan({.vocabulary = 256, .accumulation = 3}).plan;
    DataRequest request = requestFor(plan);
    request.path = dir.path(data);
    Executor executor = take(Executor::create(std::move(plan), {.threads = 3}));
    auto source = take(openData(request));
    Ranks ranks;
    auto runner = take(StepRunner::create(executor, ranks, request));
    auto profiler = take(Profiler::create(executor, ranks, dir.path("trace.json"), 5, 12, false));
    Status failed;
    allocations = 0;
    counting = true;
    for (uint64_t step = 1; step <= 12 && failed.ok(); ++step) {
      profiler->before();
      failed = runner->stage(*source, (step - 1) * 3).status();
      if (failed.ok()) {
        Expected<StepResult> result = runner->run(step, 0.01, 0);
        if (!result.ok())
          failed = result.status();
      }
      profiler->after(step);
    }
    counting = false;
    expectOk(profiler->finish([](const std::string &) {}));
    expectOk(failed);
    EXPECT_EQ(allocations, 0u) << data;
  }
}

#endif
