// attention_backward: dq, dk, dv; f32 and f64, arithmetic in that type.
//
// A piece of work is one key head of one batch entry: it alone writes that head's dk and dv and the dq of the query
// heads that share it. Query heads ascending, key blocks ascending, query blocks ascending; blocks that the band hides
// are left out. Probabilities come from the scores, computed again, and lse. Workspace: row sums of dy * y, and two
// blocks (probabilities, gradient of the scores) per slot. No result overlaps an operand. Reference:
// AttentionBackwardOp::evaluate, three loops.
#include "runtime/device/cpu/AttentionProblem.h"

namespace amc::rt::cpu {
namespace {

float dotRow(const float *a, const float *b, int64_t n) { return hot().dot(a, b, n); }
double dotRow(const double *a, const double *b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum += a[i] * b[i];
  return sum;
}

void probabilityRow(float *scores, float *dscores, int64_t columns, int64_t from, int64_t to, float lse, float delta,
                    float scale) {
  hot().attentionBackwardRow(scores, dscores, columns, from, to, lse, delta, scale);
}
void probabilityRow(double *scores, double *dscores, int64_t columns, int64_t from, int64_t to, double lse,
                    double delta, double scale) {
  for (int64_t j = 0; j < columns; ++j) {
    bool seen = j >= from && j < to && lse != -std::numeric_limits<double>::infinity();
    scores[j] = seen ? std::exp(scores[j] - lse) : 0;
    dscores[j] = seen ? scores[j] * (dscores[j] - delta) * scale : 0;
  }
}

template <class T> struct HeadBackward {
  const AttentionProblem &p;
  const Operands &o;
  T *delta, *scores, *dscores;
  int64_t b, h, kv;
  const T *dy, *q, *k, *v, *y, *lse;
  const uint8_t *padding;
  const T *bias;
  T *dq, *dk, *dv;

  HeadBackward(const AttentionProblem &p, const Operands &o, unsigned slot) : p(p), o(o) {
    using namespace workspace;
    std::byte *base = o.workspaces[0];
    delta = reinterpret_cast<T *>(base);
    uint64_t deltaBytes = workspace::detail::pad(static_cast<uint64_t>(p.batch * p.heads * p.queries) * sizeof(T));
    uint64_t blockBytes = workspace::detail::pad(attentionQueryBlock * attentionKeyBlock * sizeof(T));
    std::byte *at = base + deltaBytes + slot * 2 * blockBytes;
    scores = reinterpret_cast<T *>(at);
    dscores = reinterpret_cast<T *>(at + blockBytes);
    padding = o.in<uint8_t>(6);
    bias = o.in<T>(7);
  }

  void run(int64_t piece) {
    b = piece / p.keyHeads;
    kv = piece;
    k = o.in<T>(2) + kv * p.keys * p.width;
    v = o.in<T>(3) + kv * p.keys * p.valueWidth;
    dk = o.out<T>(1) + kv * p.keys * p.width;
    dv = o.out<T>(2) + kv * p.keys * p.valueWidth;
    std::fill_n(dk, p.keys * p.width, T{});
    std::fill_n(dv, p.keys * p.valueWidth, T{});
    for (int64_t g = 0; g < p.group(); ++g) {
      h = piece % p.keyHeads * p.group() + g;
      head();
    }
  }

  void head() {
    int64_t row0 = (b * p.heads + h) * p.queries;
    dy = o.in<T>(0) + row0 * p.valueWidth;
    q = o.in<T>(1) + row0 * p.width;
    y = o.in<T>(4) + row0 * p.valueWidth;
    lse = o.in<T>(5) + row0;
    dq = o.out<T>(0) + row0 * p.width;
    T *sums = delta + row0;
    for (int64_t i = 0; i < p.queries; ++i)
      sums[i] = dotRow(dy + i * p.valueWidth, y + i * p.valueWidth, p.valueWidth);
    std::fill_n(dq, p.queries * p.width, T{});
    for (int64_t j = 0; j < p.keys; j += p.keyBlock)
      for (int64_t i = 0; i < p.queries; i += p.queryBlock) {
        int64_t end = std::min(i + p.queryBlock, p.queries);
        if (j / p.keyBlock >= p.firstBlock(i) && j / p.keyBlock < p.lastBlock(end))
          block(i, end, j, sums);
      }
    if (p.average)
      averagedRows();
  }

  // Contributions of queries [begin, end) and the key block at j.
  void block(int64_t begin, int64_t end, int64_t j, const T *sums) {
    int64_t rows = end - begin, columns = std::min(p.keyBlock, p.keys - j), ld = p.keyBlock;
    T scale = static_cast<T>(p.scale);
    if (p.width)
      gemm(false, true, rows, columns, p.width, scale, q + begin * p.width, p.width, k + j * p.width, p.width, T(0),
           scores, ld);
    else
      std::fill_n(scores, rows * ld, T{});
    if (p.valueWidth)
      gemm(false, true, rows, columns, p.valueWidth, T(1), dy + begin * p.valueWidth, p.valueWidth,
           v + j * p.valueWidth, p.valueWidth, T(0), dscores, ld);
    else
      std::fill_n(dscores, rows * ld, T{});
    for (int64_t r = 0; r < rows; ++r) {
      int64_t i = begin + r, from, to;
      p.band(i, j, columns, from, to);
      if (p.average && !p.attends(b, h, i, padding, bias))
        from = to = 0; // averagedRows adds it
      T *row = scores + r * ld, *gradient = dscores + r * ld;
      if (p.softcap > 0)
        cappedRow(row, gradient, from, to, columns, i, j, sums[i]);
      else {
        p.adjust(row, from, to, b, h, i, j, padding, bias);
        probabilityRow(row, gradient, columns, from, to, lse[i], sums[i], scale);
      }
    }
    if (p.valueWidth)
      gemm(true, false, columns, p.valueWidth, rows, T(1), scores, ld, dy + begin * p.valueWidth, p.valueWidth, T(1),
           dv + j * p.valueWidth, p.valueWidth);
    if (p.width) {
      gemm(false, false, rows, p.width, columns, T(1), dscores, ld, k + j * p.width, p.width, T(1),
           dq + begin * p.width, p.width);
      gemm(true, false, columns, p.width, rows, T(1), dscores, ld, q + begin * p.width, p.width, T(1),
           dk + j * p.width, p.width);
    }
  }

  // With softcap the slope of tanh comes in; scores hold scale * q.k here.
  void cappedRow(T *row, T *gradient, int64_t from, int64_t to, int64_t columns, int64_t i, int64_t j, T sum) {
    for (int64_t c = from; c < to; ++c) {
      T t = std::tanh(row[c] / static_cast<T>(p.softcap));
      gradient[c] = (gradient[c] - sum) * (1 - t * t);
    }
    p.adjust(row, from, to, b, h, i, j, padding, bias);
    probabilityRow(row, gradient, columns, from, to, lse[i], T(0), static_cast<T>(p.scale));
  }

  // Rows with nothing to attend to are the mean of all values: only dv has a part of them.
  void averagedRows() {
    for (int64_t i = 0; i < p.queries; ++i) {
      if (p.attends(b, h, i, padding, bias))
        continue;
      T share = T(1) / static_cast<T>(p.keys);
      for (int64_t j = 0; j < p.keys; ++j)
        for (int64_t d = 0; d < p.valueWidth; ++d)
          dv[j * p.valueWidth + d] += share * dy[i * p.valueWidth + d];
    }
  }
};

Status check(const InstructionSpec &spec) {
  AMC_TRY(expectOperands(spec,
                         {{"dy", AcceptWide},
                          {"q", AcceptWide},
                          {"k", AcceptWide},
                          {"v", AcceptWide},
                          {"y", AcceptWide},
                          {"lse", AcceptWide},
                          {"padding", AcceptBool, Optional},
                          {"bias", AcceptWide, Optional}},
                         {{"dq", AcceptWide}, {"dk", AcceptWide}, {"dv", AcceptWide}},
                         {{"scale", Real},
                          {"left", Int, Optional},
                          {"right", Int, Optional},
                          {"softcap", Real},
                          {"masked_rows", Text}}));
  AMC_TRY(AttentionProblem::check(spec, 1, 6));
  const TensorSpec &q = spec.inputs[1];
  std::vector<int64_t> rows = {q.shape[0], q.shape[1], q.shape[2]}, values = rows;
  values.push_back(spec.inputs[3].shape[3]);
  AMC_TRY(expectShape("inputs[0]", spec.inputs[0], values));
  AMC_TRY(expectShape("inputs[4]", spec.inputs[4], values));
  AMC_TRY(expectShape("inputs[5]", spec.inputs[5], rows));
  for (size_t i : {0, 4, 5})
    AMC_TRY(expectDType(text("inputs[", i, "]").c_str(), spec.inputs[i], q.dtype));
  for (size_t i = 0; i < 3; ++i) {
    std::string name = text("outputs[", i, "]");
    AMC_TRY(expectDType(name.c_str(), spec.outputs[i], q.dtype));
    AMC_TRY(expectShape(name.c_str(), spec.outputs[i], spec.inputs[1 + i].shape));
  }
  auto u = [](int64_t n) { return static_cast<uint64_t>(n); };
  const std::vector<int64_t> &v = spec.inputs[3].shape;
  return expectWorkspace(spec, workspace::attentionBackward(u(rows[0]), u(rows[1]), u(v[1]), u(rows[2]), u(v[2]),
                                                            u(q.shape[3]), u(v[3]), dtypeBytes(q.dtype)));
}

std::unique_ptr<Kernel> create(const InstructionSpec &spec) {
  AttentionProblem p = AttentionProblem::create(spec, 1, 6);
  auto make = [&](auto type) -> std::unique_ptr<Kernel> {
    using T = decltype(type);
    return makeKernel([=](const Operands &o, RunContext &c) {
      c.pool.parallelFor(p.batch * p.keyHeads, [&](int64_t piece, unsigned slot) {
        HeadBackward<T>(p, o, slot).run(piece);
      }, workspace::attentionSlots);
    });
  };
  return spec.inputs[1].dtype == plan::F64 ? make(double{}) : make(float{});
}

} // namespace

void registerAttentionBackward(KernelRegistry &registry) { registry.add("attention_backward", {check, create, nullptr, false, true}); }

} // namespace amc::rt::cpu
