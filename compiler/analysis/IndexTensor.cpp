// What constant tensors say of their elements: all equal, linear in the indices, or one of two
// values by a band of the last two indices; see IndexExpression.h.
#include "compiler/analysis/IndexExpression.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>

using namespace mlir;

namespace amc {

using Expression = IndexExpression;

Expression IndexEvaluator::visitTensor(const HostTensor &tensor, ArrayRef<LinearIndex> at) {
  SmallVector<int64_t> strides = rowMajorStrides(tensor.shape());
  int64_t base = 0;
  SmallVector<unsigned> open; // dimensions whose index varies
  for (auto [i, index] : llvm::enumerate(at)) {
    if (!variables.isWithin(index, tensor.shape()[i]))
      return {};
    if (index.isConstant())
      base += index.constant * strides[i];
    else
      open.push_back(i);
  }
  if (tensor.size() == 0)
    return {};
  double first = tensor.number(base);
  // Visits all elements under the open dimensions; false from `check` stops.
  auto all = [&](llvm::function_ref<bool(double, ArrayRef<int64_t>)> check) {
    SmallVector<int64_t> where(open.size(), 0);
    for (;;) {
      int64_t position = base;
      for (auto [i, dim] : llvm::enumerate(open))
        position += where[i] * strides[dim];
      if (!check(tensor.number(position), where))
        return false;
      int64_t i = open.size() - 1;
      while (i >= 0 && ++where[i] == tensor.shape()[open[i]])
        where[i--] = 0;
      if (i < 0)
        return true;
    }
  };
  if (all([&](double number, ArrayRef<int64_t>) { return number == first; }))
    return Expression::constant(first);

  if (!tensor.type.getElementType().isInteger(1) && first == std::floor(first) &&
      std::abs(first) < 1e9) {
    std::optional<LinearIndex> form = LinearIndex(static_cast<int64_t>(first));
    SmallVector<int64_t> slopes;
    for (unsigned dim : open) {
      double slope = tensor.number(base + strides[dim]) - first;
      if (!form || slope != std::floor(slope) || std::abs(slope) > 1e9)
        form.reset();
      slopes.push_back(form ? static_cast<int64_t>(slope) : 0);
      if (form)
        form = addScaled(*form, at[dim], slopes.back());
    }
    if (form && all([&](double number, ArrayRef<int64_t> where) {
          double expected = first;
          for (auto [i, slope] : llvm::zip_equal(where, slopes))
            expected += static_cast<double>(i) * slope;
          return number == expected;
        }))
      return linear(tensor.type.getElementType(), form);
  }

  // Two values, by the distance of the last two open indices (or by the only one).
  double low = first, high = first;
  if (!all([&](double number, ArrayRef<int64_t>) {
        if (std::isnan(number))
          return false;
        if (number == low || number == high)
          return true;
        if (low != high)
          return false;
        (number < low ? low : high) = number;
        return true;
      }))
    return {};
  bool isSingle = open.size() == 1;
  int64_t columns = tensor.shape()[open.back()],
          rows = isSingle ? 1 : tensor.shape()[open[open.size() - 2]];
  SmallVector<int8_t> atDistance(rows + columns - 1, -1); // of column - row, from -(rows - 1)
  if (!all([&](double number, ArrayRef<int64_t> where) {
        int8_t isHigh = number == high;
        int8_t &have =
            atDistance[where.back() + rows - 1 - (isSingle ? 0 : where[where.size() - 2])];
        if (have < 0)
          have = isHigh;
        return have == isHigh;
      }))
    return {};
  // The distances of one of the values are an interval.
  std::optional<LinearIndex> distance =
      isSingle ? at[open.back()] : addScaled(at[open.back()], at[open[open.size() - 2]], -1);
  for (int8_t wanted : {1, 0}) {
    auto begin = llvm::find(atDistance, wanted),
         end = std::find(begin, atDistance.end(), 1 - wanted);
    if (!distance || begin == atDistance.end() ||
        std::find(end, atDistance.end(), wanted) != atDistance.end())
      continue;
    int64_t from = begin - atDistance.begin() - (rows - 1), to = end - atDistance.begin() - rows;
    double inside = wanted ? high : low, outside = wanted ? low : high;
    return combine({band(*distance, from, to)},
                   [&](ArrayRef<double> in) { return in[0] != 0 ? inside : outside; });
  }
  return {};
}

} // namespace amc
