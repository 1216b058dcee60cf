// RUN: amc-opt %s --split-input-file --fuse-linear-cross-entropy="tokens-in-flight=4" | FileCheck %s

// Tests the plain head: the logits are gone, the labels and options stay.
// CHECK-LABEL: @plain
// CHECK-NOT: train.linear %
// CHECK: train.linear_cross_entropy %0, %1, %2 {ignore_index = -1 : i64, label_smoothing = 1.000000e-01 : f64,
// CHECK-SAME: tokens_in_flight = 4 : i64, transpose_w, z_loss = 1.000000e-02 : f64}
// CHECK-SAME: -> (tensor<f32>, tensor<2x3xf32>)
// CHECK-NEXT: train.output
train.step @plain {
  %x = train.input {name = "x"} : tensor<2x3x8xf32>
  %w = train.parameter {name = "w", trainable} : tensor<7x8xf32>
  %labels = train.input {name = "labels", role = "labels"} : tensor<2x3xi64>
  %z = train.linear %x, %w {transpose_w} : (tensor<2x3x8xf32>, tensor<7x8xf32>) -> tensor<2x3x7xf32>
  %loss, %lse = train.cross_entropy %z, %labels {ignore_index = -1 : i64, label_smoothing = 0.1 : f64, z_loss = 0.01 : f64}
    : (tensor<2x3x7xf32>, tensor<2x3xi64>) -> (tensor<f32>, tensor<2x3xf32>)
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests a head on flattened rows with a tied weight seen through a transpose, a bias and logits cast to fp32: hidden
// gets the labels' rows, class weights the type of the loss.
// CHECK-LABEL: @flat
// CHECK-SAME: {
// CHECK: %[[X:.*]] = train.reshape %0 {{.*}} -> tensor<2x3x8xbf16>
// CHECK: %[[B:.*]] = train.reshape %2 {{.*}} -> tensor<7xbf16>
// CHECK: train.linear_cross_entropy %[[X]], %1, %[[B]], %4, %3 {{{.*}}operandSegmentSizes = array<i32: 1, 1, 1, 1, 1>
// CHECK-SAME: transpose_w
// CHECK-SAME: tensor<7x8xbf16>
train.step @flat {
  %x = train.input {name = "x"} : tensor<6x8xbf16>
  %w = train.parameter {name = "w", trainable} : tensor<7x8xbf16>
  %b = train.parameter {name = "b", trainable} : tensor<1x7xbf16>
  %c = train.constant {value = dense<1.0> : tensor<7xf32>} : tensor<7xf32>
  %labels = train.input {name = "labels", role = "labels"} : tensor<2x3xi64>
  %t = train.transpose %w {permutation = array<i64: 1, 0>} : (tensor<7x8xbf16>) -> tensor<8x7xbf16>
  %z = train.matmul %x, %t : (tensor<6x8xbf16>, tensor<8x7xbf16>) -> tensor<6x7xbf16>
  %s = train.add %z, %b : (tensor<6x7xbf16>, tensor<1x7xbf16>) -> tensor<6x7xbf16>
  %r = train.reshape %s {shape = array<i64: 2, 3, 7>} : (tensor<6x7xbf16>) -> tensor<2x3x7xbf16>
  %f = train.cast %r {to = f32} : (tensor<2x3x7xbf16>) -> tensor<2x3x7xf32>
  %loss, %lse = train.cross_entropy %f, %labels, %c : (tensor<2x3x7xf32>, tensor<2x3xi64>, tensor<7xf32>) -> (tensor<f32>, tensor<2x3xf32>)
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests a softcap of 30 as Gemma writes it: its own division is part of it, another factor (0.5) moves to hidden.
// CHECK-LABEL: @cap
// CHECK: %[[S:.*]] = train.full {{.*}}value = 5.000000e-01
// CHECK: %[[X:.*]] = train.mul %0, %[[S]] : {{.*}} -> tensor<4x8xf32>
// CHECK: train.linear_cross_entropy %[[X]], {{.*}} softcap = 3.000000e+01
train.step @cap {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %w = train.parameter {name = "w", trainable} : tensor<8x7xf32>
  %labels = train.input {name = "labels", role = "labels"} : tensor<4xi64>
  %c = train.constant {value = dense<30.0> : tensor<f32>} : tensor<f32>
  %h = train.constant {value = dense<0.5> : tensor<f32>} : tensor<f32>
  %z = train.linear %x, %w : (tensor<4x8xf32>, tensor<8x7xf32>) -> tensor<4x7xf32>
  %m = train.mul %z, %h : (tensor<4x7xf32>, tensor<f32>) -> tensor<4x7xf32>
  %d = train.div %m, %c : (tensor<4x7xf32>, tensor<f32>) -> tensor<4x7xf32>
  %t = train.tanh %d : (tensor<4x7xf32>) -> tensor<4x7xf32>
  %k = train.mul %t, %c : (tensor<4x7xf32>, tensor<f32>) -> tensor<4x7xf32>
  %loss, %lse = train.cross_entropy %k, %labels : (tensor<4x7xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
  train.output %loss {name = "loss", sum} : tensor<f32>
}
