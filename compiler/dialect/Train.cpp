// Registers the dialect. Operations are implemented in one file for each family.
#include "compiler/dialect/Train.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace amc::train;

#include "compiler/dialect/TrainDialect.cpp.inc"
#include "compiler/dialect/TrainInterfaces.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "compiler/dialect/TrainAttrs.cpp.inc"

void TrainDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "compiler/dialect/TrainAttrs.cpp.inc"
      >();
  registerTrainDialectOperations(this);
}
