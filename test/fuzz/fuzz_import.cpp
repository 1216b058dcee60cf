// Fuzzes the importer: any bytes give a module or a diagnostic, never a crash, and a module it gives is valid IR.
#include "compiler/import/Import.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include "test/fuzz/Driver.h"
#include "compiler/dialect/Train.h"
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <unistd.h>

static std::string folder;

static void importBytes(const std::string &bytes) {
  std::string path = folder + "/model.onnx";
  std::ofstream(path, std::ios::binary) << bytes;
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  context.loadDialect<amc::train::TrainDialect>();
  context.getDiagEngine().registerHandler([](mlir::Diagnostic &) { return mlir::success(); });
  amc::ImportOptions options;
  options.maxNodes = 10000; // a mutation that asks for more work than this is no more interesting
  amc::ImportReport report;
  auto module = amc::importOnnx(&context, path, options, report);
  if (succeeded(module) && failed(mlir::verify(**module))) {
    std::fprintf(stderr, "the importer returned a module that does not verify\n");
    std::abort();
  }
}

int main(int argc, char **argv) {
  char name[] = "/tmp/amc-fuzz-import-XXXXXX";
  if (!mkdtemp(name)) {
    std::perror("mkdtemp");
    return 2;
  }
  folder = name;
  int code = amc::fuzz::run(argc, argv, importBytes);
  std::remove((folder + "/model.onnx").c_str());
  rmdir(name);
  return code;
}
