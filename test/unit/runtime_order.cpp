// What runs beside what: tasks of the thread pool, instructions of a step that need not wait for each other, generated kernels
// on tiles of the product before them.
#include "runtime/device/cpu/Code.h"
#include "runtime/device/cpu/Epilogue.h"
#include "runtime/device/cpu/Registry.h"
#include "runtime/executor/WorkOrder.h"
#include "runtime_support.h"
#include <atomic>
#include <chrono>
#include <random>
#include <sched.h>

namespace amc::rt::test {
namespace {

// Waits until then, but not for ever: false.
template <class Then> bool comes(Then &&then) {
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!then()) {
    if (std::chrono::steady_clock::now() > end)
      return false;
    ::sched_yield();
  }
  return true;
}

TEST(Tasks, EachOnceBehindThoseItNames) {
  std::minstd_rand random(1);
  for (unsigned threads : {1u, 2u, 3u, 7u}) {
    auto pool = std::move(ThreadPool::create(threads).value());
    for (uint64_t count : {0u, 1u, 2u, 9u, 300u}) {
      std::vector<uint32_t> behind(count);
      std::vector<int64_t> pieces(count);
      for (uint64_t t = 0; t < count; ++t) {
        behind[t] = random() & random() & 0xfe;
        pieces[t] = random() % 2 ? 1 : random() % 40;
      }
      std::vector<std::atomic<int>> done(count);
      std::atomic<int64_t> worked{0}, early{0};
      pool->runTasks(count, [&](uint64_t t) { return behind[t]; }, [&](uint64_t t) {
        for (uint64_t d = 1; d < ThreadPool::taskWindow && d <= t; ++d)
          early += (behind[t] >> d & 1) && done[t - d].load() != 1;
        for (uint64_t d = ThreadPool::taskWindow; d <= t; ++d)
          early += done[t - d].load() != 1; // the window
        for (int loop = 0; loop < 2; ++loop)
          pool->parallelFor(pieces[t], [&](int64_t, unsigned) { ++worked; });
        ++done[t];
        return true;
      });
      EXPECT_EQ(early.load(), 0);
      int64_t all = 0;
      for (uint64_t t = 0; t < count; ++t) {
        EXPECT_EQ(done[t].load(), 1);
        all += 2 * pieces[t];
      }
      EXPECT_EQ(worked.load(), all);
    }
  }
}

TEST(Tasks, RunAtTheSameTime) {
  auto pool = std::move(ThreadPool::create(2).value());
  std::atomic<int> there{0};
  std::atomic<bool> met{true};
  pool->runTasks(2, [](uint64_t) { return 0; }, [&](uint64_t) {
    ++there;
    met = comes([&] { return there == 2; }) && met;
    return true;
  });
  EXPECT_TRUE(met);
}

// The one of two threads that has no piece left, be it the loop's caller or not, begins what need not wait for the loop.
TEST(Tasks, NobodyWaitsForAPieceThatIsLeft) {
  auto pool = std::move(ThreadPool::create(2).value());
  for (int64_t slow : {0, 1})
    for (int round = 0; round < 50; ++round) {
      std::atomic<bool> second{false}, cameBefore{false};
      pool->runTasks(2, [](uint64_t) { return 0; }, [&](uint64_t t) {
        if (t == 1) {
          second = true;
          return true;
        }
        pool->parallelFor(2, [&](int64_t piece, unsigned) {
          if (piece == slow)
            cameBefore = comes([&] { return second.load(); });
        });
        return true;
      });
      EXPECT_TRUE(cameBefore);
    }
}

TEST(Tasks, NoneBeginsBehindOneThatFails) {
  for (unsigned threads : {1u, 3u}) {
    auto pool = std::move(ThreadPool::create(threads).value());
    for (int round = 0; round < 50; ++round) {
      std::atomic<uint64_t> begun{0}, ended{0};
      std::atomic<bool> failed{false}, late{false};
      pool->runTasks(200, [](uint64_t) { return 2; }, [&](uint64_t t) {
        late = late || failed;
        ++begun;
        failed = failed || t == 100;
        ++ended;
        return t != 100;
      });
      EXPECT_FALSE(late);
      EXPECT_EQ(begun.load(), 101u);
      EXPECT_EQ(ended.load(), 101u);
      // The pool is as it was.
      std::atomic<int> pieces{0};
      pool->parallelFor(10, [&](int64_t, unsigned) { ++pieces; });
      EXPECT_EQ(pieces.load(), 10);
    }
  }
}

// Instructions over few places, each given again as soon as nobody reads it: whatever runs ahead of what it reads or of who
// still reads what it writes shows in the numbers.
TEST(Order, IsWhatTheBytesOfInstructionsAskFor) {
  constexpr uint64_t n = 16000, instructions = 100, kept = 5; // one piece each; numbers grow, but stay finite
  std::minstd_rand random(3);
  for (int round = 0; round < 4; ++round) {
    std::vector<double> start(n);
    for (double &x : start)
      x = static_cast<double>(random() % 1000) / 1000;
    plan::Plan plan = planOf({"exp", {array(plan::F32, {n}, start)}, {{plan::F32, {n}}}, {}, 0, {}});
    std::vector<std::vector<float>> values;
    const uint64_t first = plan.buffers(1).offset(), bytes = (n * 4 + 63) / 64 * 64;
    auto addBuffer = [&](uint64_t i) {
      plan::Buffer buffer = plan.buffers(1);
      buffer.set_offset(first + i % (kept + 1) * bytes);
      buffer.set_bytes(n * 4);
      buffer.set_name("b" + std::to_string(i));
      buffer.set_first(i);
      buffer.set_last(i + kept + 1);
      if (i == 0)
        *plan.mutable_buffers(1) = buffer;
      else
        *plan.add_buffers() = buffer;
    };
    addBuffer(0);
    for (uint64_t i = 1; i < instructions; ++i) {
      plan::Instruction &next = *plan.add_instructions();
      next.set_kernel(i % 3 ? "add" : "sub");
      next.set_phase(plan::FORWARD);
      for (int operand = 0; operand < 2; ++operand) {
        *next.add_inputs() = plan.instructions(0).outputs(0);
        next.mutable_inputs(operand)->set_buffer(i - (operand ? random() % std::min(i, kept) : i % 2 ? 0 : std::min(i, kept) - 1));
      }
      *next.add_outputs() = plan.instructions(0).outputs(0);
      next.mutable_outputs(0)->set_buffer(1 + i);
      addBuffer(i);
    }
    for (plan::Buffer &buffer : *plan.mutable_buffers())
      buffer.set_last(std::min(buffer.last(), instructions));
    plan.mutable_buffers(0)->set_last(instructions);
    plan.set_forward_end(instructions);
    plan.set_micro_batch_end(instructions);
    complete(plan);
    std::vector<std::string> results;
    for (unsigned threads : {1u, 2u, 4u, 8u}) {
      Expected<Executor> e = Executor::create(plan, {threads, false});
      ASSERT_TRUE(e.ok()) << e.status().message();
      for (int step = 0; step < 60; ++step) { // workers wake up in the first
        std::copy(start.begin(), start.end(), static_cast<float *>(e->input(0).data));
        ASSERT_TRUE(e->runMicroBatch().ok());
        Tensor last = e->view(plan.instructions(static_cast<int>(instructions) - 1).outputs(0));
        results.emplace_back(static_cast<const char *>(last.data), n * 4);
        ASSERT_TRUE(results.back() == results[0]) << threads << " threads, step " << step;
      }
    }
  }
}

// ---- instructions, of a plan that is bytes of an arena alone

class Arena {
public:
  Arena() { kernels.resize(16); }
  // Reads and writes bytes of the arena, given as [begin, end); the first that is written is the result.
  using Ranges = std::vector<std::pair<int, int>>;
  Arena &add(Ranges read, Ranges written, uint32_t section = 0, bool alone = false) {
    WorkOrder::Instruction one{{&kernels[all.size()], {}, 0}, {}, alone, {}, 1, section};
    for (auto [ranges, to] : {std::pair(&read, &one.touched.read), {&written, &one.touched.written}})
      for (auto [begin, end] : *ranges)
        to->push_back({bytes + begin, bytes + end});
    one.result = one.touched.written[0];
    all.push_back(std::move(one));
    return *this;
  }
  WorkOrder order(bool pairs = true) const {
    return WorkOrder(all, [pairs](const Work &, const Work &, uint64_t) {
      return pairs ? std::make_unique<rt::Kernel>() : nullptr;
    });
  }
  uint64_t paired() const { return order().paired(); }

private:
  std::byte bytes[1000];
  std::vector<rt::Kernel> kernels;
  std::vector<WorkOrder::Instruction> all;
};

TEST(WorkOrder, WaitsForWhoTouchesItsBytes) {
  Arena arena;
  arena.add({{0, 10}}, {{10, 20}});  // 0
  arena.add({{0, 10}}, {{20, 30}});  // 1: reads what 0 reads
  arena.add({{10, 15}}, {{30, 40}}); // 2: reads what 0 wrote
  arena.add({{40, 50}}, {{5, 8}});   // 3: writes what 0 and 1 read
  arena.add({{50, 60}}, {{15, 40}}); // 4: writes over what 0, 1 and 2 wrote
  WorkOrder order = arena.order(/*pairs=*/false);
  EXPECT_EQ(order.paired(), 0u);
  for (auto [i, behind] : {std::pair(0, 0u), {1, 0u}, {2, 1u << 2}, {3, 1u << 3 | 1u << 2}, {4, 1u << 4 | 1u << 3 | 1u << 2}})
    EXPECT_EQ(order.works()[i].behind, behind) << i;
}

TEST(WorkOrder, PairsAResultWithWhoReadsAllOfIt) {
  EXPECT_EQ(Arena().add({{0, 10}}, {{10, 20}}).add({{10, 20}}, {{20, 30}}).paired(), 1u);
  EXPECT_EQ(Arena().add({{0, 10}}, {{10, 20}}).add({{10, 20}}, {{10, 20}}).paired(), 1u) << "in place";
  EXPECT_EQ(Arena().add({{0, 10}}, {{10, 20}}).add({{10, 19}}, {{20, 30}}).paired(), 0u) << "a part of it";
  EXPECT_EQ(Arena().add({{0, 10}}, {{10, 20}}).add({{10, 20}, {10, 15}}, {{20, 30}}).paired(), 0u) << "and a part of it";
  EXPECT_EQ(Arena().add({{0, 10}}, {{10, 20}}).add({{10, 20}}, {{15, 25}}).paired(), 0u) << "over a part of it";
  EXPECT_EQ(Arena().add({{0, 10}}, {{10, 20}}).add({{10, 20}}, {{5, 6}}).paired(), 0u) << "over what the first still reads";
  EXPECT_EQ(Arena().add({{0, 10}}, {{10, 20}, {40, 50}}).add({{10, 20}}, {{45, 60}}).paired(), 0u) << "over its workspace";
  EXPECT_EQ(Arena().add({{0, 10}}, {{10, 20}}).add({{10, 20}}, {{20, 30}}, 1).paired(), 0u) << "in another section";
  EXPECT_EQ(Arena().add({{0, 10}}, {{10, 20}}).add({{10, 20}}, {{20, 30}}, 0, true).paired(), 0u) << "talks to other ranks";
}

TEST(WorkOrder, PairsPastWhatHasNothingToDoWithIt) {
  auto between = [](Arena::Ranges read, Arena::Ranges written, bool alone = false) {
    Arena arena;
    arena.add({{0, 10}}, {{10, 20}}).add(std::move(read), std::move(written), 0, alone);
    return arena.add({{10, 20}, {60, 70}}, {{20, 30}}).paired();
  };
  EXPECT_EQ(between({{0, 10}}, {{40, 50}}), 1u);
  EXPECT_EQ(between({{0, 10}}, {{60, 61}}), 0u) << "writes what the second reads";
  EXPECT_EQ(between({{29, 30}}, {{40, 50}}), 0u) << "reads what the second writes over";
  EXPECT_EQ(between({{0, 10}}, {{25, 35}}), 0u) << "writes what the second writes";
  EXPECT_EQ(between({{0, 10}}, {{40, 50}}, /*alone=*/true), 0u) << "nothing passes it";
  Arena far;
  far.add({{0, 10}}, {{10, 20}});
  for (uint64_t i = 1; i < workWindow; ++i)
    far.add({{0, 10}}, {{40, 50}});
  EXPECT_EQ(far.add({{10, 20}}, {{20, 30}}).paired(), 0u) << "too far";
}

TEST(WorkOrder, PairsWaitForWhatEitherNeeds) {
  Arena arena;
  arena.add({{0, 1}}, {{60, 70}});             // 0: what the second of the pair reads
  arena.add({{0, 10}}, {{10, 20}});            // 1: the first
  arena.add({{0, 10}}, {{40, 50}});            // 2
  arena.add({{10, 20}, {60, 70}}, {{20, 30}}); // 3: the second
  arena.add({{20, 25}}, {{80, 90}});           // 4: reads a part of what it makes
  WorkOrder order = arena.order();
  EXPECT_EQ(order.paired(), 1u);
  EXPECT_EQ(order.works()[3].kernel, nullptr);
  EXPECT_EQ(order.works()[1].behind, 1u << 1);
  EXPECT_EQ(order.works()[2].behind, 0u);
  EXPECT_EQ(order.works()[4].behind, 1u << 3);

  for (auto [looked, paired] : {std::pair(0, 1u), {1, 0u}, {2, 0u}, {3, 1u}}) {
    order.stopAt([looked = static_cast<uint64_t>(looked)](uint64_t i) { return i == looked; });
    EXPECT_EQ(order.paired(), paired) << looked;
    EXPECT_EQ(order.works()[3].kernel == nullptr, paired == 1) << looked;
  }
  order.stopAt([](uint64_t) { return false; });
  EXPECT_EQ(order.paired(), 1u);
}

// ---- what is done to a product's tiles

// y = x w + bias with these sizes, and its operands.
struct Product {
  static constexpr int64_t inner = 40;
  Product(int64_t m, int64_t n) {
    auto add = [](plan::View *view, std::vector<int64_t> shape) {
      view->set_dtype(plan::F32);
      for (int64_t dim : shape)
        view->add_shape(static_cast<uint64_t>(dim));
    };
    plan::Instruction instruction;
    instruction.set_kernel("linear");
    add(instruction.add_inputs(), {m, inner});
    add(instruction.add_inputs(), {inner, n});
    instruction.add_inputs();
    add(instruction.add_outputs(), {m, n});
    kernel = registry.find("linear")->create(*InstructionSpec::create(instruction));
    std::minstd_rand random(5);
    for (auto [buffer, size] : {std::pair(&x, m * inner), {&w, inner * n}}) {
      for (int64_t i = 0; i < size; ++i)
        buffer->push_back(static_cast<float>(random() % 100) / 100);
    }
    y.resize(static_cast<size_t>(m * n));
    inputs = {reinterpret_cast<std::byte *>(x.data()), reinterpret_cast<std::byte *>(w.data()), nullptr};
    outputs = {reinterpret_cast<std::byte *>(y.data())};
  }
  Work work() const { return {kernel.get(), {inputs.data(), outputs.data(), nullptr}, 0}; }

  cpu::KernelRegistry registry;
  std::unique_ptr<cpu::Kernel> kernel;
  std::vector<float> x, w, y;
  std::vector<std::byte *> inputs, outputs;
};

int64_t width; // of a row, for the function below

// [1] = 2 [0], and [2] counts, of elements …
void twice(std::byte **operands, int64_t begin, int64_t end) {
  auto **all = reinterpret_cast<float **>(operands);
  for (int64_t i = begin; i < end; ++i) {
    all[1][i] = 2 * all[0][i];
    ++all[2][i];
  }
}
// … and [1] = a row's sum, of rows.
void sums(std::byte **operands, int64_t begin, int64_t end) {
  auto **all = reinterpret_cast<float **>(operands);
  for (int64_t row = begin; row < end; ++row) {
    all[1][row] = 0;
    for (int64_t i = row * width; i < (row + 1) * width; ++i)
      all[1][row] += all[0][i];
    ++all[2][row];
  }
}

TEST(Epilogue, IsDoneOnceToAllThatHasBeenWritten) {
  struct Case {
    int64_t m, n;
    bool byRows;
  };
  for (Case c : {Case{1300, 1600, false}, {1300, 1600, true}, {700, 48, false}, {513, 700, true}, {1, 16, false}}) {
    Product product(c.m, c.n);
    width = c.n;
    const int64_t extent = c.byRows ? c.m : c.m * c.n;
    std::vector<float> result(static_cast<size_t>(extent)), count(result.size());
    InstructionSpec spec;
    spec.inputs.resize(1);
    spec.outputs.resize(2);
    const int64_t rows = c.byRows ? c.m : 1;
    cpu::FusedKernel then({{c.byRows ? sums : twice, extent, 100}}, rows, c.m * c.n / rows, spec);
    std::byte *in = product.outputs[0];
    std::byte *out[] = {reinterpret_cast<std::byte *>(result.data()), reinterpret_cast<std::byte *>(count.data())};
    std::unique_ptr<rt::Kernel> both = cpu::withEpilogue(product.work(), {&then, {&in, out, nullptr}, 0}, c.m * c.n, 1);
    ASSERT_TRUE(both) << c.m << " x " << c.n;
    RunFailure failure;
    std::vector<float> expected, y;
    for (unsigned threads : {1u, 2u, 5u}) {
      auto pool = std::move(ThreadPool::create(threads).value());
      cpu::RunContext context{*pool, failure};
      if (threads == 1) { // one after the other
        product.kernel->run(product.work().operands, context);
        y = product.y;
        then.run({&in, out, nullptr}, context);
        expected = result;
      }
      for (int again = 0; again < 2; ++again) {
        std::fill(product.y.begin(), product.y.end(), -1.0f);
        std::fill(result.begin(), result.end(), -1.0f);
        std::fill(count.begin(), count.end(), 0.0f);
        static_cast<const cpu::Kernel &>(*both).run(product.work().operands, context);
        EXPECT_TRUE(product.y == y);
        EXPECT_TRUE(result == expected) << c.m << " x " << c.n << ", " << threads << " threads";
        EXPECT_EQ(std::count(count.begin(), count.end(), 1.0f), extent);
      }
    }
  }
}

TEST(Epilogue, IsOfElementsOrRowsOfTheWholeResult) {
  InstructionSpec spec;
  spec.inputs.resize(1);
  spec.outputs.resize(1);
  std::byte *none = nullptr;
  using Launches = std::vector<cpu::FusedKernel::Launch>;
  auto made = [&](const Product &product, int64_t elements, Launches launches, int64_t rows, int64_t columns, unsigned threads = 1) {
    cpu::FusedKernel then(std::move(launches), rows, columns, spec);
    return cpu::withEpilogue(product.work(), {&then, {&none, &none, nullptr}, 0}, elements, threads) != nullptr;
  };
  Product product(1100, 32), uneven(40, 33), low(40, 32);
  const int64_t elements = 1100 * 32;
  EXPECT_TRUE(made(product, elements, {{twice, elements, 100}}, 1, elements));
  EXPECT_TRUE(made(product, elements, {{sums, 1100, 10}}, 1100, 32));
  EXPECT_FALSE(made(product, elements, {{sums, 18, 1}, {sums, 2, 1}}, 1100, 32)) << "sums over all rows";
  EXPECT_FALSE(made(product, elements, {{sums, 2200, 10}}, 2200, 16)) << "rows of another shape";
  EXPECT_FALSE(made(product, elements, {{sums, elements, 10}}, elements, 32)) << "spread over as many rows as it has elements";
  EXPECT_FALSE(made(product, elements, {{sums, 1100, 10}}, 1100, 64)) << "spread over more columns";
  EXPECT_FALSE(made(product, elements, {{twice, elements, 10}}, 0, 0)) << "nothing is known";
  EXPECT_FALSE(made(product, elements, {{sums, 1100, 10}}, 1100, 32, 2)) << "three rows of tiles for two threads";
  EXPECT_FALSE(made(low, 40 * 32, {{sums, 40, 10}}, 40, 32)) << "one for one";
  EXPECT_FALSE(made(uneven, 40 * 33, {{twice, 40 * 33, 100}}, 1, 40 * 33)) << "a tile's row has a part of a vector";
  cpu::FusedKernel then({{twice, elements, 100}}, 1, elements, spec);
  Work work{&then, {&none, &none, nullptr}, 0};
  EXPECT_FALSE(cpu::withEpilogue(work, work, elements, 1)) << "no product";
  EXPECT_FALSE(cpu::withEpilogue(product.work(), product.work(), elements, 1)) << "no generated kernel";
}

} // namespace
} // namespace amc::rt::test
