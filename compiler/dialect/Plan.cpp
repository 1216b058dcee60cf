// Registers the plan dialect and verifies programs: numbering, arena and view bounds.
#include "compiler/dialect/Plan.h"
#include "compiler/dialect/Train.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace amc::plan;

#include "compiler/dialect/PlanDialect.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "compiler/dialect/PlanAttrs.cpp.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/PlanOps.cpp.inc"

void PlanDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "compiler/dialect/PlanAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "compiler/dialect/PlanOps.cpp.inc"
      >();
}

namespace {

/// Whether [offset, offset + bytes) lies in [0, limit); no sum can overflow.
bool contains(uint64_t limit, uint64_t offset, uint64_t bytes) {
  return offset <= limit && bytes <= limit - offset;
}

LogicalResult verifyView(Operation *op, ViewAttr view, ArrayRef<BufferOp> buffers) {
  if (view.getBuffer() >= buffers.size())
    return op->emitOpError("view of buffer ")
           << view.getBuffer() << " should be of one of the " << buffers.size() << " buffers";
  BufferOp buffer = buffers[view.getBuffer()];
  uint64_t limit = buffer.getBytes();
  if (!view.getType().hasStaticShape() || !view.getType().getElementType().isIntOrFloat())
    return op->emitOpError("view of ")
           << view.getType() << " should have a static shape of numbers";
  if (!contains(limit, view.getByteOffset(), amc::train::byteSize(view.getType())))
    return op->emitOpError("view of buffer ")
           << view.getBuffer() << " at byte " << view.getByteOffset() << " with "
           << amc::train::byteSize(view.getType()) << " bytes should lie in the buffer's " << limit
           << " bytes";
  return success();
}

} // namespace

LogicalResult ProgramOp::verifyRegions() {
  SmallVector<BufferOp> buffers(getBody().front().getOps<BufferOp>());
  uint64_t calls = llvm::range_size(getBody().front().getOps<CallOp>());
  for (auto [number, buffer] : llvm::enumerate(buffers)) {
    if (buffer.getNumber() != number)
      return buffer.emitOpError("number is ") << buffer.getNumber() << ", should be " << number;
    if (!contains(getArenaBytes(), buffer.getOffset(), buffer.getBytes()))
      return buffer.emitOpError("with ")
             << buffer.getBytes() << " bytes at offset " << buffer.getOffset()
             << " should lie in the arena of " << getArenaBytes() << " bytes";
    if (buffer.getFirst() > buffer.getLast() || buffer.getLast() > calls)
      return buffer.emitOpError("lifetime is [")
             << buffer.getFirst() << ", " << buffer.getLast() << "), should be an interval of the "
             << calls << " calls";
  }
  if (getForwardEnd() > getMicroBatchEnd() || getMicroBatchEnd() > calls)
    return emitOpError("forward_end ")
           << getForwardEnd() << " and micro_batch_end " << getMicroBatchEnd()
           << " should be ascending and at most the number of calls, " << calls;
  // Views are wherever an attribute says so; all operations are treated alike.
  for (Operation &op : getBody().front()) {
    LogicalResult result = success();
    if (Attribute properties = op.getPropertiesAsAttribute())
      properties.walk([&](ViewAttr view) {
        if (succeeded(result))
          result = verifyView(&op, view, buffers);
      });
    if (failed(result))
      return failure();
  }
  return success();
}
