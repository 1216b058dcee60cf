// A group of one: every collective is a copy.
#ifndef AMC_RUNTIME_COLLECTIVE_SELFGROUP_H
#define AMC_RUNTIME_COLLECTIVE_SELFGROUP_H

#include "runtime/collective/Communicator.h"
#include "runtime/plan/DTypes.h"
#include <cstring>

namespace amc::rt {

class SelfGroup final : public Group {
public:
  unsigned size() const override { return 1; }
  unsigned index() const override { return 0; }
  Status allGather(const std::byte *piece, std::byte *whole, const SpreadShape &shape) override {
    return copy(piece, whole, shape.outer * shape.rows * shape.inner * dtypeBytes(shape.dtype));
  }
  Status reduceScatter(const std::byte *whole, std::byte *piece, const SpreadShape &shape) override {
    return copy(whole, piece, shape.outer * shape.rows * shape.inner * dtypeBytes(shape.dtype));
  }
  Status allReduce(const std::byte *in, std::byte *out, uint64_t elements, plan::DType dtype) override {
    return copy(in, out, elements * dtypeBytes(dtype));
  }
  Status allToAll(const std::byte *in, std::byte *out, uint64_t bytes) override { return copy(in, out, bytes); }
  Status shift(const std::byte *in, std::byte *out, uint64_t bytes, unsigned) override { return copy(in, out, bytes); }
  const std::byte *peerOf(unsigned, const std::byte *own, uint64_t) const override { return own; }
  Status barrier() override { return Status(); }

private:
  static Status copy(const std::byte *from, std::byte *to, uint64_t bytes) {
    if (from != to && bytes)
      std::memcpy(to, from, bytes);
    return Status();
  }
};

} // namespace amc::rt

#endif
