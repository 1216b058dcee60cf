// Scratch bytes that kernels need, as functions of shapes. The compiler places them, the kernels' signatures demand
// them: both call these. No dependencies. Sizes are linear in the sequence length and independent of the number of
// threads. `bytes` is the size of one element of the accumulation type: 4, or 8 for f64.
#ifndef AMC_RUNTIME_PLAN_WORKSPACE_H
#define AMC_RUNTIME_PLAN_WORKSPACE_H

#include <cstdint>

namespace amc::rt::workspace {

// At most this many pieces of one attention run at the same time; each has its own slot of scratch.
inline constexpr uint64_t attentionSlots = 16;
inline constexpr uint64_t attentionQueryBlock = 64;
inline constexpr uint64_t attentionKeyBlock = 128;
// Rows whose contributions to a weight's gradient are added up together, before the blocks are.
inline constexpr uint64_t normRowBlock = 64;

namespace detail {
constexpr uint64_t pad(uint64_t bytes) { return (bytes + 63) / 64 * 64; }
constexpr uint64_t blocks(uint64_t rows, uint64_t block) { return (rows + block - 1) / block; }
} // namespace detail

// Partial sums of dweight, one row of `columns` for each block of rows.
constexpr uint64_t rmsNormBackward(uint64_t rows, uint64_t columns, bool hasWeight, uint64_t bytes) {
  return hasWeight ? detail::blocks(rows, normRowBlock) * detail::pad(columns * bytes) : 0;
}
// Partial sums of dweight and dbias.
constexpr uint64_t layerNormBackward(uint64_t rows, uint64_t columns, bool hasWeight, uint64_t bytes) {
  return 2 * rmsNormBackward(rows, columns, hasWeight, bytes);
}

// Rows in order of their group: offsets of the groups, order of the rows, and the rows of x and y gathered.
constexpr uint64_t groupedMatmul(uint64_t rows, uint64_t inner, uint64_t columns, uint64_t groups,
                                 uint64_t bytes) {
  return detail::pad((groups + 1) * 8) + detail::pad(rows * 8) + detail::pad(rows * inner * bytes) +
         detail::pad(rows * columns * bytes);
}
// The same with the rows of x and dy.
constexpr uint64_t groupedMatmulWeightGrad(uint64_t rows, uint64_t inner, uint64_t columns,
                                           uint64_t groups, uint64_t bytes) {
  return groupedMatmul(rows, inner, columns, groups, bytes);
}

// One block of scores and the running maximum and sum of its rows, for every slot.
constexpr uint64_t attention(uint64_t bytes) {
  return attentionSlots * (detail::pad(attentionQueryBlock * attentionKeyBlock * bytes) +
                           2 * detail::pad(attentionQueryBlock * bytes));
}
// Row sums of dy * y, and two blocks (probabilities, gradient of the scores) for every slot.
constexpr uint64_t attentionBackward(uint64_t batch, uint64_t heads, uint64_t queries, uint64_t bytes) {
  return detail::pad(batch * heads * queries * bytes) +
         attentionSlots * 2 * detail::pad(attentionQueryBlock * attentionKeyBlock * bytes);
}

// ---- linear cross-entropy
//
// Logits exist a tile at a time. The tiles follow from the shapes alone; every sum runs over them in ascending order,
// so how many are in flight changes the bytes below and no bit of a result.
inline constexpr uint64_t lceVocabularyTile = 512;
inline constexpr uint64_t lceTokenTile = 256; // at most; few tokens are cut into up to 16 tiles, for the threads
inline constexpr uint64_t lceMostInFlight = 256;

struct LceShape {
  uint64_t tokens = 0, width = 0, classes = 0;
  uint64_t bytes = 4;    // of an element of the accumulation type
  bool converts = false; // operands are narrower than that: panels are widened
  bool biased = false;
  uint64_t inFlight = 1; // tiles of tokens

  constexpr uint64_t tokenTile() const {
    uint64_t tile = (detail::blocks(tokens, 16) + 15) / 16 * 16;
    return tile < 16 ? 16 : tile > lceTokenTile ? lceTokenTile : tile;
  }
  constexpr uint64_t tokenTiles() const { return detail::blocks(tokens, tokenTile()); }
  constexpr uint64_t vocabularyTile() const { return classes < lceVocabularyTile ? classes : lceVocabularyTile; }
  constexpr uint64_t slots() const { return inFlight < tokenTiles() ? inFlight : tokenTiles(); }

  // Parts of the scratch.
  constexpr uint64_t logitTile() const { return detail::pad(tokenTile() * vocabularyTile() * bytes); }
  constexpr uint64_t hiddenTile() const { return converts ? detail::pad(tokenTile() * width * bytes) : 0; }
  constexpr uint64_t weightTile() const { return converts ? detail::pad(vocabularyTile() * width * bytes) : 0; }
  constexpr uint64_t biasTile() const { return converts && biased ? detail::pad(vocabularyTile() * bytes) : 0; }
  // Of each row: maximum, sum, logit of the label, sum of the weighted logits; double.
  constexpr uint64_t rowState() const { return detail::pad(tokenTile() * 4 * 8); }
};

// The loss of every row; for each tile in flight the logits, the rows' states and the widened panels.
constexpr uint64_t linearCrossEntropy(const LceShape &s) {
  return detail::pad(s.tokens * s.bytes) +
         s.slots() * (s.logitTile() + s.rowState() + s.hiddenTile() + s.weightTile() + s.biasTile());
}
// For each tile in flight the logits and the widened hidden states; one widened tile of the weight; sums that are
// wider than what they become: dhidden as a whole, a tile of dweight, a tile of dbias.
constexpr uint64_t linearCrossEntropyBackward(const LceShape &s, bool dhidden, bool dweight, bool dbias) {
  return s.slots() * (s.logitTile() + s.hiddenTile()) + s.weightTile() + s.biasTile() +
         (s.converts && dhidden ? detail::pad(s.tokens * s.width * s.bytes) : 0) + (dweight ? s.weightTile() : 0) +
         (dbias ? detail::pad(s.vocabularyTile() * s.bytes) : 0);
}

} // namespace amc::rt::workspace

#endif
