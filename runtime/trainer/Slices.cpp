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
Piece partOf(const Piece &piece, uint64_t members, uint64_t index) {
  uint64_t size = pieceOf(piece.local, members);
  // Both may lie behind what there is; the product does not overflow: it is below local + members.
  uint64_t skipped = std::min(index * size, piece.count);
  return {piece.begin + skipped, std::min(piece.count - skipped, size), size};
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
  std::array<bool, 4> spread = {};
  for (const plan::Split &split : splits) {
    std::array<bool, 4> axes = *groupAxes(split.group()); // wholeShape checked it
    Piece &piece = slice.parts[split.dim()];
    piece = partOf(piece, groupSize(mesh, axes), indexInGroup(mesh, axes, rank));
    for (size_t axis = 0; axis < axes.size(); ++axis)
      spread[axis] |= axes[axis];
  }
  slice.strides = rowMajor(Shape(local.begin(), local.end()));
  std::array<bool, 4> others = {};
  for (size_t axis = 0; axis < others.size(); ++axis)
    others[axis] = !spread[axis];
  slice.lowest = indexInGroup(mesh, others, rank) == 0;
  return slice;
}

Shape Slice::counts() const {
  Shape shape;
  for (const Piece &piece : parts)
    shape.push_back(piece.count);
  return shape;
}

uint64_t Slice::elements() const {
  uint64_t product = 1;
  for (const Piece &piece : parts)
    product *= piece.count;
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
  Shape outer = rowMajor(size);
  // The innermost dimensions that lie in a row on both sides are one run.
  size_t dims = parts.size();
  ElementRun run{0, 0, 1, 1};
  if (dims > 0) {
    --dims;
    run.elements = parts[dims].count;
    run.step = strides[dims];
    while (dims > 0 && parts[dims].count == size[dims] &&
           (run.elements == 1 || parts[dims - 1].count == 1 ||
            strides[dims - 1] == run.elements * run.step)) {
      --dims;
      if (run.elements == 1)
        run.step = strides[dims];
      run.elements *= parts[dims].count;
    }
    if (run.elements == 1)
      run.step = 1;
  }
  // Where the first one begins.
  for (size_t dim = 0; dim < parts.size(); ++dim)
    run.whole += parts[dim].begin * outer[dim];
  Shape at(dims, 0);
  while (true) {
    if (Status failure = visit(run); !failure.ok())
      return failure;
    size_t dim = dims;
    while (dim > 0) {
      --dim;
      run.whole += outer[dim];
      run.local += strides[dim];
      if (++at[dim] < parts[dim].count)
        break;
      run.whole -= outer[dim] * parts[dim].count;
      run.local -= strides[dim] * parts[dim].count;
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
      elements *= piece.local;
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
    for (const plan::Split &split : splits) {
      if (split.dim() != dim)
        continue;
      // The group's members that agree with rank 0 otherwise: what each adds to the rank.
      std::vector<uint64_t> members = groupMembers(mesh, *groupAxes(split.group()), 0);
      std::vector<Held> finer;
      for (const Held &held : pieces)
        for (uint64_t index = 0; index < members.size(); ++index)
          if (Piece part = partOf(held.piece, members.size(), index); part.count > 0)
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
    auto after = std::upper_bound(parts[dim].begin(), parts[dim].end(), index[dim],
                                  [](uint64_t at, const Part &part) { return at < part.begin; });
    found[dim] = &*std::prev(after);
    place.rank += found[dim]->rank;
    place.counts.push_back(found[dim]->count);
    place.at = place.at * found[dim]->count + (index[dim] - found[dim]->begin);
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
