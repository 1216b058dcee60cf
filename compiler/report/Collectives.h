// What the ranks of a plan say to each other in a step: counts, bytes, and a model of the time.
#ifndef AMC_COMPILER_REPORT_COLLECTIVES_H
#define AMC_COMPILER_REPORT_COLLECTIVES_H

#include "runtime/plan/plan.pb.h"
#include <nlohmann/json.hpp>
#include <string>

namespace amc::report {

/// Nothing for one rank.
std::string collectivesText(const plan::Plan &plan);
nlohmann::ordered_json collectivesJson(const plan::Plan &plan);

} // namespace amc::report

#endif
