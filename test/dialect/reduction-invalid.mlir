// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/ReductionOps.cpp, named by its label, that violates nothing else.

// reduction_c1: axes are dimensions.
train.step @reduction_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{axis is 2, should be in [0, 2), axes ascending}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.reduce_sum %a {axes = array<i64: 2>, keepdims = false} : (tensor<2x3xf32>) -> tensor<2xf32>
}

// -----

// reduction_c1: they do not count from the end.
train.step @reduction_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{axis is -1, should be in [0, 2), axes ascending}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.reduce_mean %a {axes = array<i64: -1>, keepdims = false} : (tensor<2x3xf32>) -> tensor<2xf32>
}

// -----

// reduction_c1: they ascend.
train.step @reduction_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{axis is 0, should be in [2, 2), axes ascending}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.reduce_prod %a {axes = array<i64: 1, 0>, keepdims = false} : (tensor<2x3xf32>) -> tensor<f32>
}

// -----

// reduction_c1: each is there once.
train.step @reduction_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{axis is 0, should be in [1, 2), axes ascending}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.reduce_min %a {axes = array<i64: 0, 0>, keepdims = false} : (tensor<2x3xf32>) -> tensor<3xf32>
}

// -----

// reduction_c2: nothing has no largest element.
train.step @reduction_c2 {
  %a = train.input {name = "a"} : tensor<2x0xf32>
  // expected-error@+2 {{dimension 1 to reduce is 0, should be 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.reduce_max %a {axes = array<i64: 1>, keepdims = false} : (tensor<2x0xf32>) -> tensor<2xf32>
}

// -----

// reduction_c2: nor a mean.
train.step @reduction_c2 {
  %a = train.input {name = "a"} : tensor<0x2xf32>
  // expected-error@+2 {{dimension 0 to reduce is 0, should be 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.reduce_mean %a {axes = array<i64: 0>, keepdims = false} : (tensor<0x2xf32>) -> tensor<2xf32>
}

// -----

// softmax_c1: the axis is a dimension.
train.step @softmax_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{axis is -1, should be in [0, 2)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.softmax %a {axis = -1 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
}

// -----

// softmax_c1: a scalar has none.
train.step @softmax_c1 {
  %a = train.input {name = "a"} : tensor<f32>
  // expected-error@+2 {{axis is 0, should be in [0, 0)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.log_softmax %a {axis = 0 : i64} : (tensor<f32>) -> tensor<f32>
}

// -----

// softmax_backward_c1: y and its gradient have one type.
train.step @softmax_backward_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  // expected-error@+2 {{types of dy and y are different, should be equal}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.softmax_backward %a, %b {axis = 0 : i64} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<3xf32>
}

// -----

// softmax_backward_c1: for the logarithm, too.
train.step @softmax_backward_c1 {
  %a = train.input {name = "a"} : tensor<3xf64>
  %b = train.input {name = "b"} : tensor<3xf32>
  // expected-error@+2 {{types of dy and y are different, should be equal}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.log_softmax_backward %a, %b {axis = 0 : i64} : (tensor<3xf64>, tensor<3xf32>) -> tensor<3xf32>
}

// -----

// Declared types are compared with what the operation infers.
train.step @inferred_types_reduce_max {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{inferred type(s) 'tensor<1x3xf32>' are incompatible with return type(s) of operation 'tensor<3xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.reduce_max %a {axes = array<i64: 0>, keepdims = true} : (tensor<2x3xf32>) -> tensor<3xf32>
}

// -----

// reduce_sum_c1: a wide sum is not rounded.
train.step @reduce_sum_c1 {
  %a = train.input {name = "a"} : tensor<2x3xbf16>
  // expected-error@+2 {{inferred type(s) 'tensor<2xf32>' are incompatible with return type(s) of operation 'tensor<2xbf16>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.reduce_sum %a {axes = array<i64: 1>, keepdims = false, wide} : (tensor<2x3xbf16>) -> tensor<2xbf16>
}
