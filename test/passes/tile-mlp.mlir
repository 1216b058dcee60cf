// RUN: amc-opt %s --split-input-file --tile-mlp --verify-diagnostics | FileCheck %s

// CHECK-LABEL: @llama
// CHECK-SAME: train.tiled_mlps = 1
train.step @llama {
  %x = train.input {name = "x"} : tensor<2x3xf32>
  %gate = train.parameter {name = "gate", trainable} : tensor<4x3xf32>
  %up = train.parameter {name = "up", trainable} : tensor<3x4xf32>
  %down = train.parameter {name = "down", trainable} : tensor<4x3xf32>
  // Gate and up in either order.
  %u = train.linear %x, %up : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  %g = train.linear %x, %gate {transpose_w} : (tensor<2x3xf32>, tensor<4x3xf32>) -> tensor<2x4xf32>
  %h = train.gated_activation %g, %u {activation = "silu"} : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
  // CHECK: %[[Y:.*]] = train.gated_mlp %0, %1, %2, %3 {activation = "silu", transpose_gate}
  // CHECK-NEXT: train.output %[[Y]]
  %y = train.linear %h, %down : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  train.output %y {name = "y"} : tensor<2x3xf32>
}

// -----

// A bias's gradient would be added up on another grid.
// CHECK-LABEL: @bias
// expected-remark@+1 {{1 of 1 gated feed-forward networks cannot be tiled; of the last: it has biases}}
train.step @bias {
  %x = train.input {name = "x"} : tensor<2x3xf32>
  %gate = train.parameter {name = "gate", trainable} : tensor<3x4xf32>
  %b = train.parameter {name = "b", trainable} : tensor<4xf32>
  %up = train.parameter {name = "up", trainable} : tensor<3x4xf32>
  %down = train.parameter {name = "down", trainable} : tensor<4x3xf32>
  // CHECK-NOT: train.gated_mlp
  %u = train.linear %x, %up : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  %g = train.linear %x, %gate, %b : (tensor<2x3xf32>, tensor<3x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>
  %h = train.gated_activation %g, %u {activation = "silu"} : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
  %y = train.linear %h, %down : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  train.output %y {name = "y"} : tensor<2x3xf32>
}

// -----

// The input's gradient would be added up in another order.
// CHECK-LABEL: @parallel
// expected-remark@+1 {{1 of 1 gated feed-forward networks cannot be tiled; of the last: its input or a product of it is read elsewhere, too}}
train.step @parallel {
  %x = train.input {name = "x"} : tensor<2x3xf32>
  %gate = train.parameter {name = "gate", trainable} : tensor<3x4xf32>
  %up = train.parameter {name = "up", trainable} : tensor<3x4xf32>
  %down = train.parameter {name = "down", trainable} : tensor<4x3xf32>
  // CHECK-NOT: train.gated_mlp
  %u = train.linear %x, %up : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  %g = train.linear %x, %gate : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  %h = train.gated_activation %g, %u {activation = "silu"} : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
  %d = train.linear %h, %down : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  %y = train.add %x, %d : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  train.output %y {name = "y"} : tensor<2x3xf32>
}

// -----

// expected-remark@+1 {{no gated feed-forward network to tile is in this model}}
train.step @none {
  %x = train.input {name = "x"} : tensor<2x3xf32>
  train.output %x {name = "y"} : tensor<2x3xf32>
}
