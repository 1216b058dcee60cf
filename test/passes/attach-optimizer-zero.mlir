// RUN: amc-opt %s --attach-optimizer | FileCheck %s --implicit-check-not=train.all_reduce
// RUN: amc-opt %s --attach-optimizer="accumulation=2 optimizer=sgd momentum=0.9" | FileCheck %s --check-prefix=ACC
// RUN: sed "s/train.zero = 2/train.zero = 1/" %s | amc-opt --attach-optimizer="master-weights=fp32 max-grad-norm=0" --split-input-file | FileCheck %s --check-prefix=ONE
// RUN: sed "s/, train.zero = 2//" %s | amc-opt --attach-optimizer | FileCheck %s --check-prefix=NONE

// Tests that with 2 a sum over the ranks becomes each rank's rows of it, also of five rows, behind casts and in the sum of
// two uses; and that a gradient that something else reads, one that is no sum over these ranks, and a scalar stay whole.
// CHECK: train.step @step
// CHECK: %[[W:.*]] = train.parameter {name = "w", trainable} : tensor<5x2xbf16>
// CHECK: %[[OTHER:.*]] = train.all_reduce %{{.*}} {group = "tp"
// CHECK: %[[V:.*]] = train.all_reduce
// CHECK: %[[S:.*]] = train.all_reduce
// CHECK: %[[A:.*]] = train.reduce_scatter %{{.*}} {dim = 0 : i64, group = "dp_shard", members = 2 : i64, train.phase = "backward"} : (tensor<5x2xf32>) -> tensor<3x2xf32>
// CHECK: %[[B:.*]] = train.reduce_scatter {{.*}} : (tensor<5x2xbf16>) -> tensor<3x2xbf16>
// CHECK: %[[C:.*]] = train.cast %[[A]] {{.*}} : (tensor<3x2xf32>) -> tensor<3x2xbf16>
// CHECK: %[[D:.*]] = train.add %[[C]], %[[B]] {train.phase = "backward"}
// CHECK: %[[R:.*]] = train.take_piece %{{.*}} {{.*}}train.phase = "backward"} : (tensor<5x2xbf16>) -> tensor<3x2xbf16>
// CHECK: %[[G:.*]] = train.add %[[D]], %[[R]] {train.phase = "backward"}

// Norms of pieces are added up over the ranks, those of whole gradients are not.
// CHECK: %[[NW:.*]] = train.squared_norm %[[G]]
// CHECK: %[[NV:.*]] = train.squared_norm %[[V]]
// CHECK: %[[NS:.*]] = train.squared_norm %[[S]]
// CHECK: %[[NU:.*]] = train.squared_norm %[[OTHER]]
// CHECK: %[[SUM:.*]] = train.sum_scalars %[[NW]]
// CHECK: %[[ALL:.*]] = train.all_reduce %[[SUM]] {group = "dp_shard", members = 2 : i64
// CHECK: train.clip_scale %[[NV]], %[[NS]], %[[NU]], %[[ALL]]

// CHECK: %[[SHARD:.*]] = train.state {kind = "optimizer", name = "shard", parameter = "w", splits = [#train.split<0, "dp_shard", 2, 5>], train.phase = "optimizer"} : tensor<3x2xbf16>
// CHECK: %[[M:.*]] = train.state {{.*}}name = "exp_avg", parameter = "w", splits = [#train.split<0, "dp_shard", 2, 5>]{{.*}} : tensor<3x2xbf16>
// CHECK: train.adamw %[[SHARD]], %[[G]], %[[M]],
// CHECK: train.refresh %[[W]], %[[SHARD]] {dim = 0 : i64, group = "dp_shard", members = 2 : i64, size = 5 : i64, train.phase = "optimizer"} : tensor<5x2xbf16>, tensor<3x2xbf16>
// CHECK: train.state {{.*}}name = "shard", parameter = "v"
// CHECK: %[[PV:.*]] = train.take_piece %[[V]] {dim = 0 : i64, group = "dp_shard", members = 2 : i64, train.phase = "optimizer"}
// CHECK: train.adamw %{{.*}}, %[[PV]],
// CHECK: train.refresh
// CHECK-NOT: name = "shard", parameter = "s"
// CHECK: train.adamw %{{.*}}, %[[S]],
// CHECK-NOT: train.refresh
// CHECK: train.state {{.*}}name = "shard", parameter = "u"
// CHECK: train.take_piece %[[OTHER]]
// CHECK: train.refresh

// Tests that every micro-batch adds to the rank's rows alone, and that SGD's buffer has only those.
// ACC: train.take_piece
// ACC: %[[P:.*]] = train.add {{.*}} : (tensor<3x2xbf16>, tensor<3x2xbf16>)
// ACC: %[[SUM:.*]] = train.state {kind = "gradient", name = "gradient", parameter = "w", splits = [#train.split<0, "dp_shard", 2, 5>]{{.*}} : tensor<3x2xbf16>
// ACC: train.accumulate %[[SUM]], %[[P]]
// ACC: train.state {kind = "gradient", name = "gradient", parameter = "v", train.phase = "backward"} : tensor<4xbf16>
// ACC: train.micro_batch_end
// ACC: train.state {{.*}}name = "momentum_buffer", parameter = "w", splits = {{.*}} : tensor<3x2xbf16>
// ACC: train.sgd %{{.*}}, %[[SUM]],

// Tests that with 1 gradients are summed whole and the norm needs no other ranks, and that the master is of the shard.
// ONE: train.add
// ONE: %[[G:.*]] = train.add {{.*}} : (tensor<5x2xbf16>, tensor<5x2xbf16>)
// ONE-NOT: train.reduce_scatter
// ONE: train.squared_norm %[[G]]
// ONE-NOT: train.sum_scalars
// ONE: %[[SHARD:.*]] = train.state {{.*}}name = "shard", parameter = "w"
// ONE: %[[P:.*]] = train.take_piece %[[G]] {dim = 0 : i64, group = "dp_shard", members = 2 : i64, train.phase = "optimizer"}
// ONE: %[[MASTER:.*]] = train.state {{.*}}name = "master", parameter = "w", splits = [#train.split<0, "dp_shard", 2, 5>]{{.*}} : tensor<3x2xf32>
// ONE: train.adamw %[[SHARD]], %[[P]], {{.*}}, %[[MASTER]]
// ONE: train.refresh

// NONE-NOT: train.refresh
train.step @step attributes {train.mesh = array<i64: 1, 2, 1, 2>, train.zero = 2} {
  %w = train.parameter {name = "w", trainable} : tensor<5x2xbf16>
  %v = train.parameter {name = "v", trainable} : tensor<4xbf16>
  %s = train.parameter {name = "s", trainable} : tensor<bf16>
  %u = train.parameter {name = "u", trainable} : tensor<1x4xbf16>
  %a = train.input {name = "a"} : tensor<5x2xf32>
  %b = train.input {name = "b"} : tensor<5x2xbf16>
  %c = train.input {name = "c"} : tensor<5x2xbf16>
  %dv = train.input {name = "dv"} : tensor<4xbf16>
  %ds = train.input {name = "ds"} : tensor<bf16>
  %du = train.input {name = "du"} : tensor<1x4xbf16>
  %ru = train.all_reduce %du {group = "tp", members = 2 : i64, train.phase = "backward"} : (tensor<1x4xbf16>) -> tensor<1x4xbf16>
  %rv = train.all_reduce %dv {group = "dp_shard", members = 2 : i64, train.phase = "backward"} : (tensor<4xbf16>) -> tensor<4xbf16>
  %rs = train.all_reduce %ds {group = "dp_shard", members = 2 : i64, train.phase = "backward"} : (tensor<bf16>) -> tensor<bf16>
  %ra = train.all_reduce %a {group = "dp_shard", members = 2 : i64, train.phase = "backward"} : (tensor<5x2xf32>) -> tensor<5x2xf32>
  %rb = train.all_reduce %b {group = "dp_shard", members = 2 : i64, train.phase = "backward"} : (tensor<5x2xbf16>) -> tensor<5x2xbf16>
  %na = train.cast %ra {to = bf16, train.phase = "backward"} : (tensor<5x2xf32>) -> tensor<5x2xbf16>
  %ab = train.add %na, %rb {train.phase = "backward"} : (tensor<5x2xbf16>, tensor<5x2xbf16>) -> tensor<5x2xbf16>
  %dw = train.add %ab, %c {train.phase = "backward"} : (tensor<5x2xbf16>, tensor<5x2xbf16>) -> tensor<5x2xbf16>
  train.gradient %dw {parameter = "w"} : tensor<5x2xbf16>
  train.gradient %rv {parameter = "v"} : tensor<4xbf16>
  train.output %rv {name = "seen"} : tensor<4xbf16>
  train.gradient %rs {parameter = "s"} : tensor<bf16>
  train.gradient %ru {parameter = "u"} : tensor<1x4xbf16>
}
