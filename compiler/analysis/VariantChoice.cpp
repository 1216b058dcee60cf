// Branch and bound; see VariantChoice.h.
#include "compiler/analysis/VariantChoice.h"
#include <algorithm>
#include <numeric>

namespace amc {
namespace {

class Chooser {
public:
  Chooser(const std::vector<StepVariant> &variants, const std::function<VariantPlan(size_t)> &plan)
      : variants(variants), plan(plan) {
    choice.plans.resize(variants.size());
  }

  VariantChoice best() {
    std::vector<size_t> order(variants.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return variants[a].stepCost < variants[b].stepCost;
    });
    for (size_t i : order) {
      if (choice.fits && !better(i, variants[i].stepCost))
        continue;
      if (isDominated(i) || !canFit(i))
        continue;
      consider(i);
    }
    return result();
  }

  VariantChoice any() {
    for (size_t i = 0; i < variants.size() && !choice.fits; ++i)
      if (smallestOf(variants[i].family) == i)
        consider(i);
    return result();
  }

private:
  bool better(size_t i, uint64_t cost) const {
    return cost < least || (cost == least && i < choice.taken);
  }

  // The first is what is taken without a reason, so nothing keeps it from being looked at.
  bool isDominated(size_t i) const {
    return i != 0 && std::any_of(variants.begin(), variants.end(), [&](const StepVariant &other) {
             return other.family == variants[i].family && other.workspace < variants[i].workspace &&
                    other.stepCost <= variants[i].stepCost;
           });
  }

  size_t smallestOf(uint32_t family) const {
    size_t smallest = variants.size();
    for (size_t i = 0; i < variants.size(); ++i)
      if (variants[i].family == family &&
          (smallest == variants.size() || variants[i].workspace < variants[smallest].workspace))
        smallest = i;
    return smallest;
  }

  // Whether the family's smallest fits, if there is reason to ask.
  bool canFit(size_t i) {
    for (size_t other = 0; other < variants.size(); ++other)
      if (variants[other].family == variants[i].family && choice.plans[other] &&
          !choice.plans[other]->fits) {
        size_t smallest = smallestOf(variants[i].family);
        consider(smallest);
        return choice.plans[smallest]->fits;
      }
    return true;
  }

  void consider(size_t i) {
    if (choice.plans[i])
      return;
    choice.plans[i] = plan(i);
    if (!choice.plans[i]->fits)
      return;
    uint64_t cost = variants[i].stepCost + choice.plans[i]->recompute;
    if (!choice.fits || better(i, cost)) {
      choice.fits = true;
      choice.taken = i;
      least = cost;
    }
  }

  VariantChoice result() {
    if (!choice.fits) {
      uint64_t smallest = ~uint64_t(0);
      for (size_t i = 0; i < variants.size(); ++i)
        if (choice.plans[i] && choice.plans[i]->arena < smallest) {
          smallest = choice.plans[i]->arena;
          choice.taken = i;
        }
    }
    return std::move(choice);
  }

  const std::vector<StepVariant> &variants;
  const std::function<VariantPlan(size_t)> &plan;
  VariantChoice choice;
  uint64_t least = 0; // if something fits
};

} // namespace

VariantChoice chooseVariant(const std::vector<StepVariant> &variants,
                            const std::function<VariantPlan(size_t)> &plan, bool any) {
  Chooser chooser(variants, plan);
  return any ? chooser.any() : chooser.best();
}

} // namespace amc
