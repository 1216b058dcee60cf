#include "runtime/device/cpu/Epilogue.h"
#include "runtime/device/cpu/Code.h"
#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/FusedKernels.h"
#include <atomic>
#include <vector>

namespace amc::rt::cpu {
namespace {

class WithEpilogue final : public Kernel {
public:
  // `byRows`: `then` works on rows, whole ones, else on any multiple of fusedElementStep elements.
  WithEpilogue(const TiledKernel &product, const FusedKernel &then, const Operands &thenOperands, bool byRows)
      : product(product), then(then.launches[0].function), byRows(byRows),
        left(byRows ? static_cast<size_t>(ceilDiv(product.rows, product.tileRows)) : 0) {
    then.gather(thenOperands, operands);
  }

  void run(const Operands &productOperands, RunContext &context) const override {
    for (std::atomic<int64_t> &tiles : left)
      tiles.store(product.tilesAcross, std::memory_order_relaxed);
    product.run(productOperands, context, [](void *self, const Tile &tile) {
      static_cast<const WithEpilogue *>(self)->doTile(tile);
    }, const_cast<WithEpilogue *>(this));
  }

private:
  void doTile(const Tile &tile) const {
    const int64_t end = tile.row + tile.rows, columns = product.columns;
    if (byRows) {
      // Whoever completes the row of tiles sees what the threads of the others have written.
      if (left[static_cast<size_t>(tile.row / product.tileRows)].fetch_sub(1, std::memory_order_acq_rel) == 1)
        then(operands, tile.row, end);
    } else if (tile.columns == columns) {
      then(operands, tile.row * columns, end * columns);
    } else {
      for (int64_t row = tile.row; row < end; ++row)
        then(operands, row * columns + tile.column, row * columns + tile.column + tile.columns);
    }
  }

  const TiledKernel &product;
  const FusedKernel::Function then;
  const bool byRows;
  mutable std::byte *operands[maxFusedOperands] = {}; // not changed, but functions take them so
  mutable std::vector<std::atomic<int64_t>> left;     // tiles of each row of them that are not done
};

} // namespace

std::unique_ptr<rt::Kernel> withEpilogue(const Work &product, const Work &then, int64_t resultElements, unsigned threads) {
  const auto *tiled = dynamic_cast<const TiledKernel *>(product.kernel);
  const auto *fused = dynamic_cast<const FusedKernel *>(then.kernel);
  if (!tiled || !fused || fused->launches.size() != 1 || resultElements == 0 || tiled->rows * tiled->columns != resultElements)
    return nullptr;
  if (fused->rows * fused->columns != resultElements) // it is spread over a larger domain
    return nullptr;
  const bool byRows = fused->rows != 1;
  if (byRows) {
    // One thread has all rows of a row of tiles: there should be some of these for everybody, and a cache should hold one.
    constexpr int64_t mostElements = 1 << 20;
    const int64_t rowsOfTiles = ceilDiv(tiled->rows, tiled->tileRows);
    if (fused->rows != tiled->rows || rowsOfTiles < 2 * static_cast<int64_t>(threads) ||
        tiled->tileRows * tiled->columns > mostElements)
      return nullptr;
  } else if (fused->launches[0].extent != resultElements || tiled->columns % fusedElementStep != 0) {
    return nullptr;
  }
  return std::make_unique<WithEpilogue>(*tiled, *fused, then.operands, byRows);
}

} // namespace amc::rt::cpu
