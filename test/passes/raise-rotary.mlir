// RUN: amc-opt %s --split-input-file --raise | FileCheck %s

// Tests rotation by halves, the sum's operands swapped, of tables that a cosine and a sine made.
// CHECK-LABEL: @halves
// CHECK-DAG: %[[X:.*]] = train.input {name = "x"
// CHECK-DAG: %[[C:.*]] = train.cos
// CHECK-DAG: %[[S:.*]] = train.sin
// CHECK: %[[Y:.*]] = train.rotary %[[X]], %[[C]], %[[S]] : (tensor<2x2x4x8xf32>
// CHECK-NEXT: train.output %[[Y]]
train.step @halves {
  %x = train.input {name = "x"} : tensor<2x2x4x8xf32>
  %angles = train.input {name = "angles"} : tensor<1x1x4x8xf32>
  %cos = train.cos %angles : (tensor<1x1x4x8xf32>) -> tensor<1x1x4x8xf32>
  %sin = train.sin %angles : (tensor<1x1x4x8xf32>) -> tensor<1x1x4x8xf32>
  %a = train.mul %x, %cos : (tensor<2x2x4x8xf32>, tensor<1x1x4x8xf32>) -> tensor<2x2x4x8xf32>
  %low = train.slice %x {starts = array<i64: 0, 0, 0, 0>, sizes = array<i64: 2, 2, 4, 4>, steps = array<i64: 1, 1, 1, 1>} : (tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %high = train.slice %x {starts = array<i64: 0, 0, 0, 4>, sizes = array<i64: 2, 2, 4, 4>, steps = array<i64: 1, 1, 1, 1>} : (tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %neg = train.neg %high : (tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %rot = train.concat %neg, %low {axis = 3 : i64} : (tensor<2x2x4x4xf32>, tensor<2x2x4x4xf32>) -> tensor<2x2x4x8xf32>
  %b = train.mul %sin, %rot : (tensor<1x1x4x8xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x8xf32>
  %y = train.add %b, %a : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x8xf32>
  train.output %y {name = "y"} : tensor<2x2x4x8xf32>
}

// -----

// Tests rotation by neighbours: slices of step 2, joined in a new last dimension.
// CHECK-LABEL: @neighbours
// CHECK: train.rotary %{{.*}} {interleaved}
// CHECK-NEXT: train.output
train.step @neighbours {
  %x = train.input {name = "x"} : tensor<2x2x4x8xf32>
  %angles = train.input {name = "angles"} : tensor<1x1x4x8xf32>
  %cos = train.cos %angles : (tensor<1x1x4x8xf32>) -> tensor<1x1x4x8xf32>
  %sin = train.sin %angles : (tensor<1x1x4x8xf32>) -> tensor<1x1x4x8xf32>
  %a = train.mul %x, %cos : (tensor<2x2x4x8xf32>, tensor<1x1x4x8xf32>) -> tensor<2x2x4x8xf32>
  %even = train.slice %x {starts = array<i64: 0, 0, 0, 0>, sizes = array<i64: 2, 2, 4, 4>, steps = array<i64: 1, 1, 1, 2>} : (tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %odd = train.slice %x {starts = array<i64: 0, 0, 0, 1>, sizes = array<i64: 2, 2, 4, 4>, steps = array<i64: 1, 1, 1, 2>} : (tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %neg = train.neg %odd : (tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %n5 = train.reshape %neg {shape = array<i64: 2, 2, 4, 4, 1>} : (tensor<2x2x4x4xf32>) -> tensor<2x2x4x4x1xf32>
  %e5 = train.reshape %even {shape = array<i64: 2, 2, 4, 4, 1>} : (tensor<2x2x4x4xf32>) -> tensor<2x2x4x4x1xf32>
  %joined = train.concat %n5, %e5 {axis = 4 : i64} : (tensor<2x2x4x4x1xf32>, tensor<2x2x4x4x1xf32>) -> tensor<2x2x4x4x2xf32>
  %rot = train.reshape %joined {shape = array<i64: 2, 2, 4, 8>} : (tensor<2x2x4x4x2xf32>) -> tensor<2x2x4x8xf32>
  %b = train.mul %rot, %sin : (tensor<2x2x4x8xf32>, tensor<1x1x4x8xf32>) -> tensor<2x2x4x8xf32>
  %y = train.add %a, %b : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x8xf32>
  train.output %y {name = "y"} : tensor<2x2x4x8xf32>
}

// -----

// Tests that halves in the wrong order, (x2, -x1), are not rotary's.
// CHECK-LABEL: @wrong_way
// CHECK-NOT: train.rotary
train.step @wrong_way {
  %x = train.input {name = "x"} : tensor<2x2x4x8xf32>
  %angles = train.input {name = "angles"} : tensor<1x1x4x8xf32>
  %cos = train.cos %angles : (tensor<1x1x4x8xf32>) -> tensor<1x1x4x8xf32>
  %sin = train.sin %angles : (tensor<1x1x4x8xf32>) -> tensor<1x1x4x8xf32>
  %a = train.mul %x, %cos : (tensor<2x2x4x8xf32>, tensor<1x1x4x8xf32>) -> tensor<2x2x4x8xf32>
  %low = train.slice %x {starts = array<i64: 0, 0, 0, 0>, sizes = array<i64: 2, 2, 4, 4>, steps = array<i64: 1, 1, 1, 1>} : (tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %high = train.slice %x {starts = array<i64: 0, 0, 0, 4>, sizes = array<i64: 2, 2, 4, 4>, steps = array<i64: 1, 1, 1, 1>} : (tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %neg = train.neg %low : (tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %rot = train.concat %high, %neg {axis = 3 : i64} : (tensor<2x2x4x4xf32>, tensor<2x2x4x4xf32>) -> tensor<2x2x4x8xf32>
  %b = train.mul %rot, %sin : (tensor<2x2x4x8xf32>, tensor<1x1x4x8xf32>) -> tensor<2x2x4x8xf32>
  %y = train.add %a, %b : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x8xf32>
  train.output %y {name = "y"} : tensor<2x2x4x8xf32>
}

// -----

// Tests that factors which an activation computed are not tables: gradients flow to them.
// CHECK-LABEL: @trained
// CHECK-NOT: train.rotary
train.step @trained {
  %x = train.input {name = "x"} : tensor<2x2x4x8xf32>
  %w = train.parameter {name = "w"} : tensor<1x1x4x8xf32>
  %cos = train.tanh %w : (tensor<1x1x4x8xf32>) -> tensor<1x1x4x8xf32>
  %sin = train.sigmoid %w : (tensor<1x1x4x8xf32>) -> tensor<1x1x4x8xf32>
  %a = train.mul %x, %cos : (tensor<2x2x4x8xf32>, tensor<1x1x4x8xf32>) -> tensor<2x2x4x8xf32>
  %low = train.slice %x {starts = array<i64: 0, 0, 0, 0>, sizes = array<i64: 2, 2, 4, 4>, steps = array<i64: 1, 1, 1, 1>} : (tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %high = train.slice %x {starts = array<i64: 0, 0, 0, 4>, sizes = array<i64: 2, 2, 4, 4>, steps = array<i64: 1, 1, 1, 1>} : (tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %neg = train.neg %high : (tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %rot = train.concat %neg, %low {axis = 3 : i64} : (tensor<2x2x4x4xf32>, tensor<2x2x4x4xf32>) -> tensor<2x2x4x8xf32>
  %b = train.mul %rot, %sin : (tensor<2x2x4x8xf32>, tensor<1x1x4x8xf32>) -> tensor<2x2x4x8xf32>
  %y = train.add %a, %b : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>) -> tensor<2x2x4x8xf32>
  train.output %y {name = "y"} : tensor<2x2x4x8xf32>
}

// -----

// Tests each half by itself, with tables of half the width.
// CHECK-LABEL: @split
// CHECK: %[[X:.*]] = train.input {name = "x"
// CHECK: %[[C:.*]] = train.concat %[[C1:.*]], %[[C1]] {{.*}} -> tensor<1x1x4x8xf32>
// CHECK: %[[S:.*]] = train.concat %[[S1:.*]], %[[S1]] {{.*}} -> tensor<1x1x4x8xf32>
// CHECK: train.rotary %[[X]], %[[C]], %[[S]]
// CHECK-NEXT: train.output
train.step @split {
  %x = train.input {name = "x"} : tensor<2x2x4x8xf32>
  %angles = train.input {name = "angles"} : tensor<1x1x4x4xf32>
  %cos = train.cos %angles : (tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32>
  %sin = train.sin %angles : (tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32>
  %x1 = train.slice %x {starts = array<i64: 0, 0, 0, 0>, sizes = array<i64: 2, 2, 4, 4>, steps = array<i64: 1, 1, 1, 1>} : (tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %x2 = train.slice %x {starts = array<i64: 0, 0, 0, 4>, sizes = array<i64: 2, 2, 4, 4>, steps = array<i64: 1, 1, 1, 1>} : (tensor<2x2x4x8xf32>) -> tensor<2x2x4x4xf32>
  %a = train.mul %x1, %cos : (tensor<2x2x4x4xf32>, tensor<1x1x4x4xf32>) -> tensor<2x2x4x4xf32>
  %b = train.mul %x2, %sin : (tensor<2x2x4x4xf32>, tensor<1x1x4x4xf32>) -> tensor<2x2x4x4xf32>
  %c = train.mul %x2, %cos : (tensor<2x2x4x4xf32>, tensor<1x1x4x4xf32>) -> tensor<2x2x4x4xf32>
  %d = train.mul %x1, %sin : (tensor<2x2x4x4xf32>, tensor<1x1x4x4xf32>) -> tensor<2x2x4x4xf32>
  %low = train.sub %a, %b : (tensor<2x2x4x4xf32>, tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %high = train.add %d, %c : (tensor<2x2x4x4xf32>, tensor<2x2x4x4xf32>) -> tensor<2x2x4x4xf32>
  %y = train.concat %low, %high {axis = 3 : i64} : (tensor<2x2x4x4xf32>, tensor<2x2x4x4xf32>) -> tensor<2x2x4x8xf32>
  train.output %y {name = "y"} : tensor<2x2x4x8xf32>
}
