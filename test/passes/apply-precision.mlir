// RUN: amc-opt %s --split-input-file --apply-precision | FileCheck %s
// RUN: amc-opt %s --split-input-file --apply-precision=precision=fp32 | FileCheck %s --check-prefix=WIDE
// RUN: amc-opt %s --split-input-file --apply-precision --derive-backward | FileCheck %s --check-prefix=GRAD

// Tests that a weight, its product and the gradients are bf16, that the batch is cast once for both of its readers,
// and that the loss is fp32.
// CHECK-LABEL: @weights
// CHECK-SAME: train.precision = "bf16"
// CHECK: %[[X:.*]] = train.input {name = "x"} : tensor<2x4xf32>
// CHECK: train.parameter {name = "w", source = #train.file<"w", 0, 48>, source_dtype = "f32", trainable} : tensor<4x3xbf16>
// CHECK: %[[C:.*]] = train.cast %[[X]] {to = bf16}
// CHECK: train.linear %[[C]], {{.*}} -> tensor<2x3xbf16>
// CHECK-NOT: train.cast
// CHECK: train.linear %[[C]], {{.*}} -> tensor<2x3xbf16>
// CHECK: train.cross_entropy {{.*}} -> (tensor<f32>, tensor<2xf32>)
// WIDE-LABEL: @weights
// WIDE-SAME: train.precision = "fp32"
// WIDE-NOT: bf16
// WIDE-LABEL: @exported
// GRAD-LABEL: @weights
// GRAD: train.gradient {{.*}} {parameter = "w", {{.*}}} : tensor<4x3xbf16>
train.step @weights {
  %x = train.input {name = "x"} : tensor<2x4xf32>
  %labels = train.input {name = "labels", role = "labels"} : tensor<2xi64>
  %w = train.parameter {name = "w", source = #train.file<"w", 0, 48>, trainable} : tensor<4x3xf32>
  %v = train.parameter {name = "v", trainable} : tensor<4x3xf32>
  %a = train.linear %x, %w : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  %b = train.linear %x, %v : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  %y = train.add %a, %b : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %loss, %lse = train.cross_entropy %y, %labels : (tensor<2x3xf32>, tensor<2xi64>) -> (tensor<f32>, tensor<2xf32>)
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests what a graph exported in bf16 asks for: casts of activations to fp32 and back vanish, a weight that is bf16 on
// disk is read as it is, and rotary tables, which depend on no weight, stay fp32 and are taken as they are.
// CHECK-LABEL: @exported
// CHECK: train.parameter {name = "w", source = #train.file<"w", 0, 32>, trainable} : tensor<4x4xbf16>
// CHECK: %[[ANGLES:.*]] = train.mul {{.*}} -> tensor<1x1x2x4xf32>
// CHECK: %[[COS:.*]] = train.cos %[[ANGLES]] : (tensor<1x1x2x4xf32>) -> tensor<1x1x2x4xf32>
// CHECK-NOT: train.cast
// CHECK: train.rotary %{{.*}}, %[[COS]], %[[COS]] : (tensor<1x1x2x4xbf16>, tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>) -> tensor<1x1x2x4xbf16>
// CHECK: train.rms_norm {{.*}} -> (tensor<1x1x2x4xbf16>, tensor<1x1x2xf32>)
train.step @exported {
  %x = train.parameter {name = "w", source = #train.file<"w", 0, 32>, source_dtype = "bf16", trainable} : tensor<4x4xf32>
  %frequencies = train.parameter {name = "inv_freq"} : tensor<4xf32>
  %positions = train.input {name = "positions"} : tensor<1x1x2x1xf32>
  %ids = train.input {name = "ids"} : tensor<1x1x2xi64>
  %angles = train.mul %positions, %frequencies : (tensor<1x1x2x1xf32>, tensor<4xf32>) -> tensor<1x1x2x4xf32>
  %cos = train.cos %angles : (tensor<1x1x2x4xf32>) -> tensor<1x1x2x4xf32>
  %e = train.embedding %x, %ids : (tensor<4x4xf32>, tensor<1x1x2xi64>) -> tensor<1x1x2x4xf32>
  %up = train.cast %e {to = f32} : (tensor<1x1x2x4xf32>) -> tensor<1x1x2x4xf32>
  %r = train.rotary %up, %cos, %cos : (tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>) -> tensor<1x1x2x4xf32>
  %down = train.cast %r {to = bf16} : (tensor<1x1x2x4xf32>) -> tensor<1x1x2x4xbf16>
  %wide = train.cast %down {to = f32} : (tensor<1x1x2x4xbf16>) -> tensor<1x1x2x4xf32>
  %y, %rstd = train.rms_norm %wide {epsilon = 1.0e-6 : f64} : (tensor<1x1x2x4xf32>) -> (tensor<1x1x2x4xf32>, tensor<1x1x2xf32>)
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<1x1x2x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that a loss of the model's own is fp32 from its reduction on, and so is what it is divided by.
// CHECK-LABEL: @own_loss
// CHECK: %[[SQUARE:.*]] = train.mul {{.*}} -> tensor<8xbf16>
// CHECK: %[[UP:.*]] = train.cast %[[SQUARE]] {to = f32}
// CHECK: train.reduce_mean %[[UP]] {{.*}} -> tensor<f32>
// CHECK: train.div {{.*}} (tensor<f32>, tensor<f32>) -> tensor<f32>
// GRAD-LABEL: @own_loss
// GRAD: train.gradient {{.*}} : tensor<8xbf16>
train.step @own_loss {
  %w = train.parameter {name = "w", trainable} : tensor<8xf32>
  %two = train.constant {value = dense<3.0> : tensor<f32>} : tensor<f32>
  %square = train.mul %w, %w : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  %mean = train.reduce_mean %square {axes = array<i64: 0>, keepdims = false} : (tensor<8xf32>) -> tensor<f32>
  %loss = train.div %mean, %two : (tensor<f32>, tensor<f32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests auxiliary values where they meet activations: a literal is rounded, a mask's most negative number stays finite,
// a truth value is converted in one go, and a frozen weight counts as a weight.
// CHECK-LABEL: @auxiliary
// CHECK: train.parameter {name = "w", train.frozen} : tensor<2xbf16>
// CHECK: train.constant {value = dense<-3.38953139E+38> : tensor<f32>}
// CHECK: %[[LOWEST:.*]] = train.constant {value = dense<-3.389530e+38> : tensor<bf16>}
// CHECK: train.select {{.*}}, %[[LOWEST]] : {{.*}} -> tensor<2xbf16>
// CHECK: train.cast %{{.*}} {to = bf16} : (tensor<2xi1>) -> tensor<2xbf16>
// CHECK: train.full {element = bf16, shape = array<i64: 2>, value = 3.000000e-01 : f64}
train.step @auxiliary {
  %w = train.parameter {name = "w", train.frozen} : tensor<2xf32>
  %v = train.parameter {name = "v", trainable} : tensor<2xf32>
  %mask = train.input {name = "mask"} : tensor<2xi1>
  %lowest = train.constant {value = dense<-3.40282347E+38> : tensor<f32>} : tensor<f32>
  %half = train.full {value = 0.3 : f64, shape = array<i64: 2>, element = f32} : () -> tensor<2xf32>
  %kept = train.cast %mask {to = f32} : (tensor<2xi1>) -> tensor<2xf32>
  %a = train.select %mask, %w, %lowest : (tensor<2xi1>, tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %b = train.mul %kept, %v : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %c = train.mul %b, %half : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %d = train.mul %a, %c : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %loss = train.reduce_sum %d {axes = array<i64: 0>, keepdims = false} : (tensor<2xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}
