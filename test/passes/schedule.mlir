// RUN: amc-opt %s --split-input-file --schedule | FileCheck %s

// Tests that backward operations that free memory run first: each wide value is reduced before the next is made.
// CHECK-LABEL: train.step @free_first
// CHECK-SAME: train.schedule = "program / {{.+}} / program"
// CHECK: train.exp
// CHECK: train.reduce_sum
// CHECK: train.sin
// CHECK: train.reduce_sum
train.step @free_first {
  %x = train.parameter {name = "x"} : tensor<1024xf32>
  %a = train.exp %x {train.phase = "backward"} : (tensor<1024xf32>) -> tensor<1024xf32>
  %b = train.sin %x {train.phase = "backward"} : (tensor<1024xf32>) -> tensor<1024xf32>
  %c = train.reduce_sum %a {axes = array<i64: 0>, keepdims = false, train.phase = "backward"} : (tensor<1024xf32>) -> tensor<f32>
  %d = train.reduce_sum %b {axes = array<i64: 0>, keepdims = false, train.phase = "backward"} : (tensor<1024xf32>) -> tensor<f32>
  %e = train.add %c, %d {train.phase = "backward"} : (tensor<f32>, tensor<f32>) -> tensor<f32>
}

// -----

// Tests that sources come first, and forward operations before all others.
// CHECK-LABEL: train.step @sections
// CHECK-NEXT: train.input {name = "x"}
// CHECK-NEXT: train.input {name = "y"}
// CHECK-NEXT: train.exp
// CHECK-NEXT: train.sin
// CHECK-NEXT: train.cos {{.*}}backward
train.step @sections {
  %x = train.input {name = "x"} : tensor<4xf32>
  %a = train.exp %x : (tensor<4xf32>) -> tensor<4xf32>
  %c = train.cos %a {train.phase = "backward"} : (tensor<4xf32>) -> tensor<4xf32>
  %y = train.input {name = "y"} : tensor<4xf32>
  %b = train.sin %a : (tensor<4xf32>) -> tensor<4xf32>
}

// -----

// Tests that an update stays behind the readers of what it overwrites, and the marker where it was, although running
// the update at once would free the gradient.
// CHECK-LABEL: train.step @update
// CHECK-DAG: train.mul
// CHECK-DAG: train.exp
// CHECK: train.accumulate
// CHECK-NEXT: train.micro_batch_end
// CHECK: train.squared_norm
train.step @update {
  %acc = train.state {name = "gradient", parameter = "w", kind = "gradient"} : tensor<64xf32>
  %n = train.input {name = "micro_batch", role = "micro_batch"} : tensor<i64>
  %g = train.mul %acc, %acc {train.phase = "backward"} : (tensor<64xf32>, tensor<64xf32>) -> tensor<64xf32>
  %r = train.exp %acc {train.phase = "backward"} : (tensor<64xf32>) -> tensor<64xf32>
  train.accumulate %acc, %g, %n {train.phase = "backward"} : tensor<64xf32>, tensor<64xf32>, tensor<i64>
  train.micro_batch_end
  %s = train.squared_norm %acc {train.phase = "optimizer"} : (tensor<64xf32>) -> tensor<f64>
}
