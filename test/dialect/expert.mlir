// RUN: amc-opt %s --split-input-file | FileCheck %s
// RUN: amc-opt %s --split-input-file --derive-backward | FileCheck %s --check-prefix=VJP

// Tests shapes, round trips, and gradients: placing is the gradient of taking, and an exchange goes back.
// CHECK-LABEL: @there_and_back
// VJP-LABEL: @there_and_back
train.step @there_and_back {
  %ids = train.input {name = "ids"} : tensor<6xi64>
  %w = train.parameter {name = "w", trainable} : tensor<6x3xf32>
  %e = train.parameter {name = "e", trainable} : tensor<2x3x4xf32>
  // CHECK: %[[SLOTS:.*]], %[[GROUPS:.*]], %{{.*}} = train.expert_slots %{{.*}} {capacity = 5 : i64, experts = 4 : i64, members = 2 : i64} : (tensor<6xi64>) -> (tensor<6xi64>, tensor<10xi64>, tensor<f64>)
  %slots, %groups, %dropped = train.expert_slots %ids {experts = 4 : i64, members = 2 : i64, capacity = 5 : i64} : (tensor<6xi64>) -> (tensor<6xi64>, tensor<10xi64>, tensor<f64>)
  // CHECK: train.all_to_all %[[GROUPS]] {concat_dim = 0 : i64, group = "ep", members = 2 : i64, split_dim = 0 : i64} : (tensor<10xi64>) -> tensor<10xi64>
  %there = train.all_to_all %groups {split_dim = 0 : i64, concat_dim = 0 : i64, group = "ep", members = 2 : i64} : (tensor<10xi64>) -> tensor<10xi64>
  // CHECK: train.place_rows %{{.*}}, %[[SLOTS]] {rows = 10 : i64} : (tensor<6x3xf32>, tensor<6xi64>) -> tensor<10x3xf32>
  %p = train.place_rows %w, %slots {rows = 10 : i64} : (tensor<6x3xf32>, tensor<6xi64>) -> tensor<10x3xf32>
  %x = train.all_to_all %p {split_dim = 0 : i64, concat_dim = 0 : i64, group = "ep", members = 2 : i64} : (tensor<10x3xf32>) -> tensor<10x3xf32>
  %y = train.grouped_matmul %x, %e, %there {expected_rows = 6 : i64} : (tensor<10x3xf32>, tensor<2x3x4xf32>, tensor<10xi64>) -> tensor<10x4xf32>
  // CHECK: train.all_to_all %{{.*}} : (tensor<10x4xf32>) -> tensor<20x2xf32>
  %b = train.all_to_all %y {split_dim = 1 : i64, concat_dim = 0 : i64, group = "ep", members = 2 : i64} : (tensor<10x4xf32>) -> tensor<20x2xf32>
  %c = train.reshape %b {shape = array<i64: 10, 4>} : (tensor<20x2xf32>) -> tensor<10x4xf32>
  // CHECK: train.take_rows %{{.*}}, %[[SLOTS]] : (tensor<10x4xf32>, tensor<6xi64>) -> tensor<6x4xf32>
  %t = train.take_rows %c, %slots : (tensor<10x4xf32>, tensor<6xi64>) -> tensor<6x4xf32>
  %s = train.reduce_sum %t {axes = array<i64: 0, 1>, keepdims = false} : (tensor<6x4xf32>) -> tensor<f32>
  train.output %s {name = "loss", sum} : tensor<f32>
  // VJP: train.output
  // VJP: train.place_rows %{{.*}}, %[[SLOTS:.*]] {rows = 10 : i64, train.phase = "backward"}
  // VJP: train.all_to_all %{{.*}} {concat_dim = 1 : i64, group = "ep", members = 2 : i64, split_dim = 0 : i64, train.phase = "backward"} : (tensor<20x2xf32>) -> tensor<10x4xf32>
  // VJP: train.grouped_matmul %{{.*}} {expected_rows = 6 : i64, train.phase = "backward", transpose_w}
  // VJP: train.grouped_matmul_weight_grad %{{.*}} {expected_rows = 6 : i64, groups = 2 : i64, train.phase = "backward"}
  // VJP: train.all_to_all %{{.*}} {concat_dim = 0 : i64, group = "ep", members = 2 : i64, split_dim = 0 : i64, train.phase = "backward"} : (tensor<10x3xf32>) -> tensor<10x3xf32>
  // VJP: train.take_rows %{{.*}}, %{{.*}} {train.phase = "backward"} : (tensor<10x3xf32>, tensor<6xi64>) -> tensor<6x3xf32>
}
