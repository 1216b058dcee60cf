// Gradient cases of the shape, index and reduction families.
#include "Harness.h"

namespace amc::test {

static std::vector<Case> shapeCases() {
  return {
      {"reshape", {"2x6"}, "{shape = array<i64: 3, 4>}"},
      {"reshape", {"1x1"}, "{shape = array<i64>}"},
      {"transpose", {"2x3x4"}, "{permutation = array<i64: 2, 0, 1>}"},
      {"transpose", {"2x3"}, "{permutation = array<i64: 1, 0>}"},
      {"transpose", {"scalar"}, "{permutation = array<i64>}"},
      {"broadcast", {"2x1x3"}, "{shape = array<i64: 4, 2, 5, 3>}"},
      {"broadcast", {"scalar"}, "{shape = array<i64: 2, 2>}"},
      {"broadcast", {"2x3"}, "{shape = array<i64: 2, 3>}"},
      // All of x, a part, every other element, backwards, every third backwards, one element, nothing.
      {"slice", {"4x5"}, "{starts = array<i64: 0, 0>, sizes = array<i64: 4, 5>, steps = array<i64: 1, 1>}"},
      {"slice", {"4x5"}, "{starts = array<i64: 1, 2>, sizes = array<i64: 2, 3>, steps = array<i64: 1, 1>}"},
      {"slice", {"4x5"}, "{starts = array<i64: 1, 0>, sizes = array<i64: 2, 3>, steps = array<i64: 2, 2>}"},
      {"slice", {"4x5"}, "{starts = array<i64: 3, 0>, sizes = array<i64: 4, 5>, steps = array<i64: -1, 1>}"},
      {"slice", {"4x8"}, "{starts = array<i64: 2, 6>, sizes = array<i64: 1, 3>, steps = array<i64: -7, -3>}"},
      {"slice", {"4x5"}, "{starts = array<i64: 1, 4>, sizes = array<i64: 1, 1>, steps = array<i64: 9, 1>}"},
      {"slice", {"4x5"}, "{starts = array<i64: 0, 9>, sizes = array<i64: 4, 0>, steps = array<i64: 1, 1>}"},
      {"concat", {"2x3", "2x1", "2x2"}, "{axis = 1 : i64}"},
      {"concat", {"2x3", "4x3", "1x3"}, "{axis = 0 : i64}"},
      {"concat", {"2", "dense<[1.0, 2.0]> : tensor<2xf64>"}, "{axis = 0 : i64}"},
      {"concat", {"2x3"}, "{axis = 0 : i64}"},
      {"pad", {"2x3"}, "{low = array<i64: 1, 0>, high = array<i64: 0, 2>, interior = array<i64: 0, 0>}"},
      {"pad", {"2x3"}, "{low = array<i64: 0, 2>, high = array<i64: 1, 0>, interior = array<i64: 3, 1>, value = 1.5 : f64}"},
      {"pad", {"1x3"}, "{low = array<i64: 1, 1>, high = array<i64: 1, 1>, interior = array<i64: 9, 0>}"},
      {"triangle", {"2x4x3"}, "{upper = true}"},
      {"triangle", {"4x4"}, "{upper = false}"},
      {"triangle", {"3x5"}, "{upper = true, k = 2 : i64}"},
      {"triangle", {"5x3"}, "{upper = false, k = -1 : i64}"},
  };
}

static std::vector<Case> indexCases() {
  constexpr const char *rows = "dense<[[0, -1, 2], [2, 2, 1]]> : tensor<2x3xi64>"; // repeated and negative
  constexpr const char *nd = "dense<[[0, 1], [2, -1], [0, 1]]> : tensor<3x2xi64>";
  return {
      {"gather", {"3x4", rows}, "{axis = 0 : i64}"},
      {"gather", {"2x3x4", rows}, "{axis = 1 : i64}"},
      {"gather", {"2x3", "dense<-1> : tensor<i64>"}, "{axis = 1 : i64}"},
      {"gather", {"5", "dense<[4, 0]> : tensor<2xi32>"}, "{axis = 0 : i64}"},
      {"embedding", {"3x4", rows}},
      {"embedding", {"6x2", "dense<[5, 5, 1]> : tensor<3xi32>"}},
      {"gather_elements", {"2x3", rows}, "{axis = 1 : i64}"},
      {"gather_elements", {"3x4", rows}, "{axis = 0 : i64}"},
      {"gather_elements", {"3x2x3", "dense<[[[2, -3, 0]]]> : tensor<1x1x3xi64>"}, "{axis = 0 : i64}"},
      {"scatter_elements", {"2x3", "dense<[[0, 2], [-1, 1]]> : tensor<2x2xi64>", "2x2"}, "{axis = 1 : i64}"},
      // Places written twice: the last update wins, and has the gradient.
      {"scatter_elements", {"4x3", rows, "2x3"}, "{axis = 1 : i64}"},
      {"scatter_elements", {"4x3", rows, "2x3"}, "{axis = 1 : i64, reduction = \"add\"}"},
      {"scatter_elements", {"4x3", rows, "dense<[[2.0, 3.0, -1.0], [0.5, 0.0, 1.5]]> : tensor<2x3xf64>"},
       "{axis = 1 : i64, reduction = \"mul\"}"},
      {"scatter_elements", {"4x3", rows, "2x3"}, "{axis = 0 : i64, reduction = \"max\"}"},
      {"scatter_elements", {"4x3", rows, "2x3"}, "{axis = 0 : i64, reduction = \"min\"}"},
      {"gather_nd", {"3x2x4", nd}},
      {"gather_nd", {"3x4", "dense<[[0], [2]]> : tensor<2x1xi64>"}},
      {"gather_nd", {"3x2", nd}},
      {"gather_nd", {"3x3x2", nd}, "{batch_dims = 1 : i64}"},
      {"gather_nd", {"3x2", "dense<> : tensor<2x0xi64>"}},
      {"scatter_nd", {"3x2x4", nd, "3x4"}},
      {"scatter_nd", {"3x2x4", nd, "3x4"}, "{reduction = \"add\"}"},
      {"scatter_nd", {"3x2", nd, "dense<[2.0, 0.0, -3.0]> : tensor<3xf64>"}, "{reduction = \"mul\"}"},
      {"scatter_nd", {"3x2", nd, "3"}, "{reduction = \"max\"}"},
      {"scatter_nd", {"3x2x4", nd, "3x4"}, "{reduction = \"min\"}"},
      {"scatter_nd", {"4x3", "dense<[[3], [1]]> : tensor<2x1xi64>", "2x3"}},
      {"top_k", {"3x6"}, "{k = 2 : i64, axis = 1 : i64}"},
      {"top_k", {"5x3"}, "{k = 3 : i64, axis = 0 : i64, largest = false}"},
      {"top_k", {"4"}, "{k = 0 : i64, axis = 0 : i64}"},
      {"cumsum", {"3x4"}, "{axis = 1 : i64}"},
      {"cumsum", {"3x4"}, "{axis = 0 : i64, exclusive}"},
      {"cumsum", {"3x4"}, "{axis = 1 : i64, reverse}"},
      {"cumsum", {"2x3x2"}, "{axis = 1 : i64, exclusive, reverse}"},
  };
}

static std::vector<Case> reductionCases() {
  std::vector<Case> cases;
  for (const char *op : {"reduce_sum", "reduce_mean", "reduce_prod", "reduce_max", "reduce_min"}) {
    cases.push_back({op, {"3x4"}, "{axes = array<i64: 1>, keepdims = false}"});
    cases.push_back({op, {"2x3x4"}, "{axes = array<i64: 0, 2>, keepdims = true}"});
    cases.push_back({op, {"2x3"}, "{axes = array<i64: 0, 1>, keepdims = false}"});
    cases.push_back({op, {"2x3"}, "{axes = array<i64>, keepdims = true}"});
    cases.push_back({op, {"scalar"}, "{axes = array<i64>, keepdims = false}"});
  }
  cases.push_back({"reduce_sum", {"3x4"}, "{axes = array<i64: 0>, keepdims = false, wide}"});
  // A product of small factors, and one whose second factor is tiny: no division by zero on the way.
  cases.push_back({"reduce_prod", {"1x7"}, "{axes = array<i64: 1>, keepdims = false}", -0.1, 0.1});
  for (const char *op : {"softmax", "log_softmax"}) {
    cases.push_back({op, {"3x5"}, "{axis = 1 : i64}"});
    cases.push_back({op, {"3x2x4"}, "{axis = 0 : i64}"});
    cases.push_back({op, {"3x2x4"}, "{axis = 1 : i64}"});
    cases.push_back({op, {"2x4"}, "{axis = 1 : i64}", 700, 720}); // e^x alone would overflow
  }
  return cases;
}

std::vector<Case> tensorCases() {
  std::vector<Case> cases = shapeCases();
  for (const auto &more : {indexCases(), reductionCases()})
    cases.insert(cases.end(), more.begin(), more.end());
  return cases;
}

} // namespace amc::test
