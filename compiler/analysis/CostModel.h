// What an operation is modelled to cost on a device: a roofline. Plain C++.
//
// seconds = launch + max(FLOPs / peak rate, bytes moved / bandwidth); of an operation that works in parts (train::Work),
// their sum, where the larger of the two is longer if few pieces run at the same time. A collective takes what its ring
// sends, at the rate of the slowest link that its ranks span, on top; one that computes in steps takes the longer of the two
// where the device sends while it computes, and a collective's time to begin for each step. What runs again within the
// kernel that reads it takes no launch, and moves what that kernel would not (JoinedRecomputation.h). The rates are constants of the
// named target, not of the machine that compiles, so that the same input gives the same plan. They
// are round numbers for what library kernels reach, good for comparing plans with each other and for
// shares of a step; a step's wall time is not promised. Costs are whole picoseconds: sums of them
// are exact and do not depend on the order.
#ifndef AMC_COMPILER_ANALYSIS_COSTMODEL_H
#define AMC_COMPILER_ANALYSIS_COSTMODEL_H

#include "compiler/analysis/StepGraph.h"
#include <optional>
#include <string_view>

namespace amc {

struct DeviceModel {
  std::string name;
  double flopsPerSecond = 0;
  double bytesPerSecond = 0;
  double launchSeconds = 0;
  // What a rank can send to neighbours on its own host and beyond, each way, and what a collective takes to begin.
  double linkBytesPerSecond = 1;
  double networkBytesPerSecond = 1;
  double collectiveSeconds = 0;
  uint64_t ranksPerHost = 8;
  // Whether it computes while it sends beyond its host. Within one it does, or (on a CPU) reads peers' memory in place.
  bool sendsBesideNetwork = true;
};

/// What deviceModel knows, for diagnostics.
inline constexpr const char *modelledTargets = "cpu, cuda:sm_80, cuda:sm_90 or cuda:sm_100";

/// `target` is "cpu" or "cuda:sm_NN"; nothing if no such device is known. `precision` is "fp32" or
/// "bf16".
std::optional<DeviceModel> deviceModel(std::string_view target, std::string_view precision);

/// The part of it that is sent: what opCost has beyond the computation.
double sendingSeconds(const GraphOp &op, double computing, const DeviceModel &device);

/// Modelled picoseconds of one execution; 0 for what is no instruction.
uint64_t opCost(const GraphOp &op, const DeviceModel &device);

/// Modelled picoseconds of running it again: opCost, or, where it becomes part of the kernel that reads it, what that
/// takes longer. Not 0 for an instruction.
uint64_t recomputeCost(const GraphOp &op, const DeviceModel &device);

// Costs of one step, rounded to whole quanta of at least 1 / 65,536 of it: what is below that is no
// reason to choose one plan over another, and with so few distinct sums planning is exact.
struct CostModel {
  DeviceModel device;
  uint64_t quantum = 1;  // picoseconds
  uint64_t stepCost = 0; // picoseconds of all operations of the step, once each

  CostModel(const StepGraph &graph, DeviceModel device);
  /// Picoseconds of running it again, a multiple of the quantum.
  uint64_t of(const GraphOp &op) const {
    return (recomputeCost(op, device) + quantum / 2) / quantum * quantum;
  }
};

inline double seconds(uint64_t picoseconds) { return static_cast<double>(picoseconds) * 1e-12; }

} // namespace amc

#endif
