// RUN: amc-opt %s --split-input-file | amc-opt --split-input-file | FileCheck %s
// RUN: amc-opt %s --split-input-file --derive-backward | FileCheck %s --check-prefix=VJP
//
// linear_cross_entropy: the loss and log-sum-exp are fp32; backward has the gradients that somebody wants, no others.

// Tests that a bf16 head with all options is read, and that everything is handed to backward.
// CHECK-LABEL: @all
// VJP-LABEL: @all
train.step @all {
  %x = train.parameter {name = "x", trainable} : tensor<2x3x8xbf16>
  %w = train.parameter {name = "w", trainable} : tensor<7x8xbf16>
  %b = train.parameter {name = "b", trainable} : tensor<7xbf16>
  %labels = train.input {name = "labels", role = "labels"} : tensor<2x3xi64>
  %c = train.constant {value = dense<1.0> : tensor<7xf32>} : tensor<7xf32>
  // CHECK: train.linear_cross_entropy {{.*}} -> (tensor<f32>, tensor<2x3xf32>)
  %loss, %lse = train.linear_cross_entropy %x, %w, %b, %labels, %c {transpose_w, ignore_index = -1 : i64, label_smoothing = 0.1 : f64,
      z_loss = 0.001 : f64, softcap = 30.0 : f64, tokens_in_flight = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1>}
    : (tensor<2x3x8xbf16>, tensor<7x8xbf16>, tensor<7xbf16>, tensor<2x3xi64>, tensor<7xf32>) -> (tensor<f32>, tensor<2x3xf32>)
  // VJP: %[[LOSS:.*]], %[[LSE:.*]] = train.linear_cross_entropy
  // VJP: %{{.*}}, %{{.*}}, %{{.*}} = train.linear_cross_entropy_backward %{{.*}}, %[[LSE]] {ignore_index = -1 : i64, label_smoothing = 1.000000e-01 : f64,
  // VJP-SAME: resultSegmentSizes = array<i32: 1, 1, 1>, softcap = 3.000000e+01 : f64, tokens_in_flight = 2 : i64,
  // VJP-SAME: transpose_w, z_loss = 1.000000e-03 : f64}
  // VJP-SAME: -> (tensor<2x3x8xbf16>, tensor<7x8xbf16>, tensor<7xbf16>)
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that a frozen head has no gradient to compute.
// VJP-LABEL: @frozen_head
// VJP: %{{[^:]*}} = train.linear_cross_entropy_backward {{.*}}resultSegmentSizes = array<i32: 1, 0, 0>{{.*}} -> tensor<4x8xf32>
train.step @frozen_head {
  %x = train.parameter {name = "x", trainable} : tensor<4x8xf32>
  %w = train.parameter {name = "w"} : tensor<8x7xf32>
  %labels = train.input {name = "labels", role = "labels"} : tensor<4xi64>
  %loss, %lse = train.linear_cross_entropy %x, %w, %labels {operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>}
    : (tensor<4x8xf32>, tensor<8x7xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that a frozen body has none for the hidden states.
// VJP-LABEL: @frozen_body
// VJP: train.linear_cross_entropy_backward {{.*}}resultSegmentSizes = array<i32: 0, 1, 0>{{.*}} -> tensor<8x7xf32>
train.step @frozen_body {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %w = train.parameter {name = "w", trainable} : tensor<8x7xf32>
  %labels = train.input {name = "labels", role = "labels"} : tensor<4xi64>
  %loss, %lse = train.linear_cross_entropy %x, %w, %labels {operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>}
    : (tensor<4x8xf32>, tensor<8x7xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
  train.output %loss {name = "loss", sum} : tensor<f32>
}
