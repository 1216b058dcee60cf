// RUN: amc-opt %s --derive-backward --attach-optimizer --plan-budget="memory-budget=26160 alignment=16" 2>&1 | FileCheck %s --check-prefix=ROOM
// RUN: amc-opt %s --derive-backward --attach-optimizer --plan-budget="memory-budget=20100 alignment=16 policy=auto" --schedule --assign-offsets=alignment=16 --verify-plan 2>%t | FileCheck %s --check-prefix=TIGHT
// RUN: FileCheck %s --check-prefix=SAID --input-file=%t
// RUN: amc-opt %s --derive-backward --attach-optimizer --plan-budget="memory-budget=20100 alignment=16 curve-points=4" 2>/dev/null | FileCheck %s --check-prefix=CURVE
// RUN: not amc-opt %s --derive-backward --attach-optimizer --plan-budget="memory-budget=1 alignment=16" 2>&1 | FileCheck %s --check-prefix=NONE

// Two blocks of a gated MLP with a residual; activations have 64 x 8 x 4 = 2048 bytes, weights 256. Keeping the block
// input, gate, up and act of both blocks takes 26160 bytes; nothing is run again then.

// ROOM: remark: memory budget: 25.55 KiB; arena at most 26160 bytes (25.55 KiB); recomputation 0 s
// ROOM: train.step @mlp attributes
// ROOM-SAME: train.ac_policy = "budget"
// ROOM-SAME: train.memory_budget = 26160
// ROOM-SAME: train.recompute_seconds = 0.0
// ROOM-NOT: recompute"

// Three activations less: the stem is run again, which is where the first block begins, and what is made of it there.
// TIGHT: train.step @mlp
// TIGHT-SAME: train.ac_policy = "auto"
// TIGHT-SAME: train.arena_bytes = [[BYTES:[0-9]+]]
// TIGHT: %[[X:.*]] = train.linear %0, %1 {{.*}}train.phase = "recompute"}
// TIGHT: train.linear %[[X]], %2 {{.*}}train.block = 0 : i64{{.*}}train.phase = "recompute"}
// SAID: remark: memory budget: 19.63 KiB; arena at most {{[0-9]+}} bytes (19.{{.*}} KiB); recomputation {{.*}} of a modelled step
// SAID-SAME: no plan with this order of gradient operations recomputes for less than {{.*}} s, a gap of

// Pairs of arena and cost, from the smallest arena found to keeping everything, whatever the budget.
// CURVE: train.pareto_curve = array<i64: 17968, {{[0-9]+}}, {{.*}}, 26160, 0>
// NONE: error: the memory budget is 1 bytes (1 B), should be at least 17968 (17.55 KiB), the smallest arena found
// NONE: note: no plan of this step, in whatever order, needs less than 13568 bytes (13.25 KiB)
// NONE: note: alive at the smallest peak: 2.00 KiB, 'tensor<64x8xf32>' of train.input
train.step @mlp {
  %x = train.input {name = "x"} : tensor<64x8xf32>
  %e = train.parameter {name = "e", trainable} : tensor<8x8xf32>
  %g0 = train.parameter {name = "g0", trainable} : tensor<8x8xf32>
  %u0 = train.parameter {name = "u0", trainable} : tensor<8x8xf32>
  %d0 = train.parameter {name = "d0", trainable} : tensor<8x8xf32>
  %g1 = train.parameter {name = "g1", trainable} : tensor<8x8xf32>
  %u1 = train.parameter {name = "u1", trainable} : tensor<8x8xf32>
  %d1 = train.parameter {name = "d1", trainable} : tensor<8x8xf32>
  %x0 = train.linear %x, %e : (tensor<64x8xf32>, tensor<8x8xf32>) -> tensor<64x8xf32>
  %gate0 = train.linear %x0, %g0 : (tensor<64x8xf32>, tensor<8x8xf32>) -> tensor<64x8xf32>
  %up0 = train.linear %x0, %u0 : (tensor<64x8xf32>, tensor<8x8xf32>) -> tensor<64x8xf32>
  %act0 = train.gated_activation %gate0, %up0 {activation = "silu"} : (tensor<64x8xf32>, tensor<64x8xf32>) -> tensor<64x8xf32>
  %down0 = train.linear %act0, %d0 : (tensor<64x8xf32>, tensor<8x8xf32>) -> tensor<64x8xf32>
  %x1 = train.add %x0, %down0 : (tensor<64x8xf32>, tensor<64x8xf32>) -> tensor<64x8xf32>
  %gate1 = train.linear %x1, %g1 : (tensor<64x8xf32>, tensor<8x8xf32>) -> tensor<64x8xf32>
  %up1 = train.linear %x1, %u1 : (tensor<64x8xf32>, tensor<8x8xf32>) -> tensor<64x8xf32>
  %act1 = train.gated_activation %gate1, %up1 {activation = "silu"} : (tensor<64x8xf32>, tensor<64x8xf32>) -> tensor<64x8xf32>
  %down1 = train.linear %act1, %d1 : (tensor<64x8xf32>, tensor<8x8xf32>) -> tensor<64x8xf32>
  %x2 = train.add %x1, %down1 : (tensor<64x8xf32>, tensor<64x8xf32>) -> tensor<64x8xf32>
  %l = train.reduce_sum %x2 {axes = array<i64: 0, 1>, keepdims = false} : (tensor<64x8xf32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}
