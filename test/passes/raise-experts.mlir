// RUN: amc-opt %s --split-input-file --raise | FileCheck %s

// Tests expert matrices [E, M, K] gathered for each row and multiplied from the left.
// CHECK-LABEL: @left
// CHECK-DAG: %[[X:.*]] = train.input {name = "x"
// CHECK-DAG: %[[W:.*]] = train.parameter
// CHECK: %[[IDS:.*]] = train.reshape %{{.*}} -> tensor<6xi64>
// CHECK: train.grouped_matmul %[[X]], %[[W]], %[[IDS]] {transpose_w} : (tensor<6x4xf32>, tensor<3x5x4xf32>, tensor<6xi64>) -> tensor<6x5xf32>
// CHECK-NOT: train.gather_nd
train.step @left {
  %x = train.input {name = "x"} : tensor<6x4xf32>
  %w = train.parameter {name = "w"} : tensor<3x5x4xf32>
  %scores = train.input {name = "scores"} : tensor<6x3xf32>
  %best, %which = train.top_k %scores {k = 1 : i64, axis = 1 : i64} : (tensor<6x3xf32>) -> (tensor<6x1xf32>, tensor<6x1xi64>)
  %g = train.gather_nd %w, %which : (tensor<3x5x4xf32>, tensor<6x1xi64>) -> tensor<6x5x4xf32>
  %column = train.reshape %x {shape = array<i64: 6, 4, 1>} : (tensor<6x4xf32>) -> tensor<6x4x1xf32>
  %p = train.matmul %g, %column : (tensor<6x5x4xf32>, tensor<6x4x1xf32>) -> tensor<6x5x1xf32>
  %y = train.reshape %p {shape = array<i64: 6, 5>} : (tensor<6x5x1xf32>) -> tensor<6x5xf32>
  train.output %y {name = "y"} : tensor<6x5xf32>
}

// -----

// Tests matrices [E, K, M] gathered along axis 0 and multiplied from the right.
// CHECK-LABEL: @right
// CHECK: train.grouped_matmul %{{.*}} : (tensor<6x4xf32>, tensor<3x4x5xf32>, tensor<6xi64>) -> tensor<6x5xf32>
// CHECK-NOT: train.gather
train.step @right {
  %x = train.input {name = "x"} : tensor<6x1x4xf32>
  %w = train.parameter {name = "w"} : tensor<3x4x5xf32>
  %scores = train.input {name = "scores"} : tensor<6x3xf32>
  %best, %which = train.top_k %scores {k = 1 : i64, axis = 1 : i64} : (tensor<6x3xf32>) -> (tensor<6x1xf32>, tensor<6x1xi64>)
  %ids = train.reshape %which {shape = array<i64: 6>} : (tensor<6x1xi64>) -> tensor<6xi64>
  %g = train.gather %w, %ids {axis = 0 : i64} : (tensor<3x4x5xf32>, tensor<6xi64>) -> tensor<6x4x5xf32>
  %y = train.matmul %x, %g : (tensor<6x1x4xf32>, tensor<6x4x5xf32>) -> tensor<6x1x5xf32>
  train.output %y {name = "y"} : tensor<6x1x5xf32>
}

// -----

// Tests that ids which come from the data, and may be negative, stay a gather.
// CHECK-LABEL: @data_ids
// CHECK: train.gather
// CHECK-NOT: train.grouped_matmul
train.step @data_ids {
  %x = train.input {name = "x"} : tensor<6x1x4xf32>
  %w = train.parameter {name = "w"} : tensor<3x4x5xf32>
  %ids = train.input {name = "ids"} : tensor<6xi64>
  %g = train.gather %w, %ids {axis = 0 : i64} : (tensor<3x4x5xf32>, tensor<6xi64>) -> tensor<6x4x5xf32>
  %y = train.matmul %x, %g : (tensor<6x1x4xf32>, tensor<6x4x5xf32>) -> tensor<6x1x5xf32>
  train.output %y {name = "y"} : tensor<6x1x5xf32>
}

// -----

// Tests that rows of a parameter become an embedding, whose weight may be tied to a linear, and columns do not.
// CHECK-LABEL: @embedding
// CHECK-DAG: %[[W:.*]] = train.parameter
// CHECK-DAG: %[[IDS:.*]] = train.input
// CHECK: %[[E:.*]] = train.embedding %[[W]], %[[IDS]]
// CHECK: train.linear %[[E]], %[[W]] {transpose_w}
// CHECK: train.gather %[[W]]
train.step @embedding {
  %w = train.parameter {name = "w"} : tensor<7x4xf32>
  %ids = train.input {name = "ids"} : tensor<2x3xi64>
  %e = train.gather %w, %ids {axis = 0 : i64} : (tensor<7x4xf32>, tensor<2x3xi64>) -> tensor<2x3x4xf32>
  %t = train.transpose %w {permutation = array<i64: 1, 0>} : (tensor<7x4xf32>) -> tensor<4x7xf32>
  %y = train.matmul %e, %t : (tensor<2x3x4xf32>, tensor<4x7xf32>) -> tensor<2x3x7xf32>
  %c = train.gather %w, %ids {axis = 1 : i64} : (tensor<7x4xf32>, tensor<2x3xi64>) -> tensor<7x2x3xf32>
  train.output %y {name = "y"} : tensor<2x3x7xf32>
  train.output %c {name = "c"} : tensor<7x2x3xf32>
}
