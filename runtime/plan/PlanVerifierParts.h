// Parts of the verifier in files of their own. Each reports every error it finds.
#ifndef AMC_RUNTIME_PLAN_PLANVERIFIERPARTS_H
#define AMC_RUNTIME_PLAN_PLANVERIFIERPARTS_H

#include "runtime/plan/plan.pb.h"
#include <functional>
#include <string>

namespace amc::rt {

using ReportError = std::function<void(const std::string &)>;

// The mesh and the groups of collectives. False if the mesh makes no sense, so that nothing else can be said.
bool checkMesh(const plan::Plan &plan, const ReportError &error);

// What the rank's views of weights, states and gradients are of the whole, and the bytes they start with.
void checkWeights(const plan::Plan &plan, const ReportError &error);

// Collectives that run beside other instructions, and their waits. Looks at buffers' numbers alone: that views lie in them
// and are alive is the verifier's.
void checkAsync(const plan::Plan &plan, const ReportError &error);

} // namespace amc::rt

#endif
