// The importer's working state: scopes of named values, the step under construction, and what is
// reported. Operation translations see it through Node (Node.h).
#ifndef AMC_COMPILER_IMPORT_IMPORTER_H
#define AMC_COMPILER_IMPORT_IMPORTER_H

#include "compiler/analysis/ConstantValue.h"
#include "compiler/import/Model.h"
#include "llvm/ADT/StringMap.h"
#include <set>

namespace amc::importer {

/// What a name stands for.
struct Datum {
  enum Kind { Absent, Tensor, Sequence, Failed } kind = Absent;
  mlir::Value value;             ///< of a tensor
  std::vector<mlir::Value> list; ///< of a sequence
  std::string lacking;           ///< why a value that nobody asked for so far cannot be had
};

class Node;
struct Weight;

/// Names visible to the nodes of a graph, a subgraph (which sees its parent's) or a function body
/// (which does not).
struct Scope {
  const Scope *parent = nullptr;
  llvm::StringMap<Datum> values;
  const onnx::FunctionProto *function = nullptr; ///< whose body this is
  Node *caller = nullptr;                        ///< the node that calls the function
  std::string prefix;                            ///< put before node names
  const google::protobuf::RepeatedPtrField<onnx::OperatorSetIdProto> *opsets = nullptr;
  int depth = 0;

  const Datum *find(llvm::StringRef name) const {
    for (const Scope *scope = this; scope; scope = scope->parent)
      if (auto found = scope->values.find(name); found != scope->values.end())
        return &found->second;
    return nullptr;
  }
};

using NodeList = google::protobuf::RepeatedPtrField<onnx::NodeProto>;

class Importer {
public:
  Importer(mlir::MLIRContext *context, const Model &model, const ImportOptions &options,
           ImportReport &report);

  /// The whole import. Null after diagnostics.
  mlir::OwningOpRef<mlir::ModuleOp> run();

  /// Translates the nodes of one graph or function body into the step. Returns false after an error
  /// that leaves the order of the nodes unknown; failures of single nodes only poison their
  /// results.
  bool runNodes(const NodeList &nodes, Scope &scope);

  mlir::InFlightDiagnostic error(mlir::Location location);
  /// Notes that `op` cannot be translated; all such are reported together at the end.
  void unsupported(const std::string &op, const std::string &reason, const std::string &node);
  /// An error was reported by someone else.
  void markFailed() { failed = true; }
  /// The default of a local function's attribute; null if it has none.
  const onnx::AttributeProto *functionDefault(const onnx::FunctionProto *function,
                                              llvm::StringRef name) const;
  void remark(std::string text) { report.remarks.push_back(std::move(text)); }

  /// The type that tensors of an ONNX element type are computed in; null if there is none. Half
  /// floats are computed in single precision.
  mlir::Type elementType(int64_t dataType);
  /// A tensor type, or null after an error at `location`: a negative dimension, too many elements.
  mlir::RankedTensorType tensorType(llvm::ArrayRef<int64_t> shape, mlir::Type element,
                                    mlir::Location location);
  /// A dense constant of the bytes that a tensor holds in the message. Null after an error.
  mlir::Value constant(const onnx::TensorProto &tensor, mlir::Location location);

  /// The i64 scalar that the runtime feeds for a role ("seed", "step_number", "micro_batch"); one for each.
  mlir::Value scalarInput(llvm::StringRef role);
  /// A number for each operation that draws random numbers.
  int64_t nextRandomStream() { return randomStreams++; }

  mlir::Location fileLocation();
  mlir::Location nodeLocation(const std::string &name, const std::string &op);

  mlir::MLIRContext *context;
  const Model &model;
  const ImportOptions &options;
  ImportReport &report;
  mlir::OpBuilder builder;
  /// Shape chains are short vectors; what they pass through (masks in NonZero, position tables) may
  /// be larger.
  ConstantEvaluator evaluator{1 << 18};

private:
  void runNode(const onnx::NodeProto &proto, Scope &scope, int index);
  void callFunction(const onnx::FunctionProto &function, Node &caller);
  bool collectFunctions();

  // Inputs.cpp
  bool bindInputs(Scope &scope);
  // Weights.cpp
  bool importInitializers(Scope &scope);
  std::set<std::string> oneElementWeights() const;
  /// Makes one weight of those that hold the same numbers. Fails where `untied` names none.
  bool retie(std::vector<Weight> &weights, Scope &scope);
  // Finish.cpp
  bool emitOutputs(Scope &scope);
  bool cleanUp();
  void reportUnsupported();
  // StandIns.cpp
  bool standIn(Node &node);
  mlir::RankedTensorType declaredType(const std::string &value);

  llvm::StringMap<const onnx::FunctionProto *> functions; ///< by domain, name and overload
  llvm::DenseMap<const onnx::FunctionProto *, llvm::StringMap<onnx::AttributeProto>> defaults;
  llvm::StringMap<int> unsupportedIndex; ///< into report.unsupported
  mlir::Block *body = nullptr;
  llvm::StringMap<const onnx::ValueInfoProto *> declared; ///< what the file says of values
  std::map<std::string, int64_t> dimensions; ///< values of the inputs' symbolic dimensions
  llvm::StringMap<mlir::Value> scalarInputs; ///< by role
  int64_t randomStreams = 0;
  int64_t steps = 0; ///< nodes and calls seen, against options.maxNodes
  bool failed = false;
};

/// "Softmax", "com.microsoft.Gelu".
std::string qualifiedName(llvm::StringRef domain, llvm::StringRef op);
/// The key under which local functions and called nodes meet. Reads `overload`, which is newer than
/// our protobuf.
std::string functionKey(const onnx::FunctionProto &function);
std::string functionKey(const onnx::NodeProto &node);

} // namespace amc::importer

#endif
