// RUN: amc-opt %s --split-input-file --shard="dp-shard=4" | FileCheck %s
// RUN: amc-opt %s --split-input-file --shard="dp-shard=4 reshard=never" | FileCheck %s --check-prefix=NEVER
// RUN: amc-opt %s --split-input-file --shard="dp-replicate=2 dp-shard=2 reshard=auto" | FileCheck %s --check-prefix=HSDP
// RUN: amc-opt %s --split-input-file --shard="strategy=ddp dp-shard=4" | FileCheck %s --check-prefix=DDP
// RUN: amc-opt %s --split-input-file --shard="strategy=megatron_fsdp zero=2 dp-shard=4" | FileCheck %s --check-prefixes=DDP,TWO
// RUN: amc-opt %s --split-input-file --shard="strategy=megatron_fsdp zero=0 dp-shard=4" | FileCheck %s --check-prefixes=DDP,ZERO
// RUN: amc-opt %s --split-input-file --shard="strategy=megatron_fsdp dp-shard=4" | FileCheck %s --check-prefix=THREE
// RUN: amc-opt %s --split-input-file --shard | FileCheck %s --check-prefix=ONE

// Tests that a table tied to the head is gathered for each of its two uses, so that it need not live between them.
// CHECK-LABEL: @tied
// CHECK-SAME: train.mesh = array<i64: 1, 4, 1, 1>, train.strategy = "fsdp2"
// HSDP-LABEL: @tied
// HSDP-SAME: train.mesh = array<i64: 2, 2, 1, 1>
// Below ZeRO 3 parameters are whole, as with ddp.
// DDP-LABEL: @tied
// DDP-SAME: train.strategy = "{{ddp|megatron_fsdp}}"
// TWO-SAME: train.zero = 2
// ZERO-NOT: train.zero
// THREE-LABEL: @tied
// THREE-NOT: train.zero
// THREE: train.all_gather
// ONE-LABEL: @tied
// ONE-NOT: train.mesh
// ONE-NOT: train.all_gather
train.step @tied {
  %ids = train.input {name = "ids"} : tensor<2x3xi64>
  // Ten rows over four ranks: three each.
  // CHECK: train.parameter {name = "e", splits = [#train.split<0, "dp_shard", 4, 10>], trainable} : tensor<3x4xf32>
  // HSDP: train.parameter {name = "e", splits = [#train.split<0, "dp_shard", 2, 10>], trainable} : tensor<5x4xf32>
  // DDP: train.parameter {name = "e", trainable} : tensor<10x4xf32>
  %e = train.parameter {name = "e", trainable} : tensor<10x4xf32>
  // No row for each of four ranks, but a column.
  // CHECK: train.parameter {name = "wide", splits = [#train.split<1, "dp_shard", 4, 4>], trainable} : tensor<1x1xf32>
  %wide = train.parameter {name = "wide", trainable} : tensor<1x4xf32>
  // Scalars and small frozen tables stay whole.
  // CHECK: train.parameter {name = "scalar", trainable} : tensor<f32>
  %scalar = train.parameter {name = "scalar", trainable} : tensor<f32>
  // CHECK: train.parameter {name = "table"} : tensor<4xf32>
  %table = train.parameter {name = "table"} : tensor<4xf32>
  // CHECK: %[[G:.*]] = train.all_gather %{{.*}} {dim = 0 : i64, group = "dp_shard", members = 4 : i64, size = 10 : i64}
  // CHECK-NEXT: train.embedding %[[G]]
  // NEVER: train.all_gather {{.*}} retain
  // HSDP: %[[V:.*]] = train.vary %{{.*}} {group = "dp_replicate", members = 2 : i64} : (tensor<5x4xf32>)
  // HSDP-NEXT: train.all_gather %[[V]] {dim = 0 : i64, group = "dp_shard", members = 2 : i64, size = 10 : i64}
  // DDP: %[[V:.*]] = train.vary %{{.*}} {group = "dp_shard", members = 4 : i64} : (tensor<10x4xf32>)
  // DDP-NEXT: train.embedding %[[V]]
  %x = train.embedding %e, %ids : (tensor<10x4xf32>, tensor<2x3xi64>) -> tensor<2x3x4xf32>
  // CHECK: train.all_gather {{.*}}dim = 1 : i64
  %a = train.mul %x, %wide : (tensor<2x3x4xf32>, tensor<1x4xf32>) -> tensor<2x3x4xf32>
  // A scalar is alike on all ranks.
  // CHECK: %[[S:.*]] = train.vary %{{.*}} {group = "dp_shard", members = 4 : i64} : (tensor<f32>)
  // CHECK-NEXT: train.mul %{{.*}}, %[[S]]
  %b = train.mul %a, %scalar : (tensor<2x3x4xf32>, tensor<f32>) -> tensor<2x3x4xf32>
  // What is frozen has no gradient to add up.
  // CHECK-NEXT: train.mul
  %c = train.mul %b, %table : (tensor<2x3x4xf32>, tensor<4xf32>) -> tensor<2x3x4xf32>
  // CHECK: %[[H:.*]] = train.all_gather
  // CHECK-NEXT: train.linear %{{.*}}, %[[H]]
  %y = train.linear %c, %e {transpose_w} : (tensor<2x3x4xf32>, tensor<10x4xf32>) -> tensor<2x3x10xf32>
  // CHECK: %[[P:.*]] = train.reduce_sum
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2>, keepdims = false} : (tensor<2x3x10xf32>) -> tensor<f32>
  // CHECK-NEXT: %[[L:.*]] = train.all_reduce %[[P]] {group = "dp_shard", members = 4 : i64}
  // CHECK-NEXT: train.output %[[L]] {name = "loss"
  // HSDP: train.all_reduce %{{.*}} {group = "dp_replicate+dp_shard", members = 4 : i64}
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that random numbers are drawn by the number of the micro-batch among all ranks'.
// CHECK-LABEL: @dropout
train.step @dropout {
  %w = train.parameter {name = "w", trainable} : tensor<8xf32>
  %seed = train.input {name = "seed", role = "seed"} : tensor<i64>
  %step = train.input {name = "step", role = "step_number"} : tensor<i64>
  // CHECK: %[[M:.*]] = train.input {name = "m", role = "micro_batch"}
  // CHECK-NEXT: %[[R:.*]] = train.input {name = "data_rank", role = "data_rank"}
  // CHECK-NEXT: %[[D:.*]] = train.constant {value = dense<4> : tensor<i64>}
  // CHECK-NEXT: %[[B:.*]] = train.mul %[[M]], %[[D]]
  // CHECK-NEXT: %[[N:.*]] = train.add %[[B]], %[[R]]
  %m = train.input {name = "m", role = "micro_batch"} : tensor<i64>
  // CHECK: train.dropout %{{.*}}, %{{.*}}, %{{.*}}, %[[N]]
  %y = train.dropout %w, %seed, %step, %m {probability = 0.1 : f64, stream = 0 : i64} : (tensor<8xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<8xf32>
  %loss = train.reduce_sum %y {axes = array<i64: 0>, keepdims = false} : (tensor<8xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that a unit is a block: what it reads twice is gathered once, and not kept for backward.
// CHECK-LABEL: @blocks
train.step @blocks {
  %in = train.input {name = "x"} : tensor<2x8xf32>
  %first = train.parameter {name = "first", trainable} : tensor<8xf32>
  %a = train.parameter {name = "a", trainable} : tensor<8x8xf32>
  %b = train.parameter {name = "b", trainable} : tensor<8x8xf32>
  %x = train.mul %in, %first : (tensor<2x8xf32>, tensor<8xf32>) -> tensor<2x8xf32>
  // CHECK: %[[A:.*]] = train.all_gather %{{.*}} {dim = 0 : i64, group = "dp_shard", members = 4 : i64, reshard, size = 8 : i64}
  // CHECK-NEXT: train.linear %{{.*}}, %[[A]]
  // CHECK-NEXT: train.tanh
  // CHECK-NEXT: train.linear %{{.*}}, %[[A]]
  %h0 = train.linear %x, %a : (tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32>
  %t0 = train.tanh %h0 : (tensor<2x8xf32>) -> tensor<2x8xf32>
  %u0 = train.linear %t0, %a : (tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32>
  %y0 = train.add %x, %u0 : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  // CHECK: train.all_gather {{.*}} reshard
  %h1 = train.linear %y0, %b : (tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32>
  %t1 = train.tanh %h1 : (tensor<2x8xf32>) -> tensor<2x8xf32>
  %u1 = train.linear %t1, %b : (tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32>
  %y1 = train.add %y0, %u1 : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  // Outside of blocks the policy decides: the first parameter has been gathered once already.
  // CHECK: train.all_gather
  // CHECK-NOT: reshard
  // CHECK: train.output
  %z = train.mul %y1, %first : (tensor<2x8xf32>, tensor<8xf32>) -> tensor<2x8xf32>
  %loss = train.reduce_sum %z {axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x8xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}
