// RUN: amc-opt %s --split-input-file --widen-gradients=exact=true | FileCheck %s
// RUN: amc-opt %s --split-input-file --widen-gradients=exact=true --widen-gradients | FileCheck %s
// RUN: amc-opt %s --split-input-file --widen-gradients | FileCheck %s --check-prefix=SMALL

// A weight's gradient is made in fp32 where it is summed in fp32; what the operation stands in stays.
// CHECK-LABEL: @weight
train.step @weight {
  %x = train.input {name = "x"} : tensor<9x4xbf16>
  %dy = train.input {name = "dy"} : tensor<9x8xbf16>
  // CHECK: %[[DW:.*]] = train.linear_weight_grad %0, %1 {train.phase = "backward", transpose_w, wide} : (tensor<9x4xbf16>, tensor<9x8xbf16>) -> tensor<8x4xf32>
  // CHECK-NEXT: %[[SUM:.*]] = train.reduce_scatter %[[DW]] {{.*}} -> tensor<4x4xf32>
  // CHECK-NEXT: train.cast %[[SUM]] {to = bf16
  %dw = train.linear_weight_grad %x, %dy {train.phase = "backward", transpose_w} : (tensor<9x4xbf16>, tensor<9x8xbf16>) -> tensor<8x4xbf16>
  %w = train.cast %dw {to = f32, train.phase = "backward"} : (tensor<8x4xbf16>) -> tensor<8x4xf32>
  %s = train.reduce_scatter %w {dim = 0 : i64, group = "dp_shard", members = 2 : i64, train.phase = "backward"} : (tensor<8x4xf32>) -> tensor<4x4xf32>
  %g = train.cast %s {to = bf16, train.phase = "backward"} : (tensor<4x4xf32>) -> tensor<4x4xbf16>
  train.output %g {name = "g"} : tensor<4x4xbf16>
}

// -----

// Of an operation with several results those that are sums become wide, together: here dweight and dbias, not dx.
// CHECK-LABEL: @norm
train.step @norm {
  %x = train.input {name = "x"} : tensor<9x4xbf16>
  %r = train.input {name = "r"} : tensor<9xf32>
  %w = train.input {name = "w"} : tensor<4xbf16>
  // CHECK: %[[DX:.*]], %[[DW:.*]], %[[DB:.*]] = train.layer_norm_backward {{.*}}wide} {{.*}} -> (tensor<9x4xbf16>, tensor<4xf32>, tensor<4xf32>)
  %dx, %dw, %db = train.layer_norm_backward %x, %x, %r, %r, %w {resultSegmentSizes = array<i32: 1, 1, 1>, train.phase = "backward"}
    : (tensor<9x4xbf16>, tensor<9x4xbf16>, tensor<9xf32>, tensor<9xf32>, tensor<4xbf16>) -> (tensor<9x4xbf16>, tensor<4xbf16>, tensor<4xbf16>)
  // CHECK-NOT: to = f32
  %ww = train.cast %dw {to = f32, train.phase = "backward"} : (tensor<4xbf16>) -> tensor<4xf32>
  %wb = train.cast %db {to = f32, train.phase = "backward"} : (tensor<4xbf16>) -> tensor<4xf32>
  // CHECK: train.output %[[DX]] {{.*}} : tensor<9x4xbf16>
  // CHECK: train.output %[[DW]] {{.*}} : tensor<4xf32>
  // CHECK: train.output %[[DB]] {{.*}} : tensor<4xf32>
  train.output %dx {name = "dx"} : tensor<9x4xbf16>
  train.output %ww {name = "dw"} : tensor<4xf32>
  train.output %wb {name = "db"} : tensor<4xf32>
}

// -----

// A result that nothing reads hinders nothing.
// CHECK-LABEL: @unread
train.step @unread {
  %dy = train.input {name = "dy"} : tensor<9x6xbf16>
  %x = train.input {name = "x"} : tensor<9x3xbf16>
  %g = train.input {name = "g"} : tensor<3x4xbf16>
  %d = train.input {name = "d"} : tensor<4x6xbf16>
  // CHECK: train.gated_mlp_backward {{.*}}wide} {{.*}} -> (tensor<9x3xbf16>, tensor<3x4xf32>, tensor<3x4xf32>, tensor<4x6xf32>)
  %r:4 = train.gated_mlp_backward %dy, %x, %g, %g, %d {activation = "silu", train.phase = "backward"}
    : (tensor<9x6xbf16>, tensor<9x3xbf16>, tensor<3x4xbf16>, tensor<3x4xbf16>, tensor<4x6xbf16>) -> (tensor<9x3xbf16>, tensor<3x4xbf16>, tensor<3x4xbf16>, tensor<4x6xbf16>)
  %w = train.cast %r#1 {to = f32, train.phase = "backward"} : (tensor<3x4xbf16>) -> tensor<3x4xf32>
  train.output %w {name = "dgate"} : tensor<3x4xf32>
}

// -----

// Both contributions to a table that a model uses twice are sums: they are added in fp32, behind a view, too.
// CHECK-LABEL: @tied
train.step @tied {
  %x = train.input {name = "x"} : tensor<9x4xbf16>
  %dy = train.input {name = "dy"} : tensor<9x8xbf16>
  %ids = train.input {name = "ids"} : tensor<9xi64>
  // CHECK: %[[A:.*]] = train.linear_weight_grad {{.*}}wide} {{.*}} -> tensor<8x4xf32>
  // CHECK: %[[B:.*]] = train.embedding_backward {{.*}}wide} {{.*}} -> tensor<8x4xf32>
  // CHECK: %[[SUM:.*]] = train.add %[[A]], %[[B]] {{.*}} -> tensor<8x4xf32>
  // CHECK: %[[FLAT:.*]] = train.reshape %[[SUM]] {{.*}} -> tensor<32xf32>
  // CHECK: train.output %[[FLAT]]
  %a = train.linear_weight_grad %x, %dy {train.phase = "backward", transpose_w} : (tensor<9x4xbf16>, tensor<9x8xbf16>) -> tensor<8x4xbf16>
  %b = train.embedding_backward %x, %ids {rows = 8 : i64, train.phase = "backward"} : (tensor<9x4xbf16>, tensor<9xi64>) -> tensor<8x4xbf16>
  %sum = train.add %a, %b {train.phase = "backward"} : (tensor<8x4xbf16>, tensor<8x4xbf16>) -> tensor<8x4xbf16>
  %flat = train.reshape %sum {shape = array<i64: 32>, train.phase = "backward"} : (tensor<8x4xbf16>) -> tensor<32xbf16>
  %w = train.cast %flat {to = f32, train.phase = "backward"} : (tensor<32xbf16>) -> tensor<32xf32>
  train.output %w {name = "g"} : tensor<32xf32>
}

// -----

// The other operations that have sums; dhidden is none. Without `exact`, must not: the head's weight is alive beside its
// gradient, so with the cast there is less at the peak.
// CHECK-LABEL: @each
// SMALL-LABEL: @each
train.step @each {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<9x4xbf16>
  %w = train.input {name = "w"} : tensor<4x5xbf16>
  %b = train.input {name = "b"} : tensor<5xbf16>
  %ids = train.input {name = "ids"} : tensor<9xi64>
  %l = train.input {name = "l"} : tensor<9xf32>
  %v = train.input {name = "v"} : tensor<4xbf16>
  // SMALL: %{{.*}}, %[[DW:.*]], %[[DB:.*]] = train.linear_cross_entropy_backward {{.*}} -> (tensor<9x4xbf16>, tensor<4x5xbf16>, tensor<5xbf16>)
  // SMALL: train.rms_norm_backward {{.*}}wide}
  // SMALL: train.cast %[[DW]] {to = f32
  // SMALL: train.cast %[[DB]] {to = f32
  // SMALL-NOT: train.cast
  // SMALL: train.output
  // CHECK: train.linear_cross_entropy_backward {{.*}}wide} {{.*}} -> (tensor<9x4xbf16>, tensor<4x5xf32>, tensor<5xf32>)
  %dx, %dw, %db = train.linear_cross_entropy_backward %d, %x, %w, %b, %ids, %l {operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 1>, train.phase = "backward"}
    : (tensor<f32>, tensor<9x4xbf16>, tensor<4x5xbf16>, tensor<5xbf16>, tensor<9xi64>, tensor<9xf32>) -> (tensor<9x4xbf16>, tensor<4x5xbf16>, tensor<5xbf16>)
  // CHECK: train.rms_norm_backward {{.*}}wide} {{.*}} -> (tensor<9x4xbf16>, tensor<4xf32>)
  %dy, %dv = train.rms_norm_backward %dx, %x, %l, %v {train.phase = "backward"} : (tensor<9x4xbf16>, tensor<9x4xbf16>, tensor<9xf32>, tensor<4xbf16>) -> (tensor<9x4xbf16>, tensor<4xbf16>)
  // CHECK: train.grouped_matmul_weight_grad {{.*}}wide} {{.*}} -> tensor<3x4x4xf32>
  %de = train.grouped_matmul_weight_grad %x, %dy, %ids {groups = 3 : i64, train.phase = "backward"} : (tensor<9x4xbf16>, tensor<9x4xbf16>, tensor<9xi64>) -> tensor<3x4x4xbf16>
  // CHECK: train.reduce_sum {{.*}}wide} {{.*}} -> tensor<4xf32>
  %ds = train.reduce_sum %dy {axes = array<i64: 0>, keepdims = false, train.phase = "backward"} : (tensor<9x4xbf16>) -> tensor<4xbf16>
  // CHECK-NOT: train.cast
  %0 = train.cast %dw {to = f32, train.phase = "backward"} : (tensor<4x5xbf16>) -> tensor<4x5xf32>
  %1 = train.cast %db {to = f32, train.phase = "backward"} : (tensor<5xbf16>) -> tensor<5xf32>
  %2 = train.cast %dv {to = f32, train.phase = "backward"} : (tensor<4xbf16>) -> tensor<4xf32>
  %3 = train.cast %de {to = f32, train.phase = "backward"} : (tensor<3x4x4xbf16>) -> tensor<3x4x4xf32>
  %4 = train.cast %ds {to = f32, train.phase = "backward"} : (tensor<4xbf16>) -> tensor<4xf32>
  train.output %0 {name = "0"} : tensor<4x5xf32>
  train.output %1 {name = "1"} : tensor<5xf32>
  train.output %2 {name = "2"} : tensor<4xf32>
  train.output %3 {name = "3"} : tensor<3x4x4xf32>
  train.output %4 {name = "4"} : tensor<4xf32>
}

// -----

// Must not: with one side no sum, the addition stays in bf16, and so does the other side.
// CHECK-LABEL: @half_tied
train.step @half_tied {
  %x = train.input {name = "x"} : tensor<9x4xbf16>
  %dy = train.input {name = "dy"} : tensor<9x8xbf16>
  %c = train.input {name = "c"} : tensor<4x8xbf16>
  // CHECK-NOT: wide
  %a = train.linear_weight_grad %x, %dy {train.phase = "backward"} : (tensor<9x4xbf16>, tensor<9x8xbf16>) -> tensor<4x8xbf16>
  // CHECK: %[[SUM:.*]] = train.add {{.*}} -> tensor<4x8xbf16>
  // CHECK: train.cast %[[SUM]] {to = f32
  %sum = train.add %a, %c {train.phase = "backward"} : (tensor<4x8xbf16>, tensor<4x8xbf16>) -> tensor<4x8xbf16>
  %w = train.cast %sum {to = f32, train.phase = "backward"} : (tensor<4x8xbf16>) -> tensor<4x8xf32>
  train.output %w {name = "g"} : tensor<4x8xf32>
}

// -----

// Must not: dweight has another reader, so dbias, which would become wide with it, stays as it is, too; and so does
// what is added to dbias.
// CHECK-LABEL: @read_narrow
train.step @read_narrow {
  %x = train.input {name = "x"} : tensor<9x4xbf16>
  %r = train.input {name = "r"} : tensor<9xf32>
  %w = train.input {name = "w"} : tensor<4xbf16>
  // CHECK-NOT: wide
  %dx, %dw, %db = train.layer_norm_backward %x, %x, %r, %r, %w {resultSegmentSizes = array<i32: 1, 1, 1>, train.phase = "backward"}
    : (tensor<9x4xbf16>, tensor<9x4xbf16>, tensor<9xf32>, tensor<9xf32>, tensor<4xbf16>) -> (tensor<9x4xbf16>, tensor<4xbf16>, tensor<4xbf16>)
  %s = train.reduce_sum %x {axes = array<i64: 0>, keepdims = false, train.phase = "backward"} : (tensor<9x4xbf16>) -> tensor<4xbf16>
  %sum = train.add %db, %s {train.phase = "backward"} : (tensor<4xbf16>, tensor<4xbf16>) -> tensor<4xbf16>
  // CHECK-COUNT-2: train.cast {{.*}}to = f32
  %ww = train.cast %dw {to = f32, train.phase = "backward"} : (tensor<4xbf16>) -> tensor<4xf32>
  %wb = train.cast %sum {to = f32, train.phase = "backward"} : (tensor<4xbf16>) -> tensor<4xf32>
  train.output %dw {name = "narrow"} : tensor<4xbf16>
  train.output %ww {name = "dw"} : tensor<4xf32>
  train.output %wb {name = "db"} : tensor<4xf32>
}

// -----

// Must not: what the model itself sums and casts in forward is its own affair; and casts to another type are no
// widening of sums.
// CHECK-LABEL: @others
train.step @others {
  %x = train.input {name = "x"} : tensor<9x4xbf16>
  // CHECK-NOT: wide
  %s = train.reduce_sum %x {axes = array<i64: 0>, keepdims = false} : (tensor<9x4xbf16>) -> tensor<4xbf16>
  %f = train.cast %s {to = f32} : (tensor<4xbf16>) -> tensor<4xf32>
  %t = train.reduce_sum %x {axes = array<i64: 0>, keepdims = false, train.phase = "backward"} : (tensor<9x4xbf16>) -> tensor<4xbf16>
  %h = train.cast %t {to = f16, train.phase = "backward"} : (tensor<4xbf16>) -> tensor<4xf16>
  train.output %f {name = "f"} : tensor<4xf32>
  train.output %h {name = "h"} : tensor<4xf16>
}

// -----

// What is rounded all the same travels narrow: the collective adds up in fp32 and rounds once whatever it is given.
// CHECK-LABEL: @narrow_sum
train.step @narrow_sum {
  %x = train.input {name = "x"} : tensor<8x4xbf16>
  // CHECK: %[[SUM:.*]] = train.reduce_scatter %0 {{.*}} : (tensor<8x4xbf16>) -> tensor<4x4xbf16>
  // CHECK-NEXT: train.output %[[SUM]]
  %w = train.cast %x {to = f32, train.phase = "backward"} : (tensor<8x4xbf16>) -> tensor<8x4xf32>
  %s = train.reduce_scatter %w {dim = 0 : i64, group = "dp_shard", members = 2 : i64, train.phase = "backward"} : (tensor<8x4xf32>) -> tensor<4x4xf32>
  %g = train.cast %s {to = bf16, train.phase = "backward"} : (tensor<4x4xf32>) -> tensor<4x4xbf16>
  train.output %g {name = "g"} : tensor<4x4xbf16>
}

// -----

// Must not: a sum that goes on in fp32, here over replicas, would be rounded in between; and one rounded to another
// type would be rounded twice.
// CHECK-LABEL: @sums_of_sums
train.step @sums_of_sums {
  %x = train.input {name = "x"} : tensor<8x4xbf16>
  // CHECK: train.reduce_scatter {{.*}} : (tensor<8x4xf32>) -> tensor<4x4xf32>
  // CHECK: train.all_reduce {{.*}} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %w = train.cast %x {to = f32, train.phase = "backward"} : (tensor<8x4xbf16>) -> tensor<8x4xf32>
  %s = train.reduce_scatter %w {dim = 0 : i64, group = "dp_shard", members = 2 : i64, train.phase = "backward"} : (tensor<8x4xf32>) -> tensor<4x4xf32>
  %r = train.all_reduce %s {group = "dp_replicate", members = 2 : i64, train.phase = "backward"} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %g = train.cast %r {to = bf16, train.phase = "backward"} : (tensor<4x4xf32>) -> tensor<4x4xbf16>
  // CHECK: train.all_reduce {{.*}} : (tensor<8x4xf32>) -> tensor<8x4xf32>
  %v = train.cast %x {to = f32, train.phase = "backward"} : (tensor<8x4xbf16>) -> tensor<8x4xf32>
  %t = train.all_reduce %v {group = "dp_shard", members = 2 : i64, train.phase = "backward"} : (tensor<8x4xf32>) -> tensor<8x4xf32>
  %h = train.cast %t {to = f16, train.phase = "backward"} : (tensor<8x4xf32>) -> tensor<8x4xf16>
  train.output %g {name = "g"} : tensor<4x4xbf16>
  train.output %h {name = "h"} : tensor<8x4xf16>
}
