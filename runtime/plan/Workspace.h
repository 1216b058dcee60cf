// Scratch bytes that kernels need, as functions of shapes. The compiler places them, the kernels' signatures demand
// them: both call these. No dependencies. Sizes are linear in the sequence length and independent of the number of
// threads. `bytes` is the size of one element as it is stored: where that is less than 4 (bf16), sums and blocks of
// operands are fp32. The grids that products are cut into stand here, too: they fix the bits of results.
#ifndef AMC_RUNTIME_PLAN_WORKSPACE_H
#define AMC_RUNTIME_PLAN_WORKSPACE_H

#include <cstdint>

namespace amc::rt::workspace {

// At most this many pieces of one kernel that has scratch for each run at the same time.
inline constexpr uint64_t attentionSlots = 16, productSlots = 32, scatterSlots = 16;
inline constexpr uint64_t attentionQueryBlock = 64;
// Keys of a block of attention, from how many there are: short sequences do not pay for large blocks.
inline constexpr uint64_t attentionMostKeys = 256;
constexpr uint64_t attentionKeyBlock(uint64_t keys) { return keys > attentionMostKeys ? attentionMostKeys : 128; }
// Rows whose contributions to a weight's gradient are added up together, before the blocks are.
inline constexpr uint64_t normRowBlock = 64;

// A product is cut into tiles of this many rows, counted from its first, and a number of columns that depends on how
// many there are: a slice of rows that starts at a multiple of this, and knows how many rows there are in all, gives the
// bits of the whole.
inline constexpr uint64_t productRowTile = 256;
// Where operands are as wide as sums and need no scratch: the library packs less for larger tiles. A product of fewer rows
// than productFineRows is cut finer (runtime/device/cpu/Gemm.h); a slice of more has the tiles of the whole.
inline constexpr uint64_t productWideRowTile = 512, productFineRows = 1024;
inline constexpr uint64_t productColumnTile = 512;
// Where they need no scratch, on some processors (runtime/device/cpu/Gemm.h).
inline constexpr uint64_t productWideColumnTile = 1024;
// The inner dimension where bf16 is widened panel by panel: products of panels are added in ascending order.
inline constexpr uint64_t productDepth = 256;
// linear_weight_grad: rows that are added up in one product; the products are added in ascending order, in fp32.
inline constexpr uint64_t weightGradRowBlock = 1024;
static_assert(weightGradRowBlock % productWideRowTile == 0 && productWideRowTile % productRowTile == 0 && weightGradRowBlock % productDepth == 0);

namespace detail {
constexpr uint64_t pad(uint64_t bytes) { return (bytes + 63) / 64 * 64; }
constexpr uint64_t blocks(uint64_t rows, uint64_t block) { return (rows + block - 1) / block; }
constexpr uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }
constexpr uint64_t most(uint64_t a, uint64_t b) { return a < b ? b : a; }
constexpr uint64_t wide(uint64_t bytes) { return bytes < 4 ? 4 : bytes; }
} // namespace detail

// Columns of a tile: equal parts of at most `most`, multiples of 16.
constexpr uint64_t productTileColumns(uint64_t columns, uint64_t most = productColumnTile) {
  uint64_t tiles = detail::blocks(columns, most);
  return tiles <= 1 ? columns : detail::blocks(detail::blocks(columns, tiles), 16) * 16;
}
// For each slot: a panel of either operand, and the tile's sum where the result does not hold it (`sums`).
constexpr uint64_t productSlot(uint64_t rows, uint64_t columns, uint64_t inner, uint64_t wide, bool sums = true) {
  uint64_t m = detail::least(rows, productRowTile), n = productTileColumns(columns),
           k = detail::least(inner, productDepth);
  return detail::pad(m * k * wide) + detail::pad(k * n * wide) + (sums ? detail::pad(m * n * wide) : 0);
}
// A product of all rows (of all matrices of a batch); only bf16 needs scratch.
constexpr uint64_t product(uint64_t rows, uint64_t columns, uint64_t inner, uint64_t bytes, bool sums = true) {
  if (bytes >= 4 || columns == 0)
    return 0;
  uint64_t tiles = detail::blocks(rows, productRowTile) * detail::blocks(columns, productTileColumns(columns));
  return detail::least(tiles, productSlots) * productSlot(rows, columns, inner, 4, sums);
}

// Partial sums of dweight, one row of `columns` for each block of rows. `bytes` is that of the sums here: 4, or 8 for
// f64.
constexpr uint64_t rmsNormBackward(uint64_t rows, uint64_t columns, bool hasWeight, uint64_t bytes) {
  return hasWeight ? detail::blocks(rows, normRowBlock) * detail::pad(columns * bytes) : 0;
}
// Partial sums of dweight and dbias.
constexpr uint64_t layerNormBackward(uint64_t rows, uint64_t columns, bool hasWeight, uint64_t bytes) {
  return 2 * rmsNormBackward(rows, columns, hasWeight, bytes);
}

// Rows in order of their group: offsets of the groups, order of the rows, and for every slot a product's, whose panels
// rows are gathered in.
constexpr uint64_t groupedMatmul(uint64_t rows, uint64_t inner, uint64_t columns, uint64_t groups, uint64_t bytes) {
  uint64_t tiles = (detail::blocks(rows, productRowTile) + groups) * detail::blocks(columns, productColumnTile);
  return detail::pad((groups + 1) * 8) + detail::pad(rows * 8) +
         detail::least(tiles, productSlots) * productSlot(rows, columns, inner, detail::wide(bytes));
}
// The same for the gradient of the groups' matrices, stored either way; a wide one holds the sums of narrow operands.
constexpr uint64_t groupedMatmulWeightGrad(uint64_t rows, uint64_t inner, uint64_t columns, uint64_t groups,
                                           uint64_t bytes, bool wide = false) {
  auto slots = [&](uint64_t down, uint64_t across) {
    uint64_t tiles = groups * detail::blocks(down, productRowTile) * detail::blocks(across, productColumnTile);
    return detail::least(tiles, productSlots) *
           productSlot(down, across, rows, detail::wide(bytes), !(wide && bytes < 4));
  };
  uint64_t one = slots(inner, columns), other = slots(columns, inner);
  return detail::pad((groups + 1) * 8) + detail::pad(rows * 8) + (one > other ? one : other);
}

// For every slot: one block of scores and the running maximum and sum of its rows; for bf16 also the blocks of q, k, v
// and y in fp32.
constexpr uint64_t attentionSlot(uint64_t width, uint64_t valueWidth, uint64_t bytes, uint64_t keys) {
  uint64_t wide = detail::wide(bytes), block = attentionKeyBlock(keys);
  uint64_t slot = detail::pad(attentionQueryBlock * block * wide) +
                  2 * detail::pad(attentionQueryBlock * wide);
  if (bytes < 4)
    slot += detail::pad(attentionQueryBlock * width * 4) + detail::pad(block * width * 4) +
            detail::pad(block * valueWidth * 4) + detail::pad(attentionQueryBlock * valueWidth * 4);
  return slot;
}
// A slot for each block of queries of each head, as far as there are slots. Without `keys`: enough for any number.
constexpr uint64_t attention(uint64_t batch, uint64_t heads, uint64_t queries, uint64_t width, uint64_t valueWidth,
                             uint64_t bytes, uint64_t keys = ~uint64_t(0)) {
  uint64_t pieces = batch * heads * detail::blocks(queries, attentionQueryBlock);
  return detail::least(attentionSlots, pieces ? pieces : 1) * attentionSlot(width, valueWidth, bytes, keys);
}
// For every slot two blocks (probabilities, gradient of the scores); for bf16 also the blocks of q, dy, k, v and dq in
// fp32, and the sums dk and dv of `sums` keys of one key head.
constexpr uint64_t attentionBackwardSlot(uint64_t keys, uint64_t sums, uint64_t width, uint64_t valueWidth,
                                         uint64_t bytes) {
  uint64_t block = attentionKeyBlock(keys), slot = 2 * detail::pad(attentionQueryBlock * block * detail::wide(bytes));
  if (bytes < 4)
    slot += 2 * detail::pad(attentionQueryBlock * width * 4) + detail::pad(attentionQueryBlock * valueWidth * 4) +
            detail::pad(block * width * 4) + detail::pad(block * valueWidth * 4) + detail::pad(sums * width * 4) +
            detail::pad(sums * valueWidth * 4);
  return slot;
}
// Row sums of dy * y, and the slots, of which there are no more than key heads.
constexpr uint64_t attentionBackward(uint64_t batch, uint64_t heads, uint64_t keyHeads, uint64_t queries, uint64_t keys,
                                     uint64_t width, uint64_t valueWidth, uint64_t bytes) {
  return detail::pad(batch * heads * queries * detail::wide(bytes)) +
         detail::least(attentionSlots, batch * keyHeads) * attentionBackwardSlot(keys, keys, width, valueWidth, bytes);
}

// Where bf16 and f16 are added up by destination: the sources of every destination in ascending order (32 bits each).
constexpr uint64_t sortedSources(uint64_t destinations, uint64_t sources) {
  return detail::pad((destinations + 1) * 4) + detail::pad(sources * 4);
}
// Where they are added up along a line of `length` elements: the line in fp32 for every slot.
constexpr uint64_t scatterLines(uint64_t lines, uint64_t length) {
  return detail::least(lines, scatterSlots) * detail::pad(length * 4);
}

// all_to_all of `bytes` in all: the parts for the members in a row, where they do not stand so in the operand (there is
// more than one index before `split_dim`), and the same of what comes, where the result is not made of them in a row
// (before `concat_dim`). `before…` are the products of those dimensions, of operand and of a part.
constexpr uint64_t allToAll(uint64_t bytes, uint64_t beforeSplit, uint64_t beforeConcat) {
  return (beforeSplit > 1 ? detail::pad(bytes) : 0) + (beforeConcat > 1 ? detail::pad(bytes) : 0);
}

// Rows that gated_mlp and its backward work on at a time. A multiple of every block of rows that a product or a sum over
// rows is cut into, so that the tiles' sums are the whole's.
inline constexpr uint64_t mlpRowTile = 1024;

namespace detail {
constexpr uint64_t mlpRows(uint64_t rows) { return rows < mlpRowTile ? rows : mlpRowTile; }
} // namespace detail

// A tile of gate and of up, whose place the activation takes, and the products' scratch. `bytes` is the size of one
// element of the data.
constexpr uint64_t gatedMlp(uint64_t rows, uint64_t input, uint64_t inner, uint64_t output, uint64_t bytes) {
  uint64_t tile = detail::mlpRows(rows);
  return 2 * detail::pad(tile * inner * bytes) +
         detail::most(product(tile, inner, input, bytes), product(tile, output, inner, bytes));
}
// Tiles of gate, up and the activation or its gradient, and of one summand of dx; with `weights` and elements narrower
// than fp32, the sums of the weights' gradients unless those are `wide`; the products' scratch, weights stored either
// way round.
constexpr uint64_t gatedMlpBackward(uint64_t rows, uint64_t input, uint64_t inner, uint64_t output, bool weights,
                                    uint64_t bytes, bool wide = false) {
  uint64_t tile = detail::mlpRows(rows);
  uint64_t scratch = detail::most(detail::most(product(tile, inner, input, bytes), product(tile, inner, output, bytes)),
                                  product(tile, input, inner, bytes));
  if (weights)
    scratch = detail::most(
        scratch, detail::most(detail::most(product(input, inner, tile, bytes), product(inner, input, tile, bytes)),
                              detail::most(product(inner, output, tile, bytes), product(output, inner, tile, bytes))));
  return 3 * detail::pad(tile * inner * bytes) + detail::pad(tile * input * bytes) +
         (weights && bytes < 4 && !wide ? 2 * detail::pad(input * inner * 4) + detail::pad(inner * output * 4) : 0) +
         scratch;
}

// ---- linear cross-entropy
//
// Logits exist a tile at a time. The tiles follow from the shapes alone; every sum runs over them in ascending order,
// so how many are in flight changes the bytes below and no bit of a result.
inline constexpr uint64_t lceVocabularyTile = 512;
inline constexpr uint64_t lceTokenTile = 256; // at most; few tokens are cut into up to 8 tiles, for the threads
inline constexpr uint64_t lceMostInFlight = 256;

struct LceShape {
  uint64_t tokens = 0, width = 0, classes = 0;
  uint64_t bytes = 4;    // of an element of the accumulation type
  bool converts = false; // operands are narrower than that: panels are widened
  bool biased = false;
  uint64_t inFlight = 1; // tiles of tokens
  uint64_t members = 1;  // ranks that have a piece of the vocabulary each; `classes` are those of one

  constexpr uint64_t tokenTile() const {
    uint64_t tile = (detail::blocks(tokens, 8) + 15) / 16 * 16;
    return tile < 16 ? 16 : tile > lceTokenTile ? lceTokenTile : tile;
  }
  constexpr uint64_t tokenTiles() const { return detail::blocks(tokens, tokenTile()); }
  constexpr uint64_t vocabularyTile() const { return classes < lceVocabularyTile ? classes : lceVocabularyTile; }
  constexpr uint64_t vocabularyTiles() const { return classes ? detail::blocks(classes, vocabularyTile()) : 0; }
  constexpr uint64_t slots() const { return inFlight < tokenTiles() ? inFlight : tokenTiles(); }
  // The tiles of tokens are worked on in so many groups, one after the other.
  constexpr uint64_t groups() const { return slots() ? detail::blocks(tokenTiles(), slots()) : 0; }

  // Parts of the scratch.
  constexpr uint64_t logitTile() const { return detail::pad(tokenTile() * vocabularyTile() * bytes); }
  constexpr uint64_t hiddenTile() const { return converts ? detail::pad(tokenTile() * width * bytes) : 0; }
  constexpr uint64_t weightTile() const { return converts ? detail::pad(vocabularyTile() * width * bytes) : 0; }
  constexpr uint64_t biasTile() const { return converts && biased ? detail::pad(vocabularyTile() * bytes) : 0; }
  // Of each row: maximum, sum, logit of the label, sum of the weighted logits; double.
  constexpr uint64_t rowState() const { return detail::pad(tokenTile() * 4 * 8); }
  // The same of all rows, and of all rows as every member knows them.
  constexpr uint64_t states() const { return detail::pad(tokens * 4 * 8); }
  constexpr uint64_t exchanged() const { return members > 1 ? states() + detail::pad(members * tokens * 4 * 8) : 0; }
};

// The loss of every row, what members exchange; for each tile in flight the logits, the rows' states and the widened
// panels.
constexpr uint64_t linearCrossEntropy(const LceShape &s) {
  return detail::pad(s.tokens * s.bytes) + s.exchanged() +
         s.slots() * (s.logitTile() + s.rowState() + s.hiddenTile() + s.weightTile() + s.biasTile());
}
// For each tile in flight the logits and the widened hidden states; one widened tile of the weight; sums that are
// wider than what they become: dhidden as a whole, a tile of dweight unless that is `wide`, a tile of dbias.
constexpr uint64_t linearCrossEntropyBackward(const LceShape &s, bool dhidden, bool dweight, bool dbias,
                                              bool wide = false) {
  return s.slots() * (s.logitTile() + s.hiddenTile()) + s.weightTile() + s.biasTile() +
         (s.converts && dhidden ? detail::pad(s.tokens * s.width * s.bytes) : 0) +
         (dweight && !wide ? s.weightTile() : 0) + (dbias ? detail::pad(s.vocabularyTile() * s.bytes) : 0);
}

} // namespace amc::rt::workspace

#endif
