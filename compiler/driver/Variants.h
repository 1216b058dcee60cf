// Compiles within a memory budget (--ac=budget and auto): plans the variants of the step that the
// options leave open and takes the one with the least modelled time
// (compiler/analysis/VariantChoice.h).
//
// Open are --tile-mlp=auto (feed-forward networks whole or tiled over tokens) and
// --loss-tiles-in-flight=auto. Both are exact, so the choice changes no bit of a result. Each
// variant is derived from the raised model by itself, as if the user had asked for it: compiling
// with what was chosen gives the same plan.
//
// What only the user can decide, because it is another formula, is tried where nothing fits and
// named in a remark:
// --loss-impl=linear-cross-entropy.
#ifndef AMC_COMPILER_DRIVER_VARIANTS_H
#define AMC_COMPILER_DRIVER_VARIANTS_H

#include "compiler/driver/Compilation.h"

namespace amc {

// From `model`, raised and left as it is, to --emit's stage, which comes after PlanBudget. With
// `curve`, the plan says what other budgets would have come to, for its report.
CompileResult compileWithinBudget(Compilation &compilation, mlir::ModuleOp model,
                                  const CompileOptions &options, const MessageSink &sink,
                                  bool curve = false);

} // namespace amc

#endif
