// RUN: amc-opt %s --split-input-file --shard="tp=2" | FileCheck %s
// RUN: amc-opt %s --split-input-file --shard="tp=2 sequence-parallel" | FileCheck %s --check-prefix=SP
// RUN: amc-opt %s --split-input-file --shard="dp-shard=2 tp=2" | FileCheck %s --check-prefix=BOTH

// Tests that a feed-forward network is cut along its inner dimension: columns of the first weight, rows of the second, one
// sum, and a bias that is added once.
// CHECK-LABEL: @mlp
// CHECK-SAME: train.mesh = array<i64: 1, 1, 1, 2>
train.step @mlp {
  %x = train.input {name = "x"} : tensor<2x4x8xf32>
  %scale = train.parameter {name = "scale", trainable} : tensor<8xf32>
  // CHECK: train.parameter {name = "up", splits = [#train.split<1, "tp", 2, 6>], trainable} : tensor<8x3xf32>
  // FSDP cuts what is left.
  // BOTH: train.parameter {name = "up", splits = [#train.split<1, "tp", 2, 6>, #train.split<0, "dp_shard", 2, 8>], trainable} : tensor<4x3xf32>
  %up = train.parameter {name = "up", trainable} : tensor<8x6xf32>
  // CHECK: train.parameter {name = "bias", splits = [#train.split<0, "tp", 2, 6>], trainable} : tensor<3xf32>
  %bias = train.parameter {name = "bias", trainable} : tensor<6xf32>
  // CHECK: train.parameter {name = "down", splits = [#train.split<1, "tp", 2, 6>], trainable} : tensor<8x3xf32>
  %down = train.parameter {name = "down", trainable} : tensor<8x6xf32>
  // CHECK: train.parameter {name = "out", trainable} : tensor<8xf32>
  %out = train.parameter {name = "out", trainable} : tensor<8xf32>
  // Each member takes its tokens.
  // SP: train.take_piece {{.*}} : (tensor<2x4x8xf32>) -> tensor<1x4x8xf32>
  %e = train.mul %x, %scale : (tensor<2x4x8xf32>, tensor<8xf32>) -> tensor<2x4x8xf32>
  // CHECK: %[[N:.*]], %{{.*}} = train.rms_norm {{.*}} -> (tensor<2x4x8xf32>, tensor<2x4xf32>)
  // SP: %[[N:.*]], %{{.*}} = train.rms_norm {{.*}} -> (tensor<1x4x8xf32>, tensor<1x4xf32>)
  %n, %r = train.rms_norm %e, %scale {epsilon = 1.0e-6 : f64} : (tensor<2x4x8xf32>, tensor<8xf32>) -> (tensor<2x4x8xf32>, tensor<2x4xf32>)
  // CHECK-NEXT: %[[V:.*]] = train.vary %[[N]] {group = "tp", members = 2 : i64}
  // CHECK-NEXT: %[[H:.*]] = train.linear %[[V]], %{{.*}}, %{{.*}} -> tensor<2x4x3xf32>
  // CHECK-NEXT: %[[G:.*]] = train.gelu %[[H]]
  // CHECK-NEXT: %[[P:.*]] = train.linear %[[G]], %{{.*}} {transpose_w} : (tensor<2x4x3xf32>, tensor<8x3xf32>) -> tensor<2x4x8xf32>
  // CHECK-NEXT: %[[S:.*]] = train.all_reduce %[[P]] {group = "tp", members = 2 : i64}
  // CHECK-NEXT: %[[Y:.*]] = train.add %[[S]], %{{.*}}
  // CHECK-NEXT: train.add %{{.*}}, %[[Y]]
  // SP: train.all_gather %[[N]] {dim = 0 : i64, group = "tp", members = 2 : i64, size = 2 : i64}
  // SP: train.reduce_scatter {{.*}} : (tensor<2x4x8xf32>) -> tensor<1x4x8xf32>
  // SP-NEXT: train.add
  %h = train.linear %n, %up, %bias : (tensor<2x4x8xf32>, tensor<8x6xf32>, tensor<6xf32>) -> tensor<2x4x6xf32>
  %g = train.gelu %h : (tensor<2x4x6xf32>) -> tensor<2x4x6xf32>
  %y = train.linear %g, %down, %out {transpose_w} : (tensor<2x4x6xf32>, tensor<8x6xf32>, tensor<8xf32>) -> tensor<2x4x8xf32>
  %z = train.add %n, %y : (tensor<2x4x8xf32>, tensor<2x4x8xf32>) -> tensor<2x4x8xf32>
  // The loss is alike on all members: with the tokens cut, their sum.
  // CHECK: train.reduce_sum
  // CHECK-NEXT: train.output
  // SP: %[[L:.*]] = train.reduce_sum {{.*}} : (tensor<1x4x8xf32>) -> tensor<f32>
  // SP-NEXT: train.all_reduce %[[L]] {group = "tp", members = 2 : i64}
  %loss = train.reduce_sum %z {axes = array<i64: 0, 1, 2>, keepdims = false} : (tensor<2x4x8xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that one weight for queries, keys and values is cut within each third, and that heads go with it to the output.
// CHECK-LABEL: @attention
train.step @attention {
  %x = train.input {name = "x"} : tensor<1x4x8xf32>
  %scale = train.parameter {name = "scale", trainable} : tensor<8xf32>
  // CHECK: train.parameter {name = "qkv", splits = [#train.split<1, "tp", 2, 24, 3>], trainable} : tensor<8x12xf32>
  %qkv = train.parameter {name = "qkv", trainable} : tensor<8x24xf32>
  // CHECK: train.parameter {name = "o", splits = [#train.split<0, "tp", 2, 8>], trainable} : tensor<4x8xf32>
  %o = train.parameter {name = "o", trainable} : tensor<8x8xf32>
  %n, %r = train.rms_norm %x, %scale {epsilon = 1.0e-6 : f64} : (tensor<1x4x8xf32>, tensor<8xf32>) -> (tensor<1x4x8xf32>, tensor<1x4xf32>)
  %a = train.linear %n, %qkv : (tensor<1x4x8xf32>, tensor<8x24xf32>) -> tensor<1x4x24xf32>
  // CHECK: train.slice %{{.*}} {sizes = array<i64: 1, 4, 4>, starts = array<i64: 0, 0, 0>
  // CHECK: train.slice %{{.*}} {sizes = array<i64: 1, 4, 4>, starts = array<i64: 0, 0, 4>
  // CHECK: train.slice %{{.*}} {sizes = array<i64: 1, 4, 4>, starts = array<i64: 0, 0, 8>
  %q0 = train.slice %a {starts = array<i64: 0, 0, 0>, sizes = array<i64: 1, 4, 8>, steps = array<i64: 1, 1, 1>} : (tensor<1x4x24xf32>) -> tensor<1x4x8xf32>
  %k0 = train.slice %a {starts = array<i64: 0, 0, 8>, sizes = array<i64: 1, 4, 8>, steps = array<i64: 1, 1, 1>} : (tensor<1x4x24xf32>) -> tensor<1x4x8xf32>
  %v0 = train.slice %a {starts = array<i64: 0, 0, 16>, sizes = array<i64: 1, 4, 8>, steps = array<i64: 1, 1, 1>} : (tensor<1x4x24xf32>) -> tensor<1x4x8xf32>
  // CHECK: train.reshape %{{.*}} {shape = array<i64: 1, 4, 1, 4>}
  %q1 = train.reshape %q0 {shape = array<i64: 1, 4, 2, 4>} : (tensor<1x4x8xf32>) -> tensor<1x4x2x4xf32>
  %k1 = train.reshape %k0 {shape = array<i64: 1, 4, 2, 4>} : (tensor<1x4x8xf32>) -> tensor<1x4x2x4xf32>
  %v1 = train.reshape %v0 {shape = array<i64: 1, 4, 2, 4>} : (tensor<1x4x8xf32>) -> tensor<1x4x2x4xf32>
  %q = train.transpose %q1 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x4x2x4xf32>) -> tensor<1x2x4x4xf32>
  %k = train.transpose %k1 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x4x2x4xf32>) -> tensor<1x2x4x4xf32>
  %v = train.transpose %v1 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x4x2x4xf32>) -> tensor<1x2x4x4xf32>
  // CHECK: train.attention {{.*}} -> (tensor<1x1x4x4xf32>, tensor<1x1x4xf32>)
  %y, %lse = train.attention %q, %k, %v {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>, scale = 0.5 : f64} : (tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>) -> (tensor<1x2x4x4xf32>, tensor<1x2x4xf32>)
  %t = train.transpose %y {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x2x4x4xf32>) -> tensor<1x4x2x4xf32>
  %s = train.reshape %t {shape = array<i64: 1, 4, 8>} : (tensor<1x4x2x4xf32>) -> tensor<1x4x8xf32>
  // CHECK: %[[P:.*]] = train.linear {{.*}} : (tensor<1x4x4xf32>, tensor<4x8xf32>)
  // CHECK-NEXT: train.all_reduce %[[P]]
  %z = train.linear %s, %o : (tensor<1x4x8xf32>, tensor<8x8xf32>) -> tensor<1x4x8xf32>
  %loss = train.reduce_sum %z {axes = array<i64: 0, 1, 2>, keepdims = false} : (tensor<1x4x8xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that each of two members takes its key head of one, which both compute.
// CHECK-LABEL: @few_key_heads
train.step @few_key_heads {
  %x = train.input {name = "x"} : tensor<1x4x8xf32>
  %scale = train.parameter {name = "scale", trainable} : tensor<8xf32>
  // CHECK: train.parameter {name = "q", splits = [#train.split<1, "tp", 2, 8>], trainable}
  %wq = train.parameter {name = "q", trainable} : tensor<8x8xf32>
  // CHECK: train.parameter {name = "kv", trainable} : tensor<8x4xf32>
  %wkv = train.parameter {name = "kv", trainable} : tensor<8x4xf32>
  %n, %r = train.rms_norm %x, %scale {epsilon = 1.0e-6 : f64} : (tensor<1x4x8xf32>, tensor<8xf32>) -> (tensor<1x4x8xf32>, tensor<1x4xf32>)
  %q0 = train.linear %n, %wq : (tensor<1x4x8xf32>, tensor<8x8xf32>) -> tensor<1x4x8xf32>
  %q1 = train.reshape %q0 {shape = array<i64: 1, 4, 2, 4>} : (tensor<1x4x8xf32>) -> tensor<1x4x2x4xf32>
  %q = train.transpose %q1 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x4x2x4xf32>) -> tensor<1x2x4x4xf32>
  %k0 = train.linear %n, %wkv : (tensor<1x4x8xf32>, tensor<8x4xf32>) -> tensor<1x4x4xf32>
  // CHECK: %[[K:.*]] = train.reshape {{.*}} -> tensor<1x1x4x4xf32>
  %k = train.reshape %k0 {shape = array<i64: 1, 1, 4, 4>} : (tensor<1x4x4xf32>) -> tensor<1x1x4x4xf32>
  // CHECK: %[[W:.*]] = train.constant {value = dense<0> : tensor<2xi64>}
  // CHECK: %[[V:.*]] = train.vary %[[K]]
  // CHECK: %[[I:.*]] = train.take_piece %[[W]] {dim = 0 : i64, group = "tp", members = 2 : i64} : (tensor<2xi64>) -> tensor<1xi64>
  // CHECK: train.gather %[[V]], %[[I]] {axis = 1 : i64} : (tensor<1x1x4x4xf32>, tensor<1xi64>) -> tensor<1x1x4x4xf32>
  // CHECK: train.attention {{.*}} -> (tensor<1x1x4x4xf32>, tensor<1x1x4xf32>)
  %y, %lse = train.attention %q, %k, %k {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>, scale = 0.5 : f64} : (tensor<1x2x4x4xf32>, tensor<1x1x4x4xf32>, tensor<1x1x4x4xf32>) -> (tensor<1x2x4x4xf32>, tensor<1x2x4xf32>)
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<1x2x4x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests a tied vocabulary: the lookup is partial, the loss exchanges what members know of their classes.
// CHECK-LABEL: @vocabulary
train.step @vocabulary {
  %ids = train.input {name = "ids"} : tensor<2x4xi64>
  %labels = train.input {name = "labels", role = "labels"} : tensor<2x4xi64>
  %scale = train.parameter {name = "scale", trainable} : tensor<8xf32>
  // CHECK: train.parameter {name = "e", splits = [#train.split<0, "tp", 2, 512>], trainable} : tensor<256x8xf32>
  %e = train.parameter {name = "e", trainable} : tensor<512x8xf32>
  // CHECK: %[[P:.*]] = train.embedding %{{.*}}, %{{.*}} {group = "tp", members = 2 : i64}
  // CHECK-NEXT: train.all_reduce %[[P]]
  %x = train.embedding %e, %ids : (tensor<512x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %n, %r = train.rms_norm %x, %scale {epsilon = 1.0e-6 : f64} : (tensor<2x4x8xf32>, tensor<8xf32>) -> (tensor<2x4x8xf32>, tensor<2x4xf32>)
  // CHECK: train.vary
  // CHECK-NEXT: %[[L:.*]], %{{.*}} = train.linear_cross_entropy {{.*}}group = "tp", {{.*}}members = 2 : i64
  // CHECK-NEXT: train.output %[[L]]
  %loss, %lse = train.linear_cross_entropy %n, %e, %labels {operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>, transpose_w} : (tensor<2x4x8xf32>, tensor<512x8xf32>, tensor<2x4xi64>) -> (tensor<f32>, tensor<2x4xf32>)
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that what goes through something that cannot be cut stays whole, everywhere: dropout's mask is drawn by position.
// Then nothing is left to cut, which is said.
// CHECK-LABEL: @dropout
// CHECK-NOT: splits
// CHECK-NOT: train.all_reduce
train.step @dropout {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %seed = train.input {name = "seed", role = "seed"} : tensor<i64>
  %number = train.input {name = "step", role = "step_number"} : tensor<i64>
  %m = train.input {name = "m", role = "micro_batch"} : tensor<i64>
  %scale = train.parameter {name = "scale", trainable} : tensor<8xf32>
  %up = train.parameter {name = "up", trainable} : tensor<8x6xf32>
  %down = train.parameter {name = "down", trainable} : tensor<6x8xf32>
  %n, %r = train.rms_norm %x, %scale {epsilon = 1.0e-6 : f64} : (tensor<4x8xf32>, tensor<8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>)
  %h = train.linear %n, %up : (tensor<4x8xf32>, tensor<8x6xf32>) -> tensor<4x6xf32>
  %d = train.dropout %h, %seed, %number, %m {probability = 0.1 : f64, stream = 0 : i64} : (tensor<4x6xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<4x6xf32>
  %y = train.linear %d, %down : (tensor<4x6xf32>, tensor<6x8xf32>) -> tensor<4x8xf32>
  %z, %r1 = train.rms_norm %y, %scale {epsilon = 1.0e-6 : f64} : (tensor<4x8xf32>, tensor<8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>)
  %loss = train.reduce_sum %z {axes = array<i64: 0, 1>, keepdims = false} : (tensor<4x8xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}
