// Arithmetic that rounds otherwise than to nearest; rare, and compiled with -frounding-math.
#ifndef AMC_TEST_EMULATED_CUDA_ENGINE_ROUNDED_H
#define AMC_TEST_EMULATED_CUDA_ENGINE_ROUNDED_H

#include "test/emulated_cuda/engine/Program.h"

namespace emu {

enum class Rounding : uint8_t { Nearest, Zero, Down, Up, NearestAway };
enum class Arithmetic : uint8_t { Add, Sub, Mul, Fma, Div, Reciprocal, Root };

// Details of the instruction: the rounding, whether .ftz, whether .sat.
Handler roundedHandler(Arithmetic what, bool single);

// Conversions of one value.
float toFloat(double value, Rounding rounding);
float toFloat(int64_t value, Rounding rounding);
float toFloat(uint64_t value, Rounding rounding);
double toDouble(int64_t value, Rounding rounding);
double toDouble(uint64_t value, Rounding rounding);

} // namespace emu

#endif
