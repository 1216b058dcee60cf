// RUN: amc-opt %s --split-input-file --raise | FileCheck %s

// Tests TorchScript's causal mask with padding: k <= q of two ranges, and attention_mask flattened and gathered at
// k + 4 * b. Minus infinity masks, so rows without keys are zero.
// CHECK-LABEL: @flat_padding
// CHECK: %[[M:.*]] = train.input {name = "m"
// CHECK: %[[P:.*]] = train.cast %[[M]] {to = i1} : (tensor<2x4xi64>) -> tensor<2x4xi1>
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}}, %[[P]]
// CHECK-SAME: {operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0>, right = 0 : i64, scale
// CHECK-NOT: train.softmax
train.step @flat_padding {
  %q = train.input {name = "q"} : tensor<2x2x4x8xf32>
  %m = train.input {name = "m"} : tensor<2x4xi64>
  %mb = train.cast %m {to = i1} : (tensor<2x4xi64>) -> tensor<2x4xi1>
  %flat = train.reshape %mb {shape = array<i64: 8>} : (tensor<2x4xi1>) -> tensor<8xi1>
  %b = train.iota {start = 0.0 : f64, step = 1.0 : f64, axis = 0 : i64, shape = array<i64: 2, 1, 1, 1>, element = i64} : () -> tensor<2x1x1x1xi64>
  %r = train.iota {start = 0.0 : f64, step = 1.0 : f64, axis = 0 : i64, shape = array<i64: 4, 1>, element = i64} : () -> tensor<4x1xi64>
  %c = train.iota {start = 0.0 : f64, step = 1.0 : f64, axis = 3 : i64, shape = array<i64: 1, 1, 1, 4>, element = i64} : () -> tensor<1x1x1x4xi64>
  %four = train.full {value = 4.0 : f64, shape = array<i64>, element = i64} : () -> tensor<i64>
  %bo = train.mul %b, %four : (tensor<2x1x1x1xi64>, tensor<i64>) -> tensor<2x1x1x1xi64>
  %at = train.add %c, %bo : (tensor<1x1x1x4xi64>, tensor<2x1x1x1xi64>) -> tensor<2x1x1x4xi64>
  %pad = train.gather %flat, %at {axis = 0 : i64} : (tensor<8xi1>, tensor<2x1x1x4xi64>) -> tensor<2x1x1x4xi1>
  %le = train.less_equal %c, %r : (tensor<1x1x1x4xi64>, tensor<4x1xi64>) -> tensor<1x1x4x4xi1>
  %keep = train.and %le, %pad : (tensor<1x1x4x4xi1>, tensor<2x1x1x4xi1>) -> tensor<2x1x4x4xi1>
  %zero = train.full {value = 0.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %inf = train.full {value = 0xFFF0000000000000 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %mask = train.select %keep, %zero, %inf : (tensor<2x1x4x4xi1>, tensor<f32>, tensor<f32>) -> tensor<2x1x4x4xf32>
  %s = train.matmul %q, %q {transpose_b} : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %ms = train.add %s, %mask : (tensor<2x2x4x4xf32>, tensor<2x1x4x4xf32>) -> tensor<2x2x4x4xf32>
  %p = train.softmax %ms {axis = 3 : i64} : (tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %y = train.matmul %p, %q : (tensor<2x2x4x4xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x8xf32>
  train.output %y {name = "y"} : tensor<2x2x4x8xf32>
}

// -----

// Tests the mask for packed sequences that dynamo writes when there are none: position ids are a range, so that no
// position starts a new sequence (differences, each with the one before it, are all 1) and only k <= q is left.
// CHECK-LABEL: @packed
// CHECK-NOT: train.cumsum
// CHECK: train.attention
// CHECK-SAME: {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>, right = 0 : i64, scale
train.step @packed {
  %q = train.input {name = "q"} : tensor<2x2x4x8xf32>
  %one = train.full {value = 1.0 : f64, shape = array<i64>, element = i64} : () -> tensor<i64>
  %ids = train.iota {start = 0.0 : f64, step = 1.0 : f64, axis = 1 : i64, shape = array<i64: 1, 4>, element = i64} : () -> tensor<1x4xi64>
  %first = train.slice %ids {starts = array<i64: 0, 0>, sizes = array<i64: 1, 1>, steps = array<i64: 1, 1>} : (tensor<1x4xi64>) -> tensor<1x1xi64>
  %prior = train.sub %first, %one : (tensor<1x1xi64>, tensor<i64>) -> tensor<1x1xi64>
  %cat = train.concat %prior, %ids {axis = 1 : i64} : (tensor<1x1xi64>, tensor<1x4xi64>) -> tensor<1x5xi64>
  %lo = train.slice %cat {starts = array<i64: 0, 0>, sizes = array<i64: 1, 4>, steps = array<i64: 1, 1>} : (tensor<1x5xi64>) -> tensor<1x4xi64>
  %hi = train.slice %cat {starts = array<i64: 0, 1>, sizes = array<i64: 1, 4>, steps = array<i64: 1, 1>} : (tensor<1x5xi64>) -> tensor<1x4xi64>
  %d = train.sub %hi, %lo : (tensor<1x4xi64>, tensor<1x4xi64>) -> tensor<1x4xi64>
  %eq = train.equal %d, %one : (tensor<1x4xi64>, tensor<i64>) -> tensor<1x4xi1>
  %ne = train.not %eq : (tensor<1x4xi1>) -> tensor<1x4xi1>
  %nei = train.cast %ne {to = i64} : (tensor<1x4xi1>) -> tensor<1x4xi64>
  %seq = train.cumsum %nei {axis = 1 : i64} : (tensor<1x4xi64>) -> tensor<1x4xi64>
  %row = train.reshape %seq {shape = array<i64: 1, 4, 1>} : (tensor<1x4xi64>) -> tensor<1x4x1xi64>
  %col = train.reshape %seq {shape = array<i64: 1, 1, 4>} : (tensor<1x4xi64>) -> tensor<1x1x4xi64>
  %same = train.equal %row, %col : (tensor<1x4x1xi64>, tensor<1x1x4xi64>) -> tensor<1x4x4xi1>
  %ri = train.reshape %ids {shape = array<i64: 1, 4, 1>} : (tensor<1x4xi64>) -> tensor<1x4x1xi64>
  %ci = train.reshape %ids {shape = array<i64: 1, 1, 4>} : (tensor<1x4xi64>) -> tensor<1x1x4xi64>
  %le = train.less_equal %ci, %ri : (tensor<1x1x4xi64>, tensor<1x4x1xi64>) -> tensor<1x4x4xi1>
  %keep = train.and %same, %le : (tensor<1x4x4xi1>, tensor<1x4x4xi1>) -> tensor<1x4x4xi1>
  %zero = train.full {value = 0.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %min = train.full {value = -3.4028234663852886e+38 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %mask = train.select %keep, %zero, %min : (tensor<1x4x4xi1>, tensor<f32>, tensor<f32>) -> tensor<1x4x4xf32>
  %s = train.matmul %q, %q {transpose_b} : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %ms = train.add %s, %mask : (tensor<2x2x4x4xf32>, tensor<1x4x4xf32>) -> tensor<2x2x4x4xf32>
  %p = train.softmax %ms {axis = 3 : i64} : (tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %y = train.matmul %p, %q : (tensor<2x2x4x4xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x8xf32>
  train.output %y {name = "y"} : tensor<2x2x4x8xf32>
}

// -----

// Tests a sliding window of two keys, q - 2 < k <= q, that fills scores: left is 1.
// CHECK-LABEL: @window
// CHECK: train.attention
// CHECK-SAME: left = 1 : i64
// CHECK-SAME: right = 0 : i64
train.step @window {
  %q = train.input {name = "q"} : tensor<2x2x4x8xf32>
  %two = train.full {value = 2.0 : f64, shape = array<i64>, element = i64} : () -> tensor<i64>
  %r = train.iota {start = 0.0 : f64, step = 1.0 : f64, axis = 0 : i64, shape = array<i64: 4, 1>, element = i64} : () -> tensor<4x1xi64>
  %c = train.iota {start = 0.0 : f64, step = 1.0 : f64, axis = 1 : i64, shape = array<i64: 1, 4>, element = i64} : () -> tensor<1x4xi64>
  %far = train.less_equal %r, %c : (tensor<4x1xi64>, tensor<1x4xi64>) -> tensor<4x4xi1>
  %no = train.not %far : (tensor<4x4xi1>) -> tensor<4x4xi1>
  %eq = train.equal %r, %c : (tensor<4x1xi64>, tensor<1x4xi64>) -> tensor<4x4xi1>
  %causal = train.or %no, %eq : (tensor<4x4xi1>, tensor<4x4xi1>) -> tensor<4x4xi1>
  %low = train.sub %r, %two : (tensor<4x1xi64>, tensor<i64>) -> tensor<4x1xi64>
  %near = train.less %low, %c : (tensor<4x1xi64>, tensor<1x4xi64>) -> tensor<4x4xi1>
  %keep = train.and %causal, %near : (tensor<4x4xi1>, tensor<4x4xi1>) -> tensor<4x4xi1>
  %inf = train.full {value = 0xFFF0000000000000 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %s = train.matmul %q, %q {transpose_b} : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %ms = train.select %keep, %s, %inf : (tensor<4x4xi1>, tensor<2x2x4x4xf32>, tensor<f32>) -> tensor<2x2x4x4xf32>
  %p = train.softmax %ms {axis = 3 : i64} : (tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %y = train.matmul %p, %q : (tensor<2x2x4x4xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x8xf32>
  train.output %y {name = "y"} : tensor<2x2x4x8xf32>
}

// -----

// Tests older models' masks: (1 - m) * min for padding, and a triangle of min above the diagonal, added one after
// the other. They are finite, so a row without keys is the average.
// CHECK-LABEL: @arithmetic
// CHECK: %[[M:.*]] = train.input {name = "m"
// CHECK: %[[P:.*]] = train.cast %[[M]] {to = i1} : (tensor<2x4xi64>) -> tensor<2x4xi1>
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}}, %[[P]]
// CHECK-SAME: masked_rows = "average"
// CHECK-SAME: right = 0 : i64
train.step @arithmetic {
  %q = train.input {name = "q"} : tensor<2x2x4x8xf32>
  %m = train.input {name = "m"} : tensor<2x4xi64>
  %m4 = train.reshape %m {shape = array<i64: 2, 1, 1, 4>} : (tensor<2x4xi64>) -> tensor<2x1x1x4xi64>
  %mf = train.cast %m4 {to = f32} : (tensor<2x1x1x4xi64>) -> tensor<2x1x1x4xf32>
  %one = train.full {value = 1.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %min = train.full {value = -3.4028234663852886e+38 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %inv = train.sub %one, %mf : (tensor<f32>, tensor<2x1x1x4xf32>) -> tensor<2x1x1x4xf32>
  %pad = train.mul %inv, %min : (tensor<2x1x1x4xf32>, tensor<f32>) -> tensor<2x1x1x4xf32>
  %mins = train.full {value = -3.4028234663852886e+38 : f64, shape = array<i64: 4, 4>, element = f32} : () -> tensor<4x4xf32>
  %tri = train.triangle %mins {upper = true, k = 1 : i64} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %s = train.matmul %q, %q {transpose_b} : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %s1 = train.add %tri, %s : (tensor<4x4xf32>, tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %ms = train.add %s1, %pad : (tensor<2x2x4x4xf32>, tensor<2x1x1x4xf32>) -> tensor<2x2x4x4xf32>
  %p = train.softmax %ms {axis = 3 : i64} : (tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %y = train.matmul %p, %q : (tensor<2x2x4x4xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x8xf32>
  train.output %y {name = "y"} : tensor<2x2x4x8xf32>
}

// -----

// Tests that a mask which is no conjunction (a prefix that all may see, or the past) stays a bias beside the padding.
// CHECK-LABEL: @prefix
// CHECK: %[[BIAS:.*]] = train.reshape %{{.*}} -> tensor<1x1x4x4xf32>
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %[[BIAS]]
// CHECK-SAME: operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 0, 0>
// CHECK-NOT: right
train.step @prefix {
  %q = train.input {name = "q"} : tensor<2x2x4x8xf32>
  %m = train.input {name = "m"} : tensor<2x4xi1>
  %keep = train.constant {value = dense<[[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]> : tensor<4x4xi1>} : tensor<4x4xi1>
  %m4 = train.reshape %m {shape = array<i64: 2, 1, 1, 4>} : (tensor<2x4xi1>) -> tensor<2x1x1x4xi1>
  %zero = train.full {value = 0.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %inf = train.full {value = 0xFFF0000000000000 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %bias = train.select %keep, %zero, %inf : (tensor<4x4xi1>, tensor<f32>, tensor<f32>) -> tensor<4x4xf32>
  %pad = train.select %m4, %zero, %inf : (tensor<2x1x1x4xi1>, tensor<f32>, tensor<f32>) -> tensor<2x1x1x4xf32>
  %sum = train.add %bias, %pad : (tensor<4x4xf32>, tensor<2x1x1x4xf32>) -> tensor<2x1x4x4xf32>
  %s = train.matmul %q, %q {transpose_b} : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %ms = train.add %s, %sum : (tensor<2x2x4x4xf32>, tensor<2x1x4x4xf32>) -> tensor<2x2x4x4xf32>
  %p = train.softmax %ms {axis = 3 : i64} : (tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %y = train.matmul %p, %q : (tensor<2x2x4x4xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x8xf32>
  train.output %y {name = "y"} : tensor<2x2x4x8xf32>
}

// -----

// Tests that elements of a mask read by the query's position are no padding of keys: they stay a bias. Rows that a
// finite number masks whole are marked by minus infinity and averaged, because log-sum-exp could not represent them.
// CHECK-LABEL: @queries
// CHECK: %[[LOW:.*]] = train.less_equal
// CHECK: train.select %[[LOW]], %{{.*}}, %{{.*}} : (tensor<2x1x4x1xi1>
// CHECK: train.attention
// CHECK-SAME: masked_rows = "average", operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0, 0>
train.step @queries {
  %q = train.input {name = "q"} : tensor<2x2x4x8xf32>
  %m = train.input {name = "m"} : tensor<2x4xi1>
  %m4 = train.reshape %m {shape = array<i64: 2, 1, 4, 1>} : (tensor<2x4xi1>) -> tensor<2x1x4x1xi1>
  %zero = train.full {value = 0.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %min = train.full {value = -3.4028234663852886e+38 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %pad = train.select %m4, %zero, %min : (tensor<2x1x4x1xi1>, tensor<f32>, tensor<f32>) -> tensor<2x1x4x1xf32>
  %s = train.matmul %q, %q {transpose_b} : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %ms = train.add %s, %pad : (tensor<2x2x4x4xf32>, tensor<2x1x4x1xf32>) -> tensor<2x2x4x4xf32>
  %p = train.softmax %ms {axis = 3 : i64} : (tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %y = train.matmul %p, %q : (tensor<2x2x4x4xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x8xf32>
  train.output %y {name = "y"} : tensor<2x2x4x8xf32>
}

// -----

// Tests a mask that is subtracted, (1 - m) * 1e9, and scores that a finite minimum bounds from below.
// CHECK-LABEL: @subtracted
// CHECK: %[[P:.*]] = train.cast %{{.*}} {to = i1} : (tensor<2x4xi64>) -> tensor<2x4xi1>
// CHECK: train.attention %{{.*}}, %{{.*}}, %{{.*}}, %[[P]] {masked_rows = "average"
// CHECK-NOT: train.softmax
train.step @subtracted {
  %q = train.input {name = "q"} : tensor<2x2x4x8xf32>
  %m = train.input {name = "m"} : tensor<2x4xi64>
  %m4 = train.reshape %m {shape = array<i64: 2, 1, 1, 4>} : (tensor<2x4xi64>) -> tensor<2x1x1x4xi64>
  %mf = train.cast %m4 {to = f32} : (tensor<2x1x1x4xi64>) -> tensor<2x1x1x4xf32>
  %one = train.full {value = 1.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %big = train.full {value = 1.0e9 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %min = train.full {value = -3.4028234663852886e+38 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %inv = train.sub %one, %mf : (tensor<f32>, tensor<2x1x1x4xf32>) -> tensor<2x1x1x4xf32>
  %pad = train.mul %inv, %big : (tensor<2x1x1x4xf32>, tensor<f32>) -> tensor<2x1x1x4xf32>
  %s = train.matmul %q, %q {transpose_b} : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %masked = train.sub %s, %pad : (tensor<2x2x4x4xf32>, tensor<2x1x1x4xf32>) -> tensor<2x2x4x4xf32>
  %bounded = train.max %min, %masked : (tensor<f32>, tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %p = train.softmax %bounded {axis = 3 : i64} : (tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %y = train.matmul %p, %q : (tensor<2x2x4x4xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x8xf32>
  train.output %y {name = "y"} : tensor<2x2x4x8xf32>
}
