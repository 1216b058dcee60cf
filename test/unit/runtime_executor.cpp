// Threads, hooks, profile, the search for the first non-finite tensor, refusals of the executor; accuracy of the vector
// functions over their whole range; both levels of the instruction set against each other.
#include "runtime/device/cpu/Hot.h"
#include "runtime/device/cpu/Gemm.h"
#include "runtime/device/cpu/ThreadPool.h"
#include "runtime_support.h"
#include <atomic>
#include <cstdlib>

namespace amc::rt::test {
namespace {

// ---- threads

TEST(ThreadPool, EveryPieceOnceOnSlotsOfItsOwn) {
  for (unsigned threads : {1u, 2u, 5u}) {
    Expected<std::unique_ptr<ThreadPool>> pool = ThreadPool::create(threads);
    ASSERT_TRUE(pool.ok());
    EXPECT_EQ((*pool)->threads(), threads);
    for (int64_t count = 0; count < 400; ++count) {
      std::vector<std::atomic<int>> done(static_cast<size_t>(count));
      std::atomic<int> inSlot[3] = {};
      std::atomic<bool> shared{false};
      (*pool)->parallelFor(count, [&](int64_t piece, unsigned slot) {
        if (slot >= 3 || inSlot[slot].fetch_add(1) != 0)
          shared = true;
        done[static_cast<size_t>(piece)].fetch_add(1);
        if (slot < 3)
          inSlot[slot].fetch_sub(1);
      }, 3);
      EXPECT_FALSE(shared);
      for (std::atomic<int> &d : done)
        ASSERT_EQ(d.load(), 1);
    }
  }
}

TEST(ThreadPool, CountFromTheEnvironment) {
  ::setenv("AMC_NUM_THREADS", "3", 1);
  EXPECT_EQ((*ThreadPool::create(0))->threads(), 3u);
  EXPECT_EQ((*ThreadPool::create(2))->threads(), 2u);
  for (const char *wrong : {"0", "-1", "two", "", "3x", "100000"}) {
    ::setenv("AMC_NUM_THREADS", wrong, 1);
    Expected<std::unique_ptr<ThreadPool>> pool = ThreadPool::create(0);
    ASSERT_FALSE(pool.ok()) << wrong;
    EXPECT_EQ(pool.status().kind(), ErrorKind::Usage);
  }
  ::unsetenv("AMC_NUM_THREADS");
  EXPECT_GE((*ThreadPool::create(0))->threads(), 1u);
  EXPECT_FALSE(ThreadPool::create(ThreadPool::maxThreads + 1).ok());
}

// ---- executor

// log, then exp, then sum: x -> [n] -> [n] -> scalar.
plan::Plan chain() {
  plan::Plan plan = planOf({"log", {array(plan::F32, {4}, {1, 2, 3, 4})}, {{plan::F32, {4}}}, {}, 0, {}});
  auto grow = [&](const char *kernel, Shape shape) -> plan::Instruction & {
    plan::Instruction last = plan.instructions(plan.instructions_size() - 1);
    plan::Instruction &next = *plan.add_instructions();
    next.set_kernel(kernel);
    next.set_phase(plan::FORWARD);
    next.set_location(std::string("node ") + kernel);
    *next.add_inputs() = last.outputs(0);
    plan::Buffer buffer = plan.buffers(plan.buffers_size() - 1);
    buffer.set_offset(buffer.offset() + 64);
    buffer.set_bytes(elements(shape) * 4);
    buffer.set_name(kernel);
    *plan.add_buffers() = buffer;
    plan::View &out = *next.add_outputs();
    out.set_buffer(static_cast<uint64_t>(plan.buffers_size() - 1));
    out.set_dtype(plan::F32);
    for (uint64_t dim : shape)
      out.add_shape(dim);
    return next;
  };
  plan.mutable_buffers(1)->set_name("log");
  grow("exp", {4});
  plan::Instruction &sum = grow("reduce_sum", {});
  sum.set_phase(plan::BACKWARD); // behind forward_end
  *sum.add_attributes() = attribute("axes", std::vector<int64_t>{0});
  *sum.add_attributes() = attribute("keepdims", false);
  for (plan::Buffer &b : *plan.mutable_buffers())
    b.set_last(3);
  plan.set_forward_end(2);
  plan.set_micro_batch_end(3);
  complete(plan);
  return plan;
}

void feed(Executor &executor, std::vector<float> values) {
  std::copy(values.begin(), values.end(), static_cast<float *>(executor.input(0).data));
}
float sumOf(const Executor &executor) {
  return *static_cast<float *>(executor.view(executor.plan().instructions(2).outputs(0)).data);
}

TEST(Executor, HooksSeeEveryInstructionAndMayStop) {
  Expected<Executor> e = Executor::create(chain(), {1, false});
  ASSERT_TRUE(e.ok()) << e.status().message();
  feed(*e, {1, 2, 3, 4});
  std::vector<uint64_t> seen;
  e->setHook([&](uint64_t i) {
    seen.push_back(i);
    return Status();
  });
  ASSERT_TRUE(e->runMicroBatch().ok());
  EXPECT_NEAR(sumOf(*e), 10, 1e-5);
  EXPECT_EQ(seen, (std::vector<uint64_t>{0, 1, 2}));
  seen.clear();
  ASSERT_TRUE(e->runForward().ok());
  EXPECT_EQ(seen, (std::vector<uint64_t>{0, 1}));
  e->setHook([](uint64_t i) { return i == 1 ? inputError("enough") : Status(); });
  EXPECT_EQ(e->runMicroBatch().message(), "enough");
  e->setHook({});
  EXPECT_TRUE(e->profile().empty());
  e->enableProfile(true);
  ASSERT_TRUE(e->runMicroBatch().ok());
  ASSERT_EQ(e->profile().size(), 3u);
  EXPECT_GT(e->profile()[0].seconds, 0);
  EXPECT_EQ(e->profile()[0].runs, 1u);
}

TEST(Executor, FindsTheFirstNonFiniteTensor) {
  Expected<Executor> e = Executor::create(chain(), {1, false});
  ASSERT_TRUE(e.ok());
  auto find = [&](std::vector<float> x) {
    feed(*e, x);
    Expected<std::optional<NonFinite>> found = e->findNonFinite();
    EXPECT_TRUE(found.ok());
    return *found ? (*found)->describe() : "nothing";
  };
  EXPECT_EQ(find({1, 2, 3, 4}), "nothing");
  EXPECT_EQ(find({1, 2, -3, 4}), "NaN in tensor 'log', element 2, written by instruction 0 (log, node)");
  EXPECT_EQ(find({1, INFINITY, 3, 4}), "infinity in tensor 'in0', element 1, before the step");
  EXPECT_EQ(find({0, 2, 3, 4}), "minus infinity in tensor 'log', element 0, written by instruction 0 (log, node)");
}

TEST(Executor, RefusesWhatItCannotRun) {
  plan::Plan plan = chain();
  plan.set_target("tpu");
  EXPECT_NE(Executor::create(plan).status().message().find("target 'tpu'"), std::string::npos);
  plan = chain();
  plan.mutable_instructions(0)->mutable_inputs(0)->set_byte_offset(4);
  Expected<Executor> invalid = Executor::create(plan, {1, false});
  ASSERT_FALSE(invalid.ok());
  EXPECT_EQ(invalid.status().kind(), ErrorKind::Input);
  EXPECT_EQ(invalid.status().message(), "the plan is invalid\n  instructions[0].inputs[0]: 4 + 16 exceeds buffer 0 of 16 bytes");
  plan = chain(); // more than any machine has
  plan.mutable_buffers(2)->set_bytes(uint64_t(1) << 47);
  plan.mutable_buffers(3)->set_offset((uint64_t(1) << 47) + 4096);
  complete(plan);
  Expected<Executor> huge = Executor::create(plan, {1, false});
  ASSERT_FALSE(huge.ok());
  EXPECT_EQ(huge.status().kind(), ErrorKind::Limit) << huge.status().message();
}

// ---- vector functions

double ulps(float actual, double expected) {
  if (std::isnan(expected) || std::isinf(static_cast<float>(expected)))
    return std::isnan(expected) ? !std::isnan(actual) : actual != static_cast<float>(expected);
  int exponent = std::max(-126, expected == 0 ? -126 : std::ilogb(expected));
  return std::fabs(actual - expected) / std::ldexp(1.0, exponent - 23);
}

std::vector<const cpu::Hot *> levels() {
  std::vector<const cpu::Hot *> all = {&cpu::v3::hot};
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    all.push_back(&cpu::v4::hot);
  return all;
}

TEST(Hot, FunctionsAreAccurateEverywhere) {
  struct Case {
    cpu::HotUnary op;
    double (*f)(double);
    double ulps;
  };
  for (const Case &c : {Case{cpu::HotUnary::Exp, [](double x) { return std::exp(x); }, 1.5},
                        Case{cpu::HotUnary::Tanh, [](double x) { return std::tanh(x); }, 2},
                        Case{cpu::HotUnary::Erf, [](double x) { return std::erf(x); }, 2},
                        Case{cpu::HotUnary::Sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, 3}})
    for (const cpu::Hot *hot : levels()) {
      std::vector<float> x;
      for (uint32_t bits = 0; bits < 0xff800000; bits += 4099) { // every 4099th float of either sign
        float v;
        std::memcpy(&v, &bits, 4);
        bool cutOff = c.op == cpu::HotUnary::Sigmoid && v < -87; // e^-x overflows: 0 instead of a denormal
        if (!cutOff && !std::isnan(v))
          x.push_back(v);
      }
      std::vector<float> y(x.size());
      hot->unary(c.op, x.data(), y.data(), static_cast<int64_t>(x.size()));
      double worst = 0;
      float at = 0;
      for (size_t i = 0; i < x.size(); ++i)
        if (double off = ulps(y[i], c.f(x[i])); off > worst) {
          worst = off;
          at = x[i];
        }
      EXPECT_LE(worst, c.ulps) << hot->isa << ", function " << static_cast<int>(c.op) << " at " << at;
    }
}

// An element's result does not depend on where in a row it stands.
TEST(Hot, TailsAreLikeMiddles) {
  for (const cpu::Hot *hot : levels()) {
    Array x = random(plan::F32, {100}, 1, -5, 5);
    std::vector<float> in(x.values.begin(), x.values.end()), whole(100), alone(1);
    for (auto op : {cpu::HotUnary::Exp, cpu::HotUnary::Tanh, cpu::HotUnary::Erf, cpu::HotUnary::GeluTanh, cpu::HotUnary::Silu}) {
      hot->unary(op, in.data(), whole.data(), 100);
      for (int i = 0; i < 100; ++i) {
        hot->unary(op, &in[static_cast<size_t>(i)], alone.data(), 1);
        EXPECT_EQ(alone[0], whole[static_cast<size_t>(i)]);
      }
    }
  }
}

TEST(Hot, LevelsAgree) {
  if (levels().size() < 2)
    GTEST_SKIP() << "no AVX-512 here";
  for (uint64_t n : {1u, 8u, 17u, 1000u}) {
    Array a = random(plan::F32, {n}, 1, -3, 3), b = random(plan::F32, {n}, 2, -3, 3);
    std::vector<float> x(a.values.begin(), a.values.end()), w(b.values.begin(), b.values.end());
    std::vector<std::vector<double>> results;
    for (const cpu::Hot *hot : levels()) {
      std::vector<float> y(n), dw(n, 0.5f), z(n);
      std::vector<double> out;
      auto keep = [&](const std::vector<float> &v) { out.insert(out.end(), v.begin(), v.end()); };
      int64_t count = static_cast<int64_t>(n);
      out.push_back(hot->sum(x.data(), count));
      out.push_back(hot->max(x.data(), count));
      out.push_back(hot->dot(x.data(), w.data(), count));
      out.push_back(hot->sumOfSquares(x.data(), count));
      out.push_back(hot->logSumExp(x.data(), count, nullptr));
      hot->softmax(x.data(), y.data(), count);
      keep(y);
      out.push_back(hot->rmsNorm(x.data(), w.data(), y.data(), count, 1e-5f));
      keep(y);
      hot->rmsNormBackward(w.data(), x.data(), 0.5f, w.data(), y.data(), dw.data(), count);
      keep(y);
      keep(dw);
      results.push_back(out);
    }
    EXPECT_TRUE(close(results[0], results[1], 1e-5)) << n;
  }
}

// ---- the grid of products

TEST(ProductGrid, TilesCoverTheProductOnce) {
  for (int64_t m : {1, 31, 192, 2048, 4097})
    for (int64_t n : {1, 64, 768, 32000})
      for (int64_t k : {1, 64, 768, 8192}) {
        cpu::ProductGrid g = cpu::ProductGrid::create(m, n, k);
        EXPECT_GE(g.down * g.tileM, m);
        EXPECT_LT((g.down - 1) * g.tileM, m);
        EXPECT_GE(g.across * g.tileN, n);
        EXPECT_LT((g.across - 1) * g.tileN, n);
        if (m >= 2048 && n >= 768 && k >= 64) {
          EXPECT_GE(g.tiles(), 8);
        }
      }
}

// Few rows are cut finer, slices of many as those are.
TEST(ProductGrid, SmallProductsHaveTilesForSeveralThreads) {
  using cpu::ProductGrid;
  for (int64_t m : {256, 512, 1000})
    for (int64_t n : {256, 768, 3072})
      EXPECT_GE(ProductGrid::of<float>(m, n, 768).tiles(), 4) << m << " " << n;
  for (int64_t m : {64, 256, 768})
    EXPECT_GE(ProductGrid::ofGradient<float>(256, m, 4096).tiles(), 4) << m;
  EXPECT_EQ(ProductGrid::of<float>(16, 64, 768).tiles(), 1);
  EXPECT_EQ(ProductGrid::of<float>(0, 64, 768).tiles(), 0);
  ProductGrid slice = ProductGrid::of<float>(300, 256, 64, 1324), whole = ProductGrid::of<float>(1324, 256, 64);
  EXPECT_EQ(slice.tileM, whole.tileM);
  EXPECT_EQ(slice.tileN, whole.tileN);
  // The scratch of bf16 is for the tiles that its own formula counts.
  EXPECT_EQ(ProductGrid::of<cpu::BFloat16>(256, 256, 64).tileM, static_cast<int64_t>(workspace::productRowTile));
}

} // namespace
} // namespace amc::rt::test
