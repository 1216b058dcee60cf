// Where a step's time goes, by kernel, and how much of what the machine can do that is.
#ifndef AMC_RUNTIME_TRAINER_ROOFLINE_H
#define AMC_RUNTIME_TRAINER_ROOFLINE_H

#include "runtime/device/Device.h"
#include "runtime/executor/Executor.h"

#include <optional>
#include <string>
#include <vector>

namespace amc::rt {

// Bytes that each instruction moves: as the compiler counts them (its note `instruction_bytes`), else those of the
// operands.
std::vector<uint64_t> instructionBytes(const plan::Plan &plan);

// All instructions with one kernel.
struct KernelTime {
  std::string kernel;
  bool beside = false; // an async collective: beside the rest, whose time it does not add to
  bool talks = false;  // to other ranks
  uint64_t instructions = 0, runs = 0;
  double seconds = 0, flops = 0, bytes = 0; // of all runs
  // What the FLOPs and the bytes would take at the machine's limits; zero where those are not known.
  double productSeconds = 0, memorySeconds = 0;
};

// The slowest first; of equal time by name.
std::vector<KernelTime> timesByKernel(const plan::Plan &plan, const std::vector<InstructionTime> &times,
                                      const std::optional<DeviceLimits> &limits);

// As lines: a sum, headings, and one for each kernel.
std::vector<std::string> kernelTable(const std::vector<KernelTime> &kernels, bool withLimits);

// What bounds the kernel: "products", "memory" or "other ranks".
const char *boundOf(const KernelTime &kernel);

// The machine's limits in a line, without its beginning.
std::string describeLimits(const DeviceLimits &limits);

} // namespace amc::rt

#endif
