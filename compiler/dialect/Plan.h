// The plan dialect: classes generated from PlanOps.td.
#ifndef AMC_COMPILER_DIALECT_PLAN_H
#define AMC_COMPILER_DIALECT_PLAN_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/RegionKindInterface.h"
#include "mlir/IR/SymbolTable.h"

#include "compiler/dialect/PlanDialect.h.inc"
#define GET_ATTRDEF_CLASSES
#include "compiler/dialect/PlanAttrs.h.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/PlanOps.h.inc"

#endif
