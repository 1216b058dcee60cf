// RUN: amc-opt %s --split-input-file --shard="dp-shard=4 ep=2" --verify-diagnostics | FileCheck %s
// RUN: amc-opt %s --split-input-file --shard="dp-shard=4 ep=2 capacity-factor=1.5" 2>/dev/null | FileCheck %s --check-prefix=LIMIT
// RUN: amc-opt %s --split-input-file --shard="tp=2 ep=2" 2>/dev/null | FileCheck %s --check-prefix=TP

// Tests that rows go where their experts are, once for both products, and what stands between goes with them; a rank has
// half of the experts and gathers them over ep_shard; the gates' sum stands behind the way back.
// CHECK-LABEL: @mixture
// CHECK-SAME: train.mesh = array<i64: 1, 4, 1, 1, 2>
// LIMIT-LABEL: @mixture
// TP-LABEL: @mixture
// expected-remark @+1 {{expert parallelism: 2 grouped products of 1 layer; a rank has 16 slots for rows of the 2 ranks that share experts, 8 rows each; no row can be dropped; a capacity factor takes less memory}}
train.step @mixture {
  %x = train.input {name = "x"} : tensor<8x4xf32>
  %ids = train.input {name = "ids"} : tensor<8xi64>
  %gate = train.input {name = "gate"} : tensor<8x1xf32>
  // CHECK: train.parameter {name = "up", splits = [#train.split<0, "ep", 2, 4>, #train.split<0, "ep_shard", 2, 2>], trainable} : tensor<1x4x6xf32>
  // TP: train.parameter {name = "up", splits = [#train.split<0, "tp", 2, 4>], trainable} : tensor<2x4x6xf32>
  %up = train.parameter {name = "up", trainable} : tensor<4x4x6xf32>
  %down = train.parameter {name = "down", trainable} : tensor<4x4x3xf32>
  %scale = train.parameter {name = "scale"} : tensor<3xf32>
  // CHECK: %[[SLOTS:.*]], %[[GROUPS:.*]], %{{.*}} = train.expert_slots %{{.*}} {capacity = 8 : i64, experts = 4 : i64, members = 2 : i64}
  // CHECK-NEXT: %[[IDS:.*]] = train.all_to_all %[[GROUPS]] {concat_dim = 0 : i64, group = "ep", members = 2 : i64, split_dim = 0 : i64} : (tensor<16xi64>) -> tensor<16xi64>
  // CHECK-NEXT: %[[P:.*]] = train.place_rows %{{.*}}, %[[SLOTS]] {rows = 16 : i64}
  // CHECK-NEXT: %[[X:.*]] = train.all_to_all %[[P]] {{.*}} : (tensor<16x4xf32>) -> tensor<16x4xf32>
  // CHECK-NEXT: %[[UP:.*]] = train.all_gather %{{.*}} {dim = 0 : i64, group = "ep_shard", members = 2 : i64, {{.*}}size = 2 : i64}
  // CHECK-NEXT: %[[Y:.*]] = train.grouped_matmul %[[X]], %[[UP]], %[[IDS]] {expected_rows = 8 : i64} : (tensor<16x4xf32>, tensor<2x4x6xf32>, tensor<16xi64>) -> tensor<16x6xf32>
  // CHECK-NEXT: train.slice %[[Y]] {sizes = array<i64: 16, 3>
  // LIMIT: train.expert_slots %{{.*}} {capacity = 6 : i64, experts = 4 : i64, members = 2 : i64}
  // LIMIT: train.grouped_matmul {{.*}} {expected_rows = 8 : i64} : (tensor<12x4xf32>
  // With the ranks of tp, which have the same rows: half of the rows each.
  // TP: %[[MINE:.*]] = train.take_piece %{{.*}} {dim = 0 : i64, group = "tp", members = 2 : i64} : (tensor<8xi64>) -> tensor<4xi64>
  // TP-NEXT: train.expert_slots %[[MINE]] {capacity = 4 : i64
  %y = train.grouped_matmul %x, %up, %ids : (tensor<8x4xf32>, tensor<4x4x6xf32>, tensor<8xi64>) -> tensor<8x6xf32>
  %a = train.slice %y {starts = array<i64: 0, 0>, sizes = array<i64: 8, 3>, steps = array<i64: 1, 1>} : (tensor<8x6xf32>) -> tensor<8x3xf32>
  %b = train.slice %y {starts = array<i64: 0, 3>, sizes = array<i64: 8, 3>, steps = array<i64: 1, 1>} : (tensor<8x6xf32>) -> tensor<8x3xf32>
  // CHECK: train.gated_activation {{.*}} -> tensor<16x3xf32>
  %h = train.gated_activation %a, %b {activation = "silu"} : (tensor<8x3xf32>, tensor<8x3xf32>) -> tensor<8x3xf32>
  // CHECK: %[[Z:.*]] = train.grouped_matmul %{{.*}}, %{{.*}}, %[[IDS]] {expected_rows = 8 : i64, transpose_w}
  // CHECK-NEXT: %[[BACK:.*]] = train.all_to_all %[[Z]] {{.*}} : (tensor<16x4xf32>) -> tensor<16x4xf32>
  // CHECK-NEXT: %[[MINE:.*]] = train.take_rows %[[BACK]], %[[SLOTS]] : (tensor<16x4xf32>, tensor<8xi64>) -> tensor<8x4xf32>
  // CHECK-NEXT: train.mul %[[MINE]]
  // TP: train.take_rows {{.*}} -> tensor<4x4xf32>
  // TP-NEXT: train.all_gather %{{.*}} {alike, dim = 0 : i64, group = "tp", members = 2 : i64, size = 8 : i64}
  %k = train.mul %h, %scale : (tensor<8x3xf32>, tensor<3xf32>) -> tensor<8x3xf32>
  %z = train.grouped_matmul %k, %down, %ids {transpose_w} : (tensor<8x3xf32>, tensor<4x4x3xf32>, tensor<8xi64>) -> tensor<8x4xf32>
  %g = train.mul %z, %gate : (tensor<8x4xf32>, tensor<8x1xf32>) -> tensor<8x4xf32>
  %s = train.reduce_sum %g {axes = array<i64: 0, 1>, keepdims = false} : (tensor<8x4xf32>) -> tensor<f32>
  // CHECK-NOT: dropped_tokens
  // LIMIT: %[[D:.*]] = train.all_reduce %{{.*}} {group = "dp_shard", members = 4 : i64} : (tensor<f64>) -> tensor<f64>
  // LIMIT-NEXT: train.output %[[D]] {name = "dropped_tokens", sum} : tensor<f64>
  train.output %s {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that matrices that something else reads stay whole, and that this is said.
// CHECK-LABEL: @shared
// CHECK-NOT: train.expert_slots
// expected-remark @+1 {{expert parallelism: no product is grouped by experts (train.grouped_matmul) that the 2 ranks of ep could share}}
train.step @shared {
  %x = train.input {name = "x"} : tensor<8x4xf32>
  %ids = train.input {name = "ids"} : tensor<8xi64>
  %up = train.parameter {name = "up", trainable} : tensor<4x4x6xf32>
  %y = train.grouped_matmul %x, %up, %ids : (tensor<8x4xf32>, tensor<4x4x6xf32>, tensor<8xi64>) -> tensor<8x6xf32>
  %a = train.reduce_sum %y {axes = array<i64: 0, 1>, keepdims = false} : (tensor<8x6xf32>) -> tensor<f32>
  // expected-remark @+1 {{expert parallelism: reads the matrices of experts, too; every rank keeps all of them}}
  %b = train.reduce_sum %up {axes = array<i64: 0, 1, 2>, keepdims = false} : (tensor<4x4x6xf32>) -> tensor<f32>
  %s = train.add %a, %b : (tensor<f32>, tensor<f32>) -> tensor<f32>
  train.output %s {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that what meets rows between products has to be alike wherever they are: with a weight that is trained, and with
// what this rank's data give, rows come back first.
// CHECK-LABEL: @between
// CHECK: train.grouped_matmul
// CHECK: %[[BACK:.*]] = train.take_rows
// CHECK: train.mul %[[BACK]]
// CHECK: train.sub
// CHECK: train.place_rows
// CHECK: train.grouped_matmul
// expected-remark @+1 {{expert parallelism: 2 grouped products of 1 layer}}
train.step @between {
  %x = train.input {name = "x"} : tensor<8x4xf32>
  %ids = train.input {name = "ids"} : tensor<8xi64>
  %up = train.parameter {name = "up", trainable} : tensor<4x4x6xf32>
  %down = train.parameter {name = "down", trainable} : tensor<4x6x4xf32>
  %scale = train.parameter {name = "scale", trainable} : tensor<6xf32>
  %y = train.grouped_matmul %x, %up, %ids : (tensor<8x4xf32>, tensor<4x4x6xf32>, tensor<8xi64>) -> tensor<8x6xf32>
  %s = train.mul %y, %scale : (tensor<8x6xf32>, tensor<6xf32>) -> tensor<8x6xf32>
  %m = train.reduce_mean %s {axes = array<i64: 0>, keepdims = true} : (tensor<8x6xf32>) -> tensor<1x6xf32>
  %c = train.sub %s, %m : (tensor<8x6xf32>, tensor<1x6xf32>) -> tensor<8x6xf32>
  %z = train.grouped_matmul %c, %down, %ids : (tensor<8x6xf32>, tensor<4x6x4xf32>, tensor<8xi64>) -> tensor<8x4xf32>
  %a = train.reduce_sum %z {axes = array<i64: 0, 1>, keepdims = false} : (tensor<8x4xf32>) -> tensor<f32>
  train.output %a {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that two layers that read the same experts share their pieces, and that products of other numbers of experts have
// slots of their own.
// CHECK-LABEL: @tied
// CHECK-COUNT-2: train.expert_slots %{{.*}} {capacity = 8 : i64, experts = 4 : i64, members = 2 : i64}
// CHECK: train.expert_slots %{{.*}} {capacity = 8 : i64, experts = 8 : i64, members = 2 : i64}
// CHECK-NOT: train.expert_slots
// expected-remark @+1 {{expert parallelism: 3 grouped products of 3 layers}}
train.step @tied {
  %x = train.input {name = "x"} : tensor<8x4xf32>
  %ids = train.input {name = "ids"} : tensor<8xi64>
  %others = train.input {name = "others"} : tensor<8xi64>
  %w = train.parameter {name = "w", trainable} : tensor<4x4x4xf32>
  %more = train.parameter {name = "more", trainable} : tensor<8x4x4xf32>
  %y = train.grouped_matmul %x, %w, %ids : (tensor<8x4xf32>, tensor<4x4x4xf32>, tensor<8xi64>) -> tensor<8x4xf32>
  %z = train.grouped_matmul %y, %w, %others : (tensor<8x4xf32>, tensor<4x4x4xf32>, tensor<8xi64>) -> tensor<8x4xf32>
  %v = train.grouped_matmul %z, %more, %ids : (tensor<8x4xf32>, tensor<8x4x4xf32>, tensor<8xi64>) -> tensor<8x4xf32>
  %a = train.reduce_sum %v {axes = array<i64: 0, 1>, keepdims = false} : (tensor<8x4xf32>) -> tensor<f32>
  train.output %a {name = "loss", sum} : tensor<f32>
}
