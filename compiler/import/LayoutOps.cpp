// Operations that move elements: permutations, slices, joins, padding, repetition. Sequences of
// tensors are lists of values known while importing, so they cost nothing.
#include "compiler/import/Node.h"

using namespace mlir;
using namespace amc::train;

namespace amc::importer {

static void transpose(Node &n) {
  Value x = n.in(0);
  if (!x)
    return;
  int64_t rank = shapeOf(x).size();
  Ints reversed;
  for (int64_t i = rank; i-- > 0;)
    reversed.push_back(i);
  Ints permutation = n.getInts("perm").value_or(reversed);
  n.set(0, n.transpose(x, permutation));
}

static void concat(Node &n) {
  std::vector<Value> parts = n.from(0);
  if (parts.empty() || llvm::is_contained(parts, Value()))
    return n.fail("should have at least one input");
  int64_t axis = n.axis(n.needInt("axis"), shapeOf(parts[0]).size());
  n.set(0, n.concat(parts, axis));
}

/// Sizes of the parts of Split and SplitToSequence along one dimension.
static std::optional<Ints> partSizes(Node &n, int64_t dim, int64_t parts) {
  Ints sizes;
  if (n.has(1)) {
    std::optional<Ints> given = n.constInts(1, "split");
    if (!given)
      return std::nullopt;
    sizes = *given;
  } else {
    if (parts <= 0) {
      n.fail("has no parts");
      return std::nullopt;
    }
    // Equal parts; since opset 18 the last may be smaller.
    int64_t each = (dim + parts - 1) / parts;
    if (n.opset < 18 && dim % parts) {
      n.fail("dimension " + Twine(dim) + " is not a multiple of " + Twine(parts));
      return std::nullopt;
    }
    for (int64_t left = dim; static_cast<int64_t>(sizes.size()) < parts; left -= each)
      sizes.push_back(std::clamp<int64_t>(left, 0, each));
  }
  int64_t sum = 0;
  for (int64_t size : sizes) {
    if (size < 0 || size > dim) {
      n.fail("part of " + Twine(size) + " elements of dimension " + Twine(dim));
      return std::nullopt;
    }
    sum += size;
  }
  if (sum == dim)
    return sizes;
  n.fail("parts sum up to " + Twine(sum) + ", should be dimension " + Twine(dim));
  return std::nullopt;
}

static void split(Node &n) {
  Value x = n.in(0);
  int64_t parts = n.getInt("num_outputs", n.outputs());
  if (parts != n.outputs())
    return n.fail("attribute 'num_outputs' is " + Twine(parts) + ", should be " +
                  Twine(n.outputs()));
  if (!x)
    return;
  int64_t axis = n.axis(n.getInt("axis", 0), shapeOf(x).size());
  if (n.failed)
    return;
  std::optional<Ints> sizes = partSizes(n, shapeOf(x)[axis], parts);
  if (!sizes)
    return;
  if (static_cast<int>(sizes->size()) < n.outputs())
    return n.fail("makes " + Twine(sizes->size()) + " parts for " + Twine(n.outputs()) +
                  " outputs");
  int64_t start = 0;
  for (int i = 0; i < n.outputs(); start += (*sizes)[i++])
    if (n.wants(i))
      n.set(i, n.sliceAxis(x, axis, start, (*sizes)[i]));
}

static void splitToSequence(Node &n) {
  Value x = n.in(0);
  if (!x)
    return;
  int64_t axis = n.axis(n.getInt("axis", 0), shapeOf(x).size());
  bool keep = n.getFlag("keepdims", true);
  if (n.failed)
    return;
  int64_t dim = shapeOf(x)[axis];
  if (dim > 65536)
    return n.unsupported("more than 65536 parts");
  Ints sizes(dim, 1);
  bool given = n.has(1);
  if (given) {
    const HostTensor *split = n.constant(1, "split");
    if (!split)
      return;
    if (split->rank() == 0) { // parts of this size, the last one smaller
      int64_t each = split->integer(0);
      if (each <= 0)
        return n.fail("part of " + Twine(each) + " elements");
      sizes.clear();
      for (int64_t left = dim; left > 0; left -= each)
        sizes.push_back(std::min(left, each));
    } else {
      std::optional<Ints> listed = partSizes(n, dim, 0);
      if (!listed)
        return;
      sizes = *listed;
    }
  }
  std::vector<Value> list;
  int64_t start = 0;
  for (int64_t size : sizes) {
    Value part = n.sliceAxis(x, axis, start, size);
    if (part && !given && !keep) {
      Ints to(shapeOf(part));
      to.erase(to.begin() + axis);
      part = n.reshape(part, to);
    }
    list.push_back(part);
    start += size;
  }
  n.setSequence(0, list);
}

/// An element's place in a sequence, counted from the end if negative.
static std::optional<int64_t> place(Node &n, int input, int64_t size, int64_t otherwise) {
  if (otherwise < 0) {
    n.fail("the sequence is empty");
    return std::nullopt;
  }
  if (!n.has(input))
    return otherwise;
  std::optional<int64_t> at = n.constInt(input, "position");
  if (!at)
    return std::nullopt;
  int64_t index = *at;
  if (index < 0)
    index += size;
  if (index >= 0 && index <= otherwise)
    return index;
  n.fail("position " + Twine(*at) + " is out of range for a sequence of " + Twine(size));
  return std::nullopt;
}

static void sequenceAt(Node &n) {
  const std::vector<Value> &list = n.sequence(0);
  if (n.failed)
    return;
  int64_t size = list.size();
  if (std::optional<int64_t> at = place(n, 1, size, size - 1))
    n.set(0, list[*at]);
}
static void sequenceConstruct(Node &n) { n.setSequence(0, n.from(0)); }
static void sequenceEmpty(Node &n) {
  n.ignore("dtype");
  n.setSequence(0, {});
}
static void sequenceLength(Node &n) {
  n.set(0, n.ints({static_cast<int64_t>(n.sequence(0).size())}, {}));
}
static void sequenceInsert(Node &n) {
  std::vector<Value> list = n.sequence(0);
  Value tensor = n.in(1);
  if (n.failed)
    return;
  int64_t size = list.size();
  if (std::optional<int64_t> at = place(n, 2, size, size)) {
    list.insert(list.begin() + *at, tensor);
    n.setSequence(0, list);
  }
}
static void sequenceErase(Node &n) {
  std::vector<Value> list = n.sequence(0);
  if (n.failed)
    return;
  int64_t size = list.size();
  if (std::optional<int64_t> at = place(n, 1, size, size - 1)) {
    list.erase(list.begin() + *at);
    n.setSequence(0, list);
  }
}
static void concatFromSequence(Node &n) {
  std::vector<Value> list = n.sequence(0);
  bool fresh = n.getFlag("new_axis");
  if (list.empty() && !n.failed)
    n.fail("joins an empty sequence");
  if (n.failed)
    return;
  int64_t axis = n.axis(n.needInt("axis"), shapeOf(list[0]).size() + fresh);
  for (Value &part : list)
    if (fresh) {
      Ints to(shapeOf(part));
      to.insert(to.begin() + axis, 1);
      part = n.reshape(part, to);
    }
  n.set(0, n.concat(list, axis));
}

static void slice(Node &n) {
  Value x = n.in(0);
  std::optional<Ints> starts = n.constInts(1, "starts"), ends = n.constInts(2, "ends");
  if (!x || !starts || !ends)
    return;
  int64_t rank = shapeOf(x).size();
  Ints axes;
  for (size_t i = 0; i < starts->size(); ++i)
    axes.push_back(i);
  Ints steps(starts->size(), 1);
  if (n.has(3)) {
    std::optional<Ints> given = n.constInts(3, "axes");
    if (!given)
      return;
    axes = *given;
  }
  if (n.has(4)) {
    std::optional<Ints> given = n.constInts(4, "steps");
    if (!given)
      return;
    steps = *given;
  }
  if (ends->size() != starts->size() || axes.size() != starts->size() ||
      steps.size() != starts->size())
    return n.fail("starts, ends, axes and steps should have one length");
  Ints at(rank, 0), sizes(shapeOf(x)), by(rank, 1);
  std::set<int64_t> seen;
  for (size_t i = 0; i < axes.size(); ++i) {
    int64_t axis = n.axis(axes[i], rank), step = steps[i];
    if (n.failed)
      return;
    int64_t dim = shapeOf(x)[axis];
    if (step == 0 || !seen.insert(axis).second)
      return n.fail(step == 0 ? "step is 0" : "an axis is given twice");
    auto fromEnd = [&](int64_t bound) {
      return bound < 0 ? std::max<int64_t>(bound, -dim - 1) + dim : bound;
    };
    int64_t start = fromEnd((*starts)[i]), end = fromEnd((*ends)[i]);
    if (step > 0) {
      start = std::clamp<int64_t>(start, 0, dim);
      end = std::clamp<int64_t>(end, 0, dim);
      step = std::min(step, std::max<int64_t>(dim, 1));
      sizes[axis] = end > start ? (end - start + step - 1) / step : 0;
    } else {
      start = dim == 0 ? -1 : std::clamp<int64_t>(start, 0, dim - 1);
      end = std::clamp<int64_t>(end, -1, dim - 1);
      step = std::max(step, -std::max<int64_t>(dim, 1));
      sizes[axis] = start > end ? (start - end - step - 1) / -step : 0;
    }
    at[axis] = sizes[axis] ? start : 0;
    by[axis] = sizes[axis] ? step : 1;
  }
  n.set(0, n.slice(x, at, sizes, by));
}

/// `count` elements to put beside x along an axis, for the modes that copy elements of x.
static Value border(Node &n, Value x, int64_t axis, int64_t count, StringRef mode, bool before) {
  int64_t dim = shapeOf(x)[axis];
  if (mode == "edge") {
    Value edge = n.sliceAxis(x, axis, before ? 0 : dim - 1, 1);
    Ints to(edge ? shapeOf(edge) : ArrayRef<int64_t>());
    if (edge)
      to[axis] = count;
    return n.broadcast(edge, to);
  }
  if (mode == "wrap")
    return n.sliceAxis(x, axis, before ? dim - count : 0, count);
  return n.sliceAxis(x, axis, before ? count : dim - 2, count, -1); // reflect
}

static void pad(Node &n) {
  Value x = n.in(0);
  std::string mode = n.getString("mode", "constant");
  std::optional<Ints> pads = n.constInts(1, "pads");
  if (!x || !pads)
    return;
  double value = 0;
  if (n.has(2)) {
    std::optional<double> given = n.constScalar(2, "constant_value");
    if (!given)
      return;
    value = *given;
  }
  int64_t rank = shapeOf(x).size();
  Ints axes;
  for (int64_t i = 0; i < rank; ++i)
    axes.push_back(i);
  if (n.has(3)) {
    std::optional<Ints> given = n.constInts(3, "axes");
    if (!given)
      return;
    axes = *given;
  }
  if (pads->size() != 2 * axes.size())
    return n.fail("has " + Twine(pads->size()) + " pads for " + Twine(axes.size()) + " axes");
  Ints low(rank, 0), high(rank, 0);
  for (size_t i = 0; i < axes.size(); ++i) {
    int64_t axis = n.axis(axes[i], rank);
    if (n.failed)
      return;
    low[axis] = (*pads)[i];
    high[axis] = (*pads)[axes.size() + i];
    constexpr int64_t limit = int64_t(1) << 46;
    if (std::min(low[axis], high[axis]) < -limit || std::max(low[axis], high[axis]) > limit)
      return n.fail("pad is out of range");
  }
  if (n.failed)
    return;
  // Negative pads cut off.
  Ints starts(rank, 0), sizes(shapeOf(x));
  for (int64_t i = 0; i < rank; ++i) {
    starts[i] = std::max<int64_t>(0, -low[i]);
    sizes[i] += std::min<int64_t>(0, low[i]) + std::min<int64_t>(0, high[i]);
    low[i] = std::max<int64_t>(0, low[i]);
    high[i] = std::max<int64_t>(0, high[i]);
    if (sizes[i] < 0)
      return n.fail("cuts off more than dimension " + Twine(i) + " has");
  }
  x = n.slice(x, starts, sizes);
  if (!x)
    return;
  bool any = llvm::any_of(low, [](int64_t p) { return p; }) ||
             llvm::any_of(high, [](int64_t p) { return p; });
  if (mode == "constant")
    return n.set(0, any ? n.pad(x, low, high, value) : x);
  if (mode != "edge" && mode != "reflect" && mode != "wrap")
    return n.fail("attribute 'mode' is '" + mode + "', should be constant, edge, reflect or wrap");
  for (int64_t axis = 0; axis < rank && x; ++axis) {
    int64_t dim = shapeOf(x)[axis], most = mode == "edge"   ? INT64_MAX
                                           : mode == "wrap" ? dim
                                                            : dim - 1;
    if ((low[axis] || high[axis]) && (dim == 0 || low[axis] > most || high[axis] > most))
      return n.fail("pads dimension " + Twine(axis) + " of " + Twine(dim) + " by more than mode '" +
                    mode + "' can");
    std::vector<Value> parts;
    if (low[axis])
      parts.push_back(border(n, x, axis, low[axis], mode, true));
    parts.push_back(x);
    if (high[axis])
      parts.push_back(border(n, x, axis, high[axis], mode, false));
    x = n.concat(parts, axis);
  }
  n.set(0, x);
}

static void tile(Node &n) {
  Value x = n.in(0);
  std::optional<Ints> repeats = n.constInts(1, "repeats");
  if (!x || !repeats)
    return;
  ArrayRef<int64_t> from = shapeOf(x);
  if (repeats->size() != from.size())
    return n.fail("has " + Twine(repeats->size()) + " repeats for rank " + Twine(from.size()));
  // A dimension of one repeats by broadcasting; a longer one behind a new dimension of one.
  Ints open, wide, to;
  for (auto [dim, repeat] : llvm::zip(from, *repeats)) {
    if (repeat < 0 || repeat > (int64_t(1) << 46) / std::max<int64_t>(dim, 1))
      return n.fail("repeats " + Twine(repeat) + " times");
    if (dim != 1 && repeat != 1) {
      open.push_back(1);
      wide.push_back(repeat);
    }
    open.push_back(dim);
    wide.push_back(dim == 1 ? repeat : dim);
    to.push_back(dim * repeat);
  }
  n.set(0, n.reshape(n.broadcast(n.reshape(x, open), wide), to));
}

static void trilu(Node &n) {
  Value x = n.in(0);
  int64_t k = 0;
  if (n.has(1)) {
    std::optional<int64_t> given = n.constInt(1, "k");
    if (!given)
      return;
    k = *given;
  }
  n.set(0, n.emit<TriangleOp>({x},
                              {n.boolAttr("upper", n.getFlag("upper", true)), n.intAttr("k", k)}));
}

/// Blocks of space and channels change places: both directions are a reshape, a permutation and a
/// reshape.
static void depthToSpace(Node &n) {
  Value x = n.in(0);
  int64_t b = n.needInt("blocksize");
  std::string mode = n.getString("mode", "DCR");
  if (!x || n.failed)
    return;
  ArrayRef<int64_t> s = shapeOf(x);
  if (s.size() != 4 || b <= 0 || b > 65536 || s[1] % (b * b))
    return n.fail("input " + shapeString(s) + " does not divide into blocks of " + Twine(b));
  int64_t c = s[1] / (b * b);
  Ints to{s[0], c, s[2] * b, s[3] * b};
  if (mode != "DCR" && mode != "CRD")
    return n.fail("attribute 'mode' is '" + mode + "', should be DCR or CRD");
  bool dcr = mode == "DCR";
  Value y = dcr ? n.transpose(n.reshape(x, {s[0], b, b, c, s[2], s[3]}), {0, 3, 4, 1, 5, 2})
                : n.transpose(n.reshape(x, {s[0], c, b, b, s[2], s[3]}), {0, 1, 4, 2, 5, 3});
  n.set(0, n.reshape(y, to));
}
static void spaceToDepth(Node &n) {
  Value x = n.in(0);
  int64_t b = n.needInt("blocksize");
  if (!x || n.failed)
    return;
  ArrayRef<int64_t> s = shapeOf(x);
  if (s.size() != 4 || b <= 0 || b > 65536 || s[2] % b || s[3] % b)
    return n.fail("input " + shapeString(s) + " does not divide into blocks of " + Twine(b));
  Ints to{s[0], s[1] * b * b, s[2] / b, s[3] / b};
  Value y = n.transpose(n.reshape(x, {s[0], s[1], s[2] / b, b, s[3] / b, b}), {0, 3, 5, 1, 2, 4});
  n.set(0, n.reshape(y, to));
}

static void where(Node &n) { n.set(0, n.select(n.in(0), n.in(1), n.in(2))); }

ArrayRef<OpEntry> layoutOps() {
  static const OpEntry table[] = {
      {"", "Transpose", 13, transpose},
      {"", "Concat", 13, concat},
      {"", "Split", 13, split},
      {"", "SplitToSequence", 11, splitToSequence},
      {"", "SequenceAt", 11, sequenceAt},
      {"", "SequenceConstruct", 11, sequenceConstruct},
      {"", "SequenceEmpty", 11, sequenceEmpty},
      {"", "SequenceLength", 11, sequenceLength},
      {"", "SequenceInsert", 11, sequenceInsert},
      {"", "SequenceErase", 11, sequenceErase},
      {"", "ConcatFromSequence", 11, concatFromSequence},
      {"", "Slice", 13, slice},
      {"", "Pad", 13, pad},
      {"", "Tile", 13, tile},
      {"", "Trilu", 14, trilu},
      {"", "DepthToSpace", 13, depthToSpace},
      {"", "SpaceToDepth", 13, spaceToDepth},
      {"", "Where", 13, where},
  };
  return table;
}

} // namespace amc::importer
