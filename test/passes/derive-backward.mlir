// RUN: amc-opt %s --split-input-file --derive-backward | FileCheck %s

// Tests the chain rule through one operation, and that the gradient carries the parameter's name.
// CHECK-LABEL: train.step @chain
// CHECK: %[[W:.*]] = train.parameter {name = "w"
// CHECK: %[[Y:.*]] = train.exp %[[W]]
// CHECK: %[[SEED:.*]] = train.full {{.*}}train.phase = "backward"{{.*}}value = 1.000000e+00
// CHECK: %[[DY:.*]] = train.broadcast
// CHECK: %[[DW:.*]] = train.mul %[[DY]], %[[Y]] {train.phase = "backward"}
// CHECK: train.gradient %[[DW]] {parameter = "w", train.phase = "backward"}
train.step @chain {
  %w = train.parameter {name = "w", trainable} : tensor<4xf32>
  %y = train.exp %w : (tensor<4xf32>) -> tensor<4xf32>
  %l = train.reduce_sum %y {axes = array<i64: 0>, keepdims = false} : (tensor<4xf32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}

// -----

// Tests that contributions to one value are added as they arrive: the last use first.
// CHECK-LABEL: train.step @twice
// CHECK: %[[FROM_SIN:.*]] = train.mul
// CHECK: %[[FROM_EXP:.*]] = train.mul
// CHECK: %[[SUM:.*]] = train.add %[[FROM_SIN]], %[[FROM_EXP]]
// CHECK: train.gradient %[[SUM]] {parameter = "w"
train.step @twice {
  %w = train.parameter {name = "w", trainable} : tensor<f32>
  %a = train.exp %w : (tensor<f32>) -> tensor<f32>
  %b = train.sin %w : (tensor<f32>) -> tensor<f32>
  %l = train.add %a, %b : (tensor<f32>, tensor<f32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}

// -----

// Tests that frozen parameters get no gradient and that nothing is computed for them.
// CHECK-LABEL: train.step @frozen
// CHECK: train.gradient %{{.*}} {parameter = "w"
// CHECK-NOT: train.gradient
train.step @frozen {
  %w = train.parameter {name = "w", trainable} : tensor<f32>
  %f = train.parameter {name = "f"} : tensor<f32>
  %l = train.mul %w, %f : (tensor<f32>, tensor<f32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}

// -----

// Tests that a step function stops the gradient without being missing one.
// CHECK-LABEL: train.step @zero
// CHECK: train.gradient %{{.*}} {parameter = "w"
train.step @zero {
  %w = train.parameter {name = "w", trainable} : tensor<f32>
  %r = train.round %w : (tensor<f32>) -> tensor<f32>
  %l = train.mul %w, %r : (tensor<f32>, tensor<f32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}

// -----

// Tests that gradients of slices that lie side by side are joined, in whatever order they come; one that does not touch
// is added.
// CHECK-LABEL: @slices
train.step @slices {
  %w = train.parameter {name = "w", trainable} : tensor<2x6xf32>
  %a = train.slice %w {starts = array<i64: 0, 0>, sizes = array<i64: 2, 3>, steps = array<i64: 1, 1>} : (tensor<2x6xf32>) -> tensor<2x3xf32>
  %b = train.slice %w {starts = array<i64: 0, 3>, sizes = array<i64: 2, 1>, steps = array<i64: 1, 1>} : (tensor<2x6xf32>) -> tensor<2x1xf32>
  %c = train.slice %w {starts = array<i64: 0, 4>, sizes = array<i64: 2, 2>, steps = array<i64: 1, 1>} : (tensor<2x6xf32>) -> tensor<2x2xf32>
  %s = train.reduce_sum %a {axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x3xf32>) -> tensor<f32>
  %t = train.reduce_sum %b {axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x1xf32>) -> tensor<f32>
  %u = train.reduce_sum %c {axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x2xf32>) -> tensor<f32>
  %st = train.mul %s, %t : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %loss = train.mul %st, %u : (tensor<f32>, tensor<f32>) -> tensor<f32>
  // CHECK-NOT: train.pad
  // CHECK: %[[W:.*]] = train.concat %{{.*}}, %{{.*}}, %{{.*}} {axis = 1 : i64, train.phase = "backward"} : (tensor<2x3xf32>, tensor<2x1xf32>, tensor<2x2xf32>) -> tensor<2x6xf32>
  // CHECK-NEXT: train.gradient %[[W]]
  train.output %loss {name = "loss"} : tensor<f32>
}

// -----

// CHECK-LABEL: @apart
train.step @apart {
  %w = train.parameter {name = "w", trainable} : tensor<2x6xf32>
  %a = train.slice %w {starts = array<i64: 0, 0>, sizes = array<i64: 2, 3>, steps = array<i64: 1, 1>} : (tensor<2x6xf32>) -> tensor<2x3xf32>
  %c = train.slice %w {starts = array<i64: 0, 4>, sizes = array<i64: 2, 2>, steps = array<i64: 1, 1>} : (tensor<2x6xf32>) -> tensor<2x2xf32>
  %s = train.reduce_sum %a {axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x3xf32>) -> tensor<f32>
  %u = train.reduce_sum %c {axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x2xf32>) -> tensor<f32>
  %loss = train.mul %s, %u : (tensor<f32>, tensor<f32>) -> tensor<f32>
  // CHECK: train.pad
  // CHECK: train.pad
  // CHECK-NEXT: train.add
  train.output %loss {name = "loss"} : tensor<f32>
}
