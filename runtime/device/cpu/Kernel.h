// What runs an instruction on the CPU.
#ifndef AMC_RUNTIME_DEVICE_CPU_KERNEL_H
#define AMC_RUNTIME_DEVICE_CPU_KERNEL_H

#include "runtime/device/Kernel.h"

namespace amc::rt {
class ThreadPool;
}

namespace amc::rt::cpu {

struct RunContext {
  ThreadPool &pool;
  RunFailure &failure;
};

class Kernel : public rt::Kernel {
public:
  virtual void run(const Operands &operands, RunContext &context) const = 0;
};

// Rows and columns of a matrix.
struct Tile {
  int64_t row, rows, column, columns;
};

// One that writes its first result, a matrix, tile by tile, each once: what comes next may be done to a tile while a cache
// has it. Tiles stand in rows of `tileRows` and begin at columns that are multiples of 16.
class TiledKernel : public Kernel {
public:
  TiledKernel(int64_t rows, int64_t columns, int64_t tileRows, int64_t tilesAcross)
      : rows(rows), columns(columns), tileRows(tileRows), tilesAcross(tilesAcross) {}
  const int64_t rows, columns, tileRows, tilesAcross;

  // Called for every tile by the thread that has written it; nullptr: nobody is.
  using Then = void (*)(void *context, const Tile &tile);
  virtual void run(const Operands &operands, RunContext &context, Then then, void *thenContext) const = 0;
  void run(const Operands &operands, RunContext &context) const final { run(operands, context, nullptr, nullptr); }
};

} // namespace amc::rt::cpu

#endif
