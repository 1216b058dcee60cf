// What selective activation checkpointing does with every operation of a forward pass.
#ifndef AMC_COMPILER_DRIVER_ACTABLE_H
#define AMC_COMPILER_DRIVER_ACTABLE_H

#include <string>
#include <vector>

namespace amc {

struct AcTableRow {
  std::string operation;
  std::string form; // which uses of it; empty: all
  std::string saveClass;
};

// Sorted by operation; the first form that fits holds.
std::vector<AcTableRow> acTable();

} // namespace amc

#endif
