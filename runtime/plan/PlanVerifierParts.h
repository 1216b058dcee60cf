// Parts of the verifier in files of their own. Each reports every error it finds.
#ifndef AMC_RUNTIME_PLAN_PLANVERIFIERPARTS_H
#define AMC_RUNTIME_PLAN_PLANVERIFIERPARTS_H

#include "runtime/plan/PlanVerifier.h"
#include "runtime/plan/plan.pb.h"
#include <functional>
#include <string>
#include <vector>

namespace amc::rt {

using ReportError = std::function<void(const std::string &)>;

// The mesh and the groups of collectives. False if the mesh makes no sense, so that nothing else can be said.
bool checkMesh(const plan::Plan &plan, const ReportError &error);

// What the rank's views of weights, states and gradients are of the whole, and the bytes they start with.
void checkWeights(const plan::Plan &plan, const ReportError &error);

// Updates: what they read, and who reads what they have written. Is told of every instruction in the plan's order.
class UpdateChecker {
public:
  // The plan's buffers need not be sound yet. Without signatures nobody knows which instruction updates what.
  UpdateChecker(const plan::Plan &plan, const KernelSignatures *signatures, ReportError error);
  // An instruction whose views are sound and live.
  void check(uint64_t index, const std::string &path, const plan::Instruction &instruction);
  // Any instruction, sound or not, behind its check.
  void wrote(uint64_t index, const plan::Instruction &instruction);
  // Behind the last one.
  void finish();

private:
  void checkRefreshes(const std::string &path, const plan::Instruction &instruction);
  void checkUpdates(uint64_t index, const std::string &path, const plan::Instruction &instruction);
  bool isLive(const plan::View &view, uint64_t instruction) const;

  static constexpr uint64_t none = ~uint64_t(0);
  const plan::Plan &plan;
  const KernelSignatures *signatures;
  ReportError error;
  std::vector<uint64_t> lastWrite, updatedAt; // by buffer, by parameter: instructions
  std::vector<int> parameterOf, updateOf;     // by buffer: the parameter it holds or is updated in, or -1
};

} // namespace amc::rt

#endif
