// The pure products of a plan: how long the library that AMC uses takes for a step's matrix products alone.
//
//   bench-products PLAN [--threads N] [--rounds N]
//
// Every instruction that multiplies matrices gives its products: shapes and transpositions as they are, attention's on
// the blocks of keys that some query of a block can see, scaled to the pairs that are visible. A step's products are run
// in the plan's order, each on operands that lie somewhere else than the last one's, so that they come from memory as in
// a step; micro-batches count. How a product is cut among the threads is tried out for every shape before: slabs of rows
// or columns, one or four a thread, or the tiles of runtime/device/cpu/Gemm.h; the fastest counts. So this is what a
// step would take if nothing but its products cost anything. Prints one JSON object: seconds of each round, FLOPs.
// fp32 plans only; of a ring of ranks this rank's own piece counts.
#include "runtime/device/cpu/Gemm.h"
#include "runtime/device/cpu/ThreadPool.h"
#include "runtime/plan/PlanFile.h"
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <sys/mman.h>
#include <tuple>
#include <vector>

using namespace amc;
using namespace amc::rt;
using namespace amc::rt::cpu;

namespace {

using Clock = std::chrono::steady_clock;

// c[m, n] = op(a) op(b), `batch` times; `share` of its FLOPs count.
struct Product {
  bool transposeA = false, transposeB = false;
  int64_t m = 0, n = 0, k = 0, batch = 1;
  double share = 1;
  auto shape() const { return std::tuple(transposeA, transposeB, m, n, k, batch); }
  double flops() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) * static_cast<double>(batch);
  }
};

// ---- from instructions to products

using Shape = std::vector<int64_t>;

class Reader {
public:
  explicit Reader(const plan::Instruction &instruction) : instruction(instruction) {}
  bool has(bool output, int i) const {
    const auto &list = output ? instruction.outputs() : instruction.inputs();
    return i < list.size() && list[i].dtype() != plan::DTYPE_UNSPECIFIED;
  }
  Shape in(int i) const { return shape(instruction.inputs(i)); }
  Shape out(int i) const { return shape(instruction.outputs(i)); }
  int64_t attribute(const char *name, int64_t absent) const {
    for (const plan::Attribute &attribute : instruction.attributes())
      if (attribute.name() == name)
        return attribute.i();
    return absent;
  }
  bool flag(const char *name) const { return attribute(name, 0) != 0; }

private:
  static Shape shape(const plan::View &view) { return {view.shape().begin(), view.shape().end()}; }
  const plan::Instruction &instruction;
};

int64_t rowsOf(const Shape &shape) {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i)
    rows *= shape[i];
  return rows;
}

// Blocks of queries with the keys that any of them sees, as attention's own kernels have them, but larger.
void attentionProducts(const Reader &r, int first, bool backward, std::vector<Product> &out) {
  constexpr int64_t block = 256, far = int64_t(1) << 40;
  Shape q = r.in(first), k = r.in(first + 1), v = r.in(first + 2);
  const int64_t all = q[0] * q[1], queries = q[2], keys = k[2], width = q[3], valueWidth = v[3];
  const int64_t left = r.attribute("left", far), right = r.attribute("right", far);
  for (int64_t begin = 0; begin < queries; begin += block) {
    const int64_t rows = std::min(block, queries - begin);
    const int64_t low = std::clamp<int64_t>(begin - left, 0, keys), high = std::clamp<int64_t>(begin + rows + right, 0, keys);
    int64_t visible = 0;
    for (int64_t i = begin; i < begin + rows; ++i)
      visible += std::max<int64_t>(0, std::min(keys, i + right + 1) - std::max<int64_t>(0, i - left));
    if (visible == 0)
      continue;
    const int64_t seen = high - low;
    const double share = static_cast<double>(visible) / static_cast<double>(rows * seen);
    out.push_back({false, true, rows, seen, width, all, share}); // scores, in backward again
    if (!backward) {
      out.push_back({false, false, rows, valueWidth, seen, all, share}); // y
      continue;
    }
    out.push_back({false, true, rows, seen, valueWidth, all, share});  // gradient of the probabilities
    out.push_back({true, false, seen, valueWidth, rows, all, share});  // dv
    out.push_back({false, false, rows, width, seen, all, share});      // dq
    out.push_back({true, false, seen, width, rows, all, share});       // dk
  }
}

void lossProducts(const Reader &r, int hidden, bool backward, std::vector<Product> &out) {
  Shape x = r.in(hidden), w = r.in(hidden + 1);
  const bool transpose = r.flag("transpose_w");
  const int64_t rows = rowsOf(x), width = x.back(), classes = w[transpose ? 0 : 1];
  out.push_back({false, transpose, rows, classes, width}); // logits, in backward again
  if (backward && r.has(true, 0))
    out.push_back({false, !transpose, rows, width, classes});
  if (backward && r.has(true, 1)) {
    if (transpose)
      out.push_back({true, false, classes, width, rows});
    else
      out.push_back({true, false, width, classes, rows});
  }
}

void mlpProducts(const Reader &r, bool backward, std::vector<Product> &out) {
  const int x = backward ? 1 : 0;
  Shape in = r.in(x), gate = r.in(x + 1), down = r.in(x + 3);
  const bool tg = r.flag("transpose_gate"), td = r.flag("transpose_down");
  const int64_t rows = rowsOf(in), input = in.back(), inner = gate[tg ? 0 : 1], output = down[td ? 0 : 1];
  Product up{false, tg, rows, inner, input};
  out.insert(out.end(), 2, up); // in backward again
  if (!backward) {
    out.push_back({false, td, rows, output, inner});
    return;
  }
  out.push_back({false, !td, rows, inner, output});
  out.insert(out.end(), 2, Product{false, !tg, rows, input, inner});
  if (r.flag("input_only"))
    return;
  out.insert(out.end(), 2, Product{true, false, input, inner, rows});
  out.push_back({true, false, inner, output, rows});
}

// Rows are dealt out evenly.
void groupedProducts(const Reader &r, bool gradient, std::vector<Product> &out) {
  Shape x = r.in(0), w = gradient ? r.out(0) : r.in(1);
  const int64_t groups = w[0], rows = std::max<int64_t>(1, r.attribute("expected_rows", rowsOf(x)) / groups);
  const bool transpose = r.flag("transpose_w");
  if (gradient)
    out.push_back({true, false, w[1], w[2], rows, groups});
  else
    out.push_back({false, transpose, rows, w[transpose ? 1 : 2], x.back(), groups});
}

void productsOf(const plan::Instruction &instruction, std::vector<Product> &out) {
  const std::string &kernel = instruction.kernel();
  Reader r(instruction);
  if (kernel == "linear") {
    out.push_back({false, r.flag("transpose_w"), rowsOf(r.in(0)), r.out(0).back(), r.in(0).back()});
  } else if (kernel == "linear_weight_grad") {
    Shape dw = r.out(0);
    out.push_back({true, false, dw[0], dw[1], rowsOf(r.in(0))});
  } else if (kernel == "matmul") {
    Shape a = r.in(0), b = r.in(1), y = r.out(0);
    if (a.size() < 2 || b.size() < 2)
      return;
    const bool ta = r.flag("transpose_a"), tb = r.flag("transpose_b");
    const int64_t k = a[a.size() - (ta ? 2 : 1)];
    if (b.size() == 2 && !ta)
      out.push_back({false, tb, rowsOf(y), y.back(), k});
    else
      out.push_back({ta, tb, y[y.size() - 2], y.back(), k, rowsOf(y) / std::max<int64_t>(1, y[y.size() - 2])});
  } else if (kernel == "linear_cross_entropy" || kernel == "linear_cross_entropy_backward") {
    const bool backward = kernel.ends_with("_backward");
    lossProducts(r, backward, backward, out);
  } else if (kernel.starts_with("attention")) {
    const bool backward = kernel.ends_with("_backward");
    attentionProducts(r, backward, backward, out);
  } else if (kernel == "gated_mlp" || kernel == "gated_mlp_backward") {
    mlpProducts(r, kernel.ends_with("_backward"), out);
  } else if (kernel == "grouped_matmul" || kernel == "grouped_matmul_weight_grad") {
    groupedProducts(r, kernel.ends_with("_grad"), out);
  }
}

// ---- running them

// Operands follow each other through memory, and begin anew at its end.
class Memory {
public:
  explicit Memory(uint64_t bytes) : bytes(bytes) {
    void *mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
      std::fprintf(stderr, "bench-products: no memory: %s\n", std::strerror(errno));
      std::exit(3);
    }
    ::madvise(mapped, bytes, MADV_HUGEPAGE);
    base = static_cast<float *>(mapped);
    std::fill_n(base, bytes / sizeof(float), 0.5f);
  }
  float *take(int64_t elements) {
    const uint64_t wanted = (static_cast<uint64_t>(elements) * sizeof(float) + 63) / 64 * 64;
    if (at + wanted > bytes)
      at = 0;
    float *here = base + at / sizeof(float);
    at += wanted;
    return here;
  }

private:
  float *base;
  uint64_t bytes, at = 0;
};

enum class Cut { Rows, RowsFine, Columns, ColumnsFine, Tiles };
constexpr Cut cuts[] = {Cut::Rows, Cut::RowsFine, Cut::Columns, Cut::ColumnsFine, Cut::Tiles};

void runCut(ThreadPool &pool, const Product &p, Cut cut, const float *a, const float *b, float *c) {
  const int64_t threads = pool.threads(), lda = p.transposeA ? p.m : p.k, ldb = p.transposeB ? p.k : p.n;
  // A batch has work for all threads; its products are not cut.
  int64_t down = 1, across = 1, rowStep = 1, columnStep = 16;
  if (p.batch == 1) {
    const int64_t fine = cut == Cut::RowsFine || cut == Cut::ColumnsFine ? 4 * threads : threads;
    if (cut == Cut::Rows || cut == Cut::RowsFine)
      down = fine;
    else if (cut == Cut::Columns || cut == Cut::ColumnsFine)
      across = fine;
    else
      down = (p.m + 255) / 256, across = (p.n + 511) / 512, rowStep = 256;
  }
  const auto stepOf = [](int64_t size, int64_t parts, int64_t grain) {
    return (((size + parts - 1) / parts) + grain - 1) / grain * grain;
  };
  const int64_t rows = stepOf(p.m, down, rowStep), columns = stepOf(p.n, across, columnStep);
  down = (p.m + rows - 1) / rows;
  across = (p.n + columns - 1) / columns;
  pool.parallelFor(p.batch * down * across, [&](int64_t piece, unsigned) {
    const int64_t one = piece / (down * across), i = piece % (down * across) / across * rows, j = piece % across * columns;
    const float *x = a + one * p.m * p.k + (p.transposeA ? i : i * lda), *y = b + one * p.k * p.n + (p.transposeB ? j * ldb : j);
    gemm(p.transposeA, p.transposeB, std::min(rows, p.m - i), std::min(columns, p.n - j), p.k, 1.0f, x, lda, y, ldb, 0.0f,
         c + one * p.m * p.n + i * p.n + j, p.n);
  });
}

double timeOf(ThreadPool &pool, Memory &memory, const Product &p, Cut cut) {
  const float *a = memory.take(p.m * p.k * p.batch), *b = memory.take(p.k * p.n * p.batch);
  float *c = memory.take(p.m * p.n * p.batch);
  auto begin = Clock::now();
  runCut(pool, p, cut, a, b, c);
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

uint64_t numberAfter(int argc, char **argv, const char *flag, uint64_t otherwise) {
  for (int i = 2; i + 1 < argc; ++i)
    if (!std::strcmp(argv[i], flag))
      return std::strtoull(argv[i + 1], nullptr, 10);
  return otherwise;
}

int fail(const std::string &message) {
  std::fprintf(stderr, "bench-products: %s\n", message.c_str());
  return 1;
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 2)
    return fail("usage: bench-products PLAN [--threads N] [--rounds N]");
  Expected<plan::Plan> plan = readPlanFile(argv[1]);
  if (!plan.ok())
    return fail(plan.status().message());
  if (plan->precision() != "fp32")
    return fail(std::string(argv[1]) + ": is in " + plan->precision() + ", should be in fp32");
  Expected<std::unique_ptr<ThreadPool>> pool = ThreadPool::create(static_cast<unsigned>(numberAfter(argc, argv, "--threads", 0)));
  if (!pool.ok())
    return fail(pool.status().message());
  if (Expected<uint64_t> prepared = prepareGemm(**pool); !prepared.ok())
    return fail(prepared.status().message());
  std::vector<Product> products;
  const uint64_t micros = std::max<uint64_t>(1, plan->accumulation());
  for (uint64_t micro = 0; micro < micros; ++micro)
    for (int i = 0; i < plan->instructions_size(); ++i)
      if (micro == 0 || static_cast<uint64_t>(i) < plan->micro_batch_end())
        productsOf(plan->instructions(i), products);
  uint64_t largest = 0;
  double flops = 0;
  for (const Product &p : products) {
    largest = std::max(largest, static_cast<uint64_t>((p.m * p.k + p.k * p.n + p.m * p.n) * p.batch) * sizeof(float));
    flops += p.flops() * p.share;
  }
  Memory memory(std::max<uint64_t>(2 * largest, uint64_t(512) << 20));
  std::map<decltype(Product().shape()), Cut> best;
  for (const Product &p : products) {
    if (best.count(p.shape()))
      continue;
    double fastest = 0;
    for (Cut cut : cuts) {
      if (p.batch > 1 && cut != Cut::Rows)
        continue;
      double seconds = timeOf(**pool, memory, p, cut);
      if (seconds < 0.05)
        seconds = std::min({seconds, timeOf(**pool, memory, p, cut), timeOf(**pool, memory, p, cut)});
      if (cut == Cut::Rows || seconds < fastest) {
        fastest = seconds;
        best[p.shape()] = cut;
      }
    }
  }
  std::printf("{\"flops\": %.0f, \"products\": %zu, \"shapes\": %zu, \"threads\": %u, \"seconds\": [", flops, products.size(),
              best.size(), (*pool)->threads());
  for (uint64_t round = 0, rounds = numberAfter(argc, argv, "--rounds", 1); round < rounds; ++round) {
    double seconds = 0;
    for (const Product &p : products)
      seconds += p.share * timeOf(**pool, memory, p, best.at(p.shape()));
    std::printf("%s%.6f", round ? ", " : "", seconds);
    std::fflush(stdout);
  }
  std::printf("]}\n");
  return 0;
}
