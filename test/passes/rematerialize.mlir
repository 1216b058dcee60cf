// RUN: amc-opt %s --derive-backward --rematerialize=policy=none | FileCheck %s --check-prefix=NONE
// RUN: amc-opt %s --derive-backward --rematerialize=policy=full | FileCheck %s --check-prefix=FULL
// RUN: amc-opt %s --derive-backward --rematerialize="policy=selective trace" 2>%t | FileCheck %s --check-prefix=SELECTIVE
// RUN: FileCheck %s --check-prefix=TRACE --input-file=%t
// RUN: amc-opt %s --derive-backward --rematerialize="policy=selective matmuls=all" | FileCheck %s --check-prefix=ALL

// Two blocks of a gated MLP with a residual; every value has 4 x 8 x 4 = 128 bytes.
//   none       block input, gate, up, act of both blocks: 8 values
//   full       the block inputs: 2
//   selective  block input and gate (the first product), up (the second) is computed again, down is skipped: 4
//   all        block input, gate, up: 6

// NONE: train.step @mlp
// NONE-SAME: train.ac_policy = "none"
// NONE-SAME: train.blocks = 2
// NONE-SAME: train.recompute_flops = 0
// NONE-SAME: train.saved_bytes = 1024
// NONE-NOT: recompute"

// FULL: train.step @mlp
// FULL-SAME: train.ac_policy = "full"
// FULL-SAME: train.saved_bytes = 256
// FULL: %[[X0:.*]] = train.linear {{.*}} {train.saved}
// FULL: train.linear %[[X0]], {{.*}} {train.block = 0 : i64}
// FULL: %[[X1:.*]] = train.add {{.*}} {train.block = 0 : i64, train.saved}
// FULL: train.output
// The second block runs again first, each value once, its last product not at all.
// FULL: train.linear %[[X1]], {{.*}} {train.block = 1 : i64, train.phase = "recompute"}
// FULL: train.linear %[[X1]], {{.*}} {train.block = 1 : i64, train.phase = "recompute"}
// FULL: train.gated_activation {{.*}}train.block = 1 : i64, train.phase = "recompute"}
// FULL-NOT: train.block = 1 : i64, train.phase = "recompute"}
// FULL: train.linear %[[X0]], {{.*}} {train.block = 0 : i64, train.phase = "recompute"}
// FULL: train.linear %[[X0]], {{.*}} {train.block = 0 : i64, train.phase = "recompute"}
// FULL: train.gated_activation {{.*}}train.block = 0 : i64, train.phase = "recompute"}
// FULL-NOT: recompute"

// SELECTIVE: train.saved_bytes = 512
// SELECTIVE: %[[X0:.*]] = train.linear {{.*}} {train.saved}
// SELECTIVE: %[[GATE:.*]] = train.linear {{.*}} {train.block = 0 : i64, train.saved}
// SELECTIVE: %[[UP:.*]] = train.linear {{.*}} {train.block = 0 : i64}
// SELECTIVE: train.gated_activation %[[GATE]], %[[UP]]
// SELECTIVE: %[[AGAIN:.*]] = train.linear %[[X0]], {{.*}} {train.block = 0 : i64, train.phase = "recompute"}
// SELECTIVE: train.gated_activation %[[GATE]], %[[AGAIN]] {{.*}}train.phase = "recompute"}
// SELECTIVE: train.gated_activation_backward %{{.*}}, %[[GATE]], %[[AGAIN]]
// SELECTIVE-NOT: recompute"

// TRACE: [selective-ac] train.linear -> ALTERNATE (save/recompute every other call)
// TRACE-NEXT: [selective-ac] train.gated_activation -> RECOMPUTE
// TRACE-NEXT: [selective-ac] train.add -> RECOMPUTE
// TRACE-NOT: selective-ac

// ALL: train.saved_bytes = 768
// ALL-NOT: train.linear {{.*}}recompute"
// ALL: train.gated_activation {{.*}}train.phase = "recompute"}
train.step @mlp {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %e = train.parameter {name = "e", trainable} : tensor<8x8xf32>
  %g0 = train.parameter {name = "g0", trainable} : tensor<8x8xf32>
  %u0 = train.parameter {name = "u0", trainable} : tensor<8x8xf32>
  %d0 = train.parameter {name = "d0", trainable} : tensor<8x8xf32>
  %g1 = train.parameter {name = "g1", trainable} : tensor<8x8xf32>
  %u1 = train.parameter {name = "u1", trainable} : tensor<8x8xf32>
  %d1 = train.parameter {name = "d1", trainable} : tensor<8x8xf32>
  %x0 = train.linear %x, %e : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %gate0 = train.linear %x0, %g0 : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %up0 = train.linear %x0, %u0 : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %act0 = train.gated_activation %gate0, %up0 {activation = "silu"} : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %down0 = train.linear %act0, %d0 : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %x1 = train.add %x0, %down0 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %gate1 = train.linear %x1, %g1 : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %up1 = train.linear %x1, %u1 : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %act1 = train.gated_activation %gate1, %up1 {activation = "silu"} : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %down1 = train.linear %act1, %d1 : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %x2 = train.add %x1, %down1 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %l = train.reduce_sum %x2 {axes = array<i64: 0, 1>, keepdims = false} : (tensor<4x8xf32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}
