// Writes a plan.program as the message that runtime/plan/plan.proto defines: the only thing that
// compiler and runtime share. Decides nothing. The same module gives the same bytes.
#ifndef AMC_COMPILER_EMIT_EMITPLAN_H
#define AMC_COMPILER_EMIT_EMITPLAN_H

#include "mlir/IR/BuiltinOps.h"
#include "runtime/plan/plan.pb.h"
#include <optional>

namespace amc {

struct EmitOptions {
  std::string target = "cpu"; // the device that the plan is for, or "cuda:sm_90"
  bool embedWeights = false; // put the bytes of weights into the plan instead of where they are
  std::optional<double>
      learningRate; // the plan's default; absent: what attach-optimizer noted on the step
};

/// The module's only plan.program. Fails with diagnostics if there is not exactly one, or if
/// weights that should be embedded cannot be read.
mlir::FailureOr<plan::Plan> emitPlan(mlir::ModuleOp module, const EmitOptions &options);

/// What the plan promises about memory and work, from its buffers and instructions; definitions are
/// in plan.proto.
plan::Promise computePromise(const plan::Plan &plan);

} // namespace amc

#endif
