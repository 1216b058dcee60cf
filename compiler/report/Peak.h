// What a plan's peak is made of, and what its recomputation is modelled to cost.
#ifndef AMC_COMPILER_REPORT_PEAK_H
#define AMC_COMPILER_REPORT_PEAK_H

#include "compiler/analysis/BytesText.h"
#include "compiler/report/Values.h"
#include <optional>
#include <utility>

namespace amc::report {

/// Bytes at the peak in the promise's order. They add up to max_live_bytes; what the arena has
/// beyond that is fragmentation.
std::vector<std::pair<std::string, uint64_t>> categoriesAtPeak(const plan::Plan &plan);

/// Values alike that are alive together: equal in role, operation, type and bytes.
struct AliveGroup {
  const Value *first = nullptr;
  uint64_t count = 0, bytes = 0; // bytes of all
};
/// Largest first; ties in the order of their largest member.
std::vector<AliveGroup> group(const Values &values, const std::vector<const Value *> &alive);

/// Modelled seconds of a step on a device ("cpu", "cuda:sm_90"), once per micro-batch counted as
/// often as it runs. Nothing if the plan does not say what its instructions move. Collectives run in the order of their
/// starts, one at a time; an async one takes time of the step where its wait has to wait.
struct ModelledTime {
  double step = 0, recompute = 0; // `step` is without recomputation, but for what a gradient's kernel reads for it
  double communication = 0;       // of all collectives, on their links
  double exposed = 0;             // of that, what is not beside computation: in `step` or `recompute`
  double overhead() const { return step > 0 ? recompute / step : 0; }
};
std::optional<ModelledTime> modelledTime(const plan::Plan &plan, const std::string &device);

inline constexpr const char *modelledDevices[] = {"cpu", "cuda:sm_90"};

/// snprintf into a string.
template <class... Args> std::string format(const char *pattern, Args... args);

} // namespace amc::report

#include <cstdio>
template <class... Args> std::string amc::report::format(const char *pattern, Args... args) {
  int size = std::snprintf(nullptr, 0, pattern, args...);
  std::string text(static_cast<size_t>(size), '\0');
  std::snprintf(text.data(), text.size() + 1, pattern, args...);
  return text;
}

#endif
