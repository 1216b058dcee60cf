// Handlers from functions of one lane: unary<f>, binary<f>, ternary<f>, and compare<f>, whose result is a predicate.
#ifndef AMC_TEST_EMULATED_CUDA_ENGINE_LANES_H
#define AMC_TEST_EMULATED_CUDA_ENGINE_LANES_H

#include "test/emulated_cuda/engine/Warp.h"
#include <bit>

// Operands and results may be the same register, lane by lane.
#define EMU_LANES _Pragma("GCC ivdep") for (unsigned l = 0; l < 32; ++l)

namespace emu {

template <class T> inline void merge(T *to, const T *from, uint32_t mask) {
  EMU_LANES to[l] = (mask >> l & 1) ? from[l] : to[l];
}

inline void setPredicate(Warp &w, uint32_t place, uint32_t bits, uint32_t mask) {
  uint32_t &p = w.predicate(place);
  p = (p & ~mask) | (bits & mask);
}

template <auto F, class Fn = decltype(F)> struct Map;

template <auto F, class D, class A> struct Map<F, D (*)(A)> {
  static void run(Warp &w, const Instr &i, uint32_t mask) {
    D *d = w.lanes<D>(i.r[0]);
    const A *a = w.lanes<A>(i.r[1]);
    if (mask == allLanes) {
      EMU_LANES d[l] = F(a[l]);
    } else {
      D t[32];
      EMU_LANES t[l] = F(a[l]);
      merge(d, t, mask);
    }
  }
};

template <auto F, class D, class A, class B> struct Map<F, D (*)(A, B)> {
  static void run(Warp &w, const Instr &i, uint32_t mask) {
    D *d = w.lanes<D>(i.r[0]);
    const A *a = w.lanes<A>(i.r[1]);
    const B *b = w.lanes<B>(i.r[2]);
    if (mask == allLanes) {
      EMU_LANES d[l] = F(a[l], b[l]);
    } else {
      D t[32];
      EMU_LANES t[l] = F(a[l], b[l]);
      merge(d, t, mask);
    }
  }
};

template <auto F, class D, class A, class B, class C> struct Map<F, D (*)(A, B, C)> {
  static void run(Warp &w, const Instr &i, uint32_t mask) {
    D *d = w.lanes<D>(i.r[0]);
    const A *a = w.lanes<A>(i.r[1]);
    const B *b = w.lanes<B>(i.r[2]);
    const C *c = w.lanes<C>(i.r[3]);
    if (mask == allLanes) {
      EMU_LANES d[l] = F(a[l], b[l], c[l]);
    } else {
      D t[32];
      EMU_LANES t[l] = F(a[l], b[l], c[l]);
      merge(d, t, mask);
    }
  }
};

template <auto F> constexpr Handler map = &Map<F>::run;

// The bits of lanes where F holds.
template <auto F, class T> inline uint32_t bitsWhere(const T *a, const T *b) {
  uint32_t t[32], bits = 0;
  EMU_LANES t[l] = F(a[l], b[l]) ? 1u << l : 0;
  for (unsigned l = 0; l < 32; ++l)
    bits |= t[l];
  return bits;
}

} // namespace emu

#endif
