// The learning rate of every step. Steps count from 1.
//
// Warm-up: step s of W has init + (rate - init) * s / W, so that no step is wasted on a rate of zero. After it, with
// the horizon N and progress p = (s - 1 - W) / (N - W) in [0, 1):
//   constant             rate
//   linear               min + (rate - min) * (1 - p)
//   cosine               min + (rate - min) * (1 + cos(pi * p)) / 2
//   inverse-square-root  max(min, rate * sqrt(max(W, 1) / max(s - 1, 1)))
//   WSD                  rate up to step N - D + 1; from there, with q = (s - 1 - (N - D)) / D, min + (rate - min) *
//                        linear 1 - q, cosine (1 + cos(pi * q)) / 2, exponential 2 * 0.5^q - 1, minus_sqrt 1 - sqrt(q)
// The first step after the warm-up has the full rate; `min` is what a step past the horizon has, as in torch's, Hugging
// Face's and Megatron's schedulers. The last two are Megatron's (OptimizerParamScheduler), whose count of finished
// steps is s - 1 here.
#ifndef AMC_RUNTIME_TRAINER_SCHEDULE_H
#define AMC_RUNTIME_TRAINER_SCHEDULE_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace amc::rt {

enum class ScheduleKind { Constant, Linear, Cosine, InverseSquareRoot, WarmupStableDecay };
enum class DecayStyle { Linear, Cosine, Exponential, MinusSqrt };

std::string_view scheduleName(ScheduleKind kind);
std::optional<ScheduleKind> scheduleFromName(std::string_view name);
std::string_view decayName(DecayStyle style);
std::optional<DecayStyle> decayFromName(std::string_view name);
// "constant, linear, cosine, inverse-square-root or WSD"; "linear, cosine, exponential or minus_sqrt".
std::string scheduleNames();
std::string decayNames();

struct Schedule {
  ScheduleKind kind = ScheduleKind::Constant;
  double rate = 0;    // the peak
  double minRate = 0; // where all but constant end
  uint64_t warmupSteps = 0;
  uint64_t horizon = 0; // step at which the schedule ends: of the whole run, resumed parts included
  double initRate = 0;  // where the warm-up starts
  uint64_t wsdSteps = 0;
  DecayStyle wsdStyle = DecayStyle::Exponential;

  double at(uint64_t step) const;
  bool operator==(const Schedule &) const = default;
};

} // namespace amc::rt

#endif
