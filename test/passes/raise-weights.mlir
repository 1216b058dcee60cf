// RUN: rm -rf %t && mkdir %t && head -c 4096 /dev/zero > %t/zeros
// RUN: sed "s|FOLDER|%t|" %s > %t/steps.mlir && amc-opt %t/steps.mlir --raise | FileCheck %s

// Tests what float parameters hold before it is decided which are trained: a bias, a mask's addend and a factor of zeros are
// weights that start there, and stay.
module attributes {train.model_directory = "FOLDER"} {
  // CHECK-LABEL: @bias
  // CHECK: train.parameter {name = "b"
  // CHECK: train.add
  train.step @bias {
    %x = train.input {name = "x"} : tensor<2x4xf32>
    %b = train.parameter {name = "b", source = #train.file<"zeros", 0, 4>} : tensor<1xf32>
    %y = train.add %x, %b : (tensor<2x4xf32>, tensor<1xf32>) -> tensor<2x4xf32>
    train.output %y {name = "y"} : tensor<2x4xf32>
  }

  // CHECK-LABEL: @learned_bias
  // CHECK: train.parameter {name = "positions"
  // CHECK-NOT: train.attention
  // CHECK: train.softmax
  train.step @learned_bias {
    %q = train.input {name = "q"} : tensor<1x2x3x8xf32>
    %b = train.parameter {name = "positions", source = #train.file<"zeros", 0, 72>} : tensor<1x2x3x3xf32>
    %s = train.matmul %q, %q {transpose_b} : (tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x3xf32>
    %m = train.add %s, %b : (tensor<1x2x3x3xf32>, tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
    %p = train.softmax %m {axis = 3 : i64} : (tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
    %y = train.matmul %p, %q : (tensor<1x2x3x3xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x8xf32>
    train.output %y {name = "y"} : tensor<1x2x3x8xf32>
  }

  // A mask of heads on scores that were taken apart between flattened products.
  // CHECK-LABEL: @mask_between
  // CHECK: train.softmax
  train.step @mask_between {
    %q = train.input {name = "q"} : tensor<8x3x5xf32>
    %mask = train.input {name = "mask"} : tensor<4x3x3xf32>
    %s = train.matmul %q, %q {transpose_b} : (tensor<8x3x5xf32>, tensor<8x3x5xf32>) -> tensor<8x3x3xf32>
    %a = train.reshape %s {shape = array<i64: 2, 4, 3, 3>} : (tensor<8x3x3xf32>) -> tensor<2x4x3x3xf32>
    %m = train.add %a, %mask : (tensor<2x4x3x3xf32>, tensor<4x3x3xf32>) -> tensor<2x4x3x3xf32>
    %p = train.softmax %m {axis = 3 : i64} : (tensor<2x4x3x3xf32>) -> tensor<2x4x3x3xf32>
    %f = train.reshape %p {shape = array<i64: 8, 3, 3>} : (tensor<2x4x3x3xf32>) -> tensor<8x3x3xf32>
    %y = train.matmul %f, %q : (tensor<8x3x3xf32>, tensor<8x3x5xf32>) -> tensor<8x3x5xf32>
    train.output %y {name = "y"} : tensor<8x3x5xf32>
  }
}
