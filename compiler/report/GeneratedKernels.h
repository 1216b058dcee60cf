// Kernels that were generated for a GPU: how they are launched, and what ptxas says they take. Of a CPU's there is nothing
// to say: their code has no such figures.
#ifndef AMC_COMPILER_REPORT_GENERATEDKERNELS_H
#define AMC_COMPILER_REPORT_GENERATEDKERNELS_H

#include "runtime/plan/plan.pb.h"
#include <nlohmann/json.hpp>
#include <string>

namespace amc::report {

/// A table; nothing for plans without such kernels.
std::string generatedKernelsText(const plan::Plan &plan);
/// An object for each function, in the order of the code.
nlohmann::ordered_json generatedKernelsJson(const plan::Plan &plan);

} // namespace amc::report

#endif
