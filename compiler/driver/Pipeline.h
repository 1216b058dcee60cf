// The order of the passes, in one place, with the reason for each line's position (Pipeline.cpp).
#ifndef AMC_COMPILER_DRIVER_PIPELINE_H
#define AMC_COMPILER_DRIVER_PIPELINE_H

#include "compiler/driver/Options.h"
#include "mlir/Pass/PassManager.h"

namespace amc {

// What the --emit value stands for: everything up to and including a named point of the pipeline.
// "import" adds nothing, "plan" everything. With `after`, "raise" or "optimizer", only what follows
// that point.
void buildPipeline(mlir::OpPassManager &passes, const CompileOptions &options,
                   llvm::StringRef upTo, llvm::StringRef after = "import");

} // namespace amc

#endif
