// RUN: amc-opt %s --shard="cp=2" 2>&1 | FileCheck %s --check-prefixes=CHECK,RING
// RUN: amc-opt %s --shard="cp=16" 2>&1 | FileCheck %s --check-prefixes=CHECK,GATHER
// RUN: amc-opt %s --shard="cp=2 target=cuda:sm_90 precision=bf16" 2>&1 | FileCheck %s --check-prefixes=CHECK,RING

// Tests the choice on either side of the rule: a step between two members is begun once, of four gathers and scatters
// each; among sixteen, beyond a host, a ring of so little work begins fifteen each way, and sends keys twice.
// RING: remark: context parallelism: attentions in a ring: 1, with keys and values gathered: 0; for the first a ring is modelled to take {{.*}} ms and {{.*}}, a gather {{.*}} ms and
// GATHER: remark: context parallelism: attentions in a ring: 0, with keys and values gathered: 1;
// CHECK-LABEL: @step
train.step @step {
  %in = train.input {name = "x"} : tensor<1x1x64x4xf32>
  %w = train.parameter {name = "w", trainable} : tensor<4xf32>
  %x = train.mul %in, %w : (tensor<1x1x64x4xf32>, tensor<4xf32>) -> tensor<1x1x64x4xf32>
  // RING: train.attention {{.*}}ring
  // GATHER: train.all_gather {{.*}} -> tensor<1x1x64x4xf32>
  // GATHER-NOT: ring
  // GATHER: train.attention
  // GATHER-NOT: ring
  %y, %lse = train.attention %x, %x, %x {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>, scale = 0.5 : f64, right = 0 : i64} : (tensor<1x1x64x4xf32>, tensor<1x1x64x4xf32>, tensor<1x1x64x4xf32>) -> (tensor<1x1x64x4xf32>, tensor<1x1x64xf32>)
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<1x1x64x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}
