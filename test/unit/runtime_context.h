// Attention of a sequence that is spread over members of a group: cases, and what each member is given.
#ifndef AMC_TEST_UNIT_RUNTIME_CONTEXT_H
#define AMC_TEST_UNIT_RUNTIME_CONTEXT_H

#include "runtime/collective/Communicator.h"
#include "runtime/plan/Ring.h"
#include "test/unit/runtime_support.h"
#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <utility>

namespace amc::rt::test {

using Indices = std::vector<uint64_t>;

// The positions of what is stored: of member 0 first, then of member 1.
inline Indices storageOrder(uint64_t length, uint64_t members, bool zigzag) {
  Indices order(length);
  std::iota(order.begin(), order.end(), uint64_t(0));
  if (!zigzag)
    return order;
  uint64_t chunk = length / (2 * members), next = 0;
  for (uint64_t m = 0; m < members; ++m)
    for (uint64_t c : {m, 2 * members - 1 - m})
      for (uint64_t i = 0; i < chunk; ++i)
        order[next++] = c * chunk + i;
  return order;
}

// a[…, indices, …] along a dimension.
inline Array select(const Array &a, size_t dim, const Indices &indices) {
  Array result{a.dtype, a.shape, {}};
  if (a.dtype == plan::DTYPE_UNSPECIFIED)
    return result;
  result.shape[dim] = indices.size();
  uint64_t inner = 1, outer = 1;
  for (size_t i = 0; i < a.shape.size(); ++i)
    (i < dim ? outer : i > dim ? inner : outer) *= i == dim ? 1 : a.shape[i];
  for (uint64_t o = 0; o < outer; ++o)
    for (uint64_t index : indices)
      for (uint64_t i = 0; i < inner; ++i)
        result.values.push_back(a.values[(o * a.shape[dim] + index) * inner + i]);
  return result;
}

// All ranks are one group, a stand-in that is made of the arguments; there is nothing else to ask for.
template <class Its> class CommunicatorOf final : public Communicator {
public:
  template <class... Arguments>
  explicit CommunicatorOf(Arguments &&...arguments) : its(std::forward<Arguments>(arguments)...) {}
  unsigned size() const override { return its.size(); }
  unsigned rank() const override { return its.index(); }
  Expected<Group *> group(const std::vector<unsigned> &ranks) override {
    EXPECT_EQ(ranks.size(), its.size());
    return &its;
  }
  Expected<std::byte *> allocate(uint64_t) override { return inputError("has no memory"); }
  uint64_t scratchBytes() const override { return 0; }
  Expected<std::vector<std::string>> exchange(const std::string &) override { return inputError("there is nobody"); }
  void abort(const Status &) override {}
  void progress() override {}

private:
  Its its;
};

struct ContextCase {
  const char *what;
  uint64_t batch, heads, keyHeads, length, width, valueWidth;
  int64_t left = -1, right = -1; // -1: absent
  double softcap = 0;
  bool padded = false, biased = false, average = false;
};

// 8: chunks of 1 and 2. 264 and 1104: chunks of 33 to 276, no multiples of blocks of 64 queries and 128 keys.
inline const ContextCase contexts[] = {
    {"everybody sees everything", 1, 2, 2, 264, 8, 8},
    {"causal, a chunk of few", 2, 2, 1, 8, 4, 4, -1, 0},
    {"causal", 1, 2, 2, 1104, 16, 16, -1, 0},
    {"grouped queries, causal, other widths", 2, 4, 2, 264, 8, 12, -1, 0},
    {"sliding window", 1, 2, 1, 1104, 8, 8, 100, 0},
    {"a window wider than a chunk", 1, 2, 2, 264, 8, 8, 150, 0},
    {"window on both sides", 1, 2, 2, 264, 8, 8, 40, 11},
    {"softcap, causal", 1, 2, 2, 264, 8, 8, -1, 0, 3.0},
    {"padding", 2, 2, 2, 264, 8, 8, -1, -1, 0, true},
    {"padding and causal, masked rows zero", 2, 2, 2, 264, 8, 8, -1, 0, 0, true},
    {"padding and causal, masked rows averaged", 2, 2, 1, 264, 8, 8, -1, 0, 0, true, false, true},
    {"window of nothing, averaged", 1, 2, 2, 264, 8, 8, -200, -1, 0, false, false, true},
    {"a bias for each head, softcap, causal", 2, 2, 2, 264, 8, 8, -1, 0, 2.0, false, true},
};

struct Tensors {
  Array q, k, v, dy, padding, bias;
};

inline Tensors tensorsOf(const ContextCase &c, plan::DType dtype) {
  Tensors t;
  t.q = random(dtype, {c.batch, c.heads, c.length, c.width}, 1, -2, 2);
  t.k = random(dtype, {c.batch, c.keyHeads, c.length, c.width}, 2, -2, 2);
  t.v = random(dtype, {c.batch, c.keyHeads, c.length, c.valueWidth}, 3, -2, 2);
  t.dy = random(dtype, {c.batch, c.heads, c.length, c.valueWidth}, 4, -1, 1);
  if (c.padded) {
    t.padding = randomIndices(plan::BOOL, {c.batch, c.length}, 5, 0, 2);
    std::fill_n(t.padding.values.begin(), 20, 0); // the first rows of a causal mask see nothing
  }
  if (c.biased)
    t.bias = random(dtype, {1, c.heads, 1, 1}, 6, -1, 1);
  return t;
}

inline Attributes attributesOf(const ContextCase &c) {
  Attributes attributes = {attribute("masked_rows", c.average ? "average" : "zero"), attribute("scale", 0.3),
                           attribute("softcap", c.softcap)};
  if (c.left != -1)
    attributes.push_back(attribute("left", c.left));
  if (c.right != -1)
    attributes.push_back(attribute("right", c.right));
  return attributes;
}

inline Call forwardOf(const ContextCase &c, const Tensors &t) {
  plan::DType dtype = t.q.dtype;
  Shape rows = {c.batch, c.heads, t.q.shape[2]}, values = rows;
  values.push_back(c.valueWidth);
  return {"attention", {t.q, t.k, t.v, t.padding, t.bias}, {{dtype, values}, {statisticType(dtype), rows}}, attributesOf(c),
          workspace::attention(c.batch, c.heads, rows[2], c.width, c.valueWidth, dtypeBytes(dtype), t.k.shape[2]), {}};
}
inline Call backwardOf(const ContextCase &c, const Tensors &t, const Outcome &forward) {
  plan::DType dtype = t.q.dtype;
  return {"attention_backward",
          {t.dy, t.q, t.k, t.v, forward.outputs[0], forward.outputs[1], t.padding, t.bias},
          {{dtype, t.q.shape}, {dtype, t.k.shape}, {dtype, t.v.shape}}, attributesOf(c),
          workspace::attentionBackward(c.batch, c.heads, c.keyHeads, t.q.shape[2], c.length, c.width, c.valueWidth,
                                       dtypeBytes(dtype)), {}};
}

// What member r is given.
inline Tensors pieceOf(const Tensors &whole, const Indices &order, uint64_t member, uint64_t members) {
  uint64_t rows = order.size() / members;
  Indices own(order.begin() + static_cast<long>(member * rows), order.begin() + static_cast<long>((member + 1) * rows));
  return {select(whole.q, 2, own), select(whole.k, 2, order), select(whole.v, 2, order), select(whole.dy, 2, own),
          select(whole.padding, 1, order), whole.bias};
}

inline double allowed(plan::DType dtype) { return dtype == plan::F64 ? 1e-11 : dtype == plan::F32 ? 1e-5 : 1e-2; }

// ---- in a ring

inline RingShape ringOf(const ContextCase &c, plan::DType dtype, uint64_t members, bool zigzag) {
  RingShape ring{members, c.batch, c.heads, c.keyHeads, c.length / members, c.width, c.valueWidth, dtypeBytes(dtype),
                 {}, {}, zigzag, false};
  if (c.left != -1)
    ring.left = c.left;
  if (c.right != -1)
    ring.right = c.right;
  ring.everything = c.average && ringAverages(c.padded || c.biased, ring.left, ring.right);
  return ring;
}

// Queries, keys and values of one member.
inline Tensors ringPieceOf(const Tensors &whole, const Indices &order, uint64_t member, uint64_t members) {
  Tensors t = pieceOf(whole, order, member, members);
  uint64_t rows = order.size() / members;
  Indices own(order.begin() + static_cast<long>(member * rows), order.begin() + static_cast<long>((member + 1) * rows));
  t.k = select(whole.k, 2, own);
  t.v = select(whole.v, 2, own);
  return t;
}

inline void putInRing(Call &call, uint64_t members, bool zigzag, uint64_t workspace) {
  for (plan::Attribute a : {attribute("group", "cp"), attribute("members", static_cast<int64_t>(members)),
                            attribute("zigzag", zigzag), attribute("ring", 1)})
    call.attributes.push_back(std::move(a));
  call.workspace = workspace;
}

} // namespace amc::rt::test

#endif
