// RUN: amc-opt %s --split-input-file --verify-diagnostics --derive-backward --rematerialize=policy=full | FileCheck %s

// Tests a model in which nothing repeats: four products of other widths are two segments of like cost, and the first
// is checkpointed, its boundary saved.
// CHECK-LABEL: train.step @segments
// CHECK-SAME: train.blocks = 1
// CHECK: train.phase = "recompute"
// expected-remark @+1 {{checkpointing: no block repeats in this model; its forward pass is split into 2 segments where the fewest bytes are alive, and all but the last are checkpointed}}
train.step @segments {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %a = train.parameter {name = "a", trainable} : tensor<8x8xf32>
  %b = train.parameter {name = "b", trainable} : tensor<8x7xf32>
  %c = train.parameter {name = "c", trainable} : tensor<7x6xf32>
  %d = train.parameter {name = "d", trainable} : tensor<6x9xf32>
  %p = train.linear %x, %a : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %q = train.linear %p, %b : (tensor<4x8xf32>, tensor<8x7xf32>) -> tensor<4x7xf32>
  %r = train.linear %q, %c : (tensor<4x7xf32>, tensor<7x6xf32>) -> tensor<4x6xf32>
  %s = train.linear %r, %d : (tensor<4x6xf32>, tensor<6x9xf32>) -> tensor<4x9xf32>
  %l = train.reduce_sum %s {axes = array<i64: 0, 1>, keepdims = false} : (tensor<4x9xf32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}

// -----

// Tests layers that share an activation which outlives them all.
// CHECK-LABEL: train.step @shared
// CHECK-SAME: train.blocks = 3
// expected-remark @+1 {{checkpointing: the layers share 1 activations that outlive them; these are saved, and 3 blocks between them are checkpointed}}
train.step @shared {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %e = train.parameter {name = "e", trainable} : tensor<8x8xf32>
  %w0 = train.parameter {name = "w0", trainable} : tensor<8x8xf32>
  %w1 = train.parameter {name = "w1", trainable} : tensor<8x8xf32>
  %w2 = train.parameter {name = "w2", trainable} : tensor<8x8xf32>
  %s = train.linear %x, %e : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %x0 = train.mul %x, %s : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %a0 = train.linear %x0, %w0 : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %m0 = train.mul %a0, %s : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %x1 = train.add %x0, %m0 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %a1 = train.linear %x1, %w1 : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %m1 = train.mul %a1, %s : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %x2 = train.add %x1, %m1 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %a2 = train.linear %x2, %w2 : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %m2 = train.mul %a2, %s : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %x3 = train.add %x2, %m2 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %l = train.reduce_sum %x3 {axes = array<i64: 0, 1>, keepdims = false} : (tensor<4x8xf32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}

// -----

// Tests that a model without repeated blocks is said to be one, and is left as it is when it is tiny.
// CHECK-LABEL: train.step @tiny
// CHECK-SAME: train.blocks = 0
// CHECK-NOT: recompute"
// expected-remark @+1 {{no block repeats in this model and it is too small to be split; everything that backward reads is saved}}
train.step @tiny {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %w = train.parameter {name = "w", trainable} : tensor<8x8xf32>
  %y = train.linear %x, %w : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %z = train.exp %y : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %l = train.reduce_sum %z {axes = array<i64: 0, 1>, keepdims = false} : (tensor<4x8xf32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}
