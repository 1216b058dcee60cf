// Known values of operations that have no gradient, and of integer and special values of those that have.
#include "Harness.h"

namespace amc::test {

static std::vector<ValueCase> unaryCases() {
  constexpr const char *halves = "dense<[-1.5, -0.5, 0.5, 1.5, 2.5, 0x7FF0000000000000]> : tensor<6xf64>";
  constexpr const char *special =
      "dense<[1.0, 0x7FF8000000000000, 0x7FF0000000000000, 0xFFF0000000000000]> : tensor<4xf64>";
  return {
      {"ceil", {halves}, "{}", {"dense<[-1.0, 0.0, 1.0, 2.0, 3.0, 0x7FF0000000000000]> : tensor<6xf64>"}},
      {"floor", {halves}, "{}", {"dense<[-2.0, -1.0, 0.0, 1.0, 2.0, 0x7FF0000000000000]> : tensor<6xf64>"}},
      {"round", {halves}, "{}", {"dense<[-2.0, 0.0, 0.0, 2.0, 2.0, 0x7FF0000000000000]> : tensor<6xf64>"}},
      {"sign", {"dense<[-3, 0, 7]> : tensor<3xi64>"}, "{}", {"dense<[-1, 0, 1]> : tensor<3xi64>"}},
      {"sign", {"dense<[-0.1, 0.0]> : tensor<2xf64>"}, "{}", {"dense<[-1.0, 0.0]> : tensor<2xf64>"}},
      {"is_nan", {special}, "{}", {"dense<[false, true, false, false]> : tensor<4xi1>"}},
      {"is_inf", {special}, "{}", {"dense<[false, false, true, true]> : tensor<4xi1>"}},
      {"is_inf", {special}, "{negative = false}", {"dense<[false, false, true, false]> : tensor<4xi1>"}},
      {"is_inf", {special}, "{positive = false}", {"dense<[false, false, false, true]> : tensor<4xi1>"}},
      {"not", {"dense<[true, false]> : tensor<2xi1>"}, "{}", {"dense<[false, true]> : tensor<2xi1>"}},
      {"bitwise_not", {"dense<[0, 5]> : tensor<2xi32>"}, "{}", {"dense<[-1, -6]> : tensor<2xi32>"}},
      {"abs", {"dense<[-3, 3]> : tensor<2xi64>"}, "{}", {"dense<[3, 3]> : tensor<2xi64>"}},
      {"relu", {"dense<[-3, 3]> : tensor<2xi64>"}, "{}", {"dense<[0, 3]> : tensor<2xi64>"}},
      {"cast", {"dense<[-1.9, 0.0, 2.9]> : tensor<3xf64>"}, "{to = i32}", {"dense<[-1, 0, 2]> : tensor<3xi32>"}},
      {"cast", {"dense<[0.5, 0.0]> : tensor<2xf64>"}, "{to = i1}", {"dense<[true, false]> : tensor<2xi1>"}},
      {"cast", {"dense<[300, -1]> : tensor<2xi64>"}, "{to = ui8}", {"dense<[44, 255]> : tensor<2xui8>"}},
  };
}

static std::vector<ValueCase> binaryCases() {
  constexpr const char *a = "dense<[7, -7, 7, -7]> : tensor<4xi64>", *b = "dense<[3, 3, -3, -3]> : tensor<4xi64>";
  constexpr const char *p = "dense<[true, true, false, false]> : tensor<4xi1>";
  constexpr const char *q = "dense<[true, false, true, false]> : tensor<4xi1>";
  constexpr const char *nans = "dense<[0x7FF8000000000000, 1.0]> : tensor<2xf64>";
  return {
      {"div", {a, b}, "{}", {"dense<[2, -2, -2, 2]> : tensor<4xi64>"}},
      {"div", {a, "dense<0> : tensor<i64>"}, "{}", {"dense<0> : tensor<4xi64>"}},
      {"mod", {a, b}, "{}", {"dense<[1, 2, -2, -1]> : tensor<4xi64>"}},
      {"mod", {a, b}, "{fmod}", {"dense<[1, -1, 1, -1]> : tensor<4xi64>"}},
      {"mod", {"dense<[5.5, -5.5]> : tensor<2xf64>", "dense<2.0> : tensor<f64>"}, "{fmod}",
       {"dense<[1.5, -1.5]> : tensor<2xf64>"}},
      {"pow", {"dense<[2, -3]> : tensor<2xi64>", "dense<[10, 3]> : tensor<2xi64>"}, "{}",
       {"dense<[1024, -27]> : tensor<2xi64>"}},
      {"max", {nans, "dense<0.0> : tensor<f64>"}, "{}", {nans}},
      {"min", {"dense<2.0> : tensor<f64>", nans}, "{}", {nans}},
      {"equal", {a, "dense<[7, 7, 7, 7]> : tensor<4xi64>"}, "{}", {"dense<[true, false, true, false]> : tensor<4xi1>"}},
      {"equal", {nans, nans}, "{}", {"dense<[false, true]> : tensor<2xi1>"}},
      {"equal", {p, q}, "{}", {"dense<[true, false, false, true]> : tensor<4xi1>"}},
      {"less", {a, "dense<7> : tensor<i64>"}, "{}", {"dense<[false, true, false, true]> : tensor<4xi1>"}},
      {"less_equal", {a, "dense<7> : tensor<i64>"}, "{}", {"dense<true> : tensor<4xi1>"}},
      {"and", {p, q}, "{}", {"dense<[true, false, false, false]> : tensor<4xi1>"}},
      {"or", {p, q}, "{}", {"dense<[true, true, true, false]> : tensor<4xi1>"}},
      {"xor", {p, q}, "{}", {"dense<[false, true, true, false]> : tensor<4xi1>"}},
      {"bitwise_and", {"dense<12> : tensor<i64>", "dense<10> : tensor<i64>"}, "{}", {"dense<8> : tensor<i64>"}},
      {"bitwise_or", {"dense<12> : tensor<i64>", "dense<10> : tensor<i64>"}, "{}", {"dense<14> : tensor<i64>"}},
      {"bitwise_xor", {"dense<12> : tensor<i64>", "dense<10> : tensor<i64>"}, "{}", {"dense<6> : tensor<i64>"}},
  };
}

static std::vector<ValueCase> tensorValueCases() {
  constexpr const char *ties = "dense<[[1.0, 3.0, 3.0], [2.0, 0.0, 0.0]]> : tensor<2x3xf64>";
  constexpr const char *nans = "dense<[1.0, 0x7FF8000000000000, 3.0]> : tensor<3xf64>";
  return {
      {"full", {}, "{value = 2.5 : f64, shape = array<i64: 2>, element = f32}", {"dense<2.5> : tensor<2xf32>"}},
      {"full", {}, "{value = 1.0 : f64, shape = array<i64>, element = i1}", {"dense<true> : tensor<i1>"}},
      {"iota", {}, "{start = 3.0 : f64, step = -2.0 : f64, axis = 1 : i64, shape = array<i64: 2, 3>, element = i64}",
       {"dense<[[3, 1, -1], [3, 1, -1]]> : tensor<2x3xi64>"}},
      {"iota", {}, "{start = 0.0 : f64, step = 0.5 : f64, axis = 0 : i64, shape = array<i64: 2, 1>, element = f64}",
       {"dense<[[0.0], [0.5]]> : tensor<2x1xf64>"}},
      {"pad", {"dense<[1, 2]> : tensor<2xi64>"},
       "{low = array<i64: 1>, high = array<i64: 0>, interior = array<i64: 1>, value = -1.0 : f64}",
       {"dense<[-1, 1, -1, 2]> : tensor<4xi64>"}},
      {"pad", {"dense<> : tensor<0xi64>"},
       "{low = array<i64: 1>, high = array<i64: 1>, interior = array<i64: 9>, value = 7.0 : f64}",
       {"dense<7> : tensor<2xi64>"}},
      {"one_hot", {"dense<[1, -1, 5]> : tensor<3xi64>"}, "{depth = 3 : i64, axis = 1 : i64, element = f32}",
       {"dense<[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]> : tensor<3x3xf32>"}},
      {"one_hot", {"dense<[1, 0]> : tensor<2xi32>"}, "{depth = 2 : i64, axis = 0 : i64, element = i64}",
       {"dense<[[0, 1], [1, 0]]> : tensor<2x2xi64>"}},
      {"arg_max", {ties}, "{axis = 1 : i64, keepdims = false}", {"dense<[1, 0]> : tensor<2xi64>"}},
      {"arg_max", {ties}, "{axis = 1 : i64, keepdims = true, last}", {"dense<[[2], [0]]> : tensor<2x1xi64>"}},
      {"arg_max", {ties}, "{axis = 1 : i64, keepdims = false, min}", {"dense<[0, 1]> : tensor<2xi64>"}},
      {"arg_max", {ties}, "{axis = 1 : i64, keepdims = false, min, last}", {"dense<[0, 2]> : tensor<2xi64>"}},
      {"arg_max", {nans}, "{axis = 0 : i64, keepdims = false}", {"dense<1> : tensor<i64>"}},
      {"expert_slots", {"dense<[2, 0, 3, 2, 1]> : tensor<5xi64>"}, "{experts = 4 : i64, members = 2 : i64, capacity = 2 : i64}",
       {"dense<[2, 0, 3, 4, 1]> : tensor<5xi64>", "dense<[0, 1, 0, 1]> : tensor<4xi64>", "dense<1.0> : tensor<f64>"}},
      {"top_k", {ties}, "{k = 2 : i64, axis = 1 : i64}",
       {"dense<[[3.0, 3.0], [2.0, 0.0]]> : tensor<2x2xf64>", "dense<[[1, 2], [0, 1]]> : tensor<2x2xi64>"}},
      {"top_k", {"dense<[4, -1, 3]> : tensor<3xi64>"}, "{k = 2 : i64, axis = 0 : i64, largest = false}",
       {"dense<[-1, 3]> : tensor<2xi64>", "dense<[1, 2]> : tensor<2xi64>"}},
      {"reduce_mean", {"dense<[[-7, 0], [2, 3]]> : tensor<2x2xi64>"}, "{axes = array<i64: 1>, keepdims = false}",
       {"dense<[-3, 2]> : tensor<2xi64>"}},
      {"reduce_max", {nans}, "{axes = array<i64: 0>, keepdims = false}", {"dense<0x7FF8000000000000> : tensor<f64>"}},
      {"reduce_min", {"dense<[4, -1]> : tensor<2xi64>"}, "{axes = array<i64: 0>, keepdims = true}",
       {"dense<-1> : tensor<1xi64>"}},
      {"reduce_sum", {"dense<> : tensor<2x0xf64>"}, "{axes = array<i64: 1>, keepdims = false}",
       {"dense<0.0> : tensor<2xf64>"}},
      {"reduce_prod", {"dense<[2.0, 0.0, 3.0]> : tensor<3xf64>"}, "{axes = array<i64: 0>, keepdims = false}",
       {"dense<0.0> : tensor<f64>"}},
      // A row under a finite mask: the logarithm of its length must not vanish beside it.
      {"softmax", {"dense<-3.0e38> : tensor<1x4xf64>"}, "{axis = 1 : i64}", {"dense<0.25> : tensor<1x4xf64>"}},
      {"log_softmax", {"dense<-3.0e38> : tensor<4xf64>"}, "{axis = 0 : i64}",
       {"dense<-1.3862943611198906> : tensor<4xf64>"}},
      {"cumsum", {"dense<[1, 2, 3]> : tensor<3xi64>"}, "{axis = 0 : i64, exclusive, reverse}",
       {"dense<[5, 3, 0]> : tensor<3xi64>"}},
      {"scatter_elements",
       {"dense<[5, 6, 7]> : tensor<3xi64>", "dense<[1, 1]> : tensor<2xi64>", "dense<[2, 3]> : tensor<2xi64>"},
       "{axis = 0 : i64, reduction = \"mul\"}", {"dense<[5, 36, 7]> : tensor<3xi64>"}},
      {"scatter_nd",
       {"dense<[true, true]> : tensor<2xi1>", "dense<[[-1]]> : tensor<1x1xi64>", "dense<[false]> : tensor<1xi1>"},
       "{}", {"dense<[true, false]> : tensor<2xi1>"}},
  };
}

static std::vector<ValueCase> trainingCases() {
  constexpr const char *one = "dense<1.0> : tensor<f32>";
  return {
      {"shift_labels", {"dense<[[1, 2, 3], [4, 5, 6]]> : tensor<2x3xi64>"}, "{ignore_index = -100 : i64}",
       {"dense<[[2, 3, -100], [5, 6, -100]]> : tensor<2x3xi64>"}},
      {"sum_scalars", {"dense<9.0> : tensor<f64>", "dense<16.0> : tensor<f64>"}, "{}", {"dense<25.0> : tensor<f64>"}},
      {"squared_norm", {"dense<[[3.0, -4.0]]> : tensor<1x2xf32>"}, "{}", {"dense<25.0> : tensor<f64>"}},
      // Norms 3 and 4: 5 in all.
      {"clip_scale", {"dense<9.0> : tensor<f64>", "dense<16.0> : tensor<f64>"}, "{max_norm = 1.0 : f64}",
       {"dense<5.0> : tensor<f32>", "dense<0.2> : tensor<f32>"}},
      {"clip_scale", {"dense<9.0> : tensor<f64>"}, "{max_norm = 4.0 : f64}",
       {"dense<3.0> : tensor<f32>", "dense<1.0> : tensor<f32>"}},
      {"clip_scale", {"dense<9.0> : tensor<f64>"}, "{max_norm = 0.0 : f64}",
       {"dense<3.0> : tensor<f32>", "dense<1.0> : tensor<f32>"}},
      {"accumulate", {"state dense<[5.0]> : tensor<1xf64>", "dense<[2.0]> : tensor<1xf64>", "dense<0> : tensor<i64>"}, "{}",
       {"dense<[2.0]> : tensor<1xf64>"}},
      {"accumulate", {"state dense<[5.0]> : tensor<1xf64>", "dense<[2.0]> : tensor<1xf64>", "dense<3> : tensor<i64>"}, "{}",
       {"dense<[7.0]> : tensor<1xf64>"}},
      // Of a group of one, the shard is all there is.
      {"refresh", {"state dense<[5.0, 6.0]> : tensor<2xf64>", "state dense<[2.0, 3.0]> : tensor<2xf64>"},
       "{dim = 0 : i64, size = 2 : i64, group = \"dp_shard\", members = 1 : i64}", {"dense<[2.0, 3.0]> : tensor<2xf64>"}},
      // First step: moments are 0.1 g and 0.001 g^2, the update lr * g / |g|; decay takes 0.01 of the parameter.
      {"adamw",
       {"state dense<[1.0]> : tensor<1xf64>", "dense<[0.5]> : tensor<1xf64>", "state dense<[0.0]> : tensor<1xf64>",
        "state dense<[0.0]> : tensor<1xf64>", one, "dense<0.1> : tensor<f64>", "dense<1> : tensor<i64>"},
       "{beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 0.0 : f64, weight_decay = 0.1 : f64}",
       {"dense<[0.89]> : tensor<1xf64>", "dense<[0.05]> : tensor<1xf64>", "dense<[0.00025]> : tensor<1xf64>"}},
      // Second step, gradient halved by clipping: torch.optim.AdamW's numbers.
      {"adamw",
       {"state dense<[2.0]> : tensor<1xf64>", "dense<[2.0]> : tensor<1xf64>", "state dense<[0.5]> : tensor<1xf64>",
        "state dense<[0.04]> : tensor<1xf64>", "dense<0.5> : tensor<f32>", "dense<0.01> : tensor<f64>",
        "dense<2> : tensor<i64>"},
       "{beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.0 : f64}",
       {"dense<[1.993605074187]> : tensor<1xf64>", "dense<[0.55]> : tensor<1xf64>", "dense<[0.04096]> : tensor<1xf64>"}},
      // g = 0.5 * 2 + 0.1 * 1.
      {"sgd",
       {"state dense<[1.0]> : tensor<1xf64>", "dense<[0.5]> : tensor<1xf64>", "dense<2.0> : tensor<f32>",
        "dense<0.1> : tensor<f64>", "dense<2> : tensor<i64>", "-", "-"},
       "{momentum = 0.0 : f64, weight_decay = 0.1 : f64}",
       {"dense<[0.89]> : tensor<1xf64>"}},
      // The buffer is g at step 1, 0.9 * 2 + 1.1 = 2.9 at step 2; Nesterov goes by 1.1 + 0.9 * 2.9.
      {"sgd",
       {"state dense<[1.0]> : tensor<1xf64>", "dense<[0.5]> : tensor<1xf64>", "dense<2.0> : tensor<f32>",
        "dense<0.1> : tensor<f64>", "dense<1> : tensor<i64>", "state dense<[2.0]> : tensor<1xf64>", "-"},
       "{momentum = 0.9 : f64, weight_decay = 0.1 : f64}",
       {"dense<[0.89]> : tensor<1xf64>", "dense<[1.1]> : tensor<1xf64>"}},
      {"sgd",
       {"state dense<[1.0]> : tensor<1xf64>", "dense<[0.5]> : tensor<1xf64>", "dense<2.0> : tensor<f32>",
        "dense<0.1> : tensor<f64>", "dense<2> : tensor<i64>", "state dense<[2.0]> : tensor<1xf64>", "-"},
       "{momentum = 0.9 : f64, weight_decay = 0.1 : f64, nesterov}",
       {"dense<[0.629]> : tensor<1xf64>", "dense<[2.9]> : tensor<1xf64>"}},
      // The fp32 master, 1.0625, is what moves, by 0.125 * 0.5, and the parameter becomes it, whatever it was.
      {"sgd",
       {"state dense<[8.0]> : tensor<1xbf16>", "dense<[0.5]> : tensor<1xbf16>", one, "dense<0.125> : tensor<f64>",
        "dense<1> : tensor<i64>", "-", "state dense<[1.0625]> : tensor<1xf32>"},
       "{momentum = 0.0 : f64, weight_decay = 0.0 : f64}",
       {"dense<[1.0]> : tensor<1xbf16>", "dense<[1.0]> : tensor<1xf32>"}},
      // First step: m = 0.5 g, v = 0.25 g^2, so the update is lr * g / |g|.
      {"adamw",
       {"state dense<[8.0]> : tensor<1xbf16>", "dense<[0.5]> : tensor<1xbf16>", "state dense<[0.0]> : tensor<1xbf16>",
        "state dense<[0.0]> : tensor<1xbf16>", one, "dense<0.0625> : tensor<f64>", "dense<1> : tensor<i64>",
        "state dense<[1.0625]> : tensor<1xf32>"},
       "{beta1 = 0.5 : f64, beta2 = 0.75 : f64, epsilon = 0.0 : f64, weight_decay = 0.0 : f64}",
       {"dense<[1.0]> : tensor<1xbf16>", "dense<[0.25]> : tensor<1xbf16>", "dense<[0.0625]> : tensor<1xbf16>",
        "dense<[1.0]> : tensor<1xf32>"}},
  };
}

std::vector<ValueCase> valueCases() {
  std::vector<ValueCase> cases = unaryCases();
  for (const auto &more : {binaryCases(), tensorValueCases(), trainingCases()})
    cases.insert(cases.end(), more.begin(), more.end());
  return cases;
}

} // namespace amc::test
