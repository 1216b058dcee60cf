// RUN: amc-opt %s --split-input-file | amc-opt --split-input-file | FileCheck %s
// RUN: amc-opt %s --split-input-file --derive-backward | FileCheck %s --check-prefix=VJP
//
// The gated feed-forward network: one operation, and its gradients one more.

// CHECK-LABEL: @gated_mlp
// VJP-LABEL: @gated_mlp
train.step @gated_mlp {
  %x = train.parameter {name = "x", trainable} : tensor<2x5x3xbf16>
  %gate = train.parameter {name = "gate", trainable} : tensor<3x4xbf16>
  %up = train.parameter {name = "up", trainable} : tensor<4x3xbf16>
  %down = train.parameter {name = "down", trainable} : tensor<4x6xbf16>
  // CHECK: train.gated_mlp {{.*}} -> tensor<2x5x6xbf16>
  %y = train.gated_mlp %x, %gate, %up, %down {activation = "silu", transpose_up} : (tensor<2x5x3xbf16>, tensor<3x4xbf16>, tensor<4x3xbf16>, tensor<4x6xbf16>) -> tensor<2x5x6xbf16>
  // VJP: train.gated_mlp_backward {{.*}}{activation = "silu", train.phase = "backward", transpose_up} {{.*}} -> (tensor<2x5x3xbf16>, tensor<3x4xbf16>, tensor<4x3xbf16>, tensor<4x6xbf16>)
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2>, keepdims = false} : (tensor<2x5x6xbf16>) -> tensor<bf16>
  train.output %loss {name = "loss", sum} : tensor<bf16>
}

// -----

// With frozen weights there is the input's gradient alone.
// VJP-LABEL: @frozen
train.step @frozen {
  %x = train.parameter {name = "x", trainable} : tensor<5x3xf32>
  %gate = train.parameter {name = "gate"} : tensor<3x4xf32>
  %up = train.parameter {name = "up"} : tensor<3x4xf32>
  %down = train.parameter {name = "down"} : tensor<4x6xf32>
  %y = train.gated_mlp %x, %gate, %up, %down {activation = "gelu_tanh"} : (tensor<5x3xf32>, tensor<3x4xf32>, tensor<3x4xf32>, tensor<4x6xf32>) -> tensor<5x6xf32>
  // VJP: train.gated_mlp_backward {{.*}}input_only{{.*}} -> tensor<5x3xf32>
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1>, keepdims = false} : (tensor<5x6xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}
