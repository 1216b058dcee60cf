// RUN: amc-opt %s | amc-opt | FileCheck %s
//
// Operations that move elements. The types on the right are what the operations
// infer: the verifier compares them. Attributes at their default are not printed.

// Reshapes and transposes keep the element count, scalars and empty tensors included.
// CHECK-LABEL: train.step @views
train.step @views {
  %a = train.input {name = "a"} : tensor<2x6xf32>
  // CHECK: train.reshape {{.*}}{shape = array<i64: 3, 4>} : (tensor<2x6xf32>) -> tensor<3x4xf32>
  %r0 = train.reshape %a {shape = array<i64: 3, 4>} : (tensor<2x6xf32>) -> tensor<3x4xf32>
  %b = train.input {name = "b"} : tensor<1x1xi1>
  // CHECK: train.reshape {{.*}}{shape = array<i64>} : (tensor<1x1xi1>) -> tensor<i1>
  %r1 = train.reshape %b {shape = array<i64>} : (tensor<1x1xi1>) -> tensor<i1>
  %c = train.input {name = "c"} : tensor<2x0xbf16>
  // CHECK: train.reshape {{.*}}{shape = array<i64: 0, 7>} : (tensor<2x0xbf16>) -> tensor<0x7xbf16>
  %r2 = train.reshape %c {shape = array<i64: 0, 7>} : (tensor<2x0xbf16>) -> tensor<0x7xbf16>
  %d = train.input {name = "d"} : tensor<2x3x4xf32>
  // CHECK: train.transpose {{.*}}{permutation = array<i64: 2, 0, 1>} : (tensor<2x3x4xf32>) -> tensor<4x2x3xf32>
  %r3 = train.transpose %d {permutation = array<i64: 2, 0, 1>} : (tensor<2x3x4xf32>) -> tensor<4x2x3xf32>
  %e = train.input {name = "e"} : tensor<f32>
  // CHECK: train.transpose {{.*}}{permutation = array<i64>} : (tensor<f32>) -> tensor<f32>
  %r4 = train.transpose %e {permutation = array<i64>} : (tensor<f32>) -> tensor<f32>
}

// Dimensions of 1 grow, new ones come in front.
// CHECK-LABEL: train.step @broadcasts
train.step @broadcasts {
  %a = train.input {name = "a"} : tensor<2x1xf64>
  // CHECK: train.broadcast {{.*}}{shape = array<i64: 4, 2, 3>} : (tensor<2x1xf64>) -> tensor<4x2x3xf64>
  %r0 = train.broadcast %a {shape = array<i64: 4, 2, 3>} : (tensor<2x1xf64>) -> tensor<4x2x3xf64>
  %b = train.input {name = "b"} : tensor<f32>
  // CHECK: train.broadcast {{.*}}{shape = array<i64: 0>} : (tensor<f32>) -> tensor<0xf32>
  %r1 = train.broadcast %b {shape = array<i64: 0>} : (tensor<f32>) -> tensor<0xf32>
}

// Sizes are the result's shape; starts of empty dimensions and steps of single elements may be anything.
// CHECK-LABEL: train.step @slices
train.step @slices {
  %a = train.input {name = "a"} : tensor<4x8xf32>
  // CHECK: train.slice {{.*}}{sizes = array<i64: 2, 3>, starts = array<i64: 0, 7>, steps = array<i64: 2, -3>} : (tensor<4x8xf32>) -> tensor<2x3xf32>
  %r0 = train.slice %a {sizes = array<i64: 2, 3>, starts = array<i64: 0, 7>, steps = array<i64: 2, -3>} : (tensor<4x8xf32>) -> tensor<2x3xf32>
  // CHECK: train.slice {{.*}}{sizes = array<i64: 1, 0>, starts = array<i64: 3, 99>, steps = array<i64: 99, 1>} : (tensor<4x8xf32>) -> tensor<1x0xf32>
  %r1 = train.slice %a {sizes = array<i64: 1, 0>, starts = array<i64: 3, 99>, steps = array<i64: 99, 1>} : (tensor<4x8xf32>) -> tensor<1x0xf32>
}

// Sizes along the axis add up.
// CHECK-LABEL: train.step @joins
train.step @joins {
  %a = train.input {name = "a"} : tensor<2x3xi1>
  %b = train.input {name = "b"} : tensor<2x0xi1>
  %c = train.input {name = "c"} : tensor<2x1xi1>
  // CHECK: train.concat {{.*}}{axis = 1 : i64} : (tensor<2x3xi1>, tensor<2x0xi1>, tensor<2x1xi1>) -> tensor<2x4xi1>
  %r0 = train.concat %a, %b, %c {axis = 1 : i64} : (tensor<2x3xi1>, tensor<2x0xi1>, tensor<2x1xi1>) -> tensor<2x4xi1>
  %d = train.input {name = "d"} : tensor<2x3xf32>
  // CHECK: train.concat {{.*}}{axis = 0 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r1 = train.concat %d {axis = 0 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %e = train.input {name = "e"} : tensor<3x0xf32>
  // CHECK: train.pad {{.*}}{high = array<i64: 2, 2>, interior = array<i64: 1, 9>, low = array<i64: 1, 1>} : (tensor<3x0xf32>) -> tensor<8x3xf32>
  %r2 = train.pad %e {high = array<i64: 2, 2>, interior = array<i64: 1, 9>, low = array<i64: 1, 1>} : (tensor<3x0xf32>) -> tensor<8x3xf32>
  %f = train.input {name = "f"} : tensor<3xi8>
  // CHECK: train.pad {{.*}}{high = array<i64: 0>, interior = array<i64: 0>, low = array<i64: 1>, value = -1.280000e+02 : f64} : (tensor<3xi8>) -> tensor<4xi8>
  %r3 = train.pad %f {high = array<i64: 0>, interior = array<i64: 0>, low = array<i64: 1>, value = -1.280000e+02 : f64} : (tensor<3xi8>) -> tensor<4xi8>
}

// Without operands the element type is an attribute.
// CHECK-LABEL: train.step @made
train.step @made {
  // CHECK: train.full {element = bf16, shape = array<i64: 2, 3>, value = 5.000000e-01 : f64} : () -> tensor<2x3xbf16>
  %r0 = train.full {element = bf16, shape = array<i64: 2, 3>, value = 5.000000e-01 : f64} : () -> tensor<2x3xbf16>
  // CHECK: train.full {element = i1, shape = array<i64>, value = 1.000000e+00 : f64} : () -> tensor<i1>
  %r1 = train.full {element = i1, shape = array<i64>, value = 1.000000e+00 : f64} : () -> tensor<i1>
  // CHECK: train.iota {axis = 0 : i64, element = ui8, shape = array<i64: 256>, start = 0.000000e+00 : f64, step = 1.000000e+00 : f64} : () -> tensor<256xui8>
  %r2 = train.iota {axis = 0 : i64, element = ui8, shape = array<i64: 256>, start = 0.000000e+00 : f64, step = 1.000000e+00 : f64} : () -> tensor<256xui8>
  %a = train.input {name = "a"} : tensor<5x2x3xf32>
  // CHECK: train.triangle {{.*}}{k = -1 : i64, upper = false} : (tensor<5x2x3xf32>) -> tensor<5x2x3xf32>
  %r3 = train.triangle %a {k = -1 : i64, upper = false} : (tensor<5x2x3xf32>) -> tensor<5x2x3xf32>
}
