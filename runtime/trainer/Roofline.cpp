// See Roofline.h. The model is Williams, Waterman and Patterson's (2009): an instruction takes at least its FLOPs at the
// rate of products and its bytes at that of memory, and whichever is longer bounds it. FLOPs are the plan's, so what is
// computed again inside an instruction does not count as work done; bytes are operands and results once each, however
// often they are read, so what stays in a cache may move faster than memory does: more than 100 % is then no error.
#include "runtime/trainer/Roofline.h"

#include "runtime/plan/FusedKernels.h"
#include "runtime/plan/PlanRanks.h"
#include "runtime/plan/PlanVerifier.h"
#include "runtime/plan/Ranges.h"
#include "runtime/support/Counted.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>

namespace amc::rt {
namespace {

double percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

// Products of bf16 have a rate of their own.
bool isBf16(const plan::Instruction &instruction) {
  for (const plan::View &view : instruction.inputs())
    if (view.dtype() == plan::BF16)
      return true;
  return false;
}

} // namespace

std::vector<uint64_t> instructionBytes(const plan::Plan &plan) {
  const size_t count = static_cast<size_t>(plan.instructions_size());
  for (const plan::Attribute &note : plan.notes())
    if (note.name() == "instruction_bytes" && static_cast<size_t>(note.ints().value_size()) == count) {
      std::vector<uint64_t> bytes;
      for (int64_t value : note.ints().value())
        bytes.push_back(static_cast<uint64_t>(std::max<int64_t>(value, 0)));
      return bytes;
    }
  std::vector<uint64_t> bytes;
  for (const plan::Instruction &instruction : plan.instructions()) {
    uint64_t sum = 0;
    for (const auto *views : {&instruction.inputs(), &instruction.outputs()})
      for (const plan::View &view : *views)
        if (view.dtype() != plan::DTYPE_UNSPECIFIED)
          sum += viewBytes(view).value_or(0);
    bytes.push_back(sum);
  }
  return bytes;
}

std::vector<KernelTime> timesByKernel(const plan::Plan &plan, const std::vector<InstructionTime> &times,
                                      const std::optional<DeviceLimits> &limits) {
  std::vector<uint64_t> bytes = instructionBytes(plan);
  std::map<std::pair<std::string, bool>, KernelTime> byName;
  for (size_t i = 0; i < times.size(); ++i) {
    if (times[i].runs == 0)
      continue;
    const plan::Instruction &instruction = plan.instructions(static_cast<int>(i));
    const bool beside = isAsync(instruction);
    KernelTime &kernel = byName[{kernelTitle(plan, instruction), beside}];
    kernel.kernel = kernelTitle(plan, instruction);
    kernel.beside = beside;
    kernel.talks = kernel.talks || isCollective(instruction) || isWait(instruction);
    const double runs = static_cast<double>(times[i].runs);
    const double flops = runs * static_cast<double>(instruction.flops()), moved = runs * static_cast<double>(bytes[i]);
    ++kernel.instructions;
    kernel.runs += times[i].runs;
    kernel.seconds += times[i].seconds;
    kernel.flops += flops;
    kernel.bytes += moved;
    if (limits) {
      kernel.productSeconds += flops / (isBf16(instruction) ? limits->bf16 : limits->fp32);
      kernel.memorySeconds += moved / limits->stream;
    }
  }
  std::vector<KernelTime> kernels;
  for (auto &[name, kernel] : byName)
    kernels.push_back(std::move(kernel));
  std::stable_sort(kernels.begin(), kernels.end(),
                   [](const KernelTime &a, const KernelTime &b) { return a.seconds > b.seconds; });
  return kernels;
}

const char *boundOf(const KernelTime &kernel) {
  return kernel.talks ? "other ranks" : kernel.productSeconds > kernel.memorySeconds ? "products" : "memory";
}

std::vector<std::string> kernelTable(const std::vector<KernelTime> &kernels, bool withLimits) {
  double total = 0, beside = 0;
  for (const KernelTime &kernel : kernels)
    (kernel.beside ? beside : total) += kernel.seconds;
  std::vector<std::string> lines = {
      fmt::format("time in kernels: {:.3f} s", total) +
      (beside > 0 ? fmt::format(", and {:.3f} s of communication beside them", beside) : std::string())};
  lines.push_back(fmt::format("  {:<32} {:>8} {:>9} {:>7} {:>9}", "kernel", "calls", "seconds", "share", "GFLOP/s") +
                  (withLimits ? fmt::format(" {:>8} {:>8} {:>9}  {}", "of peak", "GB/s", "of stream", "bound by")
                              : fmt::format(" {:>8}", "GB/s")));
  for (const KernelTime &kernel : kernels) {
    auto rate = [&](double amount) { return kernel.seconds > 0 ? amount / kernel.seconds / 1e9 : 0; };
    std::string line =
        fmt::format("  {:<32} {:>8} {:>9.4f} {:>5.1f} % {:>9.1f}", kernel.kernel + (kernel.beside ? " (beside)" : ""),
                    kernel.runs, kernel.seconds, percent(kernel.seconds, total), rate(kernel.flops));
    if (withLimits)
      line += fmt::format(" {:>6.1f} % {:>8.1f} {:>7.1f} %  {}", percent(kernel.productSeconds, kernel.seconds),
                          rate(kernel.bytes), percent(kernel.memorySeconds, kernel.seconds), boundOf(kernel));
    else
      line += fmt::format(" {:>8.1f}", rate(kernel.bytes));
    lines.push_back(std::move(line));
  }
  return lines;
}

std::string describeLimits(const DeviceLimits &limits) {
  return fmt::format("products {:.1f} GFLOP/s in fp32, {:.1f} in bf16; memory {:.1f} GB/s (STREAM triad)",
                     limits.fp32 / 1e9, limits.bf16 / 1e9, limits.stream / 1e9);
}

} // namespace amc::rt
