// Reads the table of compiler/dialect/SaveClasses.cpp and fills in the operations it does not name.
#include "compiler/driver/AcTable.h"
#include "compiler/dialect/SaveClasses.h"
#include "mlir/IR/MLIRContext.h"

namespace amc {

std::vector<AcTableRow> acTable() {
  mlir::MLIRContext context;
  context.loadDialect<train::TrainDialect>();
  std::vector<AcTableRow> rows;
  for (llvm::StringRef operation : train::forwardOperations(&context)) {
    size_t before = rows.size();
    for (const train::SaveRule &rule : train::saveRules())
      if (rule.op == operation)
        rows.push_back(
            {operation.str(), rule.form.str(), train::saveClassName(rule.saveClass).str()});
    if (rows.size() == before)
      rows.push_back({operation.str(), "", "RECOMPUTE"});
  }
  return rows;
}

} // namespace amc
