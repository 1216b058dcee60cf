// RUN: amc-opt %s --split-input-file | FileCheck %s
// RUN: amc-opt %s --split-input-file --derive-backward | FileCheck %s --check-prefix=VJP

// Tests shapes and round trips: ten rows over four members are three each, the last member's padded.
// CHECK-LABEL: @shapes
train.step @shapes {
  %w = train.parameter {name = "w", splits = [#train.split<0, "dp_shard", 4, 10>], trainable} : tensor<3x2xf32>
  // CHECK: train.all_gather %{{.*}} {dim = 0 : i64, group = "dp_shard", members = 4 : i64, reshard, size = 10 : i64} : (tensor<3x2xf32>) -> tensor<10x2xf32>
  %g = train.all_gather %w {dim = 0 : i64, size = 10 : i64, group = "dp_shard", members = 4 : i64, reshard} : (tensor<3x2xf32>) -> tensor<10x2xf32>
  // CHECK: train.vary %{{.*}} {group = "dp_replicate", members = 2 : i64} : (tensor<10x2xf32>) -> tensor<10x2xf32>
  %v = train.vary %g {group = "dp_replicate", members = 2 : i64} : (tensor<10x2xf32>) -> tensor<10x2xf32>
  // CHECK: train.reduce_scatter %{{.*}} {dim = 1 : i64, group = "tp", members = 2 : i64} : (tensor<10x2xf32>) -> tensor<10x1xf32>
  %r = train.reduce_scatter %v {dim = 1 : i64, group = "tp", members = 2 : i64} : (tensor<10x2xf32>) -> tensor<10x1xf32>
  // CHECK: train.all_reduce %{{.*}} {group = "dp_replicate+tp", members = 4 : i64} : (tensor<10x1xf32>) -> tensor<10x1xf32>
  %a = train.all_reduce %r {group = "dp_replicate+tp", members = 4 : i64} : (tensor<10x1xf32>) -> tensor<10x1xf32>
  train.output %a {name = "a"} : tensor<10x1xf32>
  // VJP-LABEL: @shapes
  %s = train.reduce_sum %a {axes = array<i64: 0, 1>, keepdims = false} : (tensor<10x1xf32>) -> tensor<f32>
  // What an all_reduce adds up gets the sum's gradient as it is; a scatter's is a gather; what varies is added up; a
  // gather's is a scatter.
  // VJP: train.output
  // VJP: train.output
  // VJP-NOT: train.all_reduce
  // VJP: %[[G:.*]] = train.all_gather %{{.*}} {dim = 1 : i64, group = "tp", members = 2 : i64, size = 2 : i64, train.phase = "backward"}
  // VJP-NEXT: %[[V:.*]] = train.all_reduce %[[G]] {group = "dp_replicate", members = 2 : i64, train.phase = "backward"}
  // VJP-NEXT: %[[W:.*]] = train.reduce_scatter %[[V]] {dim = 0 : i64, group = "dp_shard", members = 4 : i64, train.phase = "backward"}
  // VJP-NEXT: train.gradient %[[W]] {parameter = "w"
  train.output %s {name = "loss"} : tensor<f32>
}

// -----

// Tests that gradients of bf16 are summed in fp32: rounded once, and not between two sums.
// VJP-LABEL: @narrow
train.step @narrow {
  %w = train.parameter {name = "w", trainable} : tensor<3xbf16>
  %v = train.vary %w {group = "dp_replicate", members = 2 : i64} : (tensor<3xbf16>) -> tensor<3xbf16>
  %g = train.all_gather %v {dim = 0 : i64, size = 10 : i64, group = "dp_shard", members = 4 : i64} : (tensor<3xbf16>) -> tensor<10xbf16>
  %c = train.cast %g {to = f32} : (tensor<10xbf16>) -> tensor<10xf32>
  %s = train.reduce_sum %c {axes = array<i64: 0>, keepdims = false} : (tensor<10xf32>) -> tensor<f32>
  train.output %s {name = "loss"} : tensor<f32>
  // VJP: %[[S:.*]] = train.reduce_scatter {{.*}} : (tensor<10xf32>) -> tensor<3xf32>
  // VJP: train.all_reduce %[[S]] {{.*}} : (tensor<3xf32>) -> tensor<3xf32>
  // VJP-NEXT: train.cast {{.*}} : (tensor<3xf32>) -> tensor<3xbf16>
  // VJP-NEXT: train.gradient
}

// -----

// Tests that what is started and its wait are read back as they are. (The loss is another's: waits have no gradient.)
// CHECK-LABEL: @in_flight
train.step @in_flight {
  %p = train.parameter {name = "p"} : tensor<4xf32>
  // CHECK: %[[S:.*]] = train.all_gather %[[P:.*]] {async, dim = 0 : i64, group = "dp_shard", members = 2 : i64, size = 8 : i64} : (tensor<4xf32>) -> tensor<8xf32>
  %s = train.all_gather %p {async, dim = 0 : i64, size = 8 : i64, group = "dp_shard", members = 2 : i64} : (tensor<4xf32>) -> tensor<8xf32>
  // CHECK: train.wait %[[S]], %[[P]] : tensor<8xf32>, tensor<4xf32>
  %w = train.wait %s, %p : tensor<8xf32>, tensor<4xf32>
  train.output %w {name = "w"} : tensor<8xf32>
  %v = train.parameter {name = "v", trainable} : tensor<8xf32>
  %l = train.reduce_sum %v {axes = array<i64: 0>, keepdims = false} : (tensor<8xf32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}
