// Operations driven by indices.
#include "compiler/import/Node.h"

using namespace mlir;
using namespace amc::train;

namespace amc::importer {

/// Indices as the dialect takes them: 32 or 64 bits, signed.
static Value indices(Node &n, Value x) {
  if (!x)
    return x;
  Type element = elementOf(x);
  return element.isSignlessInteger(32) || element.isSignlessInteger(64) ? x : n.cast(x, n.i64());
}

static void gather(Node &n) {
  Value x = n.in(0), at = indices(n, n.in(1));
  if (!x)
    return;
  int64_t axis = n.axis(n.getInt("axis", 0), shapeOf(x).size());
  n.set(0, n.gather(x, at, axis));
}
static void gatherElements(Node &n) {
  Value x = n.in(0), at = indices(n, n.in(1));
  if (!x)
    return;
  int64_t axis = n.axis(n.getInt("axis", 0), shapeOf(x).size());
  n.set(0, n.emit<GatherElementsOp>({x, at}, {n.intAttr("axis", axis)}));
}
static void gatherNd(Node &n) {
  Value x = n.in(0), at = indices(n, n.in(1));
  n.set(0, n.emit<GatherNdOp>({x, at}, {n.intAttr("batch_dims", n.getInt("batch_dims", 0))}));
}
static void scatterElements(Node &n) {
  Value x = n.in(0), at = indices(n, n.in(1)), updates = n.in(2);
  std::string reduction = n.getString("reduction", "none");
  if (!x)
    return;
  int64_t axis = n.axis(n.getInt("axis", 0), shapeOf(x).size());
  n.set(0, n.emit<ScatterElementsOp>(
               {x, at, updates}, {n.intAttr("axis", axis), n.stringAttr("reduction", reduction)}));
}
static void scatterNd(Node &n) {
  Value x = n.in(0), at = indices(n, n.in(1)), updates = n.in(2);
  std::string reduction = n.getString("reduction", "none");
  n.set(0, n.emit<ScatterNdOp>({x, at, updates}, {n.stringAttr("reduction", reduction)}));
}

static void oneHot(Node &n) {
  Value at = n.in(0);
  std::optional<int64_t> depth = n.constInt(1, "depth");
  Value values = n.in(2);
  if (!at || !depth || !values)
    return;
  int64_t axis = n.axis(n.getInt("axis", -1), shapeOf(at).size() + 1);
  if (shapeOf(values) != ArrayRef<int64_t>{2})
    return n.fail("input 2 should be two values, off and on");
  Value hot =
      n.emit<OneHotOp>({indices(n, at)}, {n.intAttr("depth", *depth), n.intAttr("axis", axis),
                                          n.typeAttr("element", n.i1())});
  Value off = n.reshape(n.sliceAxis(values, 0, 0, 1), {}),
        on = n.reshape(n.sliceAxis(values, 0, 1, 1), {});
  n.set(0, n.select(hot, on, off));
}

static void topK(Node &n) {
  Value x = n.in(0);
  std::optional<int64_t> k = n.constInt(1, "K");
  n.ignore("sorted"); // results are sorted in any case
  bool largest = n.getFlag("largest", true);
  if (!x || !k)
    return;
  int64_t axis = n.axis(n.getInt("axis", -1), shapeOf(x).size());
  Operation *made = n.build<TopKOp>(
      {x}, {n.intAttr("k", *k), n.intAttr("axis", axis), n.boolAttr("largest", largest)});
  for (int i : {0, 1})
    n.set(i, made ? made->getResult(i) : Value());
}

template <bool Min> static void argMax(Node &n) {
  Value x = n.in(0);
  bool last = n.getFlag("select_last_index"), keep = n.getFlag("keepdims", true);
  if (!x)
    return;
  int64_t axis = n.axis(n.getInt("axis", 0), shapeOf(x).size());
  SmallVector<NamedAttribute> attrs{n.intAttr("axis", axis), n.boolAttr("keepdims", keep)};
  if (Min)
    attrs.push_back(n.unitAttr("min"));
  if (last)
    attrs.push_back(n.unitAttr("last"));
  n.set(0, n.emit<ArgMaxOp>({x}, attrs));
}

static void hardmax(Node &n) {
  Value x = n.in(0);
  if (!x)
    return;
  int64_t axis = n.axis(n.getInt("axis", -1), shapeOf(x).size());
  Value at = n.emit<ArgMaxOp>({x}, {n.intAttr("axis", axis), n.boolAttr("keepdims", false)});
  n.set(0, n.emit<OneHotOp>({at}, {n.intAttr("depth", n.failed ? 1 : shapeOf(x)[axis]),
                                   n.intAttr("axis", axis), n.typeAttr("element", elementOf(x))}));
}

static void cumSum(Node &n) {
  Value x = n.in(0);
  std::optional<int64_t> given = n.constInt(1, "axis");
  bool exclusive = n.getFlag("exclusive"), reverse = n.getFlag("reverse");
  if (!x || !given)
    return;
  SmallVector<NamedAttribute> attrs{n.intAttr("axis", n.axis(*given, shapeOf(x).size()))};
  if (exclusive)
    attrs.push_back(n.unitAttr("exclusive"));
  if (reverse)
    attrs.push_back(n.unitAttr("reverse"));
  n.set(0, n.emit<CumsumOp>({x}, attrs));
}

ArrayRef<OpEntry> indexOps() {
  static const OpEntry table[] = {
      {"", "Gather", 13, gather},       {"", "GatherElements", 13, gatherElements},
      {"", "GatherND", 13, gatherNd},   {"", "ScatterElements", 13, scatterElements},
      {"", "ScatterND", 13, scatterNd}, {"", "OneHot", 11, oneHot},
      {"", "TopK", 11, topK},           {"", "ArgMax", 13, argMax<false>},
      {"", "ArgMin", 13, argMax<true>}, {"", "Hardmax", 13, hardmax},
      {"", "CumSum", 11, cumSum},
  };
  return table;
}

} // namespace amc::importer
