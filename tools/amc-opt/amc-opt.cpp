// amc-opt: runs passes alone on textual IR, for tests and for looking at what a pass does.
#include "passes/Passes.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  registry.insert<amc::train::TrainDialect, amc::plan::PlanDialect>();
  amc::registerAmcPasses();
  mlir::registerCSEPass();
  mlir::registerCanonicalizerPass();
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "AMC pass driver\n", registry));
}
