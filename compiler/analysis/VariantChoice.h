// Which variant of a step is taken within a memory budget. Variants compute the same bits:
// feed-forward networks tiled or not, more or fewer tiles of the loss in flight. Plain C++.
//
// The one whose step is modelled to take least time is taken: its operations once each, and what
// its plan runs again. Ties: the earlier in the list. Planning a variant takes a second for a large
// model, so not every one is:
//   - what its operations take is a bound for its time, so one that takes longer by that alone than
//   the best so far is not
//     planned;
//   - neither is one that needs more workspace than another of its family and is not faster by its
//   operations alone;
//   - where a variant of a family does not fit, the one with the least workspace is tried next: if
//   that does not fit
//     either, the family's others are not planned.
// None of these depends on the budget but through what does not fit, which a larger budget never
// adds to. So the time of what is taken never rises with the budget if that of every variant's
// plans does not.
#ifndef AMC_COMPILER_ANALYSIS_VARIANTCHOICE_H
#define AMC_COMPILER_ANALYSIS_VARIANTCHOICE_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace amc {

struct StepVariant {
  uint32_t family = 0;    // variants that differ in workspace alone
  uint64_t workspace = 0; // grows with it, within a family
  uint64_t stepCost = 0;  // picoseconds of the step without recomputation
};

struct VariantPlan {
  bool fits = false;
  uint64_t recompute = 0; // picoseconds; if it fits
  uint64_t arena = 0;     // bytes; if it does not fit, the smallest found
};

struct VariantChoice {
  bool fits = false;
  size_t taken = 0; // if nothing fits, the one with the smallest arena that was found
  std::vector<std::optional<VariantPlan>> plans; // of those that were planned
};

/// `variants` is not empty; the first is what is taken if there is no reason for another. `plan` is
/// called once at most for each. With `any`, the first that is found to fit is taken, and those
/// with least workspace are tried alone.
VariantChoice chooseVariant(const std::vector<StepVariant> &variants,
                            const std::function<VariantPlan(size_t)> &plan, bool any = false);

} // namespace amc

#endif
