// RUN: amc-opt %s --split-input-file | amc-opt --split-input-file | FileCheck %s
// RUN: amc-opt %s --split-input-file --derive-backward | FileCheck %s --check-prefix=VJP
//
// Normalisations: statistics are fp32 whatever x is; backward reads them and is one operation.

// CHECK-LABEL: @rms_norm
// VJP-LABEL: @rms_norm
train.step @rms_norm {
  %x = train.parameter {name = "x", trainable} : tensor<2x5x3xbf16>
  %w = train.parameter {name = "w", trainable} : tensor<3xbf16>
  // CHECK: train.rms_norm {{.*}} -> (tensor<2x5x3xbf16>, tensor<2x5xf32>)
  %y, %rstd = train.rms_norm %x, %w {epsilon = 1.0e-6 : f64} : (tensor<2x5x3xbf16>, tensor<3xbf16>) -> (tensor<2x5x3xbf16>, tensor<2x5xf32>)
  // VJP: train.rms_norm_backward {{.*}} -> (tensor<2x5x3xbf16>, tensor<3xbf16>)
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2>, keepdims = false} : (tensor<2x5x3xbf16>) -> tensor<bf16>
  train.output %loss {name = "loss", sum} : tensor<bf16>
}

// -----

// Without a weight there is no gradient of one.
// VJP-LABEL: @rms_norm_plain
train.step @rms_norm_plain {
  %x = train.parameter {name = "x", trainable} : tensor<2x3xf32>
  %y, %rstd = train.rms_norm %x {epsilon = 0.0 : f64} : (tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2xf32>)
  // VJP: train.rms_norm_backward {{.*}} : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2xf32>) -> tensor<2x3xf32>
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x3xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// CHECK-LABEL: @layer_norm
// VJP-LABEL: @layer_norm
train.step @layer_norm {
  %x = train.input {name = "x"} : tensor<2x3xf32>
  %w = train.parameter {name = "w", trainable} : tensor<3xf32>
  %b = train.parameter {name = "b", trainable} : tensor<3xf32>
  // CHECK: train.layer_norm {{.*}}operandSegmentSizes = array<i32: 1, 1, 1>{{.*}} -> (tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>)
  %y, %mean, %rstd = train.layer_norm %x, %w, %b {epsilon = 1.0e-5 : f64, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf32>) -> (tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>)
  // VJP: train.layer_norm_backward {{.*}}resultSegmentSizes = array<i32: 1, 1, 1>{{.*}} -> (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf32>)
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x3xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Without weight and bias.
// VJP-LABEL: @layer_norm_plain
train.step @layer_norm_plain {
  %x = train.parameter {name = "x", trainable} : tensor<2x3xf32>
  %y, %mean, %rstd = train.layer_norm %x {epsilon = 1.0e-5 : f64, operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>)
  // VJP: train.layer_norm_backward {{.*}}resultSegmentSizes = array<i32: 1, 0, 0>{{.*}} -> tensor<2x3xf32>
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x3xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}
