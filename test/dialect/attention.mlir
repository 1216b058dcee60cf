// RUN: amc-opt %s --split-input-file | amc-opt --split-input-file | FileCheck %s
// RUN: amc-opt %s --split-input-file --derive-backward --verify-diagnostics | FileCheck %s --check-prefix=VJP
//
// Rotary embedding and attention print what they parse; backward keeps every attribute that masks.

// CHECK-LABEL: @rotary
// VJP-LABEL: @rotary
train.step @rotary {
  %x = train.parameter {name = "x", trainable} : tensor<2x4x3x6xf32>
  %cos = train.input {name = "cos"} : tensor<2x1x3x6xf32>
  %sin = train.input {name = "sin"} : tensor<3x6xf32>
  // CHECK: train.rotary {{.*}} {interleaved} : (tensor<2x4x3x6xf32>, tensor<2x1x3x6xf32>, tensor<3x6xf32>) -> tensor<2x4x3x6xf32>
  %y = train.rotary %x, %cos, %sin {interleaved} : (tensor<2x4x3x6xf32>, tensor<2x1x3x6xf32>, tensor<3x6xf32>) -> tensor<2x4x3x6xf32>
  // VJP: train.rotary_backward {{.*}}interleaved
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<2x4x3x6xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Four query heads share two key heads; values have a size of their own; a window of two, causal, padded.
// CHECK-LABEL: @attention
// VJP-LABEL: @attention
train.step @attention {
  %q = train.parameter {name = "q", trainable} : tensor<2x4x5x6xf32>
  %k = train.parameter {name = "k", trainable} : tensor<2x2x5x6xf32>
  %v = train.parameter {name = "v", trainable} : tensor<2x2x5x7xf32>
  %padding = train.input {name = "padding"} : tensor<2x5xi1>
  // CHECK: train.attention {{.*}}left = 2 : i64{{.*}}right = 0 : i64{{.*}} -> (tensor<2x4x5x7xf32>, tensor<2x4x5xf32>)
  %y, %lse = train.attention %q, %k, %v, %padding {scale = 0.4 : f64, left = 2 : i64, right = 0 : i64, softcap = 30.0 : f64, masked_rows = "average", operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0>} : (tensor<2x4x5x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x5xi1>) -> (tensor<2x4x5x7xf32>, tensor<2x4x5xf32>)
  // VJP: train.attention_backward
  // VJP-SAME: left = 2 : i64
  // VJP-SAME: masked_rows = "average"
  // VJP-SAME: operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0>
  // VJP-SAME: right = 0 : i64
  // VJP-SAME: scale = 4.000000e-01 : f64
  // VJP-SAME: softcap = 3.000000e+01 : f64
  // VJP-SAME: -> (tensor<2x4x5x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<2x4x5x7xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// A ring: keys and values are this member's, padding is of all keys; backward's gradients of them are complete.
// CHECK-LABEL: @ring
// VJP-LABEL: @ring
train.step @ring {
  %q = train.parameter {name = "q", trainable} : tensor<2x4x6x6xf32>
  %k = train.parameter {name = "k", trainable} : tensor<2x2x6x6xf32>
  %v = train.parameter {name = "v", trainable} : tensor<2x2x6x7xf32>
  %padding = train.input {name = "padding"} : tensor<2x18xi1>
  // CHECK: train.attention {{.*}}{group = "cp", members = 3 : i64, {{.*}}ring, scale = 4.000000e-01 : f64, zigzag} : {{.*}} -> (tensor<2x4x6x7xf32>, tensor<2x4x6xf32>)
  %y, %lse = train.attention %q, %k, %v, %padding {scale = 0.4 : f64, group = "cp", members = 3 : i64, ring, zigzag, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0>} : (tensor<2x4x6x6xf32>, tensor<2x2x6x6xf32>, tensor<2x2x6x7xf32>, tensor<2x18xi1>) -> (tensor<2x4x6x7xf32>, tensor<2x4x6xf32>)
  // VJP: train.attention_backward
  // VJP-SAME: group = "cp"
  // VJP-SAME: members = 3 : i64
  // VJP-SAME: ring
  // VJP-SAME: zigzag
  // VJP-SAME: -> (tensor<2x4x6x6xf32>, tensor<2x2x6x6xf32>, tensor<2x2x6x7xf32>)
  // VJP-NOT: train.reduce_scatter
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<2x4x6x7xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Dropout: backward gets the same counters and attributes. Without it neither has any.
// CHECK-LABEL: @dropout
// VJP-LABEL: @dropout
train.step @dropout {
  %q = train.parameter {name = "q", trainable} : tensor<1x2x3x4xf32>
  // VJP-DAG: %[[SEED:.*]] = train.input {name = "seed"
  // VJP-DAG: %[[STEP:.*]] = train.input {name = "step_number"
  // VJP-DAG: %[[MICRO:.*]] = train.input {name = "micro_batch"
  %seed = train.input {name = "seed", role = "seed"} : tensor<i64>
  %step = train.input {name = "step_number", role = "step_number"} : tensor<i64>
  %micro = train.input {name = "micro_batch", role = "micro_batch"} : tensor<i64>
  // CHECK: train.attention {{.*}}{dropout = 1.000000e-01 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 1, 1, 1>, scale = 5.000000e-01 : f64, stream = 4 : i64}
  %y, %lse = train.attention %q, %q, %q, %seed, %step, %micro {scale = 0.5 : f64, dropout = 0.1 : f64, stream = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 1, 1, 1>} : (tensor<1x2x3x4xf32>, tensor<1x2x3x4xf32>, tensor<1x2x3x4xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> (tensor<1x2x3x4xf32>, tensor<1x2x3xf32>)
  // VJP: train.attention_backward {{.*}}, %[[SEED]], %[[STEP]], %[[MICRO]] {dropout = 1.000000e-01 : f64
  // VJP-SAME: stream = 4 : i64
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<1x2x3x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Heads joined by a transpose, which the next product's weight gradient reads: backward takes y back from there, so that
// only one of the two lives until then.
// VJP-LABEL: @joined
// VJP: %[[Y:.*]], %[[LSE:.*]] = train.attention
// VJP: %[[JOINED:.*]] = train.transpose %[[Y]]
// VJP: %[[BACK:.*]] = train.transpose %[[JOINED]] {permutation = array<i64: 0, 2, 1, 3>, train.phase = "backward"}
// VJP: train.attention_backward %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %[[BACK]], %[[LSE]]
train.step @joined {
  %q = train.parameter {name = "q", trainable} : tensor<1x2x3x4xf32>
  %y, %lse = train.attention %q, %q, %q {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<1x2x3x4xf32>, tensor<1x2x3x4xf32>, tensor<1x2x3x4xf32>) -> (tensor<1x2x3x4xf32>, tensor<1x2x3xf32>)
  %joined = train.transpose %y {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x2x3x4xf32>) -> tensor<1x3x2x4xf32>
  %loss = train.reduce_sum %joined {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<1x3x2x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// A bias that is trained (T5's, say) has no gradient: refused, not left out.
train.step @bias {
  %q = train.input {name = "q"} : tensor<1x2x3x4xf32>
  %bias = train.parameter {name = "bias", trainable} : tensor<1x2x3x3xf32>
  // expected-error@+2 {{no gradient}}
  // expected-note@+1 {{freeze the parameters}}
  %y, %lse = train.attention %q, %q, %q, %bias {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0, 0>} : (tensor<1x2x3x4xf32>, tensor<1x2x3x4xf32>, tensor<1x2x3x4xf32>, tensor<1x2x3x3xf32>) -> (tensor<1x2x3x4xf32>, tensor<1x2x3xf32>)
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<1x2x3x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// One of two members: its three queries of six, and all keys. Backward is told the same; what it has of the gathered keys
// is partial, and the gather's gradient adds it up.
// CHECK-LABEL: @member
// VJP-LABEL: @member
train.step @member {
  %q = train.parameter {name = "q", trainable} : tensor<1x2x3x4xf32>
  %piece = train.parameter {name = "k", trainable} : tensor<1x2x3x4xf32>
  %k = train.all_gather %piece {dim = 2 : i64, size = 6 : i64, group = "cp", members = 2 : i64} : (tensor<1x2x3x4xf32>) -> tensor<1x2x6x4xf32>
  // CHECK: train.attention %{{.*}} {group = "cp", members = 2 : i64, {{.*}}right = 0 : i64, scale = 5.000000e-01 : f64} : {{.*}} -> (tensor<1x2x3x4xf32>, tensor<1x2x3xf32>)
  %y, %lse = train.attention %q, %k, %k {scale = 0.5 : f64, right = 0 : i64, group = "cp", members = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<1x2x3x4xf32>, tensor<1x2x6x4xf32>, tensor<1x2x6x4xf32>) -> (tensor<1x2x3x4xf32>, tensor<1x2x3xf32>)
  // VJP: %[[DQ:.*]], %[[DK:.*]], %[[DV:.*]] = train.attention_backward {{.*}}{group = "cp", members = 2 : i64
  // VJP-NOT: zigzag
  // VJP-SAME: -> (tensor<1x2x3x4xf32>, tensor<1x2x6x4xf32>, tensor<1x2x6x4xf32>)
  // VJP: %[[SUM:.*]] = train.add %[[DK]], %[[DV]]
  // VJP: train.reduce_scatter %[[SUM]] {dim = 2 : i64, group = "cp", members = 2 : i64
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<1x2x3x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Zigzag, with a bias for each head and padding in storage order.
// CHECK-LABEL: @zigzag
// VJP-LABEL: @zigzag
train.step @zigzag {
  %q = train.parameter {name = "q", trainable} : tensor<1x2x4x4xf32>
  %k = train.parameter {name = "k", trainable} : tensor<1x2x12x4xf32>
  %all = train.input {name = "padding"} : tensor<1x12xi1>
  // CHECK: train.take_piece %{{.*}} {dim = 1 : i64, group = "cp", members = 3 : i64, zigzag} : (tensor<1x12xi1>) -> tensor<1x4xi1>
  %piece = train.take_piece %all {dim = 1 : i64, group = "cp", members = 3 : i64, zigzag} : (tensor<1x12xi1>) -> tensor<1x4xi1>
  %padding = train.all_gather %piece {dim = 1 : i64, size = 12 : i64, group = "cp", members = 3 : i64, alike} : (tensor<1x4xi1>) -> tensor<1x12xi1>
  %bias = train.input {name = "bias"} : tensor<1x2x1x1xf32>
  // CHECK: train.attention {{.*}}{group = "cp", members = 3 : i64, {{.*}}, zigzag}
  %y, %lse = train.attention %q, %k, %k, %padding, %bias {scale = 0.5 : f64, right = 0 : i64, group = "cp", members = 3 : i64, zigzag, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 0, 0>} : (tensor<1x2x4x4xf32>, tensor<1x2x12x4xf32>, tensor<1x2x12x4xf32>, tensor<1x12xi1>, tensor<1x2x1x1xf32>) -> (tensor<1x2x4x4xf32>, tensor<1x2x4xf32>)
  // VJP: train.attention_backward {{.*}}{group = "cp", members = 3 : i64, {{.*}}, zigzag} : {{.*}} -> (tensor<1x2x4x4xf32>, tensor<1x2x12x4xf32>, tensor<1x2x12x4xf32>)
  %loss = train.reduce_sum %y {axes = array<i64: 0, 1, 2, 3>, keepdims = false} : (tensor<1x2x4x4xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// A piece's gradient in zigzag is gathered as members have it, then every row taken from where it is: of two members the
// first has chunks 0 and 3, the second 1 and 2.
// VJP-LABEL: @piece
train.step @piece {
  %w = train.parameter {name = "w", trainable} : tensor<4xf32>
  // VJP: %[[G:.*]] = train.all_gather %{{.*}} {alike, dim = 0 : i64, group = "cp", members = 2 : i64, size = 4 : i64
  // VJP: %[[I:.*]] = train.constant {{.*}}dense<[0, 2, 3, 1]> : tensor<4xi64>
  // VJP: train.gather %[[G]], %[[I]] {axis = 0 : i64
  %piece = train.take_piece %w {dim = 0 : i64, group = "cp", members = 2 : i64, zigzag} : (tensor<4xf32>) -> tensor<2xf32>
  %loss = train.reduce_sum %piece {axes = array<i64: 0>, keepdims = false} : (tensor<2xf32>) -> tensor<f32>
  train.output %loss {name = "loss", sum} : tensor<f32>
}
