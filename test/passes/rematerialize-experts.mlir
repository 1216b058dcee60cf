// RUN: amc-opt %s --derive-backward --rematerialize=policy=full | FileCheck %s --check-prefix=FULL
// RUN: amc-opt %s --derive-backward --rematerialize="policy=selective trace" 2>%t | FileCheck %s --check-prefix=SELECTIVE
// RUN: FileCheck %s --check-prefix=TRACE --input-file=%t

// Two layers of a mixture of experts. Under full the router's product and top-k are saved and never run again, cheap
// and expert operations run again. Under selective the router is the first product of the block (saved), the experts'
// first the second (computed again, which the trace says), their second the third (saved).

// FULL: train.linear %{{.*}}, %{{.*}} {train.block = 0 : i64, train.saved}
// FULL: train.top_k {{.*}}train.block = 0 : i64, train.saved}
// FULL: train.grouped_matmul {{.*}} {train.block = 0 : i64}
// FULL: train.output
// FULL-NOT: train.linear {{.*}}recompute"
// FULL-NOT: train.top_k
// FULL: train.grouped_matmul {{.*}}train.phase = "recompute"
// FULL-NOT: train.top_k

// SELECTIVE: train.linear {{.*}} {train.block = 0 : i64, train.saved}
// SELECTIVE: train.grouped_matmul {{.*}} {train.block = 0 : i64}
// SELECTIVE: train.grouped_matmul {{.*}} {train.block = 0 : i64, train.saved}

// TRACE-DAG: remark: checkpointing: this is a mixture of experts; selective works, but full is preferred to it with expert parallelism
// TRACE-DAG: [selective-ac] train.grouped_matmul -> ALTERNATE (save/recompute every other call)
// TRACE-DAG: [selective-ac] train.grouped_matmul '{{.*}}' -> RECOMPUTE (expert matmul, in 2 blocks)
train.step @experts {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %e = train.parameter {name = "e", trainable} : tensor<8x8xf32>
  %wr0 = train.parameter {name = "r0", trainable} : tensor<8x4xf32>
  %we0 = train.parameter {name = "e0", trainable} : tensor<4x8x8xf32>
  %wd0 = train.parameter {name = "d0", trainable} : tensor<4x8x8xf32>
  %wr1 = train.parameter {name = "r1", trainable} : tensor<8x4xf32>
  %we1 = train.parameter {name = "e1", trainable} : tensor<4x8x8xf32>
  %wd1 = train.parameter {name = "d1", trainable} : tensor<4x8x8xf32>
  %x0 = train.linear %x, %e : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %r0 = train.linear %x0, %wr0 : (tensor<4x8xf32>, tensor<8x4xf32>) -> tensor<4x4xf32>
  %s0 = train.softmax %r0 {axis = 1 : i64} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %v0, %c0 = train.top_k %s0 {axis = 1 : i64, k = 1 : i64} : (tensor<4x4xf32>) -> (tensor<4x1xf32>, tensor<4x1xi64>)
  %i0 = train.reshape %c0 {shape = array<i64: 4>} : (tensor<4x1xi64>) -> tensor<4xi64>
  %g0 = train.grouped_matmul %x0, %we0, %i0 : (tensor<4x8xf32>, tensor<4x8x8xf32>, tensor<4xi64>) -> tensor<4x8xf32>
  %a0 = train.silu %g0 : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %d0 = train.grouped_matmul %a0, %wd0, %i0 : (tensor<4x8xf32>, tensor<4x8x8xf32>, tensor<4xi64>) -> tensor<4x8xf32>
  %m0 = train.mul %d0, %v0 : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %x1 = train.add %x0, %m0 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %r1 = train.linear %x1, %wr1 : (tensor<4x8xf32>, tensor<8x4xf32>) -> tensor<4x4xf32>
  %s1 = train.softmax %r1 {axis = 1 : i64} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %v1, %c1 = train.top_k %s1 {axis = 1 : i64, k = 1 : i64} : (tensor<4x4xf32>) -> (tensor<4x1xf32>, tensor<4x1xi64>)
  %i1 = train.reshape %c1 {shape = array<i64: 4>} : (tensor<4x1xi64>) -> tensor<4xi64>
  %g1 = train.grouped_matmul %x1, %we1, %i1 : (tensor<4x8xf32>, tensor<4x8x8xf32>, tensor<4xi64>) -> tensor<4x8xf32>
  %a1 = train.silu %g1 : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %d1 = train.grouped_matmul %a1, %wd1, %i1 : (tensor<4x8xf32>, tensor<4x8x8xf32>, tensor<4xi64>) -> tensor<4x8xf32>
  %m1 = train.mul %d1, %v1 : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %x2 = train.add %x1, %m1 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %l = train.reduce_sum %x2 {axes = array<i64: 0, 1>, keepdims = false} : (tensor<4x8xf32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}
