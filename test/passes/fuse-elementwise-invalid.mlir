// RUN: amc-opt %s --verify-diagnostics --fuse-elementwise

// Tests a step without places.
// expected-error @+1 {{train.arena_bytes is missing; run assign-offsets first}}
train.step @unplaced {
  %x = train.input {name = "x"} : tensor<4xf32>
}
