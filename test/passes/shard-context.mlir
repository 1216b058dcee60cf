// RUN: amc-opt %s --split-input-file --shard="cp=2 cp-attention=all-gather" --verify-diagnostics | FileCheck %s
// RUN: amc-opt %s --split-input-file --shard="cp=2 cp-attention=all-gather" --derive-backward 2>/dev/null | FileCheck %s --check-prefix=VJP

// Tests that everything with queries' positions is cut: each member has an early and a late part of the tokens, gathers
// keys and values, and adds up the loss. Parameters are spread over dp_shard and cp alike.
// CHECK-LABEL: @causal
// CHECK-SAME: train.mesh = array<i64: 1, 1, 2, 1>
// expected-remark @+1 {{context parallelism: attentions in a ring: 0, with keys and values gathered: 1}}
train.step @causal {
  // CHECK: %[[IDS:.*]] = train.input {name = "ids"} : tensor<1x8xi64>
  %ids = train.input {name = "ids"} : tensor<1x8xi64>
  // CHECK: train.parameter {name = "e", splits = [#train.split<0, "cp", 2, 16>], trainable} : tensor<8x4xf32>
  %e = train.parameter {name = "e", trainable} : tensor<16x4xf32>
  %wk = train.parameter {name = "k", trainable} : tensor<4x4xf32>
  // CHECK: %[[MINE:.*]] = train.take_piece %[[IDS]] {dim = 1 : i64, group = "cp", members = 2 : i64, zigzag} : (tensor<1x8xi64>) -> tensor<1x4xi64>
  // CHECK-NEXT: %[[E:.*]] = train.all_gather %{{.*}} {dim = 0 : i64, group = "cp", members = 2 : i64, {{.*}}size = 16 : i64}
  // CHECK-NEXT: train.embedding %[[E]], %[[MINE]] : {{.*}} -> tensor<1x4x4xf32>
  %x = train.embedding %e, %ids : (tensor<16x4xf32>, tensor<1x8xi64>) -> tensor<1x8x4xf32>
  %q = train.reshape %x {shape = array<i64: 1, 1, 8, 4>} : (tensor<1x8x4xf32>) -> tensor<1x1x8x4xf32>
  %k0 = train.linear %x, %wk : (tensor<1x8x4xf32>, tensor<4x4xf32>) -> tensor<1x8x4xf32>
  // CHECK: %[[K:.*]] = train.reshape %{{.*}} {shape = array<i64: 1, 1, 4, 4>}
  // CHECK: %[[ALL:.*]] = train.all_gather %{{.*}} {dim = 2 : i64, group = "cp", members = 2 : i64, size = 8 : i64}
  // CHECK: train.attention %{{.*}}, %[[ALL]], %[[ALL]] {group = "cp", members = 2 : i64, {{.*}}right = 0 : i64, {{.*}}zigzag} : {{.*}} -> (tensor<1x1x4x4xf32>, tensor<1x1x4xf32>)
  %k = train.reshape %k0 {shape = array<i64: 1, 1, 8, 4>} : (tensor<1x8x4xf32>) -> tensor<1x1x8x4xf32>
  %y, %lse = train.attention %q, %k, %k {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>, scale = 0.5 : f64, right = 0 : i64} : (tensor<1x1x8x4xf32>, tensor<1x1x8x4xf32>, tensor<1x1x8x4xf32>) -> (tensor<1x1x8x4xf32>, tensor<1x1x8xf32>)
  // CHECK: %[[L:.*]] = train.reduce_sum
  // CHECK-NEXT: %[[S:.*]] = train.all_reduce %[[L]] {group = "cp", members = 2 : i64}
  // CHECK-NEXT: train.output %[[S]]
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<1x1x8x4xf32>) -> tensor<f32>
  // What members have of the keys' gradient is added up where they were gathered.
  // VJP: train.attention_backward {{.*}}zigzag
  // VJP: train.reduce_scatter {{.*}} {dim = 2 : i64, group = "cp"
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that positions are not mixed where something else looks at them: a cut in order.
// CHECK-LABEL: @looks
// CHECK-NOT: zigzag
// CHECK: train.attention {{.*}}group = "cp"
// CHECK-NOT: zigzag
// expected-remark @+1 {{context parallelism: attentions in a ring: 0, with keys and values gathered: 1}}
train.step @looks {
  %in = train.input {name = "x"} : tensor<1x1x8x4xf32>
  %w = train.parameter {name = "w", trainable} : tensor<4xf32>
  %x = train.mul %in, %w : (tensor<1x1x8x4xf32>, tensor<4xf32>) -> tensor<1x1x8x4xf32>
  %y, %lse = train.attention %x, %x, %x {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>, scale = 0.5 : f64, right = 0 : i64} : (tensor<1x1x8x4xf32>, tensor<1x1x8x4xf32>, tensor<1x1x8x4xf32>) -> (tensor<1x1x8x4xf32>, tensor<1x1x8xf32>)
  %c = train.cumsum %y {axis = 2 : i64} : (tensor<1x1x8x4xf32>) -> tensor<1x1x8x4xf32>
  %loss = train.reduce_sum %c {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<1x1x8x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that a sequence whose scores are an activation of their own stays whole, and that this is said.
// CHECK-LABEL: @scores
// CHECK-NOT: train.take_piece
// expected-remark @+1 {{context parallelism: there is no attention whose queries' positions can be divided by 2; the ranks of axis cp do the same work}}
train.step @scores {
  %in = train.input {name = "x"} : tensor<1x8x4xf32>
  %w = train.parameter {name = "w", trainable} : tensor<4xf32>
  %x = train.mul %in, %w : (tensor<1x8x4xf32>, tensor<4xf32>) -> tensor<1x8x4xf32>
  %s = train.matmul %x, %x {transpose_b} : (tensor<1x8x4xf32>, tensor<1x8x4xf32>) -> tensor<1x8x8xf32>
  %loss = train.reduce_sum %s {axes = array<i64: 0, 1, 2>, keepdims = false} : (tensor<1x8x8xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}
