// RUN: amc-opt %s --split-input-file --shard="tp=3" --verify-diagnostics | FileCheck %s

// Tests that what three members cannot divide, and all else allows, is named: the rows of a table that is the head, too,
// and the inner dimension of two networks. What norms run over is not.
// CHECK-LABEL: @sizes
// CHECK-NOT: splits
// expected-remark @+2 {{no dimension of a weight can be divided by 3 along all that it goes through; the ranks of axis tp do the same work}}
// expected-remark @+1 {{tensor parallelism: whole on every rank of tp, which cannot divide it by 3: 'table', dimension 0 of size 512; 'up' and 1 parameter like it, dimension 1 of size 16; 'down' and 1 parameter like it, dimension 0 of size 16}}
train.step @sizes {
  %ids = train.input {name = "ids"} : tensor<2x4xi64>
  %labels = train.input {name = "labels"} : tensor<2x4xi64>
  %table = train.parameter {name = "table", trainable} : tensor<512x8xf32>
  %scale = train.parameter {name = "scale", trainable} : tensor<8xf32>
  %up = train.parameter {name = "up", trainable} : tensor<8x16xf32>
  %down = train.parameter {name = "down", trainable} : tensor<16x8xf32>
  %up2 = train.parameter {name = "up2", trainable} : tensor<8x16xf32>
  %down2 = train.parameter {name = "down2", trainable} : tensor<16x8xf32>
  %x = train.embedding %table, %ids : (tensor<512x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %h = train.linear %x, %up : (tensor<2x4x8xf32>, tensor<8x16xf32>) -> tensor<2x4x16xf32>
  %y = train.linear %h, %down : (tensor<2x4x16xf32>, tensor<16x8xf32>) -> tensor<2x4x8xf32>
  %z, %r = train.rms_norm %y, %scale {epsilon = 1.0e-6 : f64} : (tensor<2x4x8xf32>, tensor<8xf32>) -> (tensor<2x4x8xf32>, tensor<2x4xf32>)
  %h2 = train.linear %z, %up2 : (tensor<2x4x8xf32>, tensor<8x16xf32>) -> tensor<2x4x16xf32>
  %y2 = train.linear %h2, %down2 : (tensor<2x4x16xf32>, tensor<16x8xf32>) -> tensor<2x4x8xf32>
  %n, %r2 = train.rms_norm %y2, %scale {epsilon = 1.0e-6 : f64} : (tensor<2x4x8xf32>, tensor<8xf32>) -> (tensor<2x4x8xf32>, tensor<2x4xf32>)
  %loss, %lse = train.linear_cross_entropy %n, %table, %labels {operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>, transpose_w} : (tensor<2x4x8xf32>, tensor<512x8xf32>, tensor<2x4xi64>) -> (tensor<f32>, tensor<2x4xf32>)
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests a vocabulary of 513, which three members divide and the loss does not; the network is cut, and nothing is said of it.
// CHECK-LABEL: @unfused
// CHECK: train.parameter {name = "head", trainable}
// CHECK: train.parameter {name = "up", splits
// expected-remark @+1 {{tensor parallelism: whole on every rank of tp, for the loss reads whole rows of logits (linear cross-entropy does not): 'head', dimension 1 of size 513}}
train.step @unfused {
  %x = train.input {name = "x"} : tensor<2x4x8xf32>
  %labels = train.input {name = "labels"} : tensor<2x4xi64>
  %head = train.parameter {name = "head", trainable} : tensor<8x513xf32>
  %scale = train.parameter {name = "scale", trainable} : tensor<8xf32>
  %up = train.parameter {name = "up", trainable} : tensor<8x6xf32>
  %down = train.parameter {name = "down", trainable} : tensor<6x8xf32>
  %h = train.linear %x, %up : (tensor<2x4x8xf32>, tensor<8x6xf32>) -> tensor<2x4x6xf32>
  %y = train.linear %h, %down : (tensor<2x4x6xf32>, tensor<6x8xf32>) -> tensor<2x4x8xf32>
  %n, %r = train.rms_norm %y, %scale {epsilon = 1.0e-6 : f64} : (tensor<2x4x8xf32>, tensor<8xf32>) -> (tensor<2x4x8xf32>, tensor<2x4xf32>)
  %z = train.linear %n, %head : (tensor<2x4x8xf32>, tensor<8x513xf32>) -> tensor<2x4x513xf32>
  %loss, %lse = train.cross_entropy %z, %labels : (tensor<2x4x513xf32>, tensor<2x4xi64>) -> (tensor<f32>, tensor<2x4xf32>)
  train.output %loss {name = "loss", sum} : tensor<f32>
}
