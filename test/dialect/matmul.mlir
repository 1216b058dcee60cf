// RUN: amc-opt %s --split-input-file | amc-opt --split-input-file | FileCheck %s
// RUN: amc-opt %s --split-input-file --derive-backward | FileCheck %s --check-prefix=VJP
//
// Products print what they parse, and their gradients are products again.

// Transposes and broadcast leading dimensions: [5, 2, 3] against [1, 4, 3] transposed.
// CHECK-LABEL: @matmul
// VJP-LABEL: @matmul
train.step @matmul {
  %a = train.parameter {name = "a", trainable} : tensor<5x2x3xf32>
  %b = train.parameter {name = "b", trainable} : tensor<1x4x3xf32>
  // CHECK: train.matmul %{{.*}}, %{{.*}} {transpose_b} : (tensor<5x2x3xf32>, tensor<1x4x3xf32>) -> tensor<5x2x4xf32>
  %y = train.matmul %a, %b {transpose_b} : (tensor<5x2x3xf32>, tensor<1x4x3xf32>) -> tensor<5x2x4xf32>
  // da = dy b: [5, 2, 4] [1, 4, 3]. db = dy^T a, summed over the batch that b does not have.
  // VJP: %[[DY:.*]] = train.broadcast {{.*}} -> tensor<5x2x4xf32>
  // VJP: train.matmul %[[DY]], %{{[0-9a-z]+}} {train.phase = "backward"} : (tensor<5x2x4xf32>, tensor<1x4x3xf32>) -> tensor<5x2x3xf32>
  // VJP: %[[DB:.*]] = train.matmul %[[DY]], %{{.*}} {train.phase = "backward", transpose_a} : (tensor<5x2x4xf32>, tensor<5x2x3xf32>) -> tensor<5x4x3xf32>
  // VJP: train.reduce_sum %[[DB]] {axes = array<i64: 0>
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2>, keepdims = false} : (tensor<5x2x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// A batch of rows against one matrix: the matrix gets its gradient in one product, without a batch of gradients.
// CHECK-LABEL: @matmul_weight
// VJP-LABEL: @matmul_weight
train.step @matmul_weight {
  %x = train.input {name = "x"} : tensor<5x2x3xf32>
  %w = train.parameter {name = "w", trainable} : tensor<3x4xf32>
  // CHECK: train.matmul {{.*}} : (tensor<5x2x3xf32>, tensor<3x4xf32>) -> tensor<5x2x4xf32>
  %y = train.matmul %x, %w : (tensor<5x2x3xf32>, tensor<3x4xf32>) -> tensor<5x2x4xf32>
  // VJP: train.linear_weight_grad {{.*}} : (tensor<5x2x3xf32>, tensor<5x2x4xf32>) -> tensor<3x4xf32>
  // VJP-NOT: train.matmul
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2>, keepdims = false} : (tensor<5x2x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// A linear layer as torch keeps it, w [N, K]: dx = dy w without a transpose, dw in w's layout, dbias a sum over rows.
// CHECK-LABEL: @linear
// VJP-LABEL: @linear
train.step @linear {
  %x = train.parameter {name = "x", trainable} : tensor<2x3xf32>
  %w = train.parameter {name = "w", trainable} : tensor<4x3xf32>
  %bias = train.parameter {name = "bias", trainable} : tensor<4xf32>
  // CHECK: train.linear %{{.*}}, %{{.*}}, %{{.*}} {transpose_w} : (tensor<2x3xf32>, tensor<4x3xf32>, tensor<4xf32>) -> tensor<2x4xf32>
  %y = train.linear %x, %w, %bias {transpose_w} : (tensor<2x3xf32>, tensor<4x3xf32>, tensor<4xf32>) -> tensor<2x4xf32>
  // VJP: train.linear %{{.*}}, %{{.*}} {train.phase = "backward"} : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  // VJP: train.linear_weight_grad {{.*}}transpose_w} : (tensor<2x3xf32>, tensor<2x4xf32>) -> tensor<4x3xf32>
  // VJP: train.reduce_sum {{.*}}axes = array<i64: 0>{{.*}} : (tensor<2x4xf32>) -> tensor<4xf32>
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Experts: dx goes through the transposed matrices of the same groups.
// CHECK-LABEL: @grouped
// VJP-LABEL: @grouped
train.step @grouped {
  %x = train.parameter {name = "x", trainable} : tensor<6x3xf32>
  %w = train.parameter {name = "w", trainable} : tensor<8x3x4xf32>
  %ids = train.input {name = "ids"} : tensor<6xi64>
  // CHECK: train.grouped_matmul {{.*}} : (tensor<6x3xf32>, tensor<8x3x4xf32>, tensor<6xi64>) -> tensor<6x4xf32>
  %y = train.grouped_matmul %x, %w, %ids : (tensor<6x3xf32>, tensor<8x3x4xf32>, tensor<6xi64>) -> tensor<6x4xf32>
  // VJP: train.grouped_matmul {{.*}}transpose_w} : (tensor<6x4xf32>, tensor<8x3x4xf32>, tensor<6xi64>) -> tensor<6x3xf32>
  // VJP: train.grouped_matmul_weight_grad {{.*}}groups = 8 : i64{{.*}} -> tensor<8x3x4xf32>
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1>, keepdims = false} : (tensor<6x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}
