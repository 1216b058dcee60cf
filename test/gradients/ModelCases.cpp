// Gradient cases of products, normalisations, attention and losses.
#include "Harness.h"

namespace amc::test {

static std::vector<Case> productCases() {
  constexpr const char *ids = "dense<[2, 0, 2, 2, 0]> : tensor<5xi64>"; // group 1 is empty
  return {
      {"matmul", {"2x3", "3x4"}},
      {"matmul", {"3x2", "3x4"}, "{transpose_a}"},
      {"matmul", {"2x3", "4x3"}, "{transpose_b}"},
      {"matmul", {"3x2", "4x3"}, "{transpose_a, transpose_b}"},
      {"matmul", {"2x2x3", "2x3x2"}},
      {"matmul", {"2x2x3", "3x2"}},                       // b for every batch
      {"matmul", {"2x3", "4x3x2"}},                       // a for every batch
      {"matmul", {"2x1x2x3", "1x3x3x2"}},                 // both broadcast
      {"matmul", {"2x1x3x2", "3x2x3"}, "{transpose_a, transpose_b}"},
      {"linear", {"2x3", "3x4", "-"}},
      {"linear", {"2x3", "3x4", "4"}},
      {"linear", {"2x2x3", "4x3", "4"}, "{transpose_w}"},
      {"linear", {"2x2x3", "4x3", "-"}, "{transpose_w}"},
      {"linear", {"3", "3x2", "2"}},
      {"gated_mlp", {"2x3", "3x4", "3x4", "4x2"}, "{activation = \"silu\"}"},
      {"gated_mlp", {"2x2x3", "4x3", "4x3", "2x4"},
       "{activation = \"gelu_tanh\", transpose_gate, transpose_up, transpose_down}"},
      {"gated_mlp", {"3", "3x2", "3x2", "2x3"}, "{activation = \"gelu\"}"},
      {"grouped_matmul", {"5x3", "3x3x2", ids}},
      {"grouped_matmul", {"5x3", "3x2x3", ids}, "{transpose_w}"},
      {"grouped_matmul", {"2x3", "4x3x2", "dense<[3, 1]> : tensor<2xi32>"}},
      {"grouped_matmul", {"4x3", "2x3x2", "dense<[1, 2, 0, 2]> : tensor<4xi64>"}, "{expected_rows = 2 : i64}"},
      {"place_rows", {"3x2", "dense<[4, 0, 5]> : tensor<3xi64>"}, "{rows = 5 : i64}"},
      {"take_rows", {"4x2", "dense<[3, 4, 0]> : tensor<3xi64>"}},
  };
}

// One rank alone: what a group of one does is the identity, and so is its gradient. More ranks: test/parity.
static std::vector<Case> collectiveCases() {
  return {
      {"all_gather", {"3x2"}, "{dim = 0 : i64, size = 3 : i64, group = \"dp_shard\", members = 1 : i64}"},
      {"reduce_scatter", {"3x2"}, "{dim = 1 : i64, group = \"tp\", members = 1 : i64}"},
      {"all_reduce", {"3"}, "{group = \"dp_replicate+cp\", members = 1 : i64}"},
      {"all_gather", {"3x2"}, "{dim = 1 : i64, size = 2 : i64, group = \"tp\", members = 1 : i64, alike}"},
      {"take_piece", {"3x2"}, "{dim = 1 : i64, group = \"tp\", members = 1 : i64}"},
      {"vary", {"3"}, "{group = \"tp\", members = 1 : i64}"},
      {"all_to_all", {"3x2"}, "{split_dim = 0 : i64, concat_dim = 1 : i64, group = \"ep\", members = 1 : i64}"},
  };
}

static std::vector<Case> normCases() {
  return {
      {"rms_norm", {"3x5", "5"}, "{epsilon = 1.0e-5 : f64}"},
      {"rms_norm", {"2x3x4", "-"}, "{epsilon = 1.0e-1 : f64}"},
      {"rms_norm", {"4", "4"}, "{epsilon = 1.0e-6 : f64}"},
      {"layer_norm", {"3x5", "5", "5"}, "{epsilon = 1.0e-5 : f64}"},
      {"layer_norm", {"2x3x4", "4", "-"}, "{epsilon = 1.0e-1 : f64}"},
      {"layer_norm", {"2x4", "-", "-"}, "{epsilon = 1.0e-5 : f64}"},
      {"layer_norm", {"70x3", "3", "3"}, "{epsilon = 1.0e-5 : f64}"}, // more rows than a block of 64
  };
}

static std::vector<Case> attentionCases() {
  constexpr const char *tables = "dense<[[[[0.5, -0.3, 0.5, -0.3], [0.1, 0.9, 0.1, 0.9], [-0.6, 0.2, -0.6, 0.2]]]]> "
                                 ": tensor<1x1x3x4xf64>";
  constexpr const char *sines = "dense<[[[[0.8, 0.4, 0.8, 0.4], [-0.7, 0.1, -0.7, 0.1], [0.3, 0.6, 0.2, 0.7]]]]> "
                                ": tensor<1x1x3x4xf64>";
  constexpr const char *padding = "dense<[[true, true, false], [false, true, true]]> : tensor<2x3xi1>";
  constexpr const char *nothing = "dense<[[false, false, true], [true, true, true]]> : tensor<2x3xi1>";
  constexpr const char *bias = "dense<[[[[0.5, -1.0, 0.0], [0.1, 0.2, -0.3], [1.0, 0.0, -2.0]]]]> : tensor<1x1x3x3xf64>";
  constexpr const char *zero = "dense<0> : tensor<i64>", *two = "dense<2> : tensor<i64>", *seven = "dense<7> : tensor<i64>";
  return {
      {"rotary", {"2x2x3x4", tables, sines}},
      {"rotary", {"1x1x3x4", tables, sines}, "{interleaved}"},
      {"rotary", {"2x1x1x2", "dense<[[0.5, -0.4]]> : tensor<1x2xf64>", "dense<0.7> : tensor<f64>"}},
      {"attention", {"2x2x3x4", "2x2x3x4", "2x2x3x4", "-", "-", "-", "-", "-"}, "{scale = 0.5 : f64}"},
      // Causal, grouped heads, values of another width.
      {"attention", {"1x4x3x2", "1x2x3x2", "1x2x3x5", "-", "-", "-", "-", "-"}, "{scale = 0.7 : f64, right = 0 : i64}"},
      {"attention", {"2x2x3x2", "2x1x3x2", "2x1x3x2", padding, "-", "-", "-", "-"}, "{scale = 0.7 : f64, right = 0 : i64}"},
      // A row with nothing to attend to: zero, or the mean of all values.
      {"attention", {"2x2x3x2", "2x2x3x2", "2x2x3x2", nothing, "-", "-", "-", "-"}, "{scale = 0.7 : f64, right = 0 : i64}"},
      {"attention", {"2x2x3x2", "2x1x3x2", "2x1x3x2", nothing, "-", "-", "-", "-"},
       "{scale = 0.7 : f64, right = 0 : i64, masked_rows = \"average\"}"},
      // Window, both sides; more keys than queries.
      {"attention", {"1x2x5x2", "1x2x5x2", "1x2x5x2", "-", "-", "-", "-", "-"}, "{scale = 1.0 : f64, left = 2 : i64, right = 0 : i64}"},
      {"attention", {"1x2x3x2", "1x2x5x2", "1x2x5x2", "-", "-", "-", "-", "-"}, "{scale = 1.0 : f64, left = 1 : i64, right = 1 : i64}"},
      {"attention", {"2x2x3x2", "2x2x3x2", "2x2x3x3", "-", "-", "-", "-", "-"}, "{scale = 1.5 : f64, softcap = 2.0 : f64}"},
      {"attention", {"2x2x3x2", "2x2x3x2", "2x2x3x2", "-", bias, "-", "-", "-"}, "{scale = 0.5 : f64}"},
      {"attention", {"2x4x3x2", "2x2x3x2", "2x2x3x2", padding, bias, "-", "-", "-"},
       "{scale = 0.5 : f64, softcap = 1.5 : f64, left = 1 : i64, right = 0 : i64}"},
      // A group of one, whose two chunks are the sequence.
      {"attention", {"1x4x4x2", "1x2x4x2", "1x2x4x3", "-", "-", "-", "-", "-"},
       "{scale = 0.7 : f64, right = 0 : i64, group = \"cp\", members = 1 : i64, zigzag}"},
      // Dropout of probabilities: plain; with all that masks and with heads grouped; of a row that is the mean of all
      // values; in evaluation (step 0), where nothing is dropped.
      {"attention", {"2x2x3x4", "2x2x3x4", "2x2x3x4", "-", "-", seven, two, zero},
       "{scale = 0.5 : f64, dropout = 0.4 : f64, stream = 3 : i64}"},
      {"attention", {"2x4x3x2", "2x2x3x2", "2x2x3x3", padding, bias, seven, two, two},
       "{scale = 0.5 : f64, softcap = 1.5 : f64, left = 1 : i64, right = 0 : i64, dropout = 0.3 : f64, stream = 0 : i64}"},
      {"attention", {"2x2x3x2", "2x1x3x2", "2x1x3x2", nothing, "-", two, seven, zero},
       "{scale = 0.7 : f64, right = 0 : i64, masked_rows = \"average\", dropout = 0.5 : f64, stream = 1 : i64}"},
      {"attention", {"1x2x3x2", "1x2x5x2", "1x2x5x2", "-", "-", seven, zero, zero},
       "{scale = 0.7 : f64, dropout = 0.9 : f64, stream = 1 : i64}"},
  };
}

static std::vector<Case> lossCases() {
  constexpr const char *weights = "dense<[0.5, 2.0, 1.0, 0.25]> : tensor<4xf64>";
  return {
      {"cross_entropy", {"3x5", "dense<[4, 0, 2]> : tensor<3xi64>", "-"}},
      {"cross_entropy", {"2x2x4", "dense<[[1, -100], [3, 3]]> : tensor<2x2xi64>", "-"}},
      {"cross_entropy", {"3x5", "dense<[4, 0, 2]> : tensor<3xi64>", "-"}, "{ignore_index = 0 : i64}"},
      {"cross_entropy", {"3", "dense<1> : tensor<i64>", "-"}, "{}", 700, 720}, // e^x alone would overflow
      {"cross_entropy", {"2x2x4", "dense<[[1, -100], [3, 3]]> : tensor<2x2xi64>", weights},
       "{label_smoothing = 0.1 : f64, z_loss = 0.05 : f64}"},
      {"linear_cross_entropy", {"3x2", "2x5", "-", "dense<[4, 0, 2]> : tensor<3xi64>", "-"}},
      {"linear_cross_entropy", {"2x2x3", "4x3", "4", "dense<[[1, -100], [3, 3]]> : tensor<2x2xi64>", "-"}, "{transpose_w}"},
      {"linear_cross_entropy", {"2x2x3", "4x3", "4", "dense<[[1, -100], [3, 3]]> : tensor<2x2xi64>", weights},
       "{transpose_w, label_smoothing = 0.1 : f64, z_loss = 0.05 : f64, softcap = 1.5 : f64}"},
      {"linear_cross_entropy", {"2", "2x4", "-", "dense<1> : tensor<i64>", weights}},
  };
}

std::vector<Case> modelCases() {
  std::vector<Case> cases = productCases();
  for (const auto &more : {collectiveCases(), normCases(), attentionCases(), lossCases()})
    cases.insert(cases.end(), more.begin(), more.end());
  return cases;
}

} // namespace amc::test
