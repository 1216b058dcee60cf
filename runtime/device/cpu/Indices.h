// Index tensors: negative indices count from the end, one out of range is a failure at run time.
#ifndef AMC_RUNTIME_DEVICE_CPU_INDICES_H
#define AMC_RUNTIME_DEVICE_CPU_INDICES_H

#include "runtime/device/cpu/Registry.h"

namespace amc::rt::cpu {

struct Indices {
  const void *data;
  bool wide; // i64, else i32

  static Indices of(const Operands &operands, size_t input, plan::DType dtype) {
    return {operands.inputs[input], dtype == plan::I64};
  }
  int64_t raw(int64_t at) const {
    return wide ? static_cast<const int64_t *>(data)[at] : static_cast<const int32_t *>(data)[at];
  }
  // In [0, limit), or -1 after reporting.
  int64_t get(int64_t at, int64_t limit, RunContext &context, const char *what = "index") const {
    int64_t value = raw(at);
    int64_t index = value < 0 ? value + limit : value;
    if (index >= 0 && index < limit)
      return index;
    context.failure.report(what, static_cast<uint64_t>(at), value, -limit, limit);
    return -1;
  }
};

} // namespace amc::rt::cpu

#endif
