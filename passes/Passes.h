// Declarations of all passes, generated from Passes.td.
#ifndef AMC_PASSES_PASSES_H
#define AMC_PASSES_PASSES_H

#include "compiler/dialect/Plan.h"
#include "compiler/dialect/Train.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassRegistry.h"

namespace amc {

#define GEN_PASS_DECL
#include "passes/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "passes/Passes.h.inc"

} // namespace amc

#endif
