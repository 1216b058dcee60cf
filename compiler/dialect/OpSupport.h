// What the operations' files share: type arithmetic, broadcasting, and small graph-building helpers for gradients.
#ifndef AMC_COMPILER_DIALECT_OPSUPPORT_H
#define AMC_COMPILER_DIALECT_OPSUPPORT_H

#include "compiler/dialect/Train.h"
#include <functional>
#include <optional>

namespace amc::train {

inline mlir::RankedTensorType tensorType(mlir::Value v) { return mlir::cast<mlir::RankedTensorType>(v.getType()); }
inline llvm::ArrayRef<int64_t> shapeOf(mlir::Value v) { return tensorType(v).getShape(); }
inline mlir::Type elementOf(mlir::Value v) { return tensorType(v).getElementType(); }

/// The element type of statistics and losses of `element` inputs: f64 for f64, else f32.
mlir::Type statisticType(mlir::Type element);

/// The element type of a sum over floats of type `element` that is stored as it was added up if `wide`.
inline mlir::Type sumType(mlir::Type element, bool wide) { return wide ? statisticType(element) : element; }

/// NumPy's broadcast of shapes; empty optional if two dimensions differ and neither is 1.
std::optional<llvm::SmallVector<int64_t>> broadcastShapes(llvm::ArrayRef<llvm::ArrayRef<int64_t>> shapes);

/// "2x3x4" for messages; "scalar" for rank 0.
std::string shapeString(llvm::ArrayRef<int64_t> shape);

/// Emits `message` at an optional location (inferReturnTypes has one only sometimes) and fails.
llvm::LogicalResult inferError(std::optional<mlir::Location> loc, const llvm::Twine &message);

/// Whether tensors of a step may have elements of this type (Train_Element in TrainDialect.td).
bool isElementType(mlir::Type type);

/// The largest element count that any tensor may have: sizes computed from it in bytes never overflow 64 bits.
constexpr int64_t maxElements = int64_t(1) << 48;

/// Appends the tensor type of `shape` to what inferReturnTypes infers. Reports negative dimensions, element types the
/// dialect does not have and more than maxElements elements, so that a hostile attribute stops here.
llvm::LogicalResult inferTensor(std::optional<mlir::Location> loc, llvm::ArrayRef<int64_t> shape, mlir::Type element,
                                llvm::SmallVectorImpl<mlir::Type> &types);

/// The same for types that are known already.
llvm::LogicalResult inferTensors(std::optional<mlir::Location> loc, llvm::ArrayRef<mlir::RankedTensorType> of,
                                 llvm::SmallVectorImpl<mlir::Type> &types);

/// The type as IR prints it, for messages.
std::string typeString(mlir::Type type);

/// Operations that drawing and applying dropout's mask takes for an element: ten rounds of Philox (two products, four
/// exclusive ors, two additions) give four elements; a comparison and a multiplication.
inline constexpr uint64_t dropoutFlops = 10 * 8 / 4 + 2;

/// The number in decimal, for messages.
std::string numberString(const llvm::APFloat &value);

/// Reports a value that is not of the type that the operation's other operands ask for.
llvm::LogicalResult inferExpect(std::optional<mlir::Location> loc, const llvm::Twine &name, mlir::Value value,
                                mlir::Type expected);

/// Bytes of one element of the type that sums over `v`'s elements are accumulated in.
inline uint64_t accumulatorBytes(mlir::Value v) { return statisticType(elementOf(v)).getIntOrFloatBitWidth() / 8; }

/// Bytes of one element as it is stored.
inline uint64_t storageBytes(mlir::Value v) { return (elementOf(v).getIntOrFloatBitWidth() + 7) / 8; }
/// Whether elements are floats narrower than the type that arithmetic is done in.
inline bool isNarrowFloat(mlir::Value v) { return elementOf(v).isBF16() || elementOf(v).isF16(); }

/// Sums `grad` over the dimensions that broadcasting `type` to grad's shape repeated, so that it has `type`'s shape.
mlir::Value sumTo(mlir::OpBuilder &b, mlir::Location loc, mlir::Value grad, mlir::RankedTensorType type);

/// A tensor of rank 0 holding `value`, to be broadcast against tensors of `element`.
mlir::Value scalar(mlir::OpBuilder &b, mlir::Location loc, double value, mlir::Type element);
/// A tensor of `type` full of `value`.
mlir::Value full(mlir::OpBuilder &b, mlir::Location loc, double value, mlir::RankedTensorType type);

/// Reshapes unless the shape is `shape` already.
mlir::Value reshape(mlir::OpBuilder &b, mlir::Location loc, mlir::Value x, llvm::ArrayRef<int64_t> shape);
/// Casts unless the element type is `element` already.
mlir::Value cast(mlir::OpBuilder &b, mlir::Location loc, mlir::Value x, mlir::Type element);

/// The operand index that element `flat` (row-major in `shape`) of a broadcast result reads.
class BroadcastIndexer {
public:
  BroadcastIndexer(llvm::ArrayRef<int64_t> operandShape, llvm::ArrayRef<int64_t> resultShape);
  int64_t operator()(int64_t flat) const;

private:
  llvm::SmallVector<int64_t> resultStrides, resultShape, operandStrides;
};

/// The value's defining source after looking through views, casts, transposes and gathers: a `train.parameter`, or null.
ParameterOp parameterBehind(mlir::Value v);

/// Every collective has a group that the mesh's axes name, of at least one member.
llvm::LogicalResult checkGroup(std::optional<mlir::Location> loc, llvm::StringRef group, int64_t members);
/// The same of an operation that may also do without.
llvm::LogicalResult checkGroup(std::optional<mlir::Location> loc, std::optional<llvm::StringRef> group,
                               std::optional<int64_t> members);

/// Total elements of a shape.
int64_t elementCount(llvm::ArrayRef<int64_t> shape);

/// What a step is compiled for: its attribute `train.target`, "cuda:sm_90" and the like; "cpu" where it has none.
llvm::StringRef targetOf(mlir::Operation *op);
/// Scratch bytes that an operation's kernel needs on its step's target.
uint64_t workspaceBytes(ComputeOpInterface op);

} // namespace amc::train

#endif
