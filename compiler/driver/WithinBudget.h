// Compiles, and where a memory budget cannot be met looks for forms of operations with which it can.
//
// With --tile-mlp=auto feed-forward networks are tiled over tokens only if the budget asks for it,
// that is if no plan fits without. What the user has to decide, because it is another formula, is
// tried too and named in a remark: --loss-impl=linear-cross-entropy.
#ifndef AMC_COMPILER_DRIVER_WITHINBUDGET_H
#define AMC_COMPILER_DRIVER_WITHINBUDGET_H

#include "compiler/driver/Compile.h"

namespace amc {

CompileResult compileWithinBudget(const CompileOptions &options, const MessageSink &sink);

} // namespace amc

#endif
