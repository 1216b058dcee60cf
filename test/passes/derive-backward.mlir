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
