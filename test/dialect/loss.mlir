// RUN: amc-opt %s --split-input-file | amc-opt --split-input-file | FileCheck %s
// RUN: amc-opt %s --split-input-file --derive-backward | FileCheck %s --check-prefix=VJP
//
// Cross-entropy: the loss and the row's log-sum-exp are fp32; backward reads the latter.

// CHECK-LABEL: @causal
// VJP-LABEL: @causal
train.step @causal {
  %logits = train.parameter {name = "logits", trainable} : tensor<2x3x7xbf16>
  %labels = train.input {name = "labels", role = "labels"} : tensor<2x3xi64>
  // CHECK: train.shift_labels %{{.*}} {ignore_index = -1 : i64} : (tensor<2x3xi64>) -> tensor<2x3xi64>
  %shifted = train.shift_labels %labels {ignore_index = -1 : i64} : (tensor<2x3xi64>) -> tensor<2x3xi64>
  // CHECK: train.cross_entropy %{{.*}} {ignore_index = -1 : i64} : {{.*}} -> (tensor<f32>, tensor<2x3xf32>)
  %loss, %lse = train.cross_entropy %logits, %shifted {ignore_index = -1 : i64} : (tensor<2x3x7xbf16>, tensor<2x3xi64>) -> (tensor<f32>, tensor<2x3xf32>)
  // VJP: %[[LOSS:.*]], %[[LSE:.*]] = train.cross_entropy
  // VJP: train.cross_entropy_backward %{{.*}}, %{{.*}}, %{{.*}}, %[[LSE]] {ignore_index = -1 : i64{{.*}} -> tensor<2x3x7xbf16>
  train.output %loss {name = "loss", sum} : tensor<f32>
}
