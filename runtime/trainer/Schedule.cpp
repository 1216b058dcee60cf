// See Schedule.h. All arithmetic is in double, in the order written, so that a resumed run computes
// the same bits.
#include "runtime/trainer/Schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

namespace amc::rt {
namespace {

constexpr std::array<std::pair<ScheduleKind, std::string_view>, 5> kinds = {
    {{ScheduleKind::Constant, "constant"},
     {ScheduleKind::Linear, "linear"},
     {ScheduleKind::Cosine, "cosine"},
     {ScheduleKind::InverseSquareRoot, "inverse-square-root"},
     {ScheduleKind::WarmupStableDecay, "WSD"}}};
constexpr std::array<std::pair<DecayStyle, std::string_view>, 4> styles = {{{DecayStyle::Linear, "linear"},
                                                                            {DecayStyle::Cosine, "cosine"},
                                                                            {DecayStyle::Exponential, "exponential"},
                                                                            {DecayStyle::MinusSqrt, "minus_sqrt"}}};

template <class Table> std::string_view nameIn(const Table &table, typename Table::value_type::first_type value) {
  for (const auto &[entry, name] : table)
    if (entry == value)
      return name;
  return table[0].second;
}
template <class Table>
std::optional<typename Table::value_type::first_type> fromName(const Table &table, std::string_view name) {
  for (const auto &[entry, known] : table)
    if (known == name)
      return entry;
  return std::nullopt;
}
template <class Table> std::string namesOf(const Table &table) {
  std::string all;
  for (size_t i = 0; i < table.size(); ++i)
    all += std::string(i == 0 ? "" : i + 1 == table.size() ? " or " : ", ") + std::string(table[i].second);
  return all;
}

double decay(DecayStyle style, double progress) {
  switch (style) {
  case DecayStyle::Linear:
    return 1.0 - progress;
  case DecayStyle::Cosine:
    return 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  case DecayStyle::Exponential:
    return 2.0 * std::pow(0.5, progress) - 1.0;
  case DecayStyle::MinusSqrt:
    return 1.0 - std::sqrt(progress);
  }
  return 0;
}

} // namespace

std::string_view scheduleName(ScheduleKind kind) { return nameIn(kinds, kind); }
std::optional<ScheduleKind> scheduleFromName(std::string_view name) { return fromName(kinds, name); }
std::string_view decayName(DecayStyle style) { return nameIn(styles, style); }
std::optional<DecayStyle> decayFromName(std::string_view name) { return fromName(styles, name); }
std::string scheduleNames() { return namesOf(kinds); }
std::string decayNames() { return namesOf(styles); }

double Schedule::at(uint64_t step) const {
  if (step <= warmupSteps && initRate == 0)
    return rate * static_cast<double>(step) / static_cast<double>(warmupSteps);
  if (step <= warmupSteps)
    return initRate + (rate - initRate) * static_cast<double>(step) / static_cast<double>(warmupSteps);
  if (kind == ScheduleKind::Constant)
    return rate;
  if (step > horizon)
    return minRate;
  // step > warmupSteps and step <= horizon, so the divisors are at least 1.
  const uint64_t done = step - 1;
  if (kind == ScheduleKind::InverseSquareRoot)
    return std::max(minRate, rate * std::sqrt(static_cast<double>(std::max<uint64_t>(warmupSteps, 1)) /
                                              static_cast<double>(std::max<uint64_t>(done, 1))));
  if (kind == ScheduleKind::WarmupStableDecay) {
    const uint64_t begin = horizon - std::min(wsdSteps, horizon);
    if (done <= begin)
      return rate;
    return minRate +
           (rate - minRate) * decay(wsdStyle, static_cast<double>(done - begin) / static_cast<double>(wsdSteps));
  }
  double progress = static_cast<double>(done - warmupSteps) / static_cast<double>(horizon - warmupSteps);
  return minRate +
         (rate - minRate) * decay(kind == ScheduleKind::Linear ? DecayStyle::Linear : DecayStyle::Cosine, progress);
}

} // namespace amc::rt
