// RUN: amc-opt %s --split-input-file --raise | FileCheck %s

// Raise has no diagnostics: what it does not understand stays. These are inputs that it must survive unchanged.

// Tests tensors without elements, and without dimensions.
// CHECK-LABEL: @empty
// CHECK: train.reduce_mean
// CHECK: train.softmax
// CHECK: train.mul
train.step @empty {
  %x = train.input {name = "x"} : tensor<0x4xf32>
  %s = train.input {name = "s"} : tensor<f32>
  %square = train.mul %x, %x : (tensor<0x4xf32>, tensor<0x4xf32>) -> tensor<0x4xf32>
  %mean = train.reduce_mean %square {axes = array<i64: 1>, keepdims = true} : (tensor<0x4xf32>) -> tensor<0x1xf32>
  %p = train.softmax %x {axis = 1 : i64} : (tensor<0x4xf32>) -> tensor<0x4xf32>
  %y = train.matmul %p, %x {transpose_b} : (tensor<0x4xf32>, tensor<0x4xf32>) -> tensor<0x0xf32>
  %t = train.mul %s, %s : (tensor<f32>, tensor<f32>) -> tensor<f32>
  train.output %mean {name = "mean"} : tensor<0x1xf32>
  train.output %y {name = "y"} : tensor<0x0xf32>
  train.output %t {name = "t"} : tensor<f32>
}

// -----

// Tests attention over no keys: there is nothing to normalise.
// CHECK-LABEL: @no_keys
// CHECK: train.softmax
// CHECK-NOT: train.attention
train.step @no_keys {
  %q = train.input {name = "q"} : tensor<1x2x3x8xf32>
  %k = train.input {name = "k"} : tensor<1x2x0x8xf32>
  %s = train.matmul %q, %k {transpose_b} : (tensor<1x2x3x8xf32>, tensor<1x2x0x8xf32>) -> tensor<1x2x3x0xf32>
  %p = train.softmax %s {axis = 3 : i64} : (tensor<1x2x3x0xf32>) -> tensor<1x2x3x0xf32>
  %y = train.matmul %p, %k : (tensor<1x2x3x0xf32>, tensor<1x2x0x8xf32>) -> tensor<1x2x3x8xf32>
  train.output %y {name = "y"} : tensor<1x2x3x8xf32>
}

// -----

// Tests indices that leave every range: the mask is not understood, and stays a bias.
// CHECK-LABEL: @huge
// CHECK: train.attention
// CHECK-SAME: operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0, 0>
train.step @huge {
  %q = train.input {name = "q"} : tensor<1x2x3x8xf32>
  %r = train.iota {start = -9.0e18 : f64, step = 1.0e18 : f64, axis = 0 : i64, shape = array<i64: 3, 1>, element = i64} : () -> tensor<3x1xi64>
  %c = train.iota {start = 9.0e18 : f64, step = -3.0e18 : f64, axis = 1 : i64, shape = array<i64: 1, 3>, element = i64} : () -> tensor<1x3xi64>
  %le = train.less_equal %c, %r : (tensor<1x3xi64>, tensor<3x1xi64>) -> tensor<3x3xi1>
  %zero = train.full {value = 0.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %one = train.full {value = 1.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %mask = train.select %le, %zero, %one : (tensor<3x3xi1>, tensor<f32>, tensor<f32>) -> tensor<3x3xf32>
  %s = train.matmul %q, %q {transpose_b} : (tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x3xf32>
  %m = train.add %s, %mask : (tensor<1x2x3x3xf32>, tensor<3x3xf32>) -> tensor<1x2x3x3xf32>
  %p = train.softmax %m {axis = 3 : i64} : (tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %y = train.matmul %p, %q : (tensor<1x2x3x3xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x8xf32>
  train.output %y {name = "y"} : tensor<1x2x3x8xf32>
}

// -----

// Tests an operation whose operand defines it twice over: chains of sums double at every step and must be given up.
// CHECK-LABEL: @doubling
// CHECK: train.attention
train.step @doubling {
  %q = train.input {name = "q"} : tensor<1x2x3x8xf32>
  %i = train.iota {start = 0.0 : f64, step = 0.5 : f64, axis = 1 : i64, shape = array<i64: 1, 3>, element = f32} : () -> tensor<1x3xf32>
  %a = train.add %i, %i : (tensor<1x3xf32>, tensor<1x3xf32>) -> tensor<1x3xf32>
  %b = train.max %a, %a : (tensor<1x3xf32>, tensor<1x3xf32>) -> tensor<1x3xf32>
  %c = train.add %b, %b : (tensor<1x3xf32>, tensor<1x3xf32>) -> tensor<1x3xf32>
  %d = train.max %c, %c : (tensor<1x3xf32>, tensor<1x3xf32>) -> tensor<1x3xf32>
  %s = train.matmul %q, %q {transpose_b} : (tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x3xf32>
  %m = train.add %s, %d : (tensor<1x2x3x3xf32>, tensor<1x3xf32>) -> tensor<1x2x3x3xf32>
  %p = train.softmax %m {axis = 3 : i64} : (tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %y = train.matmul %p, %q : (tensor<1x2x3x3xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x8xf32>
  train.output %y {name = "y"} : tensor<1x2x3x8xf32>
}
