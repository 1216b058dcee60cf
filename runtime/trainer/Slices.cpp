// See Slices.h.
#include "runtime/trainer/Slices.h"

#include <algorithm>
#include <cstring>

namespace amc::rt {
namespace {

constexpr uint64_t bufferBytes = 1 << 20;
// Long runs are moved in parts of this size, a sign of life between them.
constexpr uint64_t transferBytes = 16 << 20;

Shape rowMajor(const Shape &shape) {
  Shape strides(shape.size(), 1);
  for (size_t dim = shape.size(); dim > 1; --dim)
    strides[dim - 2] = strides[dim - 1] * shape[dim - 1];
  return strides;
}

// The part of `piece` that member `index` of a split over `members` ranks holds.
Piece partOf(Piece piece, const plan::Split &split, uint64_t members, uint64_t index) {
  if (uint64_t blocks = blocksOf(split); blocks > 1) // of the whole dimension: the only split of it
    piece = {0, split.size() / blocks, split.size() / blocks, blocks};
  uint64_t size = pieceOf(piece.local, members);
  // Both may lie behind what there is; the product does not overflow: it is below local + members.
  uint64_t skipped = std::min(index * size, piece.count);
  return {piece.begin + skipped, std::min(piece.count - skipped, size), size, piece.blocks};
}

} // namespace

Slice::Slice(const Shape &whole) : size(whole), strides(rowMajor(whole)) {
  for (uint64_t dimension : whole)
    parts.push_back({0, dimension, dimension});
}

Expected<Slice> Slice::of(std::span<const uint64_t> local, const Splits &splits,
                          const MeshShape &mesh, uint64_t rank) {
  Expected<Shape> whole = wholeShape(local, splits, mesh);
  if (!whole.ok())
    return whole.status();
  if (rank >= mesh.ranks())
    return inputError("rank ", rank, " is none of the mesh's ", mesh.ranks());
  Slice slice(*whole);
  Axes spread = {};
  for (const plan::Split &split : splits) {
    Axes axes = *groupAxes(split.group(), mesh); // wholeShape checked it
    Piece &piece = slice.parts[split.dim()];
    piece = partOf(piece, split, groupSize(mesh, axes), indexInGroup(mesh, axes, rank));
    spread = unite(spread, axes);
  }
  slice.strides = rowMajor(Shape(local.begin(), local.end()));
  Axes others = {};
  for (size_t axis = 0; axis < others.size(); ++axis)
    others[axis] = !spread[axis];
  slice.lowest = indexInGroup(mesh, others, rank) == 0;
  return slice;
}

Shape Slice::counts() const {
  Shape shape;
  for (const Piece &piece : parts)
    shape.push_back(piece.held());
  return shape;
}

uint64_t Slice::elements() const {
  uint64_t product = 1;
  for (const Piece &piece : parts)
    product *= piece.held();
  return product;
}

bool Slice::padded() const {
  return std::any_of(parts.begin(), parts.end(),
                     [](const Piece &piece) { return piece.count != piece.local; });
}

Slice Slice::stored(const std::vector<uint32_t> &permutation) const {
  if (permutation.empty())
    return *this;
  Slice slice = *this;
  for (size_t dim = 0; dim < permutation.size(); ++dim) {
    slice.size[dim] = size[permutation[dim]];
    slice.parts[dim] = parts[permutation[dim]];
    slice.strides[dim] = strides[permutation[dim]];
  }
  return slice;
}

Slice Slice::dense() const {
  Slice slice = *this;
  slice.size = counts();
  for (Piece &piece : slice.parts)
    piece.begin = 0;
  return slice;
}

Status Slice::forEachRun(const std::function<Status(const ElementRun &)> &visit) const {
  if (elements() == 0)
    return {};
  ElementRun run{0, 0, 1, 1};
  // The dimensions, blocks as one of their own; and where the first run begins.
  struct Axis {
    uint64_t size, count;
    uint64_t outer, step; // from one element to the next, of the whole and here
  };
  std::vector<Axis> axes;
  Shape outer = rowMajor(size);
  for (size_t dim = 0; dim < parts.size(); ++dim) {
    const Piece &piece = parts[dim];
    uint64_t block = size[dim] / piece.blocks;
    if (piece.blocks > 1)
      axes.push_back({piece.blocks, piece.blocks, block * outer[dim], piece.local * strides[dim]});
    axes.push_back({block, piece.count, outer[dim], strides[dim]});
    run.whole += piece.begin * outer[dim];
  }
  // The innermost that lie in a row on both sides are one run.
  size_t dims = axes.size();
  if (dims > 0) {
    --dims;
    run.elements = axes[dims].count;
    run.step = axes[dims].step;
    while (dims > 0 && axes[dims].count == axes[dims].size &&
           (run.elements == 1 || axes[dims - 1].count == 1 ||
            axes[dims - 1].step == run.elements * run.step)) {
      --dims;
      if (run.elements == 1)
        run.step = axes[dims].step;
      run.elements *= axes[dims].count;
    }
    if (run.elements == 1)
      run.step = 1;
  }
  Shape at(dims, 0);
  while (true) {
    if (Status failure = visit(run); !failure.ok())
      return failure;
    size_t dim = dims;
    while (dim > 0) {
      --dim;
      const Axis &axis = axes[dim];
      run.whole += axis.outer;
      run.local += axis.step;
      if (++at[dim] < axis.count)
        break;
      run.whole -= axis.outer * axis.count;
      run.local -= axis.step * axis.count;
      at[dim] = 0;
      if (dim == 0)
        return {};
    }
    if (dims == 0)
      return {};
  }
}

Status readSlice(const Slice &slice, uint64_t width, std::byte *local, const ReadElements &read,
                 const Progress &progress) {
  if (slice.padded()) {
    uint64_t elements = 1;
    for (const Piece &piece : slice.pieces())
      elements *= piece.blocks * piece.local;
    std::memset(local, 0, elements * width);
  }
  // Runs that do not lie in a row here but do in the file are read together, then spread.
  std::vector<std::byte> buffer;
  std::vector<ElementRun> gathered; // what lies in the buffer
  uint64_t held = 0;                // elements of it
  auto spread = [&]() -> Status {
    if (held == 0)
      return {};
    if (Status failure = read(gathered.front().whole, held, buffer.data()); !failure.ok())
      return failure;
    const std::byte *from = buffer.data();
    for (const ElementRun &run : gathered)
      for (uint64_t i = 0; i < run.elements; ++i, from += width)
        std::memcpy(local + (run.local + i * run.step) * width, from, width);
    gathered.clear();
    held = 0;
    progress();
    return {};
  };
  const uint64_t most = bufferBytes / width, direct = transferBytes / width;
  Status failure = slice.forEachRun([&](const ElementRun &run) -> Status {
    if (run.step == 1) {
      for (uint64_t done = 0; done < run.elements; done += direct) {
        if (Status failed = read(run.whole + done, std::min(direct, run.elements - done),
                                 local + (run.local + done) * width);
            !failed.ok())
          return failed;
        progress();
      }
      return {};
    }
    buffer.resize(most * width);
    for (uint64_t done = 0; done < run.elements;) {
      bool follows =
          held == 0 || gathered.back().whole + gathered.back().elements == run.whole + done;
      if (!follows || held == most)
        if (Status failed = spread(); !failed.ok())
          return failed;
      uint64_t count = std::min(most - held, run.elements - done);
      gathered.push_back({run.whole + done, run.local + done * run.step, count, run.step});
      held += count;
      done += count;
    }
    return {};
  });
  return failure.ok() ? spread() : failure;
}

Status writeSlice(const Slice &slice, uint64_t width, const std::byte *local,
                  const WriteElements &write, const Progress &progress) {
  std::vector<std::byte> buffer;
  uint64_t first = 0, held = 0; // elements gathered, where they belong
  auto flush = [&]() -> Status {
    if (held == 0)
      return {};
    Status failure = write(first, std::span(buffer.data(), held * width));
    held = 0;
    progress();
    return failure;
  };
  const uint64_t most = bufferBytes / width, direct = transferBytes / width;
  Status failure = slice.forEachRun([&](const ElementRun &run) -> Status {
    if (run.step == 1 && run.elements >= most) {
      if (Status failed = flush(); !failed.ok())
        return failed;
      for (uint64_t done = 0; done < run.elements; done += direct) {
        uint64_t count = std::min(direct, run.elements - done);
        if (Status failed = write(run.whole + done,
                                  std::span(local + (run.local + done) * width, count * width));
            !failed.ok())
          return failed;
        progress();
      }
      return {};
    }
    buffer.resize(most * width);
    for (uint64_t done = 0; done < run.elements;) {
      if (held == most || (held != 0 && first + held != run.whole + done))
        if (Status failed = flush(); !failed.ok())
          return failed;
      if (held == 0)
        first = run.whole + done;
      uint64_t count = std::min(most - held, run.elements - done);
      std::byte *to = buffer.data() + held * width;
      const std::byte *from = local + (run.local + done * run.step) * width;
      if (run.step == 1)
        std::memcpy(to, from, count * width);
      else
        for (uint64_t i = 0; i < count; ++i)
          std::memcpy(to + i * width, from + i * run.step * width, width);
      held += count;
      done += count;
    }
    return {};
  });
  return failure.ok() ? flush() : failure;
}

Expected<PieceGrid> PieceGrid::of(const Shape &whole, const Splits &splits, const MeshShape &mesh) {
  if (Expected<Shape> local = localShape(whole, splits, mesh); !local.ok())
    return local.status();
  PieceGrid grid;
  grid.whole = whole;
  for (size_t dim = 0; dim < whole.size(); ++dim) {
    struct Held {
      Piece piece;
      uint64_t rank;
    };
    std::vector<Held> pieces = {{{0, whole[dim], whole[dim]}, 0}};
    uint64_t &blocks = grid.blocks.emplace_back(1);
    for (const plan::Split &split : splits) {
      if (split.dim() != dim)
        continue;
      blocks = blocksOf(split);
      // The group's members that agree with rank 0 otherwise: what each adds to the rank.
      std::vector<uint64_t> members = groupMembers(mesh, *groupAxes(split.group(), mesh), 0);
      std::vector<Held> finer;
      for (const Held &held : pieces)
        for (uint64_t index = 0; index < members.size(); ++index)
          if (Piece part = partOf(held.piece, split, members.size(), index); part.count > 0)
            finer.push_back({part, held.rank + members[index]});
      pieces = std::move(finer);
    }
    std::vector<Part> &parts = grid.parts.emplace_back();
    for (const Held &held : pieces)
      parts.push_back({held.piece.begin, held.piece.count, held.rank});
  }
  return grid;
}

PieceGrid::Place PieceGrid::find(uint64_t first, uint64_t most) const {
  Place place;
  std::vector<const Part *> found(whole.size());
  Shape index(whole.size());
  uint64_t rest = first;
  for (size_t dim = whole.size(); dim > 0; --dim) {
    index[dim - 1] = rest % whole[dim - 1];
    rest /= whole[dim - 1];
  }
  for (size_t dim = 0; dim < whole.size(); ++dim) {
    uint64_t block = index[dim] / (whole[dim] / blocks[dim]);
    index[dim] %= whole[dim] / blocks[dim];
    auto after = std::upper_bound(parts[dim].begin(), parts[dim].end(), index[dim],
                                  [](uint64_t at, const Part &part) { return at < part.begin; });
    const Part &part = *std::prev(after);
    found[dim] = &part;
    place.rank += part.rank;
    place.counts.push_back(blocks[dim] * part.count);
    place.at = (place.at * blocks[dim] + block) * part.count + (index[dim] - part.begin);
  }
  // From the innermost dimension on, as far as the piece has all of it.
  uint64_t inner = 1, within = 0; // elements of the dimensions inside, and which of them `first` is
  place.elements = 1;
  for (size_t dim = whole.size(); dim > 0; --dim) {
    within += (index[dim - 1] - found[dim - 1]->begin) * inner;
    inner *= found[dim - 1]->count;
    place.elements = inner - within;
    if (found[dim - 1]->count != whole[dim - 1])
      break;
  }
  place.elements = std::min(place.elements, most);
  return place;
}

} // namespace amc::rt
