// What the CPU's verifier says of a plan.
#ifndef AMC_TEST_UNIT_VERIFIED_PLAN_H
#define AMC_TEST_UNIT_VERIFIED_PLAN_H

#include "runtime/device/cpu/Registry.h"
#include "runtime/plan/PlanVerifier.h"
#include <string>

namespace amc::rt::test {

inline PlanDiagnostics verify(const plan::Plan &plan) {
  static const cpu::KernelRegistry registry;
  return verifyPlan(plan, registry);
}

inline std::string all(const PlanDiagnostics &d) { return d.ok() ? "no errors" : d.toStatus().message(); }

} // namespace amc::rt::test

#endif
