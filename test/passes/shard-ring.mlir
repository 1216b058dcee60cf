// RUN: amc-opt %s --split-input-file --shard="cp=2 cp-attention=ring" --verify-diagnostics | FileCheck %s
// RUN: amc-opt %s --split-input-file --shard="cp=2 cp-attention=ring" --derive-backward 2>/dev/null | FileCheck %s --check-prefix=VJP

// Tests that keys and values stay with their members, that padding, which is of all keys, does not, and that the
// gradients of keys and values are complete where they are made.
// CHECK-LABEL: @causal
// VJP-LABEL: @causal
// expected-remark @+1 {{context parallelism: attentions in a ring: 1, with keys and values gathered: 0}}
train.step @causal {
  %x = train.input {name = "x"} : tensor<1x1x8x4xf32>
  %padding = train.input {name = "padding"} : tensor<1x8xi1>
  %w = train.parameter {name = "w", trainable} : tensor<4xf32>
  // CHECK: %[[Q:.*]] = train.mul {{.*}} -> tensor<1x1x4x4xf32>
  // CHECK: %[[K:.*]] = train.exp {{.*}} -> tensor<1x1x4x4xf32>
  %q = train.mul %x, %w : (tensor<1x1x8x4xf32>, tensor<4xf32>) -> tensor<1x1x8x4xf32>
  %k = train.exp %q : (tensor<1x1x8x4xf32>) -> tensor<1x1x8x4xf32>
  // CHECK: %[[PIECE:.*]] = train.take_piece %{{.*}} {{.*}}zigzag} : (tensor<1x8xi1>) -> tensor<1x4xi1>
  // CHECK: %[[PADDING:.*]] = train.all_gather %[[PIECE]] {{.*}} -> tensor<1x8xi1>
  // CHECK: train.attention %[[Q]], %[[K]], %[[K]], %[[PADDING]] {group = "cp", members = 2 : i64, {{.*}}right = 0 : i64, ring, {{.*}}zigzag} : {{.*}} -> (tensor<1x1x4x4xf32>, tensor<1x1x4xf32>)
  %y, %lse = train.attention %q, %k, %k, %padding {operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0>, scale = 0.5 : f64, right = 0 : i64} : (tensor<1x1x8x4xf32>, tensor<1x1x8x4xf32>, tensor<1x1x8x4xf32>, tensor<1x8xi1>) -> (tensor<1x1x8x4xf32>, tensor<1x1x8xf32>)
  // VJP: train.attention_backward {{.*}}ring{{.*}} -> (tensor<1x1x4x4xf32>, tensor<1x1x4x4xf32>, tensor<1x1x4x4xf32>)
  // VJP-NOT: train.reduce_scatter %{{.*}}4x4xf32
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<1x1x8x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that attention to another sequence keeps its gathered (here: alike) keys, beside one that is in a ring, and that
// this is said.
// CHECK-LABEL: @other_keys
// CHECK: train.attention {{.*}}ring
// CHECK: train.attention
// CHECK-NOT: ring
// CHECK-SAME: group = "cp"
// expected-remark @+2 {{context parallelism: attentions that cannot be in a ring: 1 (its keys are not of the sequence that is divided)}}
// expected-remark @+1 {{context parallelism: attentions in a ring: 1, with keys and values gathered: 1}}
train.step @other_keys {
  %in = train.input {name = "x"} : tensor<1x1x8x4xf32>
  %k = train.input {name = "k"} : tensor<1x1x6x4xf32>
  %w = train.parameter {name = "w", trainable} : tensor<4xf32>
  %x = train.mul %in, %w : (tensor<1x1x8x4xf32>, tensor<4xf32>) -> tensor<1x1x8x4xf32>
  %y, %lse = train.attention %x, %x, %x {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>, scale = 0.5 : f64} : (tensor<1x1x8x4xf32>, tensor<1x1x8x4xf32>, tensor<1x1x8x4xf32>) -> (tensor<1x1x8x4xf32>, tensor<1x1x8xf32>)
  %z, %lse2 = train.attention %y, %k, %k {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>, scale = 0.5 : f64} : (tensor<1x1x8x4xf32>, tensor<1x1x6x4xf32>, tensor<1x1x6x4xf32>) -> (tensor<1x1x8x4xf32>, tensor<1x1x8xf32>)
  %loss = train.reduce_sum %z {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<1x1x8x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that a bias of positions is said to be what stands in the way.
// CHECK-LABEL: @biased
// CHECK: train.attention {{.*}}ring
// expected-remark @+2 {{context parallelism: attentions that cannot be in a ring: 1 (the bias has positions of queries and keys)}}
// expected-remark @+1 {{context parallelism: attentions in a ring: 1, with keys and values gathered: 0}}
train.step @biased {
  %in = train.input {name = "x"} : tensor<1x1x8x4xf32>
  %b = train.input {name = "b"} : tensor<1x1x8x8xf32>
  %w = train.parameter {name = "w", trainable} : tensor<4xf32>
  %x = train.mul %in, %w : (tensor<1x1x8x4xf32>, tensor<4xf32>) -> tensor<1x1x8x4xf32>
  %y, %lse = train.attention %x, %x, %x {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>, scale = 0.5 : f64} : (tensor<1x1x8x4xf32>, tensor<1x1x8x4xf32>, tensor<1x1x8x4xf32>) -> (tensor<1x1x8x4xf32>, tensor<1x1x8xf32>)
  %z, %lse2 = train.attention %y, %y, %y, %b {operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0, 0>, scale = 0.5 : f64} : (tensor<1x1x8x4xf32>, tensor<1x1x8x4xf32>, tensor<1x1x8x4xf32>, tensor<1x1x8x8xf32>) -> (tensor<1x1x8x4xf32>, tensor<1x1x8xf32>)
  %loss = train.reduce_sum %z {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<1x1x8x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}
