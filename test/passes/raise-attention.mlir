// RUN: amc-opt %s --split-input-file --raise | FileCheck %s

// Tests torch's decomposition with grouped heads: scale split over q and k, keys transposed on a flattened batch, both
// repeated by a broadcast, the guard against NaN. Scale 0.5 * 0.5 = 0.25; two key heads for four query heads.
// CHECK-LABEL: @grouped
// CHECK-DAG: %[[Q:.*]] = train.input {name = "q"
// CHECK-DAG: %[[K:.*]] = train.input {name = "k"
// CHECK-DAG: %[[V:.*]] = train.input {name = "v"
// CHECK: %[[Y:.*]], %{{.*}} = train.attention %[[Q]], %[[K]], %[[V]]
// CHECK-SAME: scale = 2.500000e-01
// CHECK-NEXT: train.output %[[Y]]
train.step @grouped {
  %q = train.input {name = "q"} : tensor<2x4x3x8xf32>
  %k = train.input {name = "k"} : tensor<2x2x3x8xf32>
  %v = train.input {name = "v"} : tensor<2x2x3x8xf32>
  %half = train.full {value = 0.5 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %zero = train.full {value = 0.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %k5 = train.reshape %k {shape = array<i64: 2, 2, 1, 3, 8>} : (tensor<2x2x3x8xf32>) -> tensor<2x2x1x3x8xf32>
  %kr = train.broadcast %k5 {shape = array<i64: 2, 2, 2, 3, 8>} : (tensor<2x2x1x3x8xf32>) -> tensor<2x2x2x3x8xf32>
  %v5 = train.reshape %v {shape = array<i64: 2, 2, 1, 3, 8>} : (tensor<2x2x3x8xf32>) -> tensor<2x2x1x3x8xf32>
  %vr = train.broadcast %v5 {shape = array<i64: 2, 2, 2, 3, 8>} : (tensor<2x2x1x3x8xf32>) -> tensor<2x2x2x3x8xf32>
  %v4 = train.reshape %vr {shape = array<i64: 2, 4, 3, 8>} : (tensor<2x2x2x3x8xf32>) -> tensor<2x4x3x8xf32>
  %k3 = train.reshape %kr {shape = array<i64: 8, 3, 8>} : (tensor<2x2x2x3x8xf32>) -> tensor<8x3x8xf32>
  %kt = train.transpose %k3 {permutation = array<i64: 0, 2, 1>} : (tensor<8x3x8xf32>) -> tensor<8x8x3xf32>
  %k4 = train.reshape %kt {shape = array<i64: 2, 4, 8, 3>} : (tensor<8x8x3xf32>) -> tensor<2x4x8x3xf32>
  %qs = train.mul %q, %half : (tensor<2x4x3x8xf32>, tensor<f32>) -> tensor<2x4x3x8xf32>
  %ks = train.mul %k4, %half : (tensor<2x4x8x3xf32>, tensor<f32>) -> tensor<2x4x8x3xf32>
  %s = train.matmul %qs, %ks : (tensor<2x4x3x8xf32>, tensor<2x4x8x3xf32>) -> tensor<2x4x3x3xf32>
  %p = train.softmax %s {axis = 3 : i64} : (tensor<2x4x3x3xf32>) -> tensor<2x4x3x3xf32>
  %nan = train.is_nan %p : (tensor<2x4x3x3xf32>) -> tensor<2x4x3x3xi1>
  %g = train.select %nan, %zero, %p : (tensor<2x4x3x3xi1>, tensor<f32>, tensor<2x4x3x3xf32>) -> tensor<2x4x3x3xf32>
  %y = train.matmul %g, %v4 : (tensor<2x4x3x3xf32>, tensor<2x4x3x8xf32>) -> tensor<2x4x3x8xf32>
  train.output %y {name = "y"} : tensor<2x4x3x8xf32>
}

// -----

// Tests the products on [B * H, S, D] that older models write, softcap, a scale after the product, and heads that are
// still behind the sequence: only they are transposed. Scale 3 / 6 * 6 = 3: softcap 6 contains its own division.
// CHECK-LABEL: @flat_batch
// CHECK: %[[Y:.*]], %{{.*}} = train.attention
// CHECK-SAME: scale = 3.000000e+00 : f64, softcap = 6.000000e+00
// CHECK-NEXT: %[[F:.*]] = train.reshape %[[Y]]
// CHECK-NEXT: train.output %[[F]]
train.step @flat_batch {
  %q = train.input {name = "q"} : tensor<2x5x4x8xf32>
  %k = train.input {name = "k"} : tensor<2x5x4x8xf32>
  %v = train.input {name = "v"} : tensor<2x4x5x8xf32>
  %three = train.full {value = 3.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %six = train.full {value = 6.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %qt = train.transpose %q {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x5x4x8xf32>) -> tensor<2x4x5x8xf32>
  %kt = train.transpose %k {permutation = array<i64: 0, 2, 3, 1>} : (tensor<2x5x4x8xf32>) -> tensor<2x4x8x5xf32>
  %q3 = train.reshape %qt {shape = array<i64: 8, 5, 8>} : (tensor<2x4x5x8xf32>) -> tensor<8x5x8xf32>
  %k3 = train.reshape %kt {shape = array<i64: 8, 8, 5>} : (tensor<2x4x8x5xf32>) -> tensor<8x8x5xf32>
  %v3 = train.reshape %v {shape = array<i64: 8, 5, 8>} : (tensor<2x4x5x8xf32>) -> tensor<8x5x8xf32>
  %s = train.matmul %q3, %k3 : (tensor<8x5x8xf32>, tensor<8x8x5xf32>) -> tensor<8x5x5xf32>
  %scaled = train.mul %three, %s : (tensor<f32>, tensor<8x5x5xf32>) -> tensor<8x5x5xf32>
  %inner = train.div %scaled, %six : (tensor<8x5x5xf32>, tensor<f32>) -> tensor<8x5x5xf32>
  %t = train.tanh %inner : (tensor<8x5x5xf32>) -> tensor<8x5x5xf32>
  %cap = train.mul %t, %six : (tensor<8x5x5xf32>, tensor<f32>) -> tensor<8x5x5xf32>
  %p = train.softmax %cap {axis = 2 : i64} : (tensor<8x5x5xf32>) -> tensor<8x5x5xf32>
  %y = train.matmul %p, %v3 : (tensor<8x5x5xf32>, tensor<8x5x8xf32>) -> tensor<8x5x8xf32>
  train.output %y {name = "y"} : tensor<8x5x8xf32>
}

// -----

// Tests that heads repeated in front of an attention that was imported as one are absorbed, and its causal mask read.
// CHECK-LABEL: @imported
// CHECK-DAG: %[[K:.*]] = train.input {name = "k"
// CHECK-DAG: %[[V:.*]] = train.input {name = "v"
// CHECK: train.attention %{{.*}}, %[[K]], %[[V]]
// CHECK-SAME: right = 0 : i64
// CHECK-SAME: (tensor<1x4x3x8xf32>, tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>) ->
train.step @imported {
  %q = train.input {name = "q"} : tensor<1x4x3x8xf32>
  %k = train.input {name = "k"} : tensor<1x2x3x8xf32>
  %v = train.input {name = "v"} : tensor<1x2x3x8xf32>
  %mask = train.constant {value = dense<[[true, false, false], [true, true, false], [true, true, true]]> : tensor<3x3xi1>} : tensor<3x3xi1>
  %zero = train.full {value = 0.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %low = train.full {value = 0xFFF0000000000000 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %b2 = train.select %mask, %zero, %low : (tensor<3x3xi1>, tensor<f32>, tensor<f32>) -> tensor<3x3xf32>
  %bias = train.reshape %b2 {shape = array<i64: 1, 1, 3, 3>} : (tensor<3x3xf32>) -> tensor<1x1x3x3xf32>
  %k5 = train.reshape %k {shape = array<i64: 1, 2, 1, 3, 8>} : (tensor<1x2x3x8xf32>) -> tensor<1x2x1x3x8xf32>
  %kr = train.broadcast %k5 {shape = array<i64: 1, 2, 2, 3, 8>} : (tensor<1x2x1x3x8xf32>) -> tensor<1x2x2x3x8xf32>
  %k4 = train.reshape %kr {shape = array<i64: 1, 4, 3, 8>} : (tensor<1x2x2x3x8xf32>) -> tensor<1x4x3x8xf32>
  %v5 = train.reshape %v {shape = array<i64: 1, 2, 1, 3, 8>} : (tensor<1x2x3x8xf32>) -> tensor<1x2x1x3x8xf32>
  %vr = train.broadcast %v5 {shape = array<i64: 1, 2, 2, 3, 8>} : (tensor<1x2x1x3x8xf32>) -> tensor<1x2x2x3x8xf32>
  %v4 = train.reshape %vr {shape = array<i64: 1, 4, 3, 8>} : (tensor<1x2x2x3x8xf32>) -> tensor<1x4x3x8xf32>
  %y, %lse = train.attention %q, %k4, %v4, %bias {scale = 0.25 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0, 0>} : (tensor<1x4x3x8xf32>, tensor<1x4x3x8xf32>, tensor<1x4x3x8xf32>, tensor<1x1x3x3xf32>) -> (tensor<1x4x3x8xf32>, tensor<1x4x3xf32>)
  train.output %y {name = "y"} : tensor<1x4x3x8xf32>
}

// -----

// Tests that softmax over the queries, or without a product behind it, is not attention.
// CHECK-LABEL: @not_attention
// CHECK-NOT: train.attention
train.step @not_attention {
  %q = train.input {name = "q"} : tensor<1x2x3x3xf32>
  %s = train.matmul %q, %q : (tensor<1x2x3x3xf32>, tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %p = train.softmax %s {axis = 2 : i64} : (tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %y = train.matmul %p, %q : (tensor<1x2x3x3xf32>, tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %p2 = train.softmax %q {axis = 3 : i64} : (tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %z = train.matmul %p2, %q : (tensor<1x2x3x3xf32>, tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  train.output %y {name = "y"} : tensor<1x2x3x3xf32>
  train.output %z {name = "z"} : tensor<1x2x3x3xf32>
}

// -----

// Tests that a position bias from a trained table stops raising: attention has no gradient for it.
// CHECK-LABEL: @trained_bias
// CHECK-NOT: train.attention
train.step @trained_bias {
  %q = train.input {name = "q"} : tensor<1x2x3x8xf32>
  %table = train.parameter {name = "table"} : tensor<4x2xf32>
  %buckets = train.constant {value = dense<[[0, 1, 2], [3, 0, 1], [2, 3, 0]]> : tensor<3x3xi64>} : tensor<3x3xi64>
  %rows = train.gather %table, %buckets {axis = 0 : i64} : (tensor<4x2xf32>, tensor<3x3xi64>) -> tensor<3x3x2xf32>
  %heads = train.transpose %rows {permutation = array<i64: 2, 0, 1>} : (tensor<3x3x2xf32>) -> tensor<2x3x3xf32>
  %s = train.matmul %q, %q {transpose_b} : (tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x3xf32>
  %b = train.add %s, %heads : (tensor<1x2x3x3xf32>, tensor<2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %p = train.softmax %b {axis = 3 : i64} : (tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %y = train.matmul %p, %q : (tensor<1x2x3x3xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x8xf32>
  train.output %y {name = "y"} : tensor<1x2x3x8xf32>
}

// -----

// Tests dropout between softmax and the product, as exporters write it in training mode, on flattened heads and with the
// guard behind it: attention takes its counters, probability and stream, and the mask's elements are in their order.
// CHECK-LABEL: @dropout
// CHECK-DAG: %[[SEED:.*]] = train.input {name = "seed"
// CHECK-DAG: %[[STEP:.*]] = train.input {name = "step_number"
// CHECK-DAG: %[[MICRO:.*]] = train.input {name = "micro_batch"
// CHECK: train.attention %{{.*}}, %[[SEED]], %[[STEP]], %[[MICRO]] {dropout = 2.500000e-01 : f64
// CHECK-SAME: stream = 5 : i64
// CHECK-NOT: train.dropout
train.step @dropout {
  %q = train.input {name = "q"} : tensor<2x3x5x8xf32>
  %seed = train.input {name = "seed", role = "seed"} : tensor<i64>
  %step = train.input {name = "step_number", role = "step_number"} : tensor<i64>
  %micro = train.input {name = "micro_batch", role = "micro_batch"} : tensor<i64>
  %zero = train.full {value = 0.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %q3 = train.reshape %q {shape = array<i64: 6, 5, 8>} : (tensor<2x3x5x8xf32>) -> tensor<6x5x8xf32>
  %s = train.matmul %q3, %q3 {transpose_b} : (tensor<6x5x8xf32>, tensor<6x5x8xf32>) -> tensor<6x5x5xf32>
  %s4 = train.reshape %s {shape = array<i64: 2, 3, 5, 5>} : (tensor<6x5x5xf32>) -> tensor<2x3x5x5xf32>
  %p = train.softmax %s4 {axis = 3 : i64} : (tensor<2x3x5x5xf32>) -> tensor<2x3x5x5xf32>
  %d = train.dropout %p, %seed, %step, %micro {probability = 0.25 : f64, stream = 5 : i64} : (tensor<2x3x5x5xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2x3x5x5xf32>
  %nan = train.is_nan %d : (tensor<2x3x5x5xf32>) -> tensor<2x3x5x5xi1>
  %g = train.select %nan, %zero, %d : (tensor<2x3x5x5xi1>, tensor<f32>, tensor<2x3x5x5xf32>) -> tensor<2x3x5x5xf32>
  %p3 = train.reshape %g {shape = array<i64: 6, 5, 5>} : (tensor<2x3x5x5xf32>) -> tensor<6x5x5xf32>
  %y = train.matmul %p3, %q3 : (tensor<6x5x5xf32>, tensor<6x5x8xf32>) -> tensor<6x5x8xf32>
  train.output %y {name = "y"} : tensor<6x5x8xf32>
}

// -----

// Tests that a probability of 0 leaves attention as it is without dropout.
// CHECK-LABEL: @nothing_dropped
// CHECK: train.attention
// CHECK-NOT: dropout
train.step @nothing_dropped {
  %q = train.input {name = "q"} : tensor<1x2x3x8xf32>
  %n = train.input {name = "n"} : tensor<i64>
  %s = train.matmul %q, %q {transpose_b} : (tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x3xf32>
  %p = train.softmax %s {axis = 3 : i64} : (tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %d = train.dropout %p, %n, %n, %n {probability = 0.0 : f64, stream = 0 : i64} : (tensor<1x2x3x3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<1x2x3x3xf32>
  %y = train.matmul %d, %q : (tensor<1x2x3x3xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x8xf32>
  train.output %y {name = "y"} : tensor<1x2x3x8xf32>
}

// -----

// Tests that dropout of scores, two dropouts, and a mask in another order of elements are none that attention has.
// CHECK-LABEL: @other_dropout
// CHECK-NOT: train.attention
train.step @other_dropout {
  %q = train.input {name = "q"} : tensor<1x2x3x3xf32>
  %n = train.input {name = "n"} : tensor<i64>
  %s = train.matmul %q, %q {transpose_b} : (tensor<1x2x3x3xf32>, tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %ds = train.dropout %s, %n, %n, %n {probability = 0.5 : f64, stream = 0 : i64} : (tensor<1x2x3x3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<1x2x3x3xf32>
  %p = train.softmax %ds {axis = 3 : i64} : (tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %y = train.matmul %p, %q : (tensor<1x2x3x3xf32>, tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  train.output %y {name = "y"} : tensor<1x2x3x3xf32>
  %ps = train.softmax %s {axis = 3 : i64} : (tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %once = train.dropout %ps, %n, %n, %n {probability = 0.5 : f64, stream = 1 : i64} : (tensor<1x2x3x3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<1x2x3x3xf32>
  %twice = train.dropout %once, %n, %n, %n {probability = 0.5 : f64, stream = 2 : i64} : (tensor<1x2x3x3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<1x2x3x3xf32>
  %z = train.matmul %twice, %q : (tensor<1x2x3x3xf32>, tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  train.output %z {name = "z"} : tensor<1x2x3x3xf32>
  %turned = train.transpose %ps {permutation = array<i64: 0, 1, 3, 2>} : (tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %dt = train.dropout %turned, %n, %n, %n {probability = 0.5 : f64, stream = 3 : i64} : (tensor<1x2x3x3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<1x2x3x3xf32>
  %w = train.matmul %dt, %q {transpose_a} : (tensor<1x2x3x3xf32>, tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  train.output %w {name = "w"} : tensor<1x2x3x3xf32>
}
