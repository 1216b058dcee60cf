// What runs an instruction on the CPU.
#ifndef AMC_RUNTIME_DEVICE_CPU_KERNEL_H
#define AMC_RUNTIME_DEVICE_CPU_KERNEL_H

#include "runtime/device/Kernel.h"

namespace amc::rt {
class ThreadPool;
}

namespace amc::rt::cpu {

struct RunContext {
  ThreadPool &pool;
  RunFailure &failure;
};

class Kernel : public rt::Kernel {
public:
  virtual void run(const Operands &operands, RunContext &context) const = 0;
};

} // namespace amc::rt::cpu

#endif
