// RUN: amc-opt %s | amc-opt | FileCheck %s
//
// Reductions and softmax. The types on the right are what the operations
// infer: the verifier compares them. Attributes at their default are not printed.

// Reduced dimensions go away, or stay as 1; reducing none keeps the shape.
// CHECK-LABEL: train.step @axes
train.step @axes {
  %a = train.input {name = "a"} : tensor<2x3x4xf32>
  // CHECK: train.reduce_sum {{.*}}{axes = array<i64: 0, 2>, keepdims = false} : (tensor<2x3x4xf32>) -> tensor<3xf32>
  %r0 = train.reduce_sum %a {axes = array<i64: 0, 2>, keepdims = false} : (tensor<2x3x4xf32>) -> tensor<3xf32>
  // CHECK: train.reduce_sum {{.*}}{axes = array<i64: 0, 2>, keepdims = true} : (tensor<2x3x4xf32>) -> tensor<1x3x1xf32>
  %r1 = train.reduce_sum %a {axes = array<i64: 0, 2>, keepdims = true} : (tensor<2x3x4xf32>) -> tensor<1x3x1xf32>
  // CHECK: train.reduce_mean {{.*}}{axes = array<i64>, keepdims = false} : (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  %r2 = train.reduce_mean %a {axes = array<i64>, keepdims = false} : (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  %b = train.input {name = "b"} : tensor<2x3xi64>
  // CHECK: train.reduce_prod {{.*}}{axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x3xi64>) -> tensor<i64>
  %r3 = train.reduce_prod %b {axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x3xi64>) -> tensor<i64>
  // CHECK: train.reduce_max {{.*}}{axes = array<i64: 1>, keepdims = true} : (tensor<2x3xi64>) -> tensor<2x1xi64>
  %r4 = train.reduce_max %b {axes = array<i64: 1>, keepdims = true} : (tensor<2x3xi64>) -> tensor<2x1xi64>
  %c = train.input {name = "c"} : tensor<2x0xf32>
  // CHECK: train.reduce_min {{.*}}{axes = array<i64: 0>, keepdims = false} : (tensor<2x0xf32>) -> tensor<0xf32>
  %r5 = train.reduce_min %c {axes = array<i64: 0>, keepdims = false} : (tensor<2x0xf32>) -> tensor<0xf32>
}

// A wide sum of narrow floats is fp32; of anything else it is a sum.
// CHECK-LABEL: train.step @wide
train.step @wide {
  %a = train.input {name = "a"} : tensor<2x3xbf16>
  // CHECK: train.reduce_sum {{.*}}{axes = array<i64: 1>, keepdims = true, wide} : (tensor<2x3xbf16>) -> tensor<2x1xf32>
  %r0 = train.reduce_sum %a {axes = array<i64: 1>, keepdims = true, wide} : (tensor<2x3xbf16>) -> tensor<2x1xf32>
  %b = train.input {name = "b"} : tensor<2x3xf64>
  // CHECK: train.reduce_sum {{.*}} : (tensor<2x3xf64>) -> tensor<2xf64>
  %r1 = train.reduce_sum %b {axes = array<i64: 1>, keepdims = false, wide} : (tensor<2x3xf64>) -> tensor<2xf64>
  %c = train.input {name = "c"} : tensor<2x3xi32>
  // CHECK: train.reduce_sum {{.*}} : (tensor<2x3xi32>) -> tensor<2xi32>
  %r2 = train.reduce_sum %c {axes = array<i64: 1>, keepdims = false, wide} : (tensor<2x3xi32>) -> tensor<2xi32>
}

// Sums and products of nothing exist.
// CHECK-LABEL: train.step @empty
train.step @empty {
  %a = train.input {name = "a"} : tensor<2x0xf32>
  // CHECK: train.reduce_sum {{.*}}{axes = array<i64: 1>, keepdims = false} : (tensor<2x0xf32>) -> tensor<2xf32>
  %r0 = train.reduce_sum %a {axes = array<i64: 1>, keepdims = false} : (tensor<2x0xf32>) -> tensor<2xf32>
  // CHECK: train.reduce_prod {{.*}}{axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x0xf32>) -> tensor<f32>
  %r1 = train.reduce_prod %a {axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x0xf32>) -> tensor<f32>
}

// Softmax keeps type and shape.
// CHECK-LABEL: train.step @softmaxes
train.step @softmaxes {
  %a = train.input {name = "a"} : tensor<2x3xbf16>
  // CHECK: train.softmax {{.*}}{axis = 1 : i64} : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r0 = train.softmax %a {axis = 1 : i64} : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %b = train.input {name = "b"} : tensor<2x3xbf16>
  // CHECK: train.softmax_backward {{.*}}{axis = 1 : i64} : (tensor<2x3xbf16>, tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r1 = train.softmax_backward %a, %b {axis = 1 : i64} : (tensor<2x3xbf16>, tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.log_softmax {{.*}}{axis = 0 : i64} : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r2 = train.log_softmax %a {axis = 0 : i64} : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.log_softmax_backward {{.*}}{axis = 0 : i64} : (tensor<2x3xbf16>, tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r3 = train.log_softmax_backward %a, %b {axis = 0 : i64} : (tensor<2x3xbf16>, tensor<2x3xbf16>) -> tensor<2x3xbf16>
}
