// ONNX to the train dialect.
//
// The importer reads a model (opsets 13 to 23 of the standard domain, and newer ones by the newest
// table it has), binds symbolic dimensions, inlines local functions and emits one `train.step` with
// the forward graph. Weights stay in their files: a parameter holds (file, offset, length). All
// errors and all unsupported operations are found in one run.
#ifndef AMC_COMPILER_IMPORT_IMPORT_H
#define AMC_COMPILER_IMPORT_IMPORT_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include <map>
#include <string>
#include <vector>

namespace amc {

struct ImportOptions {
  /// `--shape name=AxB`: dimensions by input name, or one value by the name of a symbolic
  /// dimension.
  std::map<std::string, std::vector<int64_t>> shapes;
  /// `--local-batch-size`: the first dimension of the first input, bound if it is symbolic and else held against it;
  /// 0: not given.
  int64_t batch = 0;
  /// `--untied`: globs over names of initializers that are no copies of others, although they hold the same numbers.
  std::vector<std::string> untied;
  /// Limits on what is read; beyond them the model is refused.
  uint64_t maxFileBytes = uint64_t(2) << 30;
  int64_t maxNodes = 1000000;
  int64_t maxRank = 16;
  int maxNesting = 64;
  /// Go on past what is unsupported where the file says what its outputs are, so that what lies
  /// behind can be judged: the module that comes out is for `amc check` alone.
  bool standIns = false;
};

/// Something that the importer has no translation for.
struct UnsupportedOp {
  std::string op;     ///< "NonMaxSuppression", or "com.microsoft.Foo" outside the standard domain
  std::string reason; ///< "AMC does not have it in opset 18" … or the argument that is not supported
  std::string firstNode; ///< name of the first node
  int64_t count = 0;     ///< nodes with this op and reason
};

/// What the importer found, filled on failure too.
struct ImportReport {
  int64_t opset = 0;                       ///< of the standard domain
  int64_t nodes = 0;                       ///< after inlining of functions
  std::map<std::string, int64_t> opCounts; ///< nodes by op, named as in UnsupportedOp
  std::vector<UnsupportedOp> unsupported;  ///< in order of the first node
  std::vector<std::string>
      remarks; ///< what a person should know: weights absent, weights re-tied, …
  /// With standIns: nodes behind unsupported ones of whose outputs the file does not say the type
  /// and shape, and the first of them.
  int64_t unreached = 0;
  std::string firstUnreached;
};

/// Imports the model at `path`. Diagnostics go to the context's engine, at locations that
/// describeLocation prints.
mlir::FailureOr<mlir::OwningOpRef<mlir::ModuleOp>> importOnnx(mlir::MLIRContext *context,
                                                              llvm::StringRef path,
                                                              const ImportOptions &options,
                                                              ImportReport &report);

/// "model.onnx: node '/layers.3/attn/Softmax' (Softmax)" for a location that the importer made, of
/// an op or fused from several; as much of it as is known for any other.
std::string describeLocation(mlir::Location location);

} // namespace amc

#endif
