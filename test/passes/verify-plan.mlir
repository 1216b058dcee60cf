// RUN: amc-opt %s --split-input-file --verify-plan | FileCheck %s

// Tests a step that is right: c stands where a was, the sum stands on an operand that dies, the view where its operand
// is. The pass changes nothing.
// CHECK-LABEL: train.step @good
// CHECK: train.add {{.*}} {train.offsets = array<i64: 128>}
train.step @good attributes {train.arena_bytes = 192 : i64, train.alignment = 64 : i64, train.max_live_bytes = 192 : i64} {
  %w = train.parameter {name = "w", train.offsets = array<i64: 0>} : tensor<16xf32>
  %a = train.exp %w {train.offsets = array<i64: 64>} : (tensor<16xf32>) -> tensor<16xf32>
  %v = train.reshape %a {shape = array<i64: 4, 4>, train.offsets = array<i64: 64>} : (tensor<16xf32>) -> tensor<4x4xf32>
  %b = train.transpose %v {permutation = array<i64: 1, 0>, train.offsets = array<i64: 128>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %c = train.transpose %b {permutation = array<i64: 1, 0>, train.offsets = array<i64: 64>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %d = train.add %b, %c {train.offsets = array<i64: 128>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
}

// -----

// Tests that an accumulator may be read behind the end of the micro-batch that updates it.
// CHECK-LABEL: train.step @accumulate
train.step @accumulate attributes {train.arena_bytes = 256 : i64, train.alignment = 64 : i64} {
  %acc = train.state {name = "gradient", parameter = "w", kind = "gradient", train.offsets = array<i64: 0>} : tensor<16xf32>
  %x = train.input {name = "x", train.offsets = array<i64: 64>} : tensor<16xf32>
  %n = train.input {name = "micro_batch", role = "micro_batch", train.offsets = array<i64: 128>} : tensor<i64>
  train.accumulate %acc, %x, %n {train.phase = "backward"} : tensor<16xf32>, tensor<16xf32>, tensor<i64>
  train.micro_batch_end
  %s = train.squared_norm %acc {train.phase = "optimizer", train.offsets = array<i64: 192>} : (tensor<16xf32>) -> tensor<f64>
}

// -----

// Tests a sum that works in place while something else runs: its operand is not there any more when it is waited for, and
// its bytes count once.
// CHECK-LABEL: train.step @in_flight
train.step @in_flight attributes {train.arena_bytes = 192 : i64, train.alignment = 64 : i64, train.max_live_bytes = 192 : i64} {
  %w = train.parameter {name = "w", train.offsets = array<i64: 0>} : tensor<16xf32>
  %a = train.exp %w {train.offsets = array<i64: 64>} : (tensor<16xf32>) -> tensor<16xf32>
  %s = train.all_reduce %a {async, group = "dp_shard", members = 2 : i64, train.offsets = array<i64: 64>} : (tensor<16xf32>) -> tensor<16xf32>
  %b = train.sin %w {train.offsets = array<i64: 128>} : (tensor<16xf32>) -> tensor<16xf32>
  %r = train.wait %s, %a {train.offsets = array<i64: 64>} : tensor<16xf32>, tensor<16xf32>
  %c = train.add %r, %b {train.offsets = array<i64: 64>} : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
}
