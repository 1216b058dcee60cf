// Which elements of a whole tensor a rank holds, and where they lie in its arena: what loading,
// saving and resharding are made of. Plain arithmetic on shapes.
//
// Along each dimension a rank holds a range [begin, begin + count) of the whole, at the front of
// `local` elements; what follows it there is padding, which is zero. Several splits of a dimension
// nest, so that their ranges are one range. A rank whose range is empty holds nothing but padding.
// A dimension that is split in blocks is two, blocks x elements of a block: all of the first, and a
// range of the second.
#ifndef AMC_RUNTIME_TRAINER_SLICES_H
#define AMC_RUNTIME_TRAINER_SLICES_H

#include "runtime/plan/Splits.h"
#include "runtime/trainer/Elements.h"

#include <functional>

namespace amc::rt {

// Elements that follow each other in the whole tensor; in the rank's memory they are `step` apart.
struct ElementRun {
  uint64_t whole = 0, local = 0; // of the first one
  uint64_t elements = 0, step = 1;
  bool operator==(const ElementRun &) const = default;
};

// One rank's part of one dimension: of each of its `blocks`, which are 1 but for a split in blocks.
struct Piece {
  uint64_t begin = 0, count = 0, local = 0;
  uint64_t blocks = 1;
  uint64_t held() const { return blocks * count; }
  bool operator==(const Piece &) const = default;
};

class Slice {
public:
  // All of a tensor.
  explicit Slice(const Shape &whole);

  // What `rank` holds, whose tensor has the shape `local`.
  static Expected<Slice> of(std::span<const uint64_t> local, const Splits &splits,
                            const MeshShape &mesh, uint64_t rank);

  const Shape &whole() const { return size; }
  const std::vector<Piece> &pieces() const { return parts; } // by dimension
  // Elements held, without the padding.
  uint64_t elements() const;
  Shape counts() const; // by dimension
  bool padded() const;
  // True on the lowest of the ranks that hold the same elements: the one that writes them.
  bool lowestHolder() const { return lowest; }

  // The same elements in a tensor that is stored as transpose(whole, permutation), see Transpose.h;
  // `permutation` is valid for the shape. The local side stays as it is.
  Slice stored(const std::vector<uint32_t> &permutation) const;
  // The same elements as a tensor of their own: the whole side begins at 0 and has no others.
  Slice dense() const;

  // Calls `visit` with every run, ascending in the whole tensor. Runs are as long as both sides
  // allow.
  Status forEachRun(const std::function<Status(const ElementRun &)> &visit) const;

  bool operator==(const Slice &) const = default;

private:
  Slice() = default;
  Shape size;
  std::vector<Piece> parts;
  Shape strides; // of the local side, in elements
  bool lowest = true;
};

// Called now and then during long transfers: a sign of life for the ranks that wait.
using Progress = std::function<void()>;

// Reads `count` elements from element `first` on of the tensor on the slice's whole side.
using ReadElements = std::function<Status(uint64_t first, uint64_t count, std::byte *target)>;
// Fills a rank's memory, zeros in the padding. Elements have `width` bytes. What is not contiguous
// goes through a buffer of a mebibyte.
Status readSlice(const Slice &slice, uint64_t width, std::byte *local, const ReadElements &read,
                 const Progress &progress);

// Writes elements from `first` on.
using WriteElements = std::function<Status(uint64_t first, std::span<const std::byte> bytes)>;
// Hands a rank's memory out, without the padding, the same way.
Status writeSlice(const Slice &slice, uint64_t width, const std::byte *local,
                  const WriteElements &write, const Progress &progress);

// The pieces that a tensor's splits cut it into, as files hold them: for every place in the whole
// tensor, which rank wrote it. The lowest rank of those that hold a piece stands for it; empty
// pieces are left out.
class PieceGrid {
public:
  PieceGrid() = default; // of no tensor
  static Expected<PieceGrid> of(const Shape &whole, const Splits &splits, const MeshShape &mesh);

  // The piece with element `first` of the whole tensor, and the elements from there on that follow
  // each other in both, at most `most` (at least 1). `first` is an element of the tensor.
  struct Place {
    uint64_t rank = 0;
    Shape counts;    // of the piece
    uint64_t at = 0; // the element's index in the piece
    uint64_t elements = 0;
  };
  Place find(uint64_t first, uint64_t most) const;

private:
  struct Part {
    uint64_t begin, count, rank; // rank: this dimension's share of it
  };
  Shape whole, blocks;                  // blocks: of each dimension
  std::vector<std::vector<Part>> parts; // of a block, by dimension, ascending
};

} // namespace amc::rt

#endif
