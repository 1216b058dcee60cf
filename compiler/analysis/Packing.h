// Packs buffers with fixed lifetimes into one arena. Plain C++; knows nothing but intervals and
// sizes.
//
// A portfolio: every order (tightness, size, area, lifetime, birth, death) is placed by first fit
// and by best fit into the gaps left by what lives at the same time, and by free lists swept along
// the time axis; then every order again for some rounds in which the items that reached the height
// move towards the front (squeaky wheel optimization, Joslin and Clements, 1999). The lowest arena
// wins, earlier members of the portfolio win ties; whoever reaches the bound ends it. Buffers that
// live for the whole step are stacked at the bottom first: any packing has to. Gap placement
// is quadratic in the number of buffers, with a small constant: 0.1 s for 13,000. An instance too
// large for the whole portfolio runs only its first members and says so (`limited`). Where the
// bound is not reached and the instance is not too large, exact search (PackingSearch.h) takes
// over: first for the bound, then for heights between it and the best. Weakest known instances:
// pangu_2.6B of idealloc (18,692 buffers), 1.03 x the bound; see test/bench/offsets.py.
#ifndef AMC_COMPILER_ANALYSIS_PACKING_H
#define AMC_COMPILER_ANALYSIS_PACKING_H

#include <cstdint>
#include <string>
#include <vector>

namespace amc {

struct PackingItem {
  uint64_t bytes = 0;
  uint64_t first = 0, last = 0; // [first, last); empty lifetimes take no room
};

struct Placement {
  std::vector<uint64_t> offsets; // of every item, multiples of the alignment
  uint64_t height = 0;           // bytes of the arena, a multiple of the alignment
  uint64_t bound = 0; // no packing is lower: the largest sum of items alive together, each rounded
                      // up, or more where the search has proven it
  std::string rule;   // the member of the portfolio that won
  unsigned tried = 0; // members that were run; a result at the bound ends the search
  uint64_t steps = 0; // of the exact search
  bool limited = false; // the work limit kept some members from running
};

// All in counted work, none in time: the result is the same on every machine.
struct PackingLimits {
  uint64_t work = 6'000'000'000;     // pairs of items that all rules together look at
  uint64_t exactItems = 2000;        // larger instances are not searched
  uint64_t exactSteps = 200'000'000; // of the search for the bound; about 10 seconds
};

/// `alignment` is a power of two.
Placement pack(const std::vector<PackingItem> &items, uint64_t alignment,
               const PackingLimits &limits = {});
/// By rules alone, for whoever packs often.
inline Placement pack(const std::vector<PackingItem> &items, uint64_t alignment, uint64_t work) {
  return pack(items, alignment, PackingLimits{work, 0, 0});
}

} // namespace amc

#endif
