// What page.js draws, as JSON for the page.
#ifndef AMC_COMPILER_REPORT_PAGEFACTS_H
#define AMC_COMPILER_REPORT_PAGEFACTS_H

#include "compiler/report/Values.h"

namespace amc::report {

struct PageLimits {
  size_t columns = 1000; // of the memory picture: each shows the fullest of its instructions
  size_t tensors = 1500; // drawn and listed one by one
  size_t text = 160;     // bytes of a name
};

struct PageFacts {
  std::string json;
  size_t tensors = 0;     // of them drawn one by one
  size_t allTensors = 0;
  double drawnShare = 1;  // of bytes times instructions
};
PageFacts pageFacts(const Values &values, const PageLimits &limits = {});

/// Points of the plan's "pareto_curve" note: arena bytes, picoseconds of recomputation.
std::vector<std::pair<uint64_t, uint64_t>> paretoCurve(const plan::Plan &plan);

} // namespace amc::report

#endif
