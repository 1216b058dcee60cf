// RUN: amc-opt %s --split-input-file --verify-diagnostics --lower-to-plan

// Tests a step without places: everything that is missing is named.
// expected-error @+2 {{attribute train.arena_bytes is missing or no integer; run assign-offsets first}}
// expected-error @+1 {{attribute train.alignment is missing or no integer; run assign-offsets first}}
train.step @unplaced {
  // expected-error @+1 {{has no offset for each of its results; run assign-offsets first}}
  %x = train.input {name = "x"} : tensor<4xf32>
}

// -----

// Tests a result that shares a buffer by lifetime but stands elsewhere.
train.step @moved attributes {train.arena_bytes = 192 : i64, train.alignment = 64 : i64} {
  %x = train.input {name = "x", train.offsets = array<i64: 0>} : tensor<16xf32>
  %a = train.exp %x {train.offsets = array<i64: 64>} : (tensor<16xf32>) -> tensor<16xf32>
  // expected-error @+1 {{is at offset 128, should be at 64 like the values that share its buffer; run assign-offsets again}}
  %b = train.sin %a {train.offsets = array<i64: 128>} : (tensor<16xf32>) -> tensor<16xf32>
}

// -----

// Tests a workspace without a place.
train.step @workspace attributes {train.arena_bytes = 1024 : i64, train.alignment = 64 : i64} {
  %dy = train.input {name = "dy", train.offsets = array<i64: 0>} : tensor<4x16xf32>
  %x = train.input {name = "x", train.offsets = array<i64: 256>} : tensor<4x16xf32>
  %r = train.input {name = "r", train.offsets = array<i64: 512>} : tensor<4xf32>
  %w = train.parameter {name = "w", train.offsets = array<i64: 576>} : tensor<16xf32>
  // expected-error @+1 {{has no offset for its workspace; run assign-offsets first}}
  %dx, %dw = train.rms_norm_backward %dy, %x, %r, %w {train.offsets = array<i64: 640, 896>} : (tensor<4x16xf32>, tensor<4x16xf32>, tensor<4xf32>, tensor<16xf32>) -> (tensor<4x16xf32>, tensor<16xf32>)
}
