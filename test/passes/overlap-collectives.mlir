// RUN: amc-opt %s --split-input-file --overlap-collectives=mode=prefetch | FileCheck %s
// RUN: amc-opt %s --split-input-file --overlap-collectives | FileCheck %s --check-prefix=AUTO
// RUN: amc-opt %s --split-input-file --overlap-collectives=mode=prefetch --assign-offsets --verify-plan -o %t.placed
// RUN: amc-opt %s --split-input-file --overlap-collectives --assign-offsets --verify-plan -o %t.placed

// Tests that a gather starts with the unit before its own, and is waited for where it is read. The first has nothing to
// run beside, and the second would be one weight more where most is alive: not without more memory.
// CHECK-LABEL: train.step @gathers
// CHECK-SAME: train.overlap = "prefetch"
// CHECK: %[[G0:.*]] = train.all_gather %{{.*}} {dim = 0 : i64,
// CHECK-NEXT: %[[S1:.*]] = train.all_gather %[[P1:.*]] {async, dim = 0 : i64,
// CHECK-NEXT: %[[A:.*]] = train.linear %{{.*}}, %[[G0]]
// CHECK-NEXT: %[[G1:.*]] = train.wait %[[S1]], %[[P1]] : tensor<64x64xf32>, tensor<32x64xf32>
// CHECK-NEXT: train.linear %[[A]], %[[G1]]
// AUTO-LABEL: train.step @gathers
// AUTO-NOT: async
train.step @gathers {
  %p0 = train.parameter {name = "p0"} : tensor<32x64xf32>
  %p1 = train.parameter {name = "p1"} : tensor<32x64xf32>
  %x = train.input {name = "x"} : tensor<64x64xf32>
  %g0 = train.all_gather %p0 {dim = 0 : i64, size = 64 : i64, group = "dp_shard", members = 2 : i64} : (tensor<32x64xf32>) -> tensor<64x64xf32>
  %a = train.linear %x, %g0 : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %g1 = train.all_gather %p1 {dim = 0 : i64, size = 64 : i64, group = "dp_shard", members = 2 : i64} : (tensor<32x64xf32>) -> tensor<64x64xf32>
  %b = train.linear %a, %g1 : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  train.output %b {name = "b"} : tensor<64x64xf32>
}

// -----

// Tests that the gradient's sum is waited for where it is used, and that what only passes it on waits with it: the cast
// and the update move behind the other layer's product. All of it is free where more is alive elsewhere: also in auto.
// CHECK-LABEL: train.step @gradient
// CHECK: %[[D:.*]] = train.linear_weight_grad
// CHECK-NEXT: %[[S:.*]] = train.reduce_scatter %[[D]] {async, dim = 0 : i64,
// CHECK-SAME: train.phase = "backward"
// CHECK-NEXT: %[[Y:.*]] = train.linear
// CHECK-NEXT: train.reduce_sum %[[Y]]
// CHECK-NEXT: train.output
// CHECK-NEXT: %[[R:.*]] = train.wait %[[S]], %[[D]] {train.phase = "backward"} : tensor<8x8xf32>, tensor<16x8xf32>
// CHECK-NEXT: %[[C:.*]] = train.mul %[[R]]
// CHECK-NEXT: train.sgd %{{.*}}, %[[C]],
// AUTO-LABEL: train.step @gradient
// AUTO: train.reduce_scatter %{{.*}} {async,
// AUTO-NEXT: train.linear
// AUTO-NEXT: train.reduce_sum
// AUTO-NEXT: train.output
// AUTO-NEXT: train.wait
train.step @gradient {
  %w = train.parameter {name = "w", trainable} : tensor<8x8xf32>
  %x = train.input {name = "x"} : tensor<4x16xf32>
  %dy = train.input {name = "dy"} : tensor<4x8xf32>
  %z = train.input {name = "z"} : tensor<256x256xf32>
  %scale = train.input {name = "scale"} : tensor<f32>
  %rate = train.input {name = "learning_rate", role = "learning_rate"} : tensor<f64>
  %n = train.input {name = "step_number", role = "step_number"} : tensor<i64>
  %big = train.input {name = "big"} : tensor<256x256xf32>
  %h = train.exp %big : (tensor<256x256xf32>) -> tensor<256x256xf32>
  %q = train.reduce_sum %h {axes = array<i64: 0, 1>, keepdims = false} : (tensor<256x256xf32>) -> tensor<f32>
  train.output %q {name = "q"} : tensor<f32>
  %d = train.linear_weight_grad %x, %dy {train.phase = "backward"} : (tensor<4x16xf32>, tensor<4x8xf32>) -> tensor<16x8xf32>
  %r = train.reduce_scatter %d {dim = 0 : i64, group = "dp_shard", members = 2 : i64, train.phase = "backward"} : (tensor<16x8xf32>) -> tensor<8x8xf32>
  %c = train.mul %r, %scale {train.phase = "backward"} : (tensor<8x8xf32>, tensor<f32>) -> tensor<8x8xf32>
  train.sgd %w, %c, %scale, %rate, %n {momentum = 0.0 : f64, weight_decay = 0.0 : f64, train.phase = "optimizer", operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 0>} : tensor<8x8xf32>, tensor<8x8xf32>, tensor<f32>, tensor<f64>, tensor<i64>
  %y = train.linear %z, %z {train.phase = "backward"} : (tensor<256x256xf32>, tensor<256x256xf32>) -> tensor<256x256xf32>
  %s = train.reduce_sum %y {axes = array<i64: 0, 1>, keepdims = false, train.phase = "backward"} : (tensor<256x256xf32>) -> tensor<f32>
  train.output %s {name = "s"} : tensor<f32>
}

// -----

// Tests that nothing crosses the end of forward: what backward gathers starts with backward, and what forward has
// started is waited for in forward.
// CHECK-LABEL: train.step @sections
// CHECK: train.all_reduce %{{.*}} {async,
// CHECK-NEXT: train.exp
// CHECK-NEXT: train.wait
// CHECK-NEXT: train.output
// CHECK-NEXT: train.all_gather %{{.*}} {async, {{.*}}train.phase = "backward"
// CHECK-NEXT: train.cos {{.*}}backward
// CHECK-NEXT: train.wait {{.*}}backward
// CHECK-NEXT: train.linear
train.step @sections {
  %p = train.parameter {name = "p"} : tensor<32x64xf32>
  %x = train.input {name = "x"} : tensor<64x64xf32>
  %t = train.reduce_sum %x {axes = array<i64: 0, 1>, keepdims = false} : (tensor<64x64xf32>) -> tensor<f32>
  %l = train.all_reduce %t {group = "dp_shard", members = 2 : i64} : (tensor<f32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
  %e = train.exp %x : (tensor<64x64xf32>) -> tensor<64x64xf32>
  %c = train.cos %e {train.phase = "backward"} : (tensor<64x64xf32>) -> tensor<64x64xf32>
  %g = train.all_gather %p {dim = 0 : i64, size = 64 : i64, group = "dp_shard", members = 2 : i64, train.phase = "backward"} : (tensor<32x64xf32>) -> tensor<64x64xf32>
  %b = train.linear %c, %g {train.phase = "backward"} : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
}
