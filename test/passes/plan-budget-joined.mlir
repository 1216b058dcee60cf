// RUN: amc-opt %s --derive-backward --attach-optimizer --plan-budget="memory-budget=6500000 alignment=64" -o %t.mlir 2>%t.alone
// RUN: amc-opt %s --derive-backward --attach-optimizer --plan-budget="memory-budget=6500000 alignment=64 fusion" --schedule --assign-offsets=alignment=64 --verify-plan --fuse-elementwise 2>%t.joined | FileCheck %s
// RUN: FileCheck %s --check-prefix=ALONE --input-file=%t.alone
// RUN: FileCheck %s --check-prefix=JOINED --input-file=%t.joined

// x * sigmoid(1.702 x) as exporters write it, three times. Its gradient reads the sigmoid, which is made again in the
// gradient's kernel: for what it computes, and no bytes. By itself it is a pass over memory, and a product is run again
// instead.
// ALONE: recomputation 0.0002615 s (6.33% of a modelled step
// JOINED: recomputation 8.619e-05 s (2.09% of a modelled step
// JOINED-SAME: no plan with this order of gradient operations recomputes for less than 5.296e-05 s

// The second block: the whole gradient of the activation is one kernel, with both factors of its recomputation.
// CHECK: train.ac_policy = "budget"
// CHECK: train.fused{{.*}}train.joined_flops = 262144 : i64, {{.*}}train.phase = "backward"
// CHECK-NEXT: %[[A:.*]] = train.mul
// CHECK-NEXT: %[[S:.*]] = train.sigmoid %[[A]]
// CHECK-NEXT: train.mul
// CHECK-NEXT: train.mul
// CHECK-NEXT: %[[ONE:.*]] = train.full
// CHECK-NEXT: train.sub %[[ONE]], %[[S]]
// CHECK: train.yield
train.step @quick_gelu {
  %x = train.input {name = "x"} : tensor<256x64xf32>
  %c = train.constant {value = dense<1.702> : tensor<f32>} : tensor<f32>
  %w0 = train.parameter {name = "w0", trainable} : tensor<64x512xf32>
  %d0 = train.parameter {name = "d0", trainable} : tensor<512x64xf32>
  %h0 = train.linear %x, %w0 : (tensor<256x64xf32>, tensor<64x512xf32>) -> tensor<256x512xf32>
  %a0 = train.mul %h0, %c : (tensor<256x512xf32>, tensor<f32>) -> tensor<256x512xf32>
  %s0 = train.sigmoid %a0 : (tensor<256x512xf32>) -> tensor<256x512xf32>
  %y0 = train.mul %h0, %s0 : (tensor<256x512xf32>, tensor<256x512xf32>) -> tensor<256x512xf32>
  %z0 = train.linear %y0, %d0 : (tensor<256x512xf32>, tensor<512x64xf32>) -> tensor<256x64xf32>
  %w1 = train.parameter {name = "w1", trainable} : tensor<64x512xf32>
  %d1 = train.parameter {name = "d1", trainable} : tensor<512x64xf32>
  %h1 = train.linear %z0, %w1 : (tensor<256x64xf32>, tensor<64x512xf32>) -> tensor<256x512xf32>
  %a1 = train.mul %h1, %c : (tensor<256x512xf32>, tensor<f32>) -> tensor<256x512xf32>
  %s1 = train.sigmoid %a1 : (tensor<256x512xf32>) -> tensor<256x512xf32>
  %y1 = train.mul %h1, %s1 : (tensor<256x512xf32>, tensor<256x512xf32>) -> tensor<256x512xf32>
  %z1 = train.linear %y1, %d1 : (tensor<256x512xf32>, tensor<512x64xf32>) -> tensor<256x64xf32>
  %w2 = train.parameter {name = "w2", trainable} : tensor<64x512xf32>
  %d2 = train.parameter {name = "d2", trainable} : tensor<512x64xf32>
  %h2 = train.linear %z1, %w2 : (tensor<256x64xf32>, tensor<64x512xf32>) -> tensor<256x512xf32>
  %a2 = train.mul %h2, %c : (tensor<256x512xf32>, tensor<f32>) -> tensor<256x512xf32>
  %s2 = train.sigmoid %a2 : (tensor<256x512xf32>) -> tensor<256x512xf32>
  %y2 = train.mul %h2, %s2 : (tensor<256x512xf32>, tensor<256x512xf32>) -> tensor<256x512xf32>
  %z2 = train.linear %y2, %d2 : (tensor<256x512xf32>, tensor<512x64xf32>) -> tensor<256x64xf32>
  %l = train.reduce_mean %z2 {axes = array<i64: 0, 1>, keepdims = false} : (tensor<256x64xf32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}
