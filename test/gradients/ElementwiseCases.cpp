// Gradient cases of the elementwise family: one for each unary operation in its domain, broadcasting in every
// direction for binary ones, each value of each attribute.
#include "Harness.h"

namespace amc::test {

std::vector<Case> elementwiseCases() {
  return {
      {"abs", {"3x5"}},
      {"neg", {"3x5"}},
      {"exp", {"3x5"}},
      {"log", {"3x5"}, "{}", 0.3, 3},
      {"sqrt", {"3x5"}, "{}", 0.3, 3},
      {"rsqrt", {"3x5"}, "{}", 0.3, 3},
      {"reciprocal", {"3x5"}, "{}", 0.5, 3},
      {"reciprocal", {"3x5"}, "{}", -3, -0.5},
      {"sin", {"3x5"}},
      {"cos", {"3x5"}},
      {"tan", {"3x5"}, "{}", -1, 1},
      {"asin", {"3x5"}, "{}", -0.9, 0.9},
      {"acos", {"3x5"}, "{}", -0.9, 0.9},
      {"atan", {"3x5"}},
      {"sinh", {"3x5"}},
      {"cosh", {"3x5"}},
      {"asinh", {"3x5"}},
      {"acosh", {"3x5"}, "{}", 1.2, 3},
      {"atanh", {"3x5"}, "{}", -0.9, 0.9},
      {"tanh", {"3x5"}},
      {"sigmoid", {"3x5"}},
      {"sigmoid", {"scalar"}, "{}", 20, 30},
      {"erf", {"3x5"}},
      {"relu", {"3x5"}},
      {"silu", {"3x5"}},
      {"softplus", {"3x5"}, "{}", -40, 40},
      {"gelu", {"3x5"}},
      {"gelu", {"3x5"}, "{approximate = \"tanh\"}"},
      {"elu", {"3x5"}},
      {"elu", {"3x5"}, "{alpha = 0.3 : f64}"},
      {"cast", {"3x5"}, "{to = f64}"},
      {"cast", {"3x5"}, "{to = f32}"},

      {"add", {"2x3", "2x3"}},
      {"add", {"2x1x3", "4x1"}},
      {"add", {"scalar", "2x3"}},
      {"sub", {"2x3", "3"}},
      {"sub", {"3", "2x3"}},
      {"sub", {"1x1", "2x3"}},
      {"mul", {"2x3", "2x3"}},
      {"mul", {"2x1", "1x3"}},
      {"mul", {"2x3", "scalar"}},
      {"div", {"2x3", "2x3 in 0.5:2"}},
      {"div", {"3", "4x3 in -3:-1"}},
      {"div", {"4x3", "1x3 in 0.5:2"}},
      {"pow", {"2x3 in 0.5:2", "2x3"}},
      {"pow", {"2x3 in 0.5:2", "scalar"}},
      {"pow", {"3 in 0.5:2", "2x1"}},
      {"pow", {"2x3 in -2:-0.5", "dense<2.0> : tensor<f64>"}}, // a negative base has a gradient, an exponent none
      {"pow", {"2x3 in -2:-0.5", "dense<3.0> : tensor<1xf64>"}},
      {"max", {"4x5", "4x5"}},
      {"max", {"4x5", "5"}},
      {"max", {"dense<[0.5]> : tensor<1xf64>", "4x5"}},
      {"min", {"4x5", "4x5"}},
      {"min", {"4x1", "1x5"}},
      {"select", {"dense<[true, false, true]> : tensor<3xi1>", "3", "3"}},
      {"select", {"dense<[[true], [false]]> : tensor<2x1xi1>", "3", "2x3"}},
      {"select", {"dense<[[true, false, true], [false, true, true]]> : tensor<2x3xi1>", "scalar", "1x3"}},
      {"gated_activation", {"2x5", "2x5"}, "{activation = \"silu\"}"},
      {"gated_activation", {"2x5", "2x5"}, "{activation = \"gelu\"}"},
      {"gated_activation", {"2x5", "2x5"}, "{activation = \"gelu_tanh\"}"},
      {"gated_activation", {"2x5", "2x5"}, "{activation = \"relu\"}"},
  };
}

} // namespace amc::test
