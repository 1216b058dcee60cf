// RUN: amc-opt %s --split-input-file --verify-diagnostics --verify-plan
// More than thirty kinds of broken steps: test/unit/verify_mutations.cpp. Here the notes that come with the errors.

// Tests that overwritten bytes name the operation that they belong to now.
train.step @overlap attributes {train.arena_bytes = 192 : i64, train.alignment = 64 : i64} {
  %w = train.parameter {name = "w", train.offsets = array<i64: 0>} : tensor<16xf32>
  %a = train.exp %w {train.offsets = array<i64: 64>} : (tensor<16xf32>) -> tensor<16xf32>
  // expected-note @+1 {{they hold a result of this operation}}
  %b = train.sin %w {train.offsets = array<i64: 64>} : (tensor<16xf32>) -> tensor<16xf32>
  // expected-error @+1 {{operand 0 should be in bytes [64, 128) but bytes [64, 128) hold something else}}
  %c = train.add %a, %b {train.offsets = array<i64: 128>} : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
}

// -----

// Tests that all errors are reported in one run, and what persistent bytes belong to.
train.step @persistent attributes {train.arena_bytes = 64 : i64, train.alignment = 64 : i64} {
  // Once for each of the two errors below.
  // expected-note @+1 {{they belong to this}}
  %w = train.parameter {name = "w", train.offsets = array<i64: 0>} : tensor<16xf32>
  // expected-error @+2 {{result 0 in bytes [0, 64) overlaps operand 0 in bytes [0, 64), which should be intact while the operation runs}}
  // expected-error @+1 {{result 0 in bytes [0, 64) overlaps bytes [0, 64), which persist between steps}}
  %a = train.transpose %w {permutation = array<i64: 0>, train.offsets = array<i64: 0>} : (tensor<16xf32>) -> tensor<16xf32>
  // expected-error @+1 {{result 0 in bytes [0, 64) overlaps bytes [0, 64), which persist between steps}}
  %b = train.exp %a {train.offsets = array<i64: 0>} : (tensor<16xf32>) -> tensor<16xf32>
}

// -----

// Tests an update that comes too early.
train.step @update attributes {train.arena_bytes = 256 : i64, train.alignment = 64 : i64} {
  %acc = train.state {name = "gradient", parameter = "w", kind = "gradient", train.offsets = array<i64: 0>} : tensor<16xf32>
  %x = train.input {name = "x", train.offsets = array<i64: 64>} : tensor<16xf32>
  %n = train.input {name = "micro_batch", role = "micro_batch", train.offsets = array<i64: 128>} : tensor<i64>
  // expected-note @+1 {{updated here; every reader should stand before the update}}
  train.accumulate %acc, %x, %n {train.phase = "backward"} : tensor<16xf32>, tensor<16xf32>, tensor<i64>
  // expected-error @+1 {{reads a value that was updated before it}}
  %s = train.squared_norm %acc {train.phase = "optimizer", train.offsets = array<i64: 192>} : (tensor<16xf32>) -> tensor<f64>
}

// -----

// Tests a step that was never placed.
// expected-error @+2 {{train.arena_bytes is missing or negative; run assign-offsets first}}
// expected-error @+1 {{train.alignment is missing or negative; run assign-offsets first}}
train.step @unplaced {
}

// -----

// Tests two ends of the micro-batch.
train.step @ends attributes {train.arena_bytes = 0 : i64, train.alignment = 64 : i64} {
  // expected-note @+1 {{the first is here}}
  train.micro_batch_end
  // expected-error @+1 {{is the second end of the micro-batch; a step should have one}}
  train.micro_batch_end
}

// -----

// Tests a foreign operation.
train.step @foreign attributes {train.arena_bytes = 64 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 0>} : tensor<4xf32>
  // expected-error @+1 {{is not part of a step: it is neither a computation, a source, an output nor a marker}}
  %y = builtin.unrealized_conversion_cast %x : tensor<4xf32> to tensor<4xf32>
}

// -----

// Tests that what a collective reads stays until its wait.
train.step @in_flight attributes {train.arena_bytes = 192 : i64, train.alignment = 64 : i64} {
  %w = train.parameter {name = "w", train.offsets = array<i64: 0>} : tensor<16xf32>
  %a = train.exp %w {train.offsets = array<i64: 64>} : (tensor<16xf32>) -> tensor<16xf32>
  %s = train.all_reduce %a {async, group = "dp_shard", members = 2 : i64, train.offsets = array<i64: 128>} : (tensor<16xf32>) -> tensor<16xf32>
  // expected-note @+1 {{they hold a result of this operation}}
  %b = train.sin %w {train.offsets = array<i64: 64>} : (tensor<16xf32>) -> tensor<16xf32>
  // expected-error @+1 {{operand 1 should be in bytes [64, 128) but bytes [64, 128) hold something else}}
  %r = train.wait %s, %a {train.offsets = array<i64: 128>} : tensor<16xf32>, tensor<16xf32>
}

// -----

// Tests that nothing is put where a collective writes.
train.step @in_flight_result attributes {train.arena_bytes = 192 : i64, train.alignment = 64 : i64} {
  %w = train.parameter {name = "w", train.offsets = array<i64: 0>} : tensor<16xf32>
  %s = train.all_gather %w {async, dim = 0 : i64, size = 32 : i64, group = "dp_shard", members = 2 : i64, train.offsets = array<i64: 64>} : (tensor<16xf32>) -> tensor<32xf32>
  // expected-note @+1 {{they hold a result of this operation}}
  %b = train.sin %w {train.offsets = array<i64: 128>} : (tensor<16xf32>) -> tensor<16xf32>
  // expected-error @+1 {{operand 0 should be in bytes [64, 192) but bytes [128, 192) hold something else}}
  %r = train.wait %s, %w {train.offsets = array<i64: 64>} : tensor<32xf32>, tensor<16xf32>
}
