// RUN: amc-opt %s --verify-diagnostics --fuse-elementwise

// Tests a step of which some values have no place: all are reported.
train.step @partly attributes {train.arena_bytes = 64 : i64} {
  // expected-error @+1 {{has no offset for each of its results; run assign-offsets first}}
  %x = train.input {name = "x"} : tensor<4x4xf32>
  // expected-error @+1 {{has no offset for each of its results; run assign-offsets first}}
  %y = train.exp %x {train.offsets = array<i64: 0, 64>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %w = train.input {name = "w", train.offsets = array<i64: 576>} : tensor<4xf32>
  %r = train.input {name = "r", train.offsets = array<i64: 640>} : tensor<4xf32>
  // expected-error @+1 {{has no offset for its workspace; run assign-offsets first}}
  %d, %dw = train.rms_norm_backward %y, %y, %r, %w {train.offsets = array<i64: 0, 64>} : (tensor<4x4xf32>, tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>) -> (tensor<4x4xf32>, tensor<4xf32>)
  train.output %d {name = "d"} : tensor<4x4xf32>
}

// Tests a step without places.
// expected-error @+1 {{train.arena_bytes is missing; run assign-offsets first}}
train.step @unplaced {
  %x = train.input {name = "x"} : tensor<4xf32>
}
