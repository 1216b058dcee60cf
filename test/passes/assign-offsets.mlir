// RUN: amc-opt %s --split-input-file --assign-offsets=alignment=64 | FileCheck %s

// Tests that a buffer takes the bytes of one that died the moment it is born. The weight stays at the bottom.
// CHECK-LABEL: train.step @reuse
// CHECK-SAME: train.alignment = 64
// CHECK-SAME: train.arena_bound_bytes = 192
// CHECK-SAME: train.arena_bytes = 192
// CHECK-SAME: train.max_live_bytes = 192
train.step @reuse {
  // CHECK: train.parameter {name = "w", train.offsets = array<i64: 0>}
  %w = train.parameter {name = "w"} : tensor<16xf32>
  // Live in [0, 2), 64 bytes.
  // CHECK: %[[A:.*]] = train.reduce_sum {{.*}}train.offsets = array<i64: [[AT:64|128]]>}
  %a = train.reduce_sum %w {axes = array<i64>, keepdims = false} : (tensor<16xf32>) -> tensor<16xf32>
  // Live in [1, 3): beside a.
  // CHECK: train.transpose
  %b = train.transpose %a {permutation = array<i64: 0>} : (tensor<16xf32>) -> tensor<16xf32>
  // Live in [2, 3): a is dead.
  // CHECK: train.transpose {{.*}}train.offsets = array<i64: [[AT]]>}
  %c = train.transpose %b {permutation = array<i64: 0>} : (tensor<16xf32>) -> tensor<16xf32>
}

// -----

// Tests that views are where their operand is, and that an elementwise result takes over an operand that dies.
// CHECK-LABEL: train.step @share
// CHECK-SAME: train.arena_bytes = 128
train.step @share {
  %x = train.input {name = "x"} : tensor<16xf32>
  // CHECK: train.exp {{.*}}train.offsets = array<i64: [[AT:[0-9]+]]>
  %a = train.exp %x : (tensor<16xf32>) -> tensor<16xf32>
  // CHECK: train.reshape {{.*}}train.offsets = array<i64: [[AT]]>
  %v = train.reshape %a {shape = array<i64: 4, 4>} : (tensor<16xf32>) -> tensor<4x4xf32>
  // CHECK: train.sin {{.*}}train.offsets = array<i64: [[AT]]>
  %b = train.sin %v : (tensor<4x4xf32>) -> tensor<4x4xf32>
  // b is read again below, so this result needs bytes of its own.
  // CHECK-NOT: train.cos {{.*}}train.offsets = array<i64: [[AT]]>
  %c = train.cos %b : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %d = train.add %b, %c : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
}

// -----

// Tests that workspace is placed too, beside operands and results: dx, dweight and a row of partial sums.
// CHECK-LABEL: train.step @workspace
train.step @workspace {
  %dy = train.input {name = "dy"} : tensor<4x16xf32>
  %x = train.input {name = "x"} : tensor<4x16xf32>
  %r = train.input {name = "r"} : tensor<4xf32>
  %w = train.parameter {name = "w"} : tensor<16xf32>
  // CHECK: train.rms_norm_backward {{.*}}train.offsets = array<i64: {{[0-9]+}}, {{[0-9]+}}>, train.workspace_offset = {{[0-9]+}} : i64
  %dx, %dw = train.rms_norm_backward %dy, %x, %r, %w : (tensor<4x16xf32>, tensor<4x16xf32>, tensor<4xf32>, tensor<16xf32>) -> (tensor<4x16xf32>, tensor<16xf32>)
}

// -----

// Tests that an input that nobody reads keeps a place of its own: the runtime writes it all the same.
// CHECK-LABEL: train.step @unread
// CHECK-SAME: train.arena_bytes = 128
train.step @unread {
  %x = train.input {name = "x"} : tensor<16xf32>
  %w = train.parameter {name = "w"} : tensor<16xf32>
}
