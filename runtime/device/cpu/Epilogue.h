// A product and the generated kernel behind it as one: what that does with the product's result, element by element or row by
// row, is done to each tile, or to each row of tiles, by the thread that has completed it, while a cache still has it and
// without everybody's having waited for all of it. Bits are those of one after the other.
#ifndef AMC_RUNTIME_DEVICE_CPU_EPILOGUE_H
#define AMC_RUNTIME_DEVICE_CPU_EPILOGUE_H

#include "runtime/device/Device.h"
#include <memory>

namespace amc::rt::cpu {

// To be run with the operands of `product`. Both kernels outlive it, and `then`'s operands stay where they are. What either
// writes the other does not touch, but for the product's result, which is an operand of `then`, all `resultElements` of it;
// another result of `then` may stand in exactly its bytes. Null where `then` does not work on elements or rows alone, or has
// others than the result's, where the product does not come in tiles, and where so many `threads` would be done later.
std::unique_ptr<rt::Kernel> withEpilogue(const Work &product, const Work &then, int64_t resultElements, unsigned threads);

} // namespace amc::rt::cpu

#endif
