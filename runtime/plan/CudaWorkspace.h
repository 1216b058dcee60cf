// Scratch bytes that kernels of a CUDA device need, as Workspace.h has the CPU's. No dependencies.
#ifndef AMC_RUNTIME_PLAN_CUDAWORKSPACE_H
#define AMC_RUNTIME_PLAN_CUDAWORKSPACE_H

#include "runtime/plan/Workspace.h"

namespace amc::rt::workspace::cuda {

// Buffers of a plan for a CUDA device begin at multiples of this: what cudaMalloc gives and cuBLASLt asks of its workspace.
inline constexpr uint64_t alignment = 256;

// What cuBLASLt may use for a product, for sums of parts of the inner dimension mostly: four times the result in fp32, and
// no more than NVIDIA recommends for Hopper.
inline constexpr uint64_t productMost = 32 << 20;
constexpr uint64_t product(uint64_t rows, uint64_t columns) {
  return detail::least(productMost, (16 * rows * columns + alignment - 1) / alignment * alignment);
}

// squared_norm: blocks of at least 8192 elements that squares are added up in, no more than 1024 of them; one writes the result
// itself, several their sums (f64) first.
constexpr uint64_t squaredNormBlocks(uint64_t elements) {
  return detail::most(1, detail::least(1024, detail::blocks(elements, 8192)));
}
constexpr uint64_t squaredNorm(uint64_t elements) {
  uint64_t blocks = squaredNormBlocks(elements);
  return blocks > 1 ? detail::pad(blocks * 8) : 0;
}
// clip_scale of more scalars than one launch takes: the sum so far.
constexpr uint64_t clipScale(uint64_t scalars) { return scalars > 480 ? detail::pad(8) : 0; }

// A reduction, where results are too few to fill a GPU: its terms are cut into so many pieces, of 1024 at least, whose
// results in the arithmetic type (f32 for f32, bf16 and f16, else 64 bits: `bytes`) are combined in ascending order.
constexpr uint64_t reductionPieces(uint64_t results, uint64_t terms) {
  if (results == 0)
    return 1;
  uint64_t wanted = detail::least(detail::blocks(16384, results), 512);
  return detail::most(1, detail::least(wanted, detail::blocks(terms, 1024)));
}
constexpr uint64_t reduction(uint64_t results, uint64_t terms, uint64_t bytes) {
  uint64_t pieces = reductionPieces(results, terms);
  return pieces > 1 ? detail::pad(pieces * results * bytes) : 0;
}

// cross_entropy: the loss of every row, in the type of the loss.
constexpr uint64_t crossEntropy(uint64_t rows, uint64_t bytes) { return detail::pad(rows * bytes); }

// What parts of a workspace begin at multiples of.
constexpr uint64_t part(uint64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

// Row sums of dy * y; and whether a row is an average, a byte for each. `bytes` is the size of one element of the data.
constexpr uint64_t attentionRowSums(uint64_t rows, uint64_t bytes) { return part(rows * detail::wide(bytes)); }
constexpr uint64_t attentionBackward(uint64_t batch, uint64_t heads, uint64_t queries, uint64_t bytes) {
  return attentionRowSums(batch * heads * queries, bytes) + part(batch * heads * queries);
}

// Rows sorted by group: how many of each block of rows each group has (and none), where groups and their tiles of rows begin,
// the rows in order; 32 bits each.
inline constexpr uint64_t groupedRowBlock = 1024;
constexpr uint64_t groupedCounts(uint64_t rows, uint64_t groups) {
  return part(detail::blocks(rows, groupedRowBlock) * (groups + 1) * 4);
}
constexpr uint64_t groupedStarts(uint64_t groups) { return part((groups + 2) * 4); }
constexpr uint64_t groupedMatmul(uint64_t rows, uint64_t groups) {
  return groupedCounts(rows, groups) + 2 * groupedStarts(groups) + part(rows * 4);
}

// ---- linear cross-entropy
//
// Logits exist a tile at a time, of tokens and classes. The tiles follow from the shapes alone and are worked on one after the
// other: how many tokens a plan for the CPU has in flight means nothing here. Large enough to fill a GPU's multiprocessors
// several times, small beside a model's activations: at most 32 MiB of fp32.
inline constexpr uint64_t lceTokenTile = 2048, lceVocabularyTile = 4096;

struct LceShape {
  uint64_t tokens = 0, width = 0, classes = 0;
  uint64_t bytes = 4;    // of an element of the accumulation type
  bool converts = false; // operands are narrower than that
  uint64_t members = 1;  // ranks that have a piece of the vocabulary each; `classes` are those of one

  constexpr uint64_t tokenTile() const { return detail::least(tokens, lceTokenTile); }
  constexpr uint64_t vocabularyTile() const { return detail::least(classes, lceVocabularyTile); }

  // Parts of the scratch.
  constexpr uint64_t logitTile() const { return part(tokenTile() * vocabularyTile() * bytes); }
  constexpr uint64_t total() const { return part(8); } // of the class weights
  constexpr uint64_t rowLosses() const { return part(tokens * bytes); }
  // Of each row: maximum, sum, logit of the label, sum of the weighted logits; double. And of all rows as every member knows them.
  constexpr uint64_t sums() const { return part(tokens * 4 * 8); }
  constexpr uint64_t exchanged() const { return members > 1 ? part(members * tokens * 4 * 8) : 0; }
  // Sums that are wider than what they become: dhidden as a whole, a tile of dweight.
  constexpr uint64_t hiddenSums() const { return converts ? part(tokens * width * bytes) : 0; }
  constexpr uint64_t weightSums() const { return converts ? part(vocabularyTile() * width * bytes) : 0; }
  constexpr uint64_t biasSums() const { return part(vocabularyTile() * bytes); }
  constexpr uint64_t logitProduct() const { return product(tokenTile(), vocabularyTile()); }
  constexpr uint64_t backwardProducts() const {
    return detail::most(logitProduct(), detail::most(product(tokenTile(), width), product(vocabularyTile(), width)));
  }
};

constexpr uint64_t linearCrossEntropy(const LceShape &s) {
  return s.logitTile() + s.total() + s.rowLosses() + s.sums() + s.exchanged() + s.logitProduct();
}
constexpr uint64_t linearCrossEntropyBackward(const LceShape &s, bool dhidden, bool dweight, bool dbias, bool wide = false) {
  return s.logitTile() + s.total() + (dhidden ? s.hiddenSums() : 0) + (dweight && !wide ? s.weightSums() : 0) +
         (dbias ? s.biasSums() : 0) + s.backwardProducts();
}

} // namespace amc::rt::workspace::cuda

#endif
