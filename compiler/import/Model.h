// A model file as read: the protobuf message and where in the file each initializer's bytes lie.
// Knows no operations.
#ifndef AMC_COMPILER_IMPORT_MODEL_H
#define AMC_COMPILER_IMPORT_MODEL_H

#include "compiler/import/Import.h"
#include "llvm/ADT/StringMap.h"
#include <onnx/onnx_pb.h>

namespace amc::importer {

/// Bytes of a file in the model's folder. `present` is false when the whole file is missing.
struct DataRange {
  std::string path; ///< relative to the model's folder
  uint64_t offset = 0, length = 0;
  bool present = true;
};

/// Emits a diagnostic at the place that is being read.
using ErrorFn = llvm::function_ref<mlir::InFlightDiagnostic()>;

class Model {
public:
  /// Reads and parses the file. Every failure is a diagnostic that says what is wrong with the
  /// file.
  static std::unique_ptr<Model> read(llvm::StringRef path, const ImportOptions &options,
                                     ErrorFn error);

  onnx::ModelProto proto;
  std::string path, fileName, folder;

  /// Where the elements of the main graph's initializer `index` lie, row-major and little-endian.
  /// Fails with a diagnostic if they are not in one piece, out of the model's folder, or not
  /// `bytes` long.
  std::optional<DataRange> locate(int index, uint64_t bytes, ErrorFn error) const;

  /// The elements of a tensor held in the message or in a small external file, as the raw bytes of
  /// its element type.
  std::optional<std::string> bytesOf(const onnx::TensorProto &tensor, uint64_t bytes,
                                     ErrorFn error) const;

private:
  struct Piece {
    uint64_t offset = 0, length = 0;
    int field = 0;  ///< the TensorProto field that holds the bytes
    int pieces = 0; ///< 1 if the elements are in one piece
  };
  bool scan(llvm::StringRef bytes, ErrorFn error);
  std::optional<DataRange> locateExternal(const onnx::TensorProto &tensor, uint64_t bytes,
                                          ErrorFn error) const;

  std::vector<Piece> pieces; ///< for each initializer of the main graph
};

/// Bytes an element of an ONNX data type takes; 0 for types that the importer does not read.
uint64_t elementBytes(int64_t dataType);
/// "float", "bfloat16", …
std::string dataTypeName(int64_t dataType);

} // namespace amc::importer

#endif
