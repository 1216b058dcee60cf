// RUN: amc-opt %s --split-input-file --fuse-elementwise | FileCheck %s

// Tests what backward computes again on the way to a gradient: one kernel, of backward, which says how many of its FLOPs
// are computed again. The copy is read by nothing else, so it is no result.
// CHECK-LABEL: train.step @joined
// CHECK: %[[F:.*]] = train.fused(%[[X:.*]] = %{{.*}}, %[[G:.*]] = %{{.*}}) {{{.*}}train.joined_flops = 8 : i64, train.offsets = array<i64: 256>, train.phase = "backward"} : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
// CHECK-NEXT: %[[Y:.*]] = train.exp %[[X]]
// CHECK-NEXT: %[[D:.*]] = train.mul %[[G]], %[[Y]]
// CHECK-NEXT: train.yield %[[D]]
train.step @joined attributes {train.arena_bytes = 1024 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 0>} : tensor<2x4xf32>
  %g = train.input {name = "g", train.offsets = array<i64: 64>} : tensor<2x4xf32>
  %w = train.parameter {name = "w", train.offsets = array<i64: 128>} : tensor<4x4xf32>
  %y2 = train.exp %x {train.offsets = array<i64: 192>, train.phase = "recompute"} : (tensor<2x4xf32>) -> tensor<2x4xf32>
  %d = train.mul %g, %y2 {train.offsets = array<i64: 256>, train.phase = "backward"} : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
  %z = train.linear %d, %w {train.offsets = array<i64: 320>, train.phase = "backward"} : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
  train.output %z {name = "z"} : tensor<2x4xf32>
}

// -----

// Tests that what is only computed again stays recomputation, and that forward shares no kernel with either.
// CHECK-LABEL: train.step @apart
// CHECK: train.fused
// CHECK-SAME: train.offsets = array<i64: 64>}
// CHECK-NEXT: train.exp
// CHECK-NEXT: train.yield
// CHECK: train.fused
// CHECK-SAME: train.phase = "recompute"}
// CHECK-NEXT: train.neg
// CHECK-NEXT: train.tanh
// CHECK-NEXT: train.yield
// CHECK: train.linear
train.step @apart attributes {train.arena_bytes = 1024 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 0>} : tensor<2x4xf32>
  %w = train.parameter {name = "w", train.offsets = array<i64: 384>} : tensor<4x4xf32>
  %y = train.exp %x {train.offsets = array<i64: 64>} : (tensor<2x4xf32>) -> tensor<2x4xf32>
  %n = train.neg %y {train.offsets = array<i64: 128>, train.phase = "recompute"} : (tensor<2x4xf32>) -> tensor<2x4xf32>
  %t = train.tanh %n {train.offsets = array<i64: 192>, train.phase = "recompute"} : (tensor<2x4xf32>) -> tensor<2x4xf32>
  %z = train.linear %t, %w {train.offsets = array<i64: 256>, train.phase = "backward"} : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
  train.output %z {name = "z"} : tensor<2x4xf32>
}
