// Packs buffers with fixed lifetimes into one arena. Plain C++; knows nothing but intervals and
// sizes.
//
// A portfolio: every order (size, area, lifetime, birth, death) is placed by first fit and by best
// fit into the gaps left by what lives at the same time, and by free lists swept along the time
// axis; then every order again for some rounds in which the items that reached the height move
// towards the front (squeaky wheel optimization, Joslin and Clements, 1999). The lowest arena wins,
// earlier members of the portfolio win ties; whoever reaches the bound ends it. Buffers that live
// for the whole step are stacked at the bottom first: any packing has to. Gap placement is
// quadratic in the number of buffers in the worst case and near linear in practice; an instance too
// large for the whole portfolio runs only its first members and says so (`limited`). Weakest known
// instances: adversarial ones of a few hundred buffers, up to 1.4 x the bound; exact search is to
// come.
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
  uint64_t bound =
      0;            // no packing is lower: the largest sum of items alive together, each rounded up
  std::string rule; // the member of the portfolio that won
  unsigned tried = 0;   // members that were run; a result at the bound ends the search
  bool limited = false; // the work limit kept some members from running
};

/// `alignment` is a power of two; `workLimit` bounds the pairs of items that are looked at.
Placement pack(const std::vector<PackingItem> &items, uint64_t alignment,
               uint64_t workLimit = 6'000'000'000);

} // namespace amc

#endif
