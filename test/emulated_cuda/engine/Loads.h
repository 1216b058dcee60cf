// Handlers of memory instructions.
#ifndef AMC_TEST_EMULATED_CUDA_ENGINE_LOADS_H
#define AMC_TEST_EMULATED_CUDA_ENGINE_LOADS_H

#include "test/emulated_cuda/engine/Access.h"

namespace emu {

// r: the results, then the address. Null: no such size.
Handler loadHandler(unsigned bytes, unsigned elements);
// r: the address, then the values.
Handler storeHandler(unsigned bytes, unsigned elements);
// r: the results; immediate: the offset into the kernel's parameters.
Handler parameterHandler(unsigned bytes, unsigned elements);

enum class Atomic : uint8_t { Add, Min, Max, And, Or, Xor, Exchange, Swap, Inc, Dec };
// r: the result where `gives`, the address, the value, and for Swap (cas) the new value.
Handler atomicHandler(Atomic what, ptx::Type type, bool gives);

// cp.async. r: the target in shared memory, the source, and where detail[4] the bytes to take from it; detail[3]:
// bytes.
void copyAsync(Warp &w, const Instr &i, uint32_t mask);
void commitCopies(Warp &w, const Instr &i, uint32_t mask);
void waitForCopies(Warp &w, const Instr &i, uint32_t mask); // immediate: groups that may be outstanding, none: all done

// ldmatrix; r: the results, then the address. detail[3]: whether transposed.
Handler matrixHandler(unsigned matrices);

} // namespace emu

#endif
