// RUN: amc-opt %s --assign-offsets --fuse-elementwise --lower-to-plan | FileCheck %s

// Tests kernels of a plan: calls name theirs by its number. What they may replace is part of a kernel, so these two differ,
// though they have one code.
// CHECK-LABEL: plan.program @step
// CHECK: plan.kernel 0 "add+rms_norm" attributes {taken = array<i64: 0, 1>, workspace_bytes = 0 : i64} {
// CHECK-NEXT: ^bb0(%[[A:.*]]: tensor<2x4xf32>, %[[B:.*]]: tensor<2x4xf32>, %[[W:.*]]: tensor<4xf32>):
// CHECK-NEXT: %[[H:.*]] = train.add %[[A]], %[[B]]
// CHECK-NEXT: train.rms_norm %[[H]], %[[W]]
// CHECK-NEXT: train.yield
// CHECK: plan.kernel 1 "add+rms_norm" attributes {taken = array<i64: 0, -1>, workspace_bytes = 0 : i64} {
// CHECK-NOT: plan.kernel
// CHECK: plan.call "fused" {arguments = {number = 0 : i64}
// CHECK: plan.call "linear"
// CHECK: plan.call "fused" {arguments = {number = 1 : i64}
train.step @step {
  %j = train.input {name = "j"} : tensor<2x4xf32>
  %w = train.parameter {name = "w"} : tensor<4xf32>
  %m = train.parameter {name = "m"} : tensor<4x4xf32>
  %x = train.linear %j, %m : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
  %a = train.linear %x, %m : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
  %h = train.add %x, %a : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
  %y, %r = train.rms_norm %h, %w {epsilon = 1.0e-6 : f64} : (tensor<2x4xf32>, tensor<4xf32>) -> (tensor<2x4xf32>, tensor<2xf32>)
  %b = train.linear %y, %m : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
  %i = train.add %h, %b : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
  %z, %q = train.rms_norm %i, %w {epsilon = 1.0e-6 : f64} : (tensor<2x4xf32>, tensor<4xf32>) -> (tensor<2x4xf32>, tensor<2xf32>)
  train.output %z {name = "z"} : tensor<2x4xf32>
  train.output %i {name = "i"} : tensor<2x4xf32>
}
