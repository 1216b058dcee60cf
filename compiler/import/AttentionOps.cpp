// Attention and rotary embedding as single operations: the standard ones of opset 23 and ONNX
// Runtime's. Key-value caches have to be empty, as they are in training.
#include "compiler/import/Node.h"
#include <cmath>

using namespace mlir;
using namespace amc::train;

namespace amc::importer {

/// [B, S, H * D] as [B, H, S, D]; what has rank 4 already stays.
static Value splitHeads(Node &n, Value x, int64_t heads) {
  if (!x || shapeOf(x).size() == 4)
    return x;
  ArrayRef<int64_t> s = shapeOf(x);
  if (s.size() != 3 || heads <= 0 || s[2] % heads) {
    n.fail("input " + shapeString(s) + " does not divide into " + Twine(heads) + " heads");
    return {};
  }
  return n.transpose(n.reshape(x, {s[0], s[1], heads, s[2] / heads}), {0, 2, 1, 3});
}

static Value joinHeads(Node &n, Value y) {
  if (!y)
    return y;
  Ints s(shapeOf(y));
  return n.reshape(n.transpose(y, {0, 2, 1, 3}), {s[0], s[2], s[1] * s[3]});
}

/// A past cache of no positions is dropped; anything else is inference.
static bool emptyPast(Node &n, int first, int last) {
  for (int i = first; i <= last; ++i)
    if (Value past = n.opt(i); past && elementCount(shapeOf(past)) > 0) {
      n.unsupported(
          "a key-value cache that is not empty; bind its sequence length to 0 with --shape");
      return false;
    }
  return !n.failed;
}

struct Mask {
  Value padding, bias;
  std::optional<int64_t> left, right;
  double softcap = 0;
};

/// Minus infinity where a boolean mask forbids, at rank 4.
static Value biasFromMask(Node &n, Value mask) {
  if (!mask)
    return mask;
  if (elementOf(mask).isInteger(1)) {
    Value zero = n.full(0, {}, n.f32());
    mask = n.select(mask, zero, n.full(-INFINITY, {}, n.f32()));
  }
  if (!mask)
    return mask;
  Ints to(shapeOf(mask));
  while (to.size() < 4)
    to.insert(to.begin(), 1);
  return n.reshape(mask, to);
}

static Value attention(Node &n, Value q, Value k, Value v, double scale, const Mask &mask) {
  SmallVector<Value> operands{q, k, v};
  if (mask.padding)
    operands.push_back(mask.padding);
  if (mask.bias)
    operands.push_back(mask.bias);
  SmallVector<NamedAttribute> attrs{n.floatAttr("scale", scale),
                                    n.floatAttr("softcap", mask.softcap)};
  if (mask.left)
    attrs.push_back(n.intAttr("left", *mask.left));
  if (mask.right)
    attrs.push_back(n.intAttr("right", *mask.right));
  Operation *made = n.build(AttentionOp::getOperationName(), operands, attrs,
                            {1, 1, 1, mask.padding ? 1 : 0, mask.bias ? 1 : 0, 0, 0, 0});
  return made ? made->getResult(0) : Value();
}

/// A bias that is looked up in a table is learned (relative positions), and attention has no
/// gradient for its bias.
static bool isLearned(Value bias) {
  SmallVector<Value> work{bias};
  llvm::DenseSet<Operation *> seen;
  while (!work.empty()) {
    Operation *op = work.pop_back_val().getDefiningOp();
    if (!op || !seen.insert(op).second)
      continue;
    if (isa<GatherOp, EmbeddingOp>(op) && isa<FloatType>(elementOf(op->getResult(0))) &&
        parameterBehind(op->getOperand(0)))
      return true;
    llvm::append_range(work, op->getOperands());
  }
  return false;
}

/// Attention step by step, with a gradient for the bias.
static Value plainAttention(Node &n, Value q, Value k, Value v, double scale, const Mask &mask) {
  ArrayRef<int64_t> sq = shapeOf(q), sk = shapeOf(k);
  int64_t groups = sk[1] > 0 && sq[1] % sk[1] == 0 ? sq[1] / sk[1] : 1;
  for (Value *x : {&k, &v})
    if (*x && groups > 1) {
      Ints s(shapeOf(*x));
      *x =
          n.broadcast(n.reshape(*x, {s[0], s[1], 1, s[2], s[3]}), {s[0], s[1], groups, s[2], s[3]});
      *x = n.reshape(*x, {s[0], s[1] * groups, s[2], s[3]});
    }
  Value scores = n.add(n.matmul(n.mul(q, n.scalar(scale, q)), k, false, true), mask.bias);
  if (mask.right) {
    Value row = n.iota(*mask.right, 1, 0, {sq[2], 1}, n.i64()),
          column = n.iota(0, 1, 1, {1, sk[2]}, n.i64());
    scores = n.select(n.emit<LessEqualOp>({column, row}), scores, n.scalar(-INFINITY, scores));
  }
  return n.matmul(n.emit<SoftmaxOp>({scores}, {n.intAttr("axis", 3)}), v);
}

static bool checkHeads(Node &n, Value q, Value k, Value v) {
  if (!q || !k || !v || n.failed)
    return false;
  if (shapeOf(q).size() != 4 || shapeOf(k).size() != 4 || shapeOf(v).size() != 4)
    n.fail("query, key and value should have rank 3 or 4");
  return !n.failed;
}

static void standardAttention(Node &n) {
  Value q = n.in(0), k = n.in(1), v = n.in(2), mask = n.opt(3);
  int64_t heads = n.getInt("q_num_heads", 0), keyHeads = n.getInt("kv_num_heads", 0);
  n.ignore("softmax_precision"); // at least single in any case
  n.ignore("qk_matmul_output_mode");
  bool causal = n.getFlag("is_causal");
  if (!q || !k || !v || !emptyPast(n, 4, 5))
    return;
  bool joined = shapeOf(q).size() == 3;
  q = splitHeads(n, q, heads);
  k = splitHeads(n, k, keyHeads);
  v = splitHeads(n, v, keyHeads);
  if (!checkHeads(n, q, k, v))
    return;
  Mask masks;
  masks.softcap = n.getFloat("softcap", 0);
  if (causal)
    masks.right = 0;
  masks.bias = biasFromMask(n, mask);
  if (masks.bias && masks.softcap != 0)
    return n.unsupported("softcap together with a mask: opset 23 caps masked scores, too");
  if (masks.bias && shapeOf(masks.bias)[3] != 1 && shapeOf(masks.bias)[3] < shapeOf(k)[2]) {
    // A shorter mask forbids the keys that it does not cover.
    Ints low(4, 0), high(4, 0);
    high[3] = shapeOf(k)[2] - shapeOf(masks.bias)[3];
    masks.bias = n.pad(masks.bias, low, high, -INFINITY);
  }
  double scale = n.getFloat("scale", 1 / std::sqrt(static_cast<double>(shapeOf(q)[3])));
  bool learned = masks.bias && isLearned(masks.bias);
  Value y =
      learned ? plainAttention(n, q, k, v, scale, masks) : attention(n, q, k, v, scale, masks);
  n.set(0, joined ? joinHeads(n, y) : y);
  n.set(1, k);
  n.set(2, v);
}

/// com.microsoft: causal attention with grouped keys, as the builders of generative models write
/// it.
static void groupQueryAttention(Node &n) {
  int64_t heads = n.needInt("num_heads"), keyHeads = n.needInt("kv_num_heads");
  int64_t window = n.getInt("local_window_size", -1);
  Mask masks;
  masks.softcap = n.getFloat("softcap", 0);
  masks.right = 0;
  if (window > 0)
    masks.left = window - 1;
  double scale = n.getFloat("scale", 0);
  bool rotary = n.getFlag("do_rotary"), interleaved = n.getFlag("rotary_interleaved");
  n.ignore("smooth_softmax");
  if (n.getFlag("smooth_softmax"))
    return n.unsupported("smooth_softmax");
  Value q = n.in(0), k = n.opt(1), v = n.opt(2);
  if (!emptyPast(n, 3, 4))
    return;
  // Lengths of the sequences without their padding: training masks by labels, and a causal row
  // never sees what follows.
  (void)n.opt(5);
  (void)n.opt(6);
  if (!q)
    return;
  if (!k) { // packed: query, key and value heads side by side
    ArrayRef<int64_t> s = shapeOf(q);
    if (s.size() != 3 || heads <= 0 || keyHeads <= 0 || heads > s[2] || keyHeads > s[2] ||
        s[2] % (heads + 2 * keyHeads))
      return n.fail("packed input " + shapeString(s) + " does not divide into heads");
    int64_t d = s[2] / (heads + 2 * keyHeads);
    Value packed = q;
    q = n.sliceAxis(packed, 2, 0, heads * d);
    k = n.sliceAxis(packed, 2, heads * d, keyHeads * d);
    v = n.sliceAxis(packed, 2, (heads + keyHeads) * d, keyHeads * d);
  }
  q = splitHeads(n, q, heads);
  k = splitHeads(n, k, keyHeads);
  v = splitHeads(n, v, keyHeads);
  if (!checkHeads(n, q, k, v))
    return;
  if (rotary) {
    Value cos = n.in(7), sin = n.in(8);
    if (!cos || !sin)
      return;
    int64_t length = shapeOf(q)[2], half = shapeOf(q)[3] / 2;
    if (shapeOf(cos).size() != 2 || shapeOf(cos) != shapeOf(sin) || shapeOf(cos)[0] < length ||
        shapeOf(cos)[1] != half)
      return n.unsupported("rotary tables of shape " + shapeString(shapeOf(cos)));
    auto table = [&](Value t) {
      t = n.sliceAxis(t, 0, 0, length);
      t = interleaved ? n.reshape(n.broadcast(n.reshape(t, {length, half, 1}), {length, half, 2}),
                                  {length, 2 * half})
                      : n.concat({t, t}, 1);
      return n.reshape(t, {1, 1, length, 2 * half});
    };
    cos = table(cos);
    sin = table(sin);
    SmallVector<NamedAttribute> attrs;
    if (interleaved)
      attrs.push_back(n.unitAttr("interleaved"));
    q = n.emit<RotaryOp>({q, cos, sin}, attrs);
    k = n.emit<RotaryOp>({k, cos, sin}, attrs);
  }
  if (!q || !k || !v)
    return;
  if (scale == 0)
    scale = 1 / std::sqrt(static_cast<double>(shapeOf(q)[3]));
  n.set(0, joinHeads(n, attention(n, q, k, v, scale, masks)));
  n.set(1, k);
  n.set(2, v);
}

/// com.microsoft: attention with separate inputs, a padding mask and a bias.
static void multiHeadAttention(Node &n) {
  int64_t heads = n.needInt("num_heads");
  double scale = n.getFloat("scale", 0);
  bool causal = n.getFlag("unidirectional");
  n.ignore("mask_filter_value");
  Value q = n.in(0), k = n.in(1), v = n.in(2), bias = n.opt(3), mask = n.opt(4);
  Mask masks;
  masks.bias = biasFromMask(n, n.opt(5));
  if (causal)
    masks.right = 0;
  if (!q || !k || !v || !emptyPast(n, 6, 7))
    return;
  if (bias) { // query, key and value biases, one after the other
    int64_t at = 0;
    for (Value *x : {&q, &k, &v}) {
      int64_t width = shapeOf(*x).size() == 3 ? shapeOf(*x)[2] : 0;
      if (width == 0 || shapeOf(bias).size() != 1 || at + width > shapeOf(bias)[0])
        return n.unsupported("a bias with inputs of rank 4 or 5");
      *x = n.add(*x, n.sliceAxis(bias, 0, at, width));
      at += width;
    }
  }
  q = splitHeads(n, q, heads);
  k = splitHeads(n, k, heads);
  v = splitHeads(n, v, heads);
  if (!checkHeads(n, q, k, v))
    return;
  if (mask) {
    if (shapeOf(mask) != ArrayRef<int64_t>{shapeOf(k)[0], shapeOf(k)[2]})
      return n.unsupported("a key padding mask of shape " + shapeString(shapeOf(mask)));
    masks.padding = n.cast(mask, n.i1());
  }
  if (scale == 0)
    scale = 1 / std::sqrt(static_cast<double>(shapeOf(q)[3]));
  n.set(0, joinHeads(n, attention(n, q, k, v, scale, masks)));
  n.set(1, k);
  n.set(2, v);
}

/// Rotary embedding of x by tables of half a head's width, which `positions` may index.
static void rotary(Node &n, Value x, Value cos, Value sin, Value positions, bool interleaved,
                   int64_t dims, int64_t heads) {
  if (!x || !cos || !sin || n.failed)
    return;
  bool joined = shapeOf(x).size() == 3;
  // A head's width may follow from the tables alone.
  int64_t angles = shapeOf(cos).empty() ? 0 : shapeOf(cos).back();
  if (joined && heads == 0 && dims == 0 && angles > 0)
    heads = shapeOf(x)[2] / (2 * angles);
  x = splitHeads(n, x, heads);
  if (!x)
    return;
  if (shapeOf(x).size() != 4)
    return n.fail("input should have rank 3 or 4");
  int64_t batch = shapeOf(x)[0], length = shapeOf(x)[2], width = shapeOf(x)[3];
  if (dims == 0)
    dims = width;
  if (dims < 0 || dims > width || dims % 2)
    return n.fail("attribute 'rotary_embedding_dim' is " + Twine(dims) +
                  ", should be even and at most " + Twine(width));
  int64_t half = dims / 2;
  auto table = [&](Value t) -> Value {
    if (positions && shapeOf(positions).size() == 2) {
      t = n.emit<GatherOp>({t, positions}, {n.intAttr("axis", 0)});
    } else if (positions) { // one offset for all: positions count from it
      Value at = n.add(n.iota(0, 1, 0, {1, length}, elementOf(positions)), positions);
      t = n.emit<GatherOp>({t, at}, {n.intAttr("axis", 0)});
    }
    if (!t)
      return t;
    int64_t rank = shapeOf(t).size();
    if (rank < 2 || shapeOf(t)[rank - 2] != length || shapeOf(t)[rank - 1] < half) {
      n.fail("rotary table " + shapeString(shapeOf(t)) + " does not fit " + Twine(length) +
             " positions of " + Twine(half) + " angles");
      return {};
    }
    t = n.sliceAxis(t, rank - 1, 0, half);
    if (!t)
      return t;
    int64_t rows = rank == 3 ? shapeOf(t)[0] : 1;
    if (rank > 3 || (rows != 1 && rows != batch)) {
      n.fail("rotary table " + shapeString(shapeOf(t)) + " does not fit a batch of " +
             Twine(batch));
      return {};
    }
    t = n.reshape(t, {rows, 1, length, half});
    if (!interleaved)
      return n.concat({t, t}, 3);
    return n.reshape(
        n.broadcast(n.reshape(t, {rows, 1, length, half, 1}), {rows, 1, length, half, 2}),
        {rows, 1, length, dims});
  };
  cos = table(cos);
  sin = table(sin);
  SmallVector<NamedAttribute> attrs;
  if (interleaved)
    attrs.push_back(n.unitAttr("interleaved"));
  Value y = n.emit<RotaryOp>({n.sliceAxis(x, 3, 0, dims), cos, sin}, attrs);
  if (dims < width)
    y = n.concat({y, n.sliceAxis(x, 3, dims, width - dims)}, 3);
  n.set(0, joined ? joinHeads(n, y) : y);
}

static void rotaryEmbedding(Node &n) {
  Value x = n.in(0), cos = n.in(1), sin = n.in(2), positions = n.opt(3);
  bool interleaved = n.getFlag("interleaved");
  int64_t dims = n.getInt("rotary_embedding_dim", 0), heads = n.getInt("num_heads", 0);
  rotary(n, x, cos, sin, positions, interleaved, dims, heads);
}

/// com.microsoft: the same with positions first.
static void contribRotaryEmbedding(Node &n) {
  n.ignore("scale");
  n.ignore("is_packed_batching");
  if (n.getFloat("scale", 1) != 1 || n.getFlag("is_packed_batching"))
    return n.unsupported("scale or packed batches");
  Value x = n.in(0), positions = n.in(1), cos = n.in(2), sin = n.in(3);
  bool interleaved = n.getFlag("interleaved");
  int64_t dims = n.getInt("rotary_embedding_dim", 0), heads = n.getInt("num_heads", 0);
  rotary(n, x, cos, sin, positions, interleaved, dims, heads);
}

ArrayRef<OpEntry> attentionOps() {
  static const OpEntry table[] = {
      {"", "Attention", 23, standardAttention},
      {"", "RotaryEmbedding", 23, rotaryEmbedding},
      {"com.microsoft", "GroupQueryAttention", 1, groupQueryAttention},
      {"com.microsoft", "MultiHeadAttention", 1, multiHeadAttention},
      {"com.microsoft", "RotaryEmbedding", 1, contribRotaryEmbedding},
  };
  return table;
}

} // namespace amc::importer
