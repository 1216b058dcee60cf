// The devices' constants; see CostModel.h.
#include "compiler/analysis/CostModel.h"
#include "llvm/Support/MathExtras.h"
#include <algorithm>
#include <cmath>

namespace amc {

std::optional<DeviceModel> deviceModel(std::string_view target, std::string_view precision) {
  // A socket of AVX2 cores; bf16 is stored, arithmetic is fp32.
  if (target == "cpu")
    return DeviceModel{"cpu", 2.0e11, 2.0e10, 5e-6, 5.0e9, 1.0e9, 2e-5, 8, /*MPI waits*/ false};
  // A100.
  if (target == "cuda:sm_80")
    return DeviceModel{"cuda:sm_80", precision == "bf16" ? 2.2e14 : 1.6e13, 1.6e12, 3e-6,
                       /*NVLink 3*/ 2.4e11, /*200 Gb/s InfiniBand*/ 2.2e10, 2e-5};
  // H100: dense tensor cores in bf16, plain fp32 otherwise, each at what large products reach.
  if (target == "cuda:sm_90")
    return DeviceModel{"cuda:sm_90", precision == "bf16" ? 5.0e14 : 4.5e13, 2.6e12, 3e-6,
                       /*NVLink 4*/ 3.6e11, /*400 Gb/s InfiniBand*/ 4.5e10, 2e-5};
  // B200.
  if (target == "cuda:sm_100")
    return DeviceModel{"cuda:sm_100", precision == "bf16" ? 1.4e15 : 6.0e13, 6.5e12, 3e-6,
                       /*NVLink 5*/ 7.2e11, /*400 Gb/s InfiniBand*/ 4.5e10, 2e-5};
  return std::nullopt;
}

double sendingSeconds(const GraphOp &op, double computing, const DeviceModel &device) {
  if (op.span == 0)
    return 0;
  const bool network = op.span > device.ranksPerHost;
  double sending = static_cast<double>(op.bytesSent) / (network ? device.networkBytesPerSecond : device.linkBytesPerSecond);
  if (op.steps == 0)
    return device.collectiveSeconds + sending;
  if (!network || device.sendsBesideNetwork)
    sending = std::max(0.0, sending - computing);
  return static_cast<double>(op.steps) * device.collectiveSeconds + sending;
}

static uint64_t picoseconds(double seconds) {
  constexpr double most = 4e18; // seven weeks
  return static_cast<uint64_t>(std::llround(std::min(seconds * 1e12, most)));
}

uint64_t opCost(const GraphOp &op, const DeviceModel &device) {
  if (op.kind != OpKind::Compute)
    return 0;
  auto of = [&](const GraphWork &part) {
    double compute = static_cast<double>(part.flops) / device.flopsPerSecond;
    double memory = static_cast<double>(part.bytes) / device.bytesPerSecond;
    double slower = static_cast<double>(part.percent) / 100;
    return static_cast<double>(part.times) * (device.launchSeconds + slower * std::max(compute, memory));
  };
  double seconds = op.parts.empty() ? of({op.flops, op.bytesMoved}) : 0;
  for (const GraphWork &part : op.parts)
    seconds += of(part);
  seconds += sendingSeconds(op, seconds, device);
  return picoseconds(seconds);
}

uint64_t recomputeCost(const GraphOp &op, const DeviceModel &device) {
  if (!op.joinsReaders || op.kind != OpKind::Compute)
    return opCost(op, device);
  double compute = static_cast<double>(op.flops) / device.flopsPerSecond;
  double memory = static_cast<double>(op.joinedBytes) / device.bytesPerSecond;
  return std::max<uint64_t>(1, std::min(picoseconds(std::max(compute, memory)), opCost(op, device)));
}

CostModel::CostModel(const StepGraph &graph, DeviceModel device) : device(std::move(device)) {
  for (const GraphOp &op : graph.ops)
    stepCost = llvm::SaturatingAdd(stepCost, opCost(op, this->device));
  quantum = std::max<uint64_t>(1, llvm::divideCeil(stepCost, uint64_t(65536)));
}

} // namespace amc
