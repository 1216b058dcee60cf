// The table of selective activation checkpointing: what it does with which operation.
#ifndef AMC_COMPILER_DIALECT_SAVECLASSES_H
#define AMC_COMPILER_DIALECT_SAVECLASSES_H

#include "compiler/dialect/Train.h"

namespace amc::train {

struct SaveRule {
  llvm::StringLiteral op;   ///< with its dialect: "train.linear"
  llvm::StringLiteral form; ///< which uses of it, for people; empty: all
  SaveClass saveClass;
  bool (*matches)(mlir::Operation *); ///< null: every use
};

/// The rules; of those for one operation the first that matches holds. What is not named is RECOMPUTE.
llvm::ArrayRef<SaveRule> saveRules();

/// "SAVE", "RECOMPUTE", "ALTERNATE".
llvm::StringRef saveClassName(SaveClass saveClass);
/// The class called `name`, in any case.
std::optional<SaveClass> saveClassNamed(llvm::StringRef name);

/// The operations of the dialect that a forward pass can have, sorted by name.
llvm::SmallVector<llvm::StringRef> forwardOperations(mlir::MLIRContext *context);

} // namespace amc::train

#endif
