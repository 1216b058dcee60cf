// One compilation from inside: what compile(), Techniques and check() are made of. Not for callers
// of the library, whose header is Compile.h. Decides how diagnostics become messages and what a
// failed pass leaves behind (a reproducer in the temporary folder). Knows no operation.
#ifndef AMC_COMPILER_DRIVER_COMPILATION_H
#define AMC_COMPILER_DRIVER_COMPILATION_H

#include "compiler/analysis/BudgetPlanner.h"
#include "compiler/dialect/Train.h"
#include "compiler/driver/Compile.h"
#include "compiler/import/Import.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "passes/PlanBudget.h"

namespace amc {

// One context and one sink for what is said about its modules.
class Compilation {
public:
  explicit Compilation(const MessageSink &sink);

  void sayTo(const MessageSink &other) { sink = &other; }

  mlir::FailureOr<mlir::OwningOpRef<mlir::ModuleOp>>
  import(const CompileOptions &options, ImportReport &report, bool standIns = false);

  // Runs the pipeline up to a stage. A failing pass leaves the IR it was given and its options in a
  // file, unless it is one that judges what was asked for: there is nothing to look into then.
  // `planned`: see Pipeline.h.
  mlir::LogicalResult run(mlir::ModuleOp module, const CompileOptions &options,
                          llvm::StringRef upTo, llvm::StringRef after = "import",
                          std::shared_ptr<PlannedStep> planned = nullptr);

private:
  void remarkPrecision(mlir::ModuleOp module, const std::string &model);
  mlir::LogicalResult take(mlir::Diagnostic &diagnostic);

  const MessageSink *sink;
  mlir::MLIRContext context;
  mlir::ScopedDiagnosticHandler handler;
};

// Options as the passes see them: --ac-trace is also an environment variable, and another one in
// the guide that users come from; what is left open (--dp-size none) is settled.
CompileOptions withEnvironment(CompileOptions options);

Message errorMessage(const std::string &text);

// Says what excludes each other in `options`; true if nothing does.
bool agree(const CompileOptions &options, const MessageSink &sink);

bool plansBudget(const CompileOptions &options);

// What a step with its optimizer could be planned to: rising arenas, falling cost. Empty if the
// target has no cost model or the step cannot be gathered, which the planner would say.
ParetoCurve curveOf(train::StepOp step, const CompileOptions &options, unsigned points);

// What is asked for, from a module that the pipeline has been run on.
CompileResult finish(mlir::ModuleOp module, const CompileOptions &options);

} // namespace amc

#endif
