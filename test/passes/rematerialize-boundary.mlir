// RUN: amc-opt %s --derive-backward --rematerialize=policy=full | FileCheck %s

// Blocks that end in a norm: its first result is the next block's input and saved, its second is recomputed. The copy
// makes the first again, but what reads it reads the saved one. Values have 128 bytes, statistics 16:
// inputs of both blocks are saved and nothing else.
// CHECK: train.saved_bytes = 256
// CHECK: %[[X0:.*]] = train.linear {{.*}} {train.saved}
// CHECK: %[[Y0:[a-z0-9_]+]], %{{.*}} = train.rms_norm {{.*}}train.block = 0 : i64, train.saved}
// CHECK: train.output
// CHECK: train.linear %[[Y0]], {{.*}}train.block = 1 : i64, train.phase = "recompute"}
// CHECK: train.linear_weight_grad %[[Y0]],
// CHECK: train.rms_norm {{.*}}train.block = 0 : i64, train.phase = "recompute"}
train.step @post_norm {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %e = train.parameter {name = "e", trainable} : tensor<8x8xf32>
  %w0 = train.parameter {name = "w0", trainable} : tensor<8x8xf32>
  %w1 = train.parameter {name = "w1", trainable} : tensor<8x8xf32>
  %n0 = train.parameter {name = "n0", trainable} : tensor<8xf32>
  %n1 = train.parameter {name = "n1", trainable} : tensor<8xf32>
  %x0 = train.linear %x, %e : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %a0 = train.linear %x0, %w0 : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %s0 = train.silu %a0 : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %h0 = train.add %x0, %s0 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %y0, %r0 = train.rms_norm %h0, %n0 {epsilon = 1.0e-5 : f64} : (tensor<4x8xf32>, tensor<8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>)
  %a1 = train.linear %y0, %w1 : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %s1 = train.silu %a1 : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %h1 = train.add %y0, %s1 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %y1, %r1 = train.rms_norm %h1, %n1 {epsilon = 1.0e-5 : f64} : (tensor<4x8xf32>, tensor<8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>)
  %l = train.reduce_sum %y1 {axes = array<i64: 0, 1>, keepdims = false} : (tensor<4x8xf32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}
