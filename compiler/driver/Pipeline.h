// The order of the passes, in one place, with the reason for each line's position (Pipeline.cpp).
#ifndef AMC_COMPILER_DRIVER_PIPELINE_H
#define AMC_COMPILER_DRIVER_PIPELINE_H

#include "compiler/driver/Options.h"
#include "mlir/Pass/PassManager.h"
#include "passes/PlanBudget.h"

namespace amc {

inline constexpr unsigned paretoPoints = 12; // plans in a report's picture of peak against recomputation

// What the --emit value stands for: everything up to and including a named point of the pipeline.
// "import" adds nothing, "plan" everything. With `after`, "raise" or "optimizer", only what follows
// that point. `planned`: the plan of the module's step, for PlanBudget to write.
void buildPipeline(mlir::OpPassManager &passes, const CompileOptions &options,
                   llvm::StringRef upTo, llvm::StringRef after = "import",
                   std::shared_ptr<PlannedStep> planned = nullptr);

// PlanBudget's with --ac=budget or auto.
PlanBudgetOptions budgetOptions(const CompileOptions &options);

// Whether PlanBudget runs on the way to --emit's stage.
bool reachesMemory(const CompileOptions &options);

} // namespace amc

#endif
