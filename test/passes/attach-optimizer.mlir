// RUN: amc-opt %s --attach-optimizer="weight-decay-on=matrices weight-decay=0.1" | FileCheck %s
// RUN: amc-opt %s --attach-optimizer="accumulation=4" | FileCheck %s --check-prefix=ACC
// RUN: amc-opt %s --attach-optimizer="optimizer=sgd momentum=0.9 max-grad-norm=0 in-backward=off" | FileCheck %s --check-prefix=SGD
// RUN: amc-opt %s --attach-optimizer="max-grad-norm=0" | FileCheck %s --check-prefix=FREE
// RUN: amc-opt %s --attach-optimizer="max-grad-norm=0 accumulation=2" | FileCheck %s --check-prefix=WAIT

// Tests that the norm covers all gradients, that decay leaves vectors alone, and that nothing is named a gradient any more.
// CHECK: train.accumulation = 1 : i64
// CHECK: %[[W:.*]] = train.parameter {name = "w"
// CHECK: %[[V:.*]] = train.parameter {name = "v"
// CHECK: %[[DW:.*]] = train.input {name = "dw"
// CHECK: %[[DV:.*]] = train.input {name = "dv"
// CHECK: %[[NW:.*]] = train.squared_norm %[[DW]]
// CHECK: %[[NV:.*]] = train.squared_norm %[[DV]]
// CHECK: %[[NORM:.*]], %[[SCALE:.*]] = train.clip_scale %[[NW]], %[[NV]] {max_norm = 1.000000e+00
// CHECK: train.output %[[NORM]] {name = "grad_norm"
// CHECK: %[[M:.*]] = train.state {kind = "optimizer", name = "exp_avg", parameter = "w"
// CHECK: %[[S:.*]] = train.state {kind = "optimizer", name = "exp_avg_sq", parameter = "w"
// CHECK: train.adamw %[[W]], %[[DW]], %[[M]], %[[S]], %[[SCALE]]
// CHECK-SAME: weight_decay = 1.000000e-01
// CHECK: train.adamw %[[V]], %[[DV]]
// CHECK-SAME: weight_decay = 0.000000e+00
// CHECK-NOT: train.gradient

// Tests that micro-batches add up in a persistent buffer which the optimizer reads after the boundary.
// ACC: %[[G:.*]] = train.state {kind = "gradient", name = "gradient", parameter = "w", train.phase = "backward"}
// ACC: train.accumulate %[[G]], %{{.*}} {train.phase = "backward"}
// ACC: train.micro_batch_end
// ACC: train.squared_norm %[[G]]
// ACC: train.adamw %{{.*}}, %[[G]],

// Tests that SGD keeps a buffer when it has momentum, and that the norm is there without clipping.
// SGD: %{{.*}}, %[[SCALE:.*]] = train.clip_scale {{.*}} {max_norm = 0.000000e+00
// SGD: %[[B:.*]] = train.state {{.*}}name = "momentum_buffer"
// SGD: train.sgd %{{.*}}, %{{.*}}, %[[SCALE]], {{.*}}, %[[B]] {momentum = 9.000000e-01

// Tests that without clipping no update waits for the norm, which is still there; and that accumulation does wait.
// FREE: %[[NORM:.*]], %{{.*}} = train.clip_scale
// FREE: train.output %[[NORM]] {name = "grad_norm"
// FREE: %[[ONE:.*]] = train.constant {{.*}}dense<1.000000e+00>
// FREE: train.adamw %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %[[ONE]],
// WAIT: %{{.*}}, %[[SCALE:.*]] = train.clip_scale
// WAIT: train.adamw %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %[[SCALE]],
train.step @step {
  %w = train.parameter {name = "w", trainable} : tensor<4x2xf32>
  %v = train.parameter {name = "v", trainable} : tensor<4xf32>
  %dw = train.input {name = "dw"} : tensor<4x2xf32>
  %dv = train.input {name = "dv"} : tensor<4xf32>
  train.gradient %dw {parameter = "w"} : tensor<4x2xf32>
  train.gradient %dv {parameter = "v"} : tensor<4xf32>
}
