// RUN: amc-opt %s --split-input-file --raise | FileCheck %s

// Tests a product with a transposed weight and a bias that is added from the left.
// CHECK-LABEL: @transposed
// CHECK-DAG: %[[X:.*]] = train.input
// CHECK-DAG: %[[W:.*]] = train.parameter {name = "w"
// CHECK-DAG: %[[B:.*]] = train.parameter {name = "b"
// CHECK: %[[Y:.*]] = train.linear %[[X]], %[[W]], %[[B]] {transpose_w}
// CHECK-NEXT: train.output %[[Y]]
train.step @transposed {
  %x = train.input {name = "x"} : tensor<2x3x4xf32>
  %w = train.parameter {name = "w"} : tensor<5x4xf32>
  %b = train.parameter {name = "b"} : tensor<5xf32>
  %t = train.transpose %w {permutation = array<i64: 1, 0>} : (tensor<5x4xf32>) -> tensor<4x5xf32>
  %p = train.matmul %x, %t : (tensor<2x3x4xf32>, tensor<4x5xf32>) -> tensor<2x3x5xf32>
  %y = train.add %b, %p : (tensor<5xf32>, tensor<2x3x5xf32>) -> tensor<2x3x5xf32>
  train.output %y {name = "y"} : tensor<2x3x5xf32>
}

// -----

// Tests Gemm on flattened rows, as GPT-2 has it: both reshapes go.
// CHECK-LABEL: @flattened
// CHECK: train.linear %{{.*}} : (tensor<2x3x4xf32>, tensor<4x5xf32>, tensor<5xf32>) -> tensor<2x3x5xf32>
// CHECK-NEXT: train.output
train.step @flattened {
  %x = train.input {name = "x"} : tensor<2x3x4xf32>
  %w = train.parameter {name = "w"} : tensor<4x5xf32>
  %b = train.parameter {name = "b"} : tensor<5xf32>
  %rows = train.reshape %x {shape = array<i64: 6, 4>} : (tensor<2x3x4xf32>) -> tensor<6x4xf32>
  %p = train.matmul %rows, %w : (tensor<6x4xf32>, tensor<4x5xf32>) -> tensor<6x5xf32>
  %s = train.add %p, %b : (tensor<6x5xf32>, tensor<5xf32>) -> tensor<6x5xf32>
  %y = train.reshape %s {shape = array<i64: 2, 3, 5>} : (tensor<6x5xf32>) -> tensor<2x3x5xf32>
  train.output %y {name = "y"} : tensor<2x3x5xf32>
}

// -----

// Tests heads folded into rows of a matrix: one reshape stays, of the input.
// CHECK-LABEL: @folded_heads
// CHECK: %[[X:.*]] = train.reshape %{{.*}} -> tensor<2x3x4xf32>
// CHECK-NEXT: train.linear %[[X]]
// CHECK-NEXT: train.output
train.step @folded_heads {
  %x = train.input {name = "x"} : tensor<2x3x2x2xf32>
  %w = train.parameter {name = "w"} : tensor<4x5xf32>
  %rows = train.reshape %x {shape = array<i64: 6, 4>} : (tensor<2x3x2x2xf32>) -> tensor<6x4xf32>
  %p = train.linear %rows, %w : (tensor<6x4xf32>, tensor<4x5xf32>) -> tensor<6x5xf32>
  %y = train.reshape %p {shape = array<i64: 2, 3, 5>} : (tensor<6x5xf32>) -> tensor<2x3x5xf32>
  train.output %y {name = "y"} : tensor<2x3x5xf32>
}

// -----

// Tests that a product of two activations stays one (its transpose folded), and that a bias per row is no bias.
// CHECK-LABEL: @not_linear
// CHECK: train.matmul %{{.*}} {transpose_b}
// CHECK: %[[L:.*]] = train.linear %{{.*}} : (tensor<4x4xf32>, tensor<4x4xf32>)
// CHECK: train.add %[[L]]
train.step @not_linear {
  %x = train.input {name = "x"} : tensor<4x4xf32>
  %z = train.input {name = "z"} : tensor<4x4xf32>
  %w = train.parameter {name = "w"} : tensor<4x4xf32>
  %b = train.parameter {name = "b"} : tensor<4x1xf32>
  %t = train.transpose %z {permutation = array<i64: 1, 0>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %y = train.matmul %x, %t : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %p = train.matmul %x, %w : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %s = train.add %p, %b : (tensor<4x4xf32>, tensor<4x1xf32>) -> tensor<4x4xf32>
  train.output %y {name = "y"} : tensor<4x4xf32>
  train.output %s {name = "s"} : tensor<4x4xf32>
}

// -----

// Tests that a product with another reader keeps its value: the bias is added outside.
// CHECK-LABEL: @read_twice
// CHECK: %[[P:.*]] = train.linear %{{.*}}, %{{[^,]*}} :
// CHECK: train.add %[[P]]
train.step @read_twice {
  %x = train.input {name = "x"} : tensor<6x4xf32>
  %w = train.parameter {name = "w"} : tensor<4x5xf32>
  %b = train.parameter {name = "b"} : tensor<5xf32>
  %p = train.matmul %x, %w : (tensor<6x4xf32>, tensor<4x5xf32>) -> tensor<6x5xf32>
  %y = train.add %p, %b : (tensor<6x5xf32>, tensor<5xf32>) -> tensor<6x5xf32>
  train.output %p {name = "p"} : tensor<6x5xf32>
  train.output %y {name = "y"} : tensor<6x5xf32>
}

// -----

// Tests that exporters' identities go: a product with 1, a sum with 0, transposes that cancel, a reshape between.
// CHECK-LABEL: @identities
// CHECK: %[[X:.*]] = train.input
// CHECK-NEXT: train.output %[[X]]
train.step @identities {
  %x = train.input {name = "x"} : tensor<2x3x4xf32>
  %one = train.full {value = 1.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %zero = train.full {value = 0.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %a = train.mul %one, %x : (tensor<f32>, tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  %b = train.add %a, %zero : (tensor<2x3x4xf32>, tensor<f32>) -> tensor<2x3x4xf32>
  %c = train.transpose %b {permutation = array<i64: 2, 0, 1>} : (tensor<2x3x4xf32>) -> tensor<4x2x3xf32>
  %d = train.transpose %c {permutation = array<i64: 1, 2, 0>} : (tensor<4x2x3xf32>) -> tensor<2x3x4xf32>
  %e = train.reshape %d {shape = array<i64: 6, 4>} : (tensor<2x3x4xf32>) -> tensor<6x4xf32>
  %f = train.reshape %e {shape = array<i64: 2, 3, 4>} : (tensor<6x4xf32>) -> tensor<2x3x4xf32>
  train.output %f {name = "f"} : tensor<2x3x4xf32>
}
