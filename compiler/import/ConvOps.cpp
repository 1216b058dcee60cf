// Convolutions and pools in terms of slices and matrix products: one strided slice of the padded
// input for each place in the kernel. Patches that do not overlap, as vision transformers cut them,
// are a reshape and a linear layer. Limits: the slices take the kernel's size times the input in
// memory; kernels of more than 4096 places are refused.
#include "compiler/import/Node.h"
#include <cmath>

using namespace mlir;
using namespace amc::train;

namespace amc::importer {

namespace {

/// How a window moves over the spatial dimensions.
struct Window {
  Ints kernel, strides, dilations, low, high, out;
  Ints beyond; ///< what rounding up reads past the padding
  int64_t places() const { return elementCount(kernel); }
};

} // namespace

static std::optional<Ints> perDimension(Node &n, StringRef name, size_t count, int64_t otherwise,
                                        int64_t least) {
  Ints values = n.getInts(name).value_or(Ints(count, otherwise));
  constexpr int64_t most = int64_t(1) << 31;
  if (values.size() != count ||
      llvm::any_of(values, [&](int64_t v) { return v < least || v > most; })) {
    n.fail("attribute '" + name + "' should be " + Twine(count) + " numbers from " + Twine(least));
    return std::nullopt;
  }
  return values;
}

static std::optional<Window> window(Node &n, Value x, std::optional<Ints> kernel) {
  std::string autoPad = n.getString("auto_pad", "NOTSET");
  bool ceiling = n.getFlag("ceil_mode");
  if (!x || shapeOf(x).size() < 3) {
    n.fail("input should have rank 3 or more: batch, channels and space");
    return std::nullopt;
  }
  ArrayRef<int64_t> space = shapeOf(x).drop_front(2);
  size_t rank = space.size();
  if (n.hasAttr("kernel_shape"))
    kernel = perDimension(n, "kernel_shape", rank, 1, 1);
  auto strides = perDimension(n, "strides", rank, 1, 1),
       dilations = perDimension(n, "dilations", rank, 1, 1),
       pads = perDimension(n, "pads", 2 * rank, 0, 0);
  if (!kernel || !strides || !dilations || !pads) {
    if (!n.failed)
      n.fail("attribute 'kernel_shape' is required");
    return std::nullopt;
  }
  if (kernel->size() != rank ||
      llvm::any_of(*kernel, [](int64_t k) { return k < 1 || k > 4096; })) {
    n.fail("kernel " + shapeString(*kernel) + " does not fit " + Twine(rank) +
           " dimensions of space");
    return std::nullopt;
  }
  Window w{*kernel, *strides, *dilations, {}, {}, {}, {}};
  for (size_t i = 0; i < rank; ++i) {
    int64_t reach = (w.kernel[i] - 1) * w.dilations[i] + 1, low = (*pads)[i],
            high = (*pads)[rank + i];
    if (autoPad == "SAME_UPPER" || autoPad == "SAME_LOWER") {
      int64_t out = (space[i] + w.strides[i] - 1) / w.strides[i];
      int64_t total = std::max<int64_t>(0, (out - 1) * w.strides[i] + reach - space[i]);
      low = autoPad == "SAME_UPPER" ? total / 2 : total - total / 2;
      high = total - low;
    } else if (autoPad == "VALID") {
      low = high = 0;
    } else if (autoPad != "NOTSET") {
      n.fail("attribute 'auto_pad' is '" + autoPad + "'");
      return std::nullopt;
    }
    int64_t room = space[i] + low + high - reach;
    if (room < 0) {
      n.fail("kernel " + shapeString(w.kernel) + " is larger than the padded input " +
             shapeString(space));
      return std::nullopt;
    }
    int64_t out = (ceiling ? room + w.strides[i] - 1 : room) / w.strides[i] + 1;
    // A window that begins in the padding at the end does not count.
    if (ceiling && (out - 1) * w.strides[i] >= space[i] + low)
      --out;
    w.low.push_back(low);
    w.high.push_back(high);
    w.out.push_back(out);
    w.beyond.push_back(std::max<int64_t>(0, (out - 1) * w.strides[i] - room));
  }
  if (w.places() > 4096) {
    n.unsupported("a kernel of more than 4096 places");
    return std::nullopt;
  }
  return w;
}

/// x with the window's padding, of `value`.
static Value padded(Node &n, Value x, const Window &w, double value) {
  Ints low{0, 0}, high{0, 0};
  low.append(w.low);
  for (auto [pad, beyond] : llvm::zip(w.high, w.beyond))
    high.push_back(pad + beyond);
  bool any = llvm::any_of(low, [](int64_t p) { return p; }) ||
             llvm::any_of(high, [](int64_t p) { return p; });
  return any ? n.pad(x, low, high, value) : x;
}

/// What every window sees at place `place` of its kernel: [N, C, out…].
static Value seen(Node &n, Value x, const Window &w, int64_t place) {
  if (!x)
    return x;
  Ints starts{0, 0}, sizes{shapeOf(x)[0], shapeOf(x)[1]}, steps{1, 1};
  SmallVector<int64_t> strides = rowMajorStrides(w.kernel);
  for (size_t i = 0; i < w.kernel.size(); ++i) {
    starts.push_back(place / strides[i] % w.kernel[i] * w.dilations[i]);
    sizes.push_back(w.out[i]);
    steps.push_back(w.strides[i]);
  }
  return n.slice(x, starts, sizes, steps);
}

/// Windows side by side, each element read once: a linear layer over patches.
static Value patches(Node &n, Value x, Value weight, const Window &w) {
  Ints shape(shapeOf(x)), open{shape[0], shape[1]}, order{0}, behind{1}, back{0};
  size_t rank = w.kernel.size();
  for (size_t i = 0; i < rank; ++i) {
    open.append({w.out[i], w.kernel[i]});
    order.push_back(2 + 2 * i);
    behind.push_back(3 + 2 * i);
  }
  order.append(behind);
  int64_t outputs = shapeOf(weight)[0], width = shape[1] * w.places();
  Ints rows{shape[0]};
  rows.append(w.out);
  rows.push_back(width);
  Value flat = n.reshape(n.transpose(n.reshape(x, open), order), rows);
  Value y = n.linear(flat, n.reshape(weight, {outputs, width}), {}, /*transposed=*/true);
  back.push_back(rank + 1);
  for (size_t i = 0; i < rank; ++i)
    back.push_back(i + 1);
  return n.transpose(y, back);
}

static void conv(Node &n) {
  Value x = n.in(0), weight = n.in(1), bias = n.opt(2);
  int64_t groups = n.getInt("group", 1);
  if (!x || !weight || shapeOf(weight).size() != shapeOf(x).size())
    return n.fail("input and weight should have one rank");
  Ints kernel(shapeOf(weight).drop_front(2));
  std::optional<Window> w = window(n, x, kernel);
  if (!w)
    return;
  int64_t batch = shapeOf(x)[0], channels = shapeOf(x)[1], outputs = shapeOf(weight)[0];
  if (w->kernel != kernel || groups < 1 || groups > channels || channels % groups ||
      outputs % groups || shapeOf(weight)[1] != channels / groups)
    return n.fail("weight " + shapeString(shapeOf(weight)) + " does not fit " + Twine(channels) +
                  " channels in " + Twine(groups) + " groups");
  bool apart = groups == 1 && w->kernel == w->strides && isa<FloatType>(elementOf(x));
  for (size_t i = 0; i < kernel.size(); ++i)
    apart &= w->dilations[i] == 1 && !w->low[i] && !w->high[i] &&
             shapeOf(x)[2 + i] == w->out[i] * kernel[i];
  Value y;
  if (apart) {
    y = patches(n, x, weight, *w);
  } else {
    Value field = padded(n, x, *w, 0);
    int64_t positions = elementCount(w->out), width = channels / groups * w->places();
    std::vector<Value> columns;
    for (int64_t place = 0; place < w->places(); ++place)
      columns.push_back(n.reshape(seen(n, field, *w, place), {batch, channels, 1, positions}));
    Value all = n.reshape(n.concat(columns, 2), {batch, groups, width, positions});
    y = n.matmul(n.reshape(weight, {groups, outputs / groups, width}), all);
    Ints shape{batch, outputs};
    shape.append(w->out);
    y = n.reshape(y, shape);
  }
  if (bias) {
    Ints column(shapeOf(x).size(), 1);
    column[1] = outputs;
    y = n.add(y, n.reshape(bias, column));
  }
  n.set(0, y);
}

template <typename Op> static Value over(Node &n, Value field, const Window &w) {
  Value result = seen(n, field, w, 0);
  for (int64_t place = 1; place < w.places(); ++place)
    result = n.emit<Op>({result, seen(n, field, w, place)});
  return result;
}

static void maxPool(Node &n) {
  n.ignore("storage_order"); // of the indices, which are not made
  Value x = n.in(0);
  std::optional<Window> w = window(n, x, std::nullopt);
  if (!w)
    return;
  if (!isa<FloatType>(elementOf(x)))
    return n.unsupported("integers");
  n.set(0, over<MaxOp>(n, padded(n, x, *w, -INFINITY), *w));
}

static void averagePool(Node &n) {
  bool countPads = n.getFlag("count_include_pad");
  Value x = n.in(0);
  std::optional<Window> w = window(n, x, std::nullopt);
  if (!w)
    return;
  if (elementCount(w->out) > (int64_t(1) << 22))
    return n.unsupported("more than 4194304 windows");
  // How many elements each window averages follows from the shapes, dimension by dimension.
  Ints shape{1, 1};
  shape.append(w->out);
  HostTensor counts(RankedTensorType::get(shape, elementOf(x)));
  SmallVector<int64_t> strides = rowMajorStrides(w->out);
  for (int64_t at = 0; at < counts.size(); ++at) {
    int64_t count = 1;
    for (size_t i = 0; i < w->out.size(); ++i) {
      int64_t inside = 0, dim = shapeOf(x)[2 + i];
      for (int64_t k = 0; k < w->kernel[i]; ++k) {
        int64_t position =
            at / strides[i] % w->out[i] * w->strides[i] + k * w->dilations[i] - w->low[i];
        inside += countPads ? position < dim + w->high[i] : position >= 0 && position < dim;
      }
      count *= inside;
    }
    counts.set(at, static_cast<double>(count));
  }
  Value sum = over<AddOp>(n, padded(n, x, *w, 0), *w);
  if (n.failed)
    return;
  n.set(0, n.div(sum,
                 ConstantOp::create(n.importer.builder, n.location, counts.type, counts.toAttr())));
}

template <typename Op> static void globalPool(Node &n) {
  Value x = n.in(0);
  if (!x || shapeOf(x).size() < 2)
    return n.fail("input should have rank 2 or more");
  n.set(0, n.reduce<Op>(x, llvm::to_vector(llvm::seq<int64_t>(2, shapeOf(x).size())), true));
}

ArrayRef<OpEntry> convOps() {
  static const OpEntry table[] = {
      {"", "Conv", 11, conv},
      {"", "MaxPool", 12, maxPool},
      {"", "AveragePool", 11, averagePool},
      {"", "GlobalAveragePool", 1, globalPool<ReduceMeanOp>},
      {"", "GlobalMaxPool", 1, globalPool<ReduceMaxOp>},
  };
  return table;
}

} // namespace amc::importer
