// See Schedule.h. All arithmetic is in double, in the order written, so that a resumed run computes
// the same bits.
#include "runtime/trainer/Schedule.h"

#include <cmath>
#include <numbers>

namespace amc::rt {

std::string_view scheduleName(ScheduleKind kind) {
  switch (kind) {
  case ScheduleKind::Constant:
    return "constant";
  case ScheduleKind::Linear:
    return "linear";
  case ScheduleKind::Cosine:
    return "cosine";
  }
  return "constant";
}

std::optional<ScheduleKind> scheduleFromName(std::string_view name) {
  for (ScheduleKind kind : {ScheduleKind::Constant, ScheduleKind::Linear, ScheduleKind::Cosine})
    if (name == scheduleName(kind))
      return kind;
  return std::nullopt;
}

double Schedule::at(uint64_t step) const {
  if (step <= warmupSteps)
    return rate * static_cast<double>(step) / static_cast<double>(warmupSteps);
  if (kind == ScheduleKind::Constant)
    return rate;
  if (step > horizon)
    return minRate;
  // step > warmupSteps and step <= horizon, so the divisor is at least 1.
  double progress =
      static_cast<double>(step - 1 - warmupSteps) / static_cast<double>(horizon - warmupSteps);
  double factor = kind == ScheduleKind::Linear
                      ? 1.0 - progress
                      : 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  return minRate + (rate - minRate) * factor;
}

} // namespace amc::rt
