// The learning rate of every step. Steps count from 1.
//
// Warm-up: step s of W has rate * s / W, so that no step is wasted on a rate of zero. After it,
// with the horizon N and progress p = (s - 1 - W) / (N - W) in [0, 1):
//   constant  rate
//   linear    min + (rate - min) * (1 - p)
//   cosine    min + (rate - min) * (1 + cos(pi * p)) / 2
// The first step after the warm-up has the full rate; `min` is what a step past the horizon has, as
// in torch's and Hugging Face's schedulers.
#ifndef AMC_RUNTIME_TRAINER_SCHEDULE_H
#define AMC_RUNTIME_TRAINER_SCHEDULE_H

#include <cstdint>
#include <optional>
#include <string_view>

namespace amc::rt {

enum class ScheduleKind { Constant, Linear, Cosine };

std::string_view scheduleName(ScheduleKind kind);
std::optional<ScheduleKind> scheduleFromName(std::string_view name);

struct Schedule {
  ScheduleKind kind = ScheduleKind::Constant;
  double rate = 0;    // the peak
  double minRate = 0; // where linear and cosine end
  uint64_t warmupSteps = 0;
  uint64_t horizon = 0; // steps of the whole run, resumed parts included

  double at(uint64_t step) const;
  bool operator==(const Schedule &) const = default;
};

} // namespace amc::rt

#endif
