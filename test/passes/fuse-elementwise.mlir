// RUN: amc-opt %s --split-input-file --fuse-elementwise | FileCheck %s

// Tests a residual sum and its norm: one kernel. The sum is read elsewhere, too, so it is a result; what only the kernel
// reads is none. An operation alone becomes a kernel as well, an operation on integers does not.
// CHECK-LABEL: train.step @norm
// CHECK: %[[F:.*]]:3 = train.fused(%[[A:.*]] = %{{.*}}, %[[B:.*]] = %{{.*}}, %[[W:.*]] = %{{.*}}) {taken = array<i64: -1, -1, -1>, train.offsets = array<i64: 192, 256, 320>} : (tensor<2x4xf32>, tensor<2x4xf32>, tensor<4xf32>) -> (tensor<2x4xf32>, tensor<2x4xf32>, tensor<2xf32>)
// CHECK-NEXT: %[[E:.*]] = train.neg %[[A]]
// CHECK-NEXT: %[[H:.*]] = train.add %[[B]], %[[E]]
// CHECK-NEXT: %[[Y:.*]], %[[R:.*]] = train.rms_norm %[[H]], %[[W]]
// CHECK-NEXT: train.yield %[[H]], %[[Y]], %[[R]]
// CHECK: train.linear %[[F]]#1
// CHECK: train.fused
// CHECK-NEXT: train.exp
// CHECK: train.neg %{{.*}} : (tensor<4xi64>) -> tensor<4xi64>
train.step @norm attributes {train.arena_bytes = 1024 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 0>} : tensor<2x4xf32>
  %d = train.input {name = "d", train.offsets = array<i64: 64>} : tensor<2x4xf32>
  %w = train.parameter {name = "w", train.offsets = array<i64: 128>} : tensor<4xf32>
  %m = train.parameter {name = "m", train.offsets = array<i64: 640>} : tensor<4x4xf32>
  %i = train.input {name = "i", train.offsets = array<i64: 576>} : tensor<4xi64>
  %e = train.neg %d {train.offsets = array<i64: 512>} : (tensor<2x4xf32>) -> tensor<2x4xf32>
  %h = train.add %x, %e {train.offsets = array<i64: 192>} : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
  %y, %rstd = train.rms_norm %h, %w {epsilon = 1.0e-6 : f64, train.offsets = array<i64: 256, 320>} : (tensor<2x4xf32>, tensor<4xf32>) -> (tensor<2x4xf32>, tensor<2xf32>)
  %z = train.linear %y, %m {train.offsets = array<i64: 384>} : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
  %o = train.exp %z {train.offsets = array<i64: 448>} : (tensor<2x4xf32>) -> tensor<2x4xf32>
  %j = train.neg %i {train.offsets = array<i64: 704>} : (tensor<4xi64>) -> tensor<4xi64>
  train.output %o {name = "o", train.offsets = array<i64>} : tensor<2x4xf32>
  train.output %h {name = "h", train.offsets = array<i64>} : tensor<2x4xf32>
  train.output %rstd {name = "r", train.offsets = array<i64>} : tensor<2xf32>
}

// -----

// Tests bytes: the last result stands where the first operand was, which a group may do element by element.
// CHECK-LABEL: train.step @inplace
// CHECK: train.fused({{.*}}) {taken = array<i64: 0>, train.offsets = array<i64: 0>} : (tensor<2x2xf32>) -> tensor<2x2xf32>
// CHECK-NEXT: train.exp
// CHECK-NEXT: train.neg
train.step @inplace attributes {train.arena_bytes = 1024 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 128>} : tensor<2x2xf32>
  %a = train.linear %x, %x {train.offsets = array<i64: 0>} : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  %e = train.exp %a {train.offsets = array<i64: 64>} : (tensor<2x2xf32>) -> tensor<2x2xf32>
  %n = train.neg %e {train.offsets = array<i64: 0>} : (tensor<2x2xf32>) -> tensor<2x2xf32>
  train.output %n {name = "n"} : tensor<2x2xf32>
}

// -----

// Tests bytes that would be written before they are read: a result over a part of an operand, over one that rows share,
// and over an input of the step. These stay two kernels.
// CHECK-LABEL: train.step @overlap
// CHECK-COUNT-6: train.fused
// CHECK-NOT: train.fused
train.step @overlap attributes {train.arena_bytes = 1024 : i64, train.alignment = 16 : i64} {
  %i = train.input {name = "i", train.offsets = array<i64: 768>} : tensor<4x4xf32>
  %x = train.linear %i, %i {train.offsets = array<i64: 0>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %e = train.exp %x {train.offsets = array<i64: 512>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %n = train.neg %e {train.offsets = array<i64: 16>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  train.output %n {name = "n"} : tensor<4x4xf32>
  %r = train.reduce_sum %n {axes = array<i64: 0>, keepdims = true, train.offsets = array<i64: 128>} : (tensor<4x4xf32>) -> tensor<1x4xf32>
  %a = train.linear %r, %i {train.offsets = array<i64: 192>} : (tensor<1x4xf32>, tensor<4x4xf32>) -> tensor<1x4xf32>
  %w = train.reshape %r {shape = array<i64: 4>, train.offsets = array<i64: 128>} : (tensor<1x4xf32>) -> tensor<4xf32>
  %m = train.mul %a, %w {train.offsets = array<i64: 256>} : (tensor<1x4xf32>, tensor<4xf32>) -> tensor<1x4xf32>
  %g = train.gelu %m {train.offsets = array<i64: 128>} : (tensor<1x4xf32>) -> tensor<1x4xf32>
  train.output %g {name = "g"} : tensor<1x4xf32>
  %l = train.linear %g, %i {train.offsets = array<i64: 320>} : (tensor<1x4xf32>, tensor<4x4xf32>) -> tensor<1x4xf32>
  %s = train.abs %i {train.offsets = array<i64: 384>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %t = train.neg %s {train.offsets = array<i64: 768>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  train.output %t {name = "t"} : tensor<4x4xf32>
}

// -----

// Tests phases and sections: neither is crossed.
// CHECK-LABEL: train.step @phases
// CHECK: train.fused
// CHECK: train.fused
// CHECK-SAME: train.phase = "backward"
train.step @phases attributes {train.arena_bytes = 1024 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 0>} : tensor<4xf32>
  %e = train.exp %x {train.offsets = array<i64: 64>} : (tensor<4xf32>) -> tensor<4xf32>
  %n = train.neg %e {train.phase = "backward", train.offsets = array<i64: 128>} : (tensor<4xf32>) -> tensor<4xf32>
  train.output %n {name = "n"} : tensor<4xf32>
}

// -----

// Tests softmax: its row's passes are the group's, along the innermost dimension alone.
// CHECK-LABEL: train.step @softmax
// CHECK: train.fused
// CHECK-NEXT: train.mul
// CHECK-NEXT: train.add
// CHECK-NEXT: train.softmax
// CHECK-NEXT: train.yield
// CHECK-NOT: train.fused
// CHECK: train.softmax {{.*}} {axis = 0
train.step @softmax attributes {train.arena_bytes = 1024 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 0>} : tensor<2x4xf32>
  %c = train.input {name = "c", train.offsets = array<i64: 64>} : tensor<f32>
  %m = train.input {name = "m", train.offsets = array<i64: 128>} : tensor<4xf32>
  %s = train.mul %x, %c {train.offsets = array<i64: 192>} : (tensor<2x4xf32>, tensor<f32>) -> tensor<2x4xf32>
  %h = train.add %s, %m {train.offsets = array<i64: 256>} : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>
  %y = train.softmax %h {axis = 1 : i64, train.offsets = array<i64: 320>} : (tensor<2x4xf32>) -> tensor<2x4xf32>
  %z = train.softmax %y {axis = 0 : i64, train.offsets = array<i64: 384>} : (tensor<2x4xf32>) -> tensor<2x4xf32>
  train.output %z {name = "z"} : tensor<2x4xf32>
}

// -----

// Tests a tensor of one number between operations: a constant of the kernel. What a product reads of one stays.
// CHECK-LABEL: train.step @constant
// CHECK-NOT: 2.000000e+00
// CHECK: %[[HALF:.*]] = train.full {{.*}}value = 5.000000e-01
// CHECK-NEXT: train.fused(%[[X:.*]] = %{{.*}}) {taken
// CHECK-NEXT: %[[E:.*]] = train.exp %[[X]]
// CHECK-NEXT: %[[TWO:.*]] = train.full  {element = f32, shape = array<i64>, value = 2.000000e+00 : f64}
// CHECK-NEXT: %[[S:.*]] = train.sub %[[TWO]], %[[E]]
// CHECK-NEXT: %[[H:.*]] = train.full  {element = f32, shape = array<i64: 4, 4>, value = 5.000000e-01 : f64}
// CHECK-NEXT: %[[M:.*]] = train.mul %[[S]], %[[H]]
// CHECK-NEXT: train.yield %[[M]]
// CHECK: train.linear %{{.*}}, %[[HALF]]
train.step @constant attributes {train.arena_bytes = 1024 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 0>} : tensor<4x4xf32>
  %e = train.exp %x {train.offsets = array<i64: 64>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %two = train.full {element = f32, shape = array<i64>, value = 2.0 : f64, train.offsets = array<i64: 128>} : () -> tensor<f32>
  %s = train.sub %two, %e {train.offsets = array<i64: 192>} : (tensor<f32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %half = train.full {element = f32, shape = array<i64: 4, 4>, value = 0.5 : f64, train.offsets = array<i64: 256>} : () -> tensor<4x4xf32>
  %m = train.mul %s, %half {train.offsets = array<i64: 320>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %z = train.linear %m, %half {train.offsets = array<i64: 384>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  train.output %z {name = "z"} : tensor<4x4xf32>
}

// -----

// Tests a constant and a view of it that one kernel reads, in the place of what that has read before: both vanish.
// CHECK-LABEL: train.step @constant_vanishes
// CHECK-NEXT: train.input
// CHECK-NEXT: train.linear
// CHECK-NEXT: train.fused
// CHECK-NEXT: train.exp
// CHECK-NEXT: train.full
// CHECK-NEXT: train.full
// CHECK-NEXT: train.gated_activation_backward
// CHECK-NEXT: train.mul
// CHECK-NEXT: train.yield
train.step @constant_vanishes attributes {train.arena_bytes = 1024 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 512>} : tensor<4x4xf32>
  %a = train.linear %x, %x {train.offsets = array<i64: 0>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %e = train.exp %a {train.offsets = array<i64: 64>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %half = train.full {element = f32, shape = array<i64: 4, 4>, value = 0.5 : f64, train.offsets = array<i64: 0>} : () -> tensor<4x4xf32>
  %v = train.reshape %half {shape = array<i64: 4, 4>, train.offsets = array<i64: 0>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %m, %n = train.gated_activation_backward %e, %v, %half {activation = "silu", train.offsets = array<i64: 256, 384>} : (tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xf32>) -> (tensor<4x4xf32>, tensor<4x4xf32>)
  %z = train.mul %m, %n {train.offsets = array<i64: 320>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  train.output %z {name = "z"} : tensor<4x4xf32>
}

// -----

// Tests the step's first instruction, a constant that a kernel alone reads: it stays, since the product behind it stands
// where an input is that nobody reads.
// CHECK-LABEL: train.step @constant_first
// CHECK: train.full
// CHECK-NEXT: train.linear
// CHECK-NEXT: train.fused
// CHECK-NEXT: train.full
// CHECK-NEXT: train.mul
train.step @constant_first attributes {train.arena_bytes = 1024 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 512>} : tensor<4x4xf32>
  %u = train.input {name = "u", train.offsets = array<i64: 0>} : tensor<4x4xf32>
  %half = train.full {element = f32, shape = array<i64: 4, 4>, value = 0.5 : f64, train.offsets = array<i64: 64>} : () -> tensor<4x4xf32>
  %a = train.linear %x, %x {train.offsets = array<i64: 0>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %z = train.mul %a, %half {train.offsets = array<i64: 128>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  train.output %z {name = "z"} : tensor<4x4xf32>
}

// -----

// Tests a constant that stays where a kernel's first operation has had its scratch: two kernels.
// CHECK-LABEL: train.step @constant_over_scratch
// CHECK: train.fused
// CHECK-NEXT: train.rms_norm_backward
// CHECK-NEXT: train.yield
// CHECK: train.full
// CHECK-NEXT: train.fused
// CHECK-NEXT: train.add
train.step @constant_over_scratch attributes {train.arena_bytes = 2048 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 512>} : tensor<4x4xf32>
  %w = train.input {name = "w", train.offsets = array<i64: 576>} : tensor<4xf32>
  %r = train.input {name = "r", train.offsets = array<i64: 640>} : tensor<4xf32>
  %d, %dw = train.rms_norm_backward %x, %x, %r, %w {train.offsets = array<i64: 0, 64>, train.workspace_offset = 1024 : i64} : (tensor<4x4xf32>, tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>) -> (tensor<4x4xf32>, tensor<4xf32>)
  %half = train.full {element = f32, shape = array<i64: 4, 4>, value = 0.5 : f64, train.offsets = array<i64: 1024>} : () -> tensor<4x4xf32>
  %a = train.add %d, %x {train.offsets = array<i64: 128>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %z = train.linear %a, %half {train.offsets = array<i64: 192>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  train.output %z {name = "z"} : tensor<4x4xf32>
  train.output %dw {name = "dw"} : tensor<4xf32>
}

// -----

// Tests a constant that stays and stands where the group's first operation has read for the last time: two kernels.
// CHECK-LABEL: train.step @constant_over
// CHECK-COUNT-2: train.fused
// CHECK-NOT: train.fused
train.step @constant_over attributes {train.arena_bytes = 1024 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 512>} : tensor<4x4xf32>
  %a = train.linear %x, %x {train.offsets = array<i64: 0>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %e = train.exp %a {train.offsets = array<i64: 64>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %half = train.full {element = f32, shape = array<i64: 4, 4>, value = 0.5 : f64, train.offsets = array<i64: 0>} : () -> tensor<4x4xf32>
  %m = train.mul %e, %half {train.offsets = array<i64: 320>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %z = train.linear %m, %half {train.offsets = array<i64: 384>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  train.output %z {name = "z"} : tensor<4x4xf32>
}

// -----

// Tests rotations: pairs are made whole, so the result may stand over the operand. They share a kernel with what works on
// elements, and none with what adds up rows.
// CHECK-LABEL: train.step @rotary
// CHECK: train.fused({{.*}}) {taken = array<i64: 0>
// CHECK-NEXT: train.rotary
// CHECK-NEXT: train.neg
// CHECK: train.fused
// CHECK-NEXT: train.rms_norm
// CHECK-NEXT: train.yield
// CHECK: train.fused
// CHECK-NEXT: train.rotary_backward
train.step @rotary attributes {train.arena_bytes = 2048 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 512>} : tensor<4x4xf32>
  %c = train.input {name = "c", train.offsets = array<i64: 576>} : tensor<4x4xf32>
  %a = train.linear %x, %x {train.offsets = array<i64: 0>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %v = train.reshape %a {shape = array<i64: 1, 1, 4, 4>, train.offsets = array<i64: 0>} : (tensor<4x4xf32>) -> tensor<1x1x4x4xf32>
  %r = train.rotary %v, %c, %c {train.offsets = array<i64: 64>} : (tensor<1x1x4x4xf32>, tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<1x1x4x4xf32>
  %n = train.neg %r {train.offsets = array<i64: 0>} : (tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32>
  %y, %rstd = train.rms_norm %n {epsilon = 1.0e-6 : f64, train.offsets = array<i64: 256, 320>} : (tensor<1x1x4x4xf32>) -> (tensor<1x1x4x4xf32>, tensor<1x1x4xf32>)
  %b = train.rotary_backward %y, %c, %c {train.offsets = array<i64: 128>} : (tensor<1x1x4x4xf32>, tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<1x1x4x4xf32>
  train.output %n {name = "n"} : tensor<1x1x4x4xf32>
  train.output %b {name = "b"} : tensor<1x1x4x4xf32>
}

// -----

// Tests views between members: of what nothing else reads it is in the kernel, else there are two. A view that nobody reads
// goes with the constant that it is of.
// CHECK-LABEL: train.step @views
// CHECK-NEXT: train.input
// CHECK-NEXT: train.fused
// CHECK-NEXT: train.full
// CHECK-NEXT: train.add
// CHECK-NEXT: train.reshape
// CHECK-NEXT: train.mul
// CHECK-NEXT: train.yield
// CHECK: train.linear
// CHECK: train.fused
// CHECK-NEXT: train.exp
// CHECK-NEXT: train.yield
// CHECK: train.reshape
// CHECK: train.fused
// CHECK-NEXT: train.neg
// CHECK: train.linear
train.step @views attributes {train.arena_bytes = 1024 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 512>} : tensor<4x4xf32>
  %half = train.full {element = f32, shape = array<i64: 4, 4>, value = 0.5 : f64, train.offsets = array<i64: 640>} : () -> tensor<4x4xf32>
  %a = train.add %x, %half {train.offsets = array<i64: 0>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %v = train.reshape %a {shape = array<i64: 1, 4, 4>, train.offsets = array<i64: 0>} : (tensor<4x4xf32>) -> tensor<1x4x4xf32>
  %m = train.mul %v, %v {train.offsets = array<i64: 64>} : (tensor<1x4x4xf32>, tensor<1x4x4xf32>) -> tensor<1x4x4xf32>
  %z = train.linear %m, %x {train.offsets = array<i64: 128>} : (tensor<1x4x4xf32>, tensor<4x4xf32>) -> tensor<1x4x4xf32>
  %u = train.reshape %half {shape = array<i64: 16>, train.offsets = array<i64: 640>} : (tensor<4x4xf32>) -> tensor<16xf32>
  %e = train.exp %z {train.offsets = array<i64: 192>} : (tensor<1x4x4xf32>) -> tensor<1x4x4xf32>
  %w = train.reshape %e {shape = array<i64: 4, 4>, train.offsets = array<i64: 192>} : (tensor<1x4x4xf32>) -> tensor<4x4xf32>
  %n = train.neg %w {train.offsets = array<i64: 256>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %l = train.linear %w, %n {train.offsets = array<i64: 320>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  train.output %l {name = "l"} : tensor<4x4xf32>
}
