// mma.sync and ldmatrix. Products are exact, sums are made in double and rounded once: hardware's own order of
// summation is not specified.
#include "test/emulated_cuda/engine/Decoder.h"
#include "test/emulated_cuda/engine/Float.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include "test/emulated_cuda/engine/Loads.h"
#include <cstring>

namespace emu {
namespace {

struct Tf32 {};

// Where the fragments' elements are: A is 16 x K by rows, B is K x 8 by columns, C and D are 16 x 8.
// detail[0]: registers of A; [1]: of B. An element has 2 bytes, or 4 (tf32).
template <class E> void multiply(Warp &w, const Instr &i, uint32_t mask) {
  if (mask != allLanes)
    abortLaunch(w, i, std::countr_zero(mask), CUDA_ERROR_LAUNCH_FAILED, "divergence",
                "mma should be executed by all lanes of the warp");
  constexpr bool isTf32 = std::is_same_v<E, Tf32>;
  const uint32_t *r = w.launch->kernel->more.data() + i.extra;
  unsigned as = i.detail[0], bs = i.detail[1], depth = isTf32 ? as * 2 : as * 4;
  double a[16][16], b[16][8];
  auto put = [&](auto &&to, uint32_t bits) {
    if constexpr (isTf32) {
      to(0) = asFloat(bits & ~0x1fffu);
    } else {
      to(0) = E::widen(bits);
      to(1) = E::widen(bits >> 16);
    }
  };
  constexpr unsigned each = isTf32 ? 1 : 2; // elements of a register, along K
  for (unsigned n = 0; n < as; ++n) {
    const uint32_t *from = w.lanes<uint32_t>(r[4 + n]);
    for (unsigned l = 0; l < 32; ++l) {
      unsigned row = l / 4 + (n & 1) * 8, k = l % 4 * each + n / 2 * 4 * each;
      put([&](unsigned e) -> double & { return a[row][k + e]; }, from[l]);
    }
  }
  for (unsigned n = 0; n < bs; ++n) {
    const uint32_t *from = w.lanes<uint32_t>(r[4 + as + n]);
    for (unsigned l = 0; l < 32; ++l) {
      unsigned column = l / 4, k = l % 4 * each + n * 4 * each;
      put([&](unsigned e) -> double & { return b[k + e][column]; }, from[l]);
    }
  }
  float result[4][32];
  for (unsigned n = 0; n < 4; ++n) {
    const float *c = w.lanes<float>(r[4 + as + bs + n]);
    for (unsigned l = 0; l < 32; ++l) {
      unsigned row = l / 4 + n / 2 * 8, column = l % 4 * 2 + (n & 1);
      double sum = 0;
      for (unsigned k = 0; k < depth; ++k)
        sum += a[row][k] * b[k][column];
      result[n][l] = canonical((float)(sum + c[l]));
    }
  }
  for (unsigned n = 0; n < 4; ++n)
    memcpy(w.lanes<float>(r[n]), result[n], sizeof result[n]);
}

} // namespace

bool Decoder::decodeTensor() {
  const std::string &base = text->base;
  if (base == "mma") {
    bool wide = take("m16n8k16"), k8 = !wide && take("m16n8k8"), k4 = !wide && !k8 && take("m16n8k4");
    if (!take("sync") || (!wide && !k8 && !k4))
      fail("is not modelled for this shape");
    take("aligned");
    if (!take("row") || !take("col"))
      fail("should be .row.col");
    Type d = takeType(), a = takeType(), b = takeType(), c = takeType();
    bool tf32 = a == Type::TF32;
    if (d != Type::F32 || c != Type::F32 || a != b || (!tf32 && a != Type::F16 && a != Type::BF16) ||
        (tf32 ? wide : k4))
      fail("is not modelled for these types");
    unsigned as = tf32 ? (k8 ? 4 : 2) : (wide ? 4 : 2), bs = as / 2;
    std::vector<uint32_t> results, operands;
    auto fragment = [&](size_t n, unsigned count) -> const std::vector<Operand> & {
      if (operand(n).kind != Operand::Vector || operand(n).elements.size() != count)
        fail("a fragment has another number of registers");
      return operand(n).elements;
    };
    for (const Operand &one : fragment(1, as))
      operands.push_back(use(one, Type::B32));
    if (bs == 1 && operand(2).kind == Operand::Register)
      operands.push_back(use(operand(2), Type::B32));
    else
      for (const Operand &one : fragment(2, bs))
        operands.push_back(use(one, Type::B32));
    for (const Operand &one : fragment(3, 4))
      operands.push_back(use(one, Type::F32));
    for (const Operand &one : fragment(0, 4))
      results.push_back(define(one, Type::F32));
    Instr &made = emitMany(tf32             ? multiply<Tf32>
                           : a == Type::F16 ? multiply<Half>
                                            : multiply<BFloat>,
                           results, operands);
    made.flow = Flow::Together;
    made.detail[0] = as;
    made.detail[1] = bs;
    setWholeWarp(made);
    return true;
  }
  if (base == "ldmatrix") {
    if (!take("sync"))
      fail("should be .sync");
    take("aligned");
    bool transposed = take("trans");
    if (!take("m8n8") || !take("b16") || (!take("shared") && !take("shared::cta")))
      fail("should be .m8n8, .b16, from .shared");
    unsigned count = take("x1") ? 1 : take("x2") ? 2 : take("x4") ? 4 : 0;
    if (!count)
      fail("should be .x1, .x2 or .x4");
    Address from = address(operand(1));
    std::vector<uint32_t> results;
    bool vector = operand(0).kind == Operand::Vector;
    if (vector ? operand(0).elements.size() != count : count != 1)
      fail("has another number of results");
    for (unsigned n = 0; n < count; ++n)
      results.push_back(define(vector ? operand(0).elements[n] : operand(0), Type::B32));
    Instr &made = emitMany(matrixHandler(count), results, {from.base});
    setAddress(made, Where::Shared, from);
    made.detail[3] = transposed;
    made.flow = Flow::Together;
    setWholeWarp(made);
    return true;
  }
  return false;
}

} // namespace emu
