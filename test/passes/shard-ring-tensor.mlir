// RUN: amc-opt %s --shard="cp=2 tp=2 cp-attention=ring" | FileCheck %s

// Tests that a ring stays one where heads are cut behind it: of the axis that has the sequence, with the keys of a member
// of either axis.
// CHECK-LABEL: @step
train.step @step {
  %x = train.input {name = "x"} : tensor<1x8x3xf32>
  %wq = train.parameter {name = "q", trainable} : tensor<3x4xf32>
  %wo = train.parameter {name = "o", trainable} : tensor<4x3xf32>
  %q0 = train.linear %x, %wq : (tensor<1x8x3xf32>, tensor<3x4xf32>) -> tensor<1x8x4xf32>
  %q1 = train.reshape %q0 {shape = array<i64: 1, 8, 2, 2>} : (tensor<1x8x4xf32>) -> tensor<1x8x2x2xf32>
  %q = train.transpose %q1 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x8x2x2xf32>) -> tensor<1x2x8x2xf32>
  // CHECK: train.attention {{.*}}{group = "cp", members = 2 : i64, {{.*}}ring, {{.*}}zigzag} : (tensor<1x1x4x2xf32>, tensor<1x1x4x2xf32>, tensor<1x1x4x2xf32>) -> (tensor<1x1x4x2xf32>, tensor<1x1x4xf32>)
  %y, %lse = train.attention %q, %q, %q {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>, scale = 0.5 : f64, right = 0 : i64} : (tensor<1x2x8x2xf32>, tensor<1x2x8x2xf32>, tensor<1x2x8x2xf32>) -> (tensor<1x2x8x2xf32>, tensor<1x2x8xf32>)
  %y1 = train.transpose %y {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x2x8x2xf32>) -> tensor<1x8x2x2xf32>
  %y0 = train.reshape %y1 {shape = array<i64: 1, 8, 4>} : (tensor<1x8x2x2xf32>) -> tensor<1x8x4xf32>
  %z = train.linear %y0, %wo : (tensor<1x8x4xf32>, tensor<4x3xf32>) -> tensor<1x8x3xf32>
  %loss = train.reduce_sum %z {axes = array<i64: 0, 1, 2>, keepdims = false} : (tensor<1x8x3xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}
