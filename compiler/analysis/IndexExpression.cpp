// Linear forms of index variables and how shape operations move them; see IndexExpression.h.
#include "compiler/analysis/IndexExpression.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace amc::train;

namespace amc {

// Far below overflow of sums of products, far above any shape.
static constexpr int64_t largest = int64_t(1) << 40;

static bool small(__int128 number) { return number <= largest && number >= -largest; }

bool LinearIndex::uses(unsigned variable) const {
  return llvm::any_of(terms, [&](auto &term) { return term.first == variable; });
}

std::optional<LinearIndex> addScaled(const LinearIndex &a, const LinearIndex &b, int64_t factor) {
  LinearIndex sum;
  __int128 constant = static_cast<__int128>(b.constant) * factor + a.constant;
  if (!small(constant))
    return std::nullopt;
  sum.constant = static_cast<int64_t>(constant);
  auto i = a.terms.begin(), j = b.terms.begin();
  while (i != a.terms.end() || j != b.terms.end()) {
    bool takeA = j == b.terms.end() || (i != a.terms.end() && i->first <= j->first);
    bool takeB = i == a.terms.end() || (j != b.terms.end() && j->first <= i->first);
    unsigned variable = takeA ? i->first : j->first;
    __int128 coefficient =
        (takeA ? i->second : 0) + (takeB ? static_cast<__int128>(j->second) * factor : 0);
    if (!small(coefficient))
      return std::nullopt;
    if (coefficient != 0)
      sum.terms.push_back({variable, static_cast<int64_t>(coefficient)});
    i += takeA;
    j += takeB;
  }
  return sum;
}

LinearIndex IndexSpace::add(int64_t size) {
  sizes.push_back(size);
  LinearIndex form;
  if (size > 1)
    form.terms.push_back({static_cast<unsigned>(sizes.size() - 1), 1});
  return form;
}

int64_t IndexSpace::extreme(const LinearIndex &form, bool upper) const {
  __int128 sum = form.constant;
  for (auto [variable, coefficient] : form.terms)
    if ((coefficient > 0) == upper)
      sum += static_cast<__int128>(coefficient) * (sizes[variable] - 1);
  constexpr __int128 bound = std::numeric_limits<int64_t>::max();
  return static_cast<int64_t>(sum > bound ? bound : sum < -bound ? -bound : sum);
}

bool IndexSpace::isWithin(const LinearIndex &form, int64_t bound) const {
  return minimum(form) >= 0 && maximum(form) < bound;
}

std::optional<Indices> unflatten(const IndexSpace &space, LinearIndex flat,
                                 ArrayRef<int64_t> shape) {
  Indices result;
  SmallVector<int64_t> strides = rowMajorStrides(shape);
  for (auto [i, stride] : llvm::enumerate(strides)) {
    if (stride <= 0) // an empty tensor has no elements to find
      return std::nullopt;
    LinearIndex high, low;
    for (auto [variable, coefficient] : flat.terms)
      if (coefficient % stride == 0)
        high.terms.push_back({variable, coefficient / stride});
      else
        low.terms.push_back({variable, coefficient});
    // flat = stride * high + low with 0 <= low < stride: then high is the quotient, low the
    // remainder.
    high.constant = llvm::divideFloorSigned(flat.constant + space.minimum(low), stride);
    low.constant = flat.constant - high.constant * stride;
    if (!space.isWithin(low, stride) || !space.isWithin(high, shape[i]))
      return std::nullopt;
    result.push_back(std::move(high));
    flat = std::move(low);
  }
  return result;
}

static std::optional<LinearIndex> flatten(ArrayRef<LinearIndex> at, ArrayRef<int64_t> shape) {
  LinearIndex flat;
  for (auto [index, stride] : llvm::zip_equal(at, rowMajorStrides(shape))) {
    std::optional<LinearIndex> sum = addScaled(flat, index, stride);
    if (!sum)
      return std::nullopt;
    flat = std::move(*sum);
  }
  return flat;
}

std::optional<Indices> throughView(const IndexSpace &space, Operation *op,
                                   ArrayRef<LinearIndex> at) {
  auto shape = [](Value value) { return cast<RankedTensorType>(value.getType()).getShape(); };
  if (auto reshape = dyn_cast<ReshapeOp>(op)) {
    std::optional<LinearIndex> flat = flatten(at, shape(reshape.getY()));
    return flat ? unflatten(space, std::move(*flat), shape(reshape.getX())) : std::nullopt;
  }
  if (isa<CastOp>(op))
    return Indices(at);
  if (auto transpose = dyn_cast<TransposeOp>(op)) {
    Indices result(at.size());
    for (auto [i, from] : llvm::enumerate(transpose.getPermutation()))
      result[from] = at[i];
    return result;
  }
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    Indices result(at.take_back(shape(broadcast.getX()).size()));
    for (auto [index, size] : llvm::zip_equal(result, shape(broadcast.getX())))
      if (size == 1)
        index = LinearIndex();
    return result;
  }
  if (auto slice = dyn_cast<SliceOp>(op)) {
    Indices result;
    for (auto [index, start, step] : llvm::zip_equal(at, slice.getStarts(), slice.getSteps())) {
      std::optional<LinearIndex> moved = addScaled(LinearIndex(start), index, step);
      if (!moved)
        return std::nullopt;
      result.push_back(std::move(*moved));
    }
    return result;
  }
  return std::nullopt;
}

} // namespace amc
