// RUN: amc-opt %s --split-input-file --raise | FileCheck %s --implicit-check-not=train.rms_norm --implicit-check-not=train.layer_norm

// Tests that a mean over another dimension is no norm over the last.
// CHECK-LABEL: @axis
// CHECK: train.mul
train.step @axis {
  %x = train.input {name = "x"} : tensor<8x8xf32>
  %e = train.full {value = 1.0e-6 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %square = train.mul %x, %x : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  %mean = train.reduce_mean %square {axes = array<i64: 0>, keepdims = true} : (tensor<8x8xf32>) -> tensor<1x8xf32>
  %sum = train.add %mean, %e : (tensor<1x8xf32>, tensor<f32>) -> tensor<1x8xf32>
  %r = train.rsqrt %sum : (tensor<1x8xf32>) -> tensor<1x8xf32>
  %y = train.mul %x, %r : (tensor<8x8xf32>, tensor<1x8xf32>) -> tensor<8x8xf32>
  train.output %y {name = "y"} : tensor<8x8xf32>
}

// -----

// Tests that the statistic of one tensor does not normalise another.
// CHECK-LABEL: @other
// CHECK: train.mul
train.step @other {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %z = train.input {name = "z"} : tensor<4x8xf32>
  %e = train.full {value = 1.0e-6 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %square = train.mul %z, %z : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %mean = train.reduce_mean %square {axes = array<i64: 1>, keepdims = true} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %sum = train.add %mean, %e : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %r = train.rsqrt %sum : (tensor<4x1xf32>) -> tensor<4x1xf32>
  %y = train.mul %x, %r : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  train.output %y {name = "y"} : tensor<4x8xf32>
}

// -----

// Tests that keepdims = false, broadcast along the rows of a square matrix, is not mistaken for a statistic of rows.
// CHECK-LABEL: @columns
// CHECK: train.mul
train.step @columns {
  %x = train.input {name = "x"} : tensor<8x8xf32>
  %e = train.full {value = 1.0e-6 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %square = train.mul %x, %x : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  %mean = train.reduce_mean %square {axes = array<i64: 1>, keepdims = false} : (tensor<8x8xf32>) -> tensor<8xf32>
  %sum = train.add %mean, %e : (tensor<8xf32>, tensor<f32>) -> tensor<8xf32>
  %r = train.rsqrt %sum : (tensor<8xf32>) -> tensor<8xf32>
  %y = train.mul %x, %r : (tensor<8x8xf32>, tensor<8xf32>) -> tensor<8x8xf32>
  train.output %y {name = "y"} : tensor<8x8xf32>
}
