// How fast matrix products and attention are beside the matrix library alone.
//   ninja -C build bench-kernels
//   build/bin/bench-kernels [--threads N] [--repetitions R] [--only TEXT] [--json]
// Shapes are those of a Llama of 100 M parameters (12 x 768, 12 or 4 key heads, 2048 wide, 32,000 tokens) with 2048 rows.
//   library    the library on whole products, one after the other on every thread at the same time: what the others are
//              measured against
//   product    the kernels, which cut a product into tiles for all threads
//   attention  counting the products of the causal half alone (forward two, backward five)
// Each repetition times everything once, in turn, a row for at least 20 ms; medians over the repetitions, and the spread.
// `share` is the median of what a row has of the library's rate of the same repetition on the first shape of its type, or of
// fp32 where the processor does not multiply bf16.
// Answers are checked against sums in double, at some places, before a time is taken.
#include "runtime/device/cpu/Gemm.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

using namespace amc::rt;
using namespace amc::rt::cpu;
namespace plan = amc::plan;

namespace {

using Shape = std::vector<int64_t>;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
uint64_t u(int64_t n) { return static_cast<uint64_t>(n); }

[[noreturn]] void fail(const std::string &why, int code = 1) {
  std::fprintf(stderr, "bench-kernels: error: %s\n", why.c_str());
  std::exit(code);
}

// A tensor of f32 or bf16.
struct Array {
  plan::DType dtype;
  Shape shape;
  std::shared_ptr<std::vector<float>> bytes; // of at least the size
  Array(plan::DType dtype, Shape shape, unsigned seed = 0) : dtype(dtype), shape(std::move(shape)) {
    size_t n = 1;
    for (int64_t dim : this->shape)
      n *= u(dim);
    std::vector<float> values(n);
    std::minstd_rand random(seed);
    for (float &value : values)
      value = seed ? static_cast<float>(random() % 2001) / 1000.0f - 1.0f : 0.0f;
    bytes = std::make_shared<std::vector<float>>(n);
    if (dtype == plan::BF16)
      hot().f32ToBf16(values.data(), reinterpret_cast<uint16_t *>(bytes->data()), static_cast<int64_t>(n));
    else
      *bytes = values;
  }
  std::byte *data() const { return reinterpret_cast<std::byte *>(bytes->data()); }
  template <class T> T *as() const { return reinterpret_cast<T *>(bytes->data()); }
  double at(int64_t i) const {
    return dtype == plan::BF16 ? static_cast<double>(float(as<BFloat16>()[i])) : static_cast<double>((*bytes)[u(i)]);
  }
};

plan::Attribute integer(const char *name, int64_t value) {
  plan::Attribute a;
  a.set_name(name);
  a.set_i(value);
  return a;
}
plan::Attribute real(const char *name, double value) {
  plan::Attribute a;
  a.set_name(name);
  a.set_f(value);
  return a;
}
plan::Attribute word(const char *name, const char *value) {
  plan::Attribute a;
  a.set_name(name);
  a.set_s(value);
  return a;
}

// A kernel and what it runs on; null operands are absent.
class Call {
public:
  Call(const char *name, std::vector<const Array *> inputs, std::vector<Array> outputs, uint64_t scratch,
       std::vector<plan::Attribute> attributes)
      : outputs(std::move(outputs)), scratch(scratch / 4 + 16) {
    static const KernelRegistry registry;
    plan::Instruction instruction;
    instruction.set_kernel(name);
    auto view = [](plan::View *v, plan::DType dtype, const Shape &shape) {
      v->set_dtype(dtype);
      for (int64_t dim : shape)
        v->add_shape(u(dim));
    };
    for (const Array *input : inputs) {
      plan::View *v = instruction.add_inputs();
      if (input)
        view(v, input->dtype, input->shape), held.push_back(*input);
      in.push_back(input ? input->data() : nullptr);
    }
    for (const Array &output : this->outputs) {
      view(instruction.add_outputs(), output.dtype, output.shape);
      out.push_back(output.data());
    }
    if (scratch)
      view(instruction.add_workspaces(), plan::U8, {static_cast<int64_t>(scratch)});
    for (const plan::Attribute &attribute : attributes)
      *instruction.add_attributes() = attribute;
    if (Status status = registry.check(instruction); !status.ok())
      fail(std::string(name) + ": " + status.message());
    kernel = registry.find(name)->create(InstructionSpec::create(instruction).value());
  }
  void run(ThreadPool &pool) {
    RunFailure failure;
    cpu::RunContext context{pool, failure};
    auto *memory = reinterpret_cast<std::byte *>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
    kernel->run({in.data(), out.data(), &memory}, context);
    if (failure.any())
      fail(failure.take().message());
  }

  std::vector<Array> outputs;

private:
  std::vector<Array> held;
  std::vector<float> scratch;
  std::vector<std::byte *> in, out;
  std::unique_ptr<cpu::Kernel> kernel;
};

void expectNear(const std::string &name, plan::DType dtype, double actual, double expected, double magnitude) {
  double tolerance = (dtype == plan::BF16 ? 0x1p-6 : 1e-5) * magnitude;
  if (!(std::fabs(actual - expected) <= tolerance))
    fail(name + ": an answer is " + std::to_string(actual) + " instead of " + std::to_string(expected));
}

struct Row {
  std::string name;
  plan::DType dtype;
  double flops;
  std::function<void(ThreadPool &)> run;
  bool isReference = false;
  int calls = 1;
  std::vector<double> rates, shares;
};

// ---- products

struct Product {
  int64_t m, n, k;
  bool ta, tb;
  std::string name() const {
    std::string name = std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k);
    return name + (ta ? " t" : " n") + (tb ? "t" : "n");
  }
  double flops() const { return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k); }
};

void checkProduct(const std::string &name, const Product &p, const Array &a, const Array &b, const Array &y) {
  for (int64_t sample = 0; sample < 40; ++sample) {
    int64_t i = sample * 7919 % p.m, j = sample * 104729 % p.n;
    double sum = 0;
    for (int64_t k = 0; k < p.k; ++k)
      sum += a.at(p.ta ? k * p.m + i : i * p.k + k) * b.at(p.tb ? j * p.k + k : k * p.n + j);
    expectNear(name, y.dtype, y.at(i * p.n + j), sum, std::fmax(1, std::sqrt(static_cast<double>(p.k))));
  }
}

// Every thread has the whole product to itself.
Row libraryRow(const Product &p, plan::DType dtype, ThreadPool &pool) {
  std::string name = "library    " + p.name();
  Array a(dtype, {p.ta ? p.k : p.m, p.ta ? p.m : p.k}, 1), b(dtype, {p.tb ? p.n : p.k, p.tb ? p.k : p.n}, 2);
  std::vector<Array> y;
  for (unsigned i = 0; i < pool.threads(); ++i)
    y.emplace_back(plan::F32, Shape{p.m, p.n});
  auto run = [=](ThreadPool &pool) {
    std::atomic<unsigned> arrived{0};
    pool.parallelFor(pool.threads(), [&](int64_t thread, unsigned) {
      arrived.fetch_add(1);
      while (arrived.load() < pool.threads()) // one piece for each
        ;
      auto multiply = [&](const auto *left, const auto *right) {
        gemm(p.ta, p.tb, p.m, p.n, p.k, 1.0f, left, p.ta ? p.m : p.k, right, p.tb ? p.k : p.n, 0.0f,
             y[u(thread)].as<float>(), p.n);
      };
      if (dtype == plan::BF16)
        multiply(a.as<BFloat16>(), b.as<BFloat16>());
      else
        multiply(a.as<float>(), b.as<float>());
    });
  };
  run(pool);
  checkProduct(name, p, a, b, y[0]);
  return {name, dtype, p.flops() * pool.threads(), run, false, 1, {}, {}};
}

Row kernelRow(const Product &p, plan::DType dtype, ThreadPool &pool) {
  Array a(dtype, {p.ta ? p.k : p.m, p.ta ? p.m : p.k}, 1), b(dtype, {p.tb ? p.n : p.k, p.tb ? p.k : p.n}, 2);
  Array y(dtype, {p.m, p.n});
  uint64_t scratch = workspace::product(u(p.m), u(p.n), u(p.k), dtypeBytes(dtype));
  std::vector<plan::Attribute> transposed;
  if (p.tb)
    transposed.push_back(integer("transpose_w", 1));
  auto call = p.ta ? std::make_shared<Call>("linear_weight_grad", std::vector<const Array *>{&a, &b}, std::vector<Array>{y}, scratch,
                                            transposed)
                   : std::make_shared<Call>("linear", std::vector<const Array *>{&a, &b, nullptr}, std::vector<Array>{y}, scratch,
                                            transposed);
  std::string name = (p.ta ? "weight grad " : "linear      ") + p.name();
  call->run(pool);
  checkProduct(name, p, a, b, call->outputs[0]);
  return {name, dtype, p.flops(), [call](ThreadPool &pool) { call->run(pool); }, false, 1, {}, {}};
}

// ---- attention

struct Heads {
  int64_t batch, heads, keyHeads, length, width;
  std::string name() const {
    return std::to_string(batch) + " x " + std::to_string(length) + ", heads " + std::to_string(heads) + "/" +
           std::to_string(keyHeads) + " of " + std::to_string(width);
  }
  // Of the causal half, for one product.
  double flops() const {
    double length = static_cast<double>(this->length);
    return static_cast<double>(batch * heads * width) * length * (length + 1);
  }
};

struct AttentionCalls {
  Heads s;
  Array q, k, v, dy;
  std::shared_ptr<Call> forward, backward;

  AttentionCalls(const Heads &s, plan::DType dtype, ThreadPool &pool)
      : s(s), q(dtype, {s.batch, s.heads, s.length, s.width}, 1), k(dtype, {s.batch, s.keyHeads, s.length, s.width}, 2),
        v(dtype, k.shape, 3), dy(dtype, q.shape, 4) {
    std::vector<plan::Attribute> attributes = {word("masked_rows", "zero"), integer("right", 0), real("scale", scale()),
                                               real("softcap", 0)};
    Array y(dtype, q.shape), lse(plan::F32, {s.batch, s.heads, s.length});
    forward = std::make_shared<Call>("attention", std::vector<const Array *>{&q, &k, &v, nullptr, nullptr}, std::vector<Array>{y, lse},
                                     workspace::attention(u(s.batch), u(s.heads), u(s.length), u(s.width), u(s.width), dtypeBytes(dtype), u(s.length)),
                                     attributes);
    backward = std::make_shared<Call>(
        "attention_backward", std::vector<const Array *>{&dy, &q, &k, &v, &y, &lse, nullptr, nullptr},
        std::vector<Array>{Array(dtype, q.shape), Array(dtype, k.shape), Array(dtype, v.shape)},
        workspace::attentionBackward(u(s.batch), u(s.heads), u(s.keyHeads), u(s.length), u(s.length), u(s.width), u(s.width),
                                     dtypeBytes(dtype)),
        attributes);
    forward->run(pool);
    backward->run(pool);
    check();
  }

  double scale() const { return 1 / std::sqrt(static_cast<double>(s.width)); }
  double dot(const Array &a, int64_t rowA, const Array &b, int64_t rowB) const {
    double sum = 0;
    for (int64_t d = 0; d < s.width; ++d)
      sum += a.at(rowA * s.width + d) * b.at(rowB * s.width + d);
    return sum;
  }
  // Of the last head: some rows of y, of dq and of the gradients of keys and values, from sums in double.
  void check() const {
    const Array &y = forward->outputs[0], &lse = forward->outputs[1];
    int64_t group = s.heads / s.keyHeads, rows = (s.batch * s.heads - 1) * s.length,
            keys = (s.batch * s.keyHeads - 1) * s.length;
    for (int64_t i : {int64_t(0), s.length / 3, s.length - 1}) {
      double sum = 0, inner = dot(dy, rows + i, y, rows + i);
      std::vector<double> result(u(s.width)), dq(u(s.width));
      for (int64_t j = 0; j <= i; ++j) {
        double score = scale() * dot(q, rows + i, k, keys + j), p = std::exp(score);
        sum += p;
        double ds = std::exp(score - lse.at(rows + i)) * (dot(dy, rows + i, v, keys + j) - inner);
        for (int64_t d = 0; d < s.width; ++d) {
          result[u(d)] += p * v.at((keys + j) * s.width + d);
          dq[u(d)] += scale() * ds * k.at((keys + j) * s.width + d);
        }
      }
      for (int64_t d = 0; d < s.width; ++d) {
        expectNear("attention", y.dtype, y.at((rows + i) * s.width + d), result[u(d)] / sum, 1);
        expectNear("attention's dq", y.dtype, backward->outputs[0].at((rows + i) * s.width + d), dq[u(d)], 4);
      }
    }
    for (int64_t j : {int64_t(0), s.length / 2, s.length - 1}) {
      std::vector<double> dk(u(s.width)), dv(u(s.width));
      for (int64_t head = 0; head < group; ++head)
        for (int64_t i = j; i < s.length; ++i) {
          int64_t row = rows - (group - 1 - head) * s.length + i;
          double p = std::exp(scale() * dot(q, row, k, keys + j) - lse.at(row));
          double ds = p * (dot(dy, row, v, keys + j) - dot(dy, row, y, row));
          for (int64_t d = 0; d < s.width; ++d) {
            dk[u(d)] += scale() * ds * q.at(row * s.width + d);
            dv[u(d)] += p * dy.at(row * s.width + d);
          }
        }
      for (int64_t d = 0; d < s.width; ++d) {
        expectNear("attention's dk", y.dtype, backward->outputs[1].at((keys + j) * s.width + d), dk[u(d)], 8);
        expectNear("attention's dv", y.dtype, backward->outputs[2].at((keys + j) * s.width + d), dv[u(d)], 8);
      }
    }
  }
};

// ---- measuring

struct Spread {
  double median, low, high;
};
Spread spreadOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  size_t n = values.size();
  double median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  return {median, values.front(), values.back()};
}

void measure(std::vector<Row> &rows, ThreadPool &pool, int repetitions) {
  for (Row &row : rows) {
    double begin = now();
    row.run(pool);
    row.calls = static_cast<int>(std::clamp(std::ceil(0.02 / (now() - begin)), 1.0, 10000.0));
  }
  for (int repetition = 0; repetition < repetitions; ++repetition)
    for (Row &row : rows) {
      double begin = now();
      for (int i = 0; i < row.calls; ++i)
        row.run(pool);
      row.rates.push_back(row.flops * row.calls / (now() - begin) * 1e-9);
    }
  for (Row &row : rows) {
    const Row *reference = &rows[0];
    for (const Row &other : rows)
      if (other.isReference && other.dtype == row.dtype)
        reference = &other;
    for (size_t i = 0; i < row.rates.size(); ++i)
      row.shares.push_back(row.rates[i] / reference->rates[i]);
  }
}

void print(const std::vector<Row> &rows, unsigned threads, int repetitions, bool json) {
  if (json)
    std::printf("{\"isa\": \"%s\", \"bf16_products\": %s, \"threads\": %u, \"repetitions\": %d, \"rows\": [", hot().isa,
                multipliesBf16() ? "true" : "false", threads, repetitions);
  else
    std::printf("%s%s, %u threads, medians of %d repetitions (lowest to highest)\n", hot().isa,
                multipliesBf16() ? " with products of bf16" : "", threads, repetitions);
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row &row = rows[i];
    Spread rate = spreadOf(row.rates);
    const char *dtype = row.dtype == plan::BF16 ? "bf16" : "fp32";
    if (json)
      std::printf("%s\n  {\"name\": \"%s\", \"dtype\": \"%s\", \"flops\": %.0f, \"gflops\": %.1f, \"lowest\": %.1f, \"highest\": %.1f",
                  i ? "," : "", row.name.c_str(), dtype, row.flops, rate.median, rate.low, rate.high);
    else
      std::printf("%s  %-42s %8.1f GFLOP/s (%.1f to %.1f)", dtype, row.name.c_str(), rate.median, rate.low, rate.high);
    std::printf(json ? ", \"share\": %.3f}" : "  share %.2f\n", spreadOf(row.shares).median);
  }
  if (json)
    std::printf("\n]}\n");
}

} // namespace

int main(int argc, char **argv) {
  unsigned threads = 0;
  int repetitions = 7;
  bool json = false;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    std::string flag = argv[i];
    bool hasValue = i + 1 < argc;
    if (flag == "--json")
      json = true;
    else if (flag == "--threads" && hasValue)
      threads = static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 10));
    else if (flag == "--repetitions" && hasValue)
      repetitions = std::max(1, std::atoi(argv[++i]));
    else if (flag == "--only" && hasValue)
      only = argv[++i];
    else
      fail("usage: bench-kernels [--threads N] [--repetitions R] [--only TEXT] [--json]", 2);
  }
  if (const char *error = hotError())
    fail(error, 3);
  Expected<std::unique_ptr<ThreadPool>> pool = ThreadPool::create(threads);
  if (!pool.ok())
    fail(pool.status().message(), pool.status().exitCode());
  if (Expected<uint64_t> bytes = prepareGemm(**pool); !bytes.ok())
    fail(bytes.status().message(), 3);

  const Product products[] = {
      {2048, 2048, 768, false, false}, {2048, 768, 768, false, false}, {2048, 256, 768, false, true},
      {2048, 768, 2048, false, false}, {2048, 768, 2048, false, true}, {2048, 32000, 768, false, true},
      {2048, 768, 32000, false, false}, {768, 768, 2048, true, false}, {768, 256, 2048, true, false},
      {768, 2048, 2048, true, false},  {2048, 768, 2048, true, false}, {32000, 768, 2048, true, false}};
  const Heads attention[] = {
      {4, 12, 12, 512, 64}, {4, 12, 4, 512, 64}, {1, 12, 12, 2048, 64}, {1, 12, 4, 2048, 64}, {1, 12, 12, 8192, 64}};
  std::vector<Row> rows;
  for (plan::DType dtype : {plan::F32, plan::BF16}) {
    auto wanted = [&](const std::string &name) { return (dtype == plan::BF16 ? "bf16 " : "fp32 ") + name; };
    auto add = [&](const std::string &name, auto make) {
      if (wanted(name).find(only) != std::string::npos)
        rows.push_back(make());
    };
    if (dtype == plan::F32 || (multipliesBf16() && only.rfind("fp32", 0) != 0)) {
      rows.push_back(libraryRow(products[0], dtype, **pool));
      rows.back().isReference = true;
      for (const Product &p : products)
        if (&p != products)
          add("library " + p.name(), [&] { return libraryRow(p, dtype, **pool); });
    }
    for (const Product &p : products)
      add("product " + p.name(), [&] { return kernelRow(p, dtype, **pool); });
    for (const Heads &s : attention)
      if (wanted("attention " + s.name()).find(only) != std::string::npos) {
        auto calls = std::make_shared<AttentionCalls>(s, dtype, **pool);
        rows.push_back({"attention " + s.name(), dtype, 2 * s.flops(),
                        [calls](ThreadPool &pool) { calls->forward->run(pool); }, false, 1, {}, {}});
        rows.push_back({"  backward " + s.name(), dtype, 5 * s.flops(),
                        [calls](ThreadPool &pool) { calls->backward->run(pool); }, false, 1, {}, {}});
      }
  }
  measure(rows, **pool, repetitions);
  if (Status status = gemmFailure(); !status.ok())
    fail(status.message(), 3);
  print(rows, (*pool)->threads(), repetitions, json);
  return 0;
}
