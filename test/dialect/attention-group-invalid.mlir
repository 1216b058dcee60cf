// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// The constraints of compiler/dialect/AttentionOps.cpp on groups, one case each as in attention-invalid.mlir.

// attention_c16: a member does not know the others' part of dropout's mask.
train.step @attention_c16 {
  %a = train.input {name = "a"} : tensor<2x4x4x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x8x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x8x7xf32>
  %n = train.input {name = "n"} : tensor<i64>
  // expected-error@+2 {{has dropout and a group, should have one of them}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c, %n, %n, %n {scale = 0.5 : f64, group = "cp", members = 2 : i64, dropout = 0.5 : f64, stream = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 1, 1, 1>} : (tensor<2x4x4x6xf32>, tensor<2x2x8x6xf32>, tensor<2x2x8x7xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> (tensor<2x4x4x7xf32>, tensor<2x4x4xf32>)
}

// -----

// attention_c17: a bias of a group is that of heads.
train.step @attention_c17 {
  %a = train.input {name = "a"} : tensor<2x4x4x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x8x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x8x7xf32>
  %g = train.input {name = "g"} : tensor<1x4x1x8xf32>
  // expected-error@+2 {{bias is of shape 1x4x1x8, should have dimensions 2 and 3 of size 1 beside a group}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c, %g {scale = 0.5 : f64, group = "cp", members = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0, 0>} : (tensor<2x4x4x6xf32>, tensor<2x2x8x6xf32>, tensor<2x2x8x7xf32>, tensor<1x4x1x8xf32>) -> (tensor<2x4x4x7xf32>, tensor<2x4x4xf32>)
}

// -----

// attention_c18: chunks are dealt out to somebody.
train.step @attention_c18 {
  %a = train.input {name = "a"} : tensor<2x4x4x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x8x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x8x7xf32>
  // expected-error@+2 {{is zigzag without a group, should have one}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, zigzag, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x4x6xf32>, tensor<2x2x8x6xf32>, tensor<2x2x8x7xf32>) -> (tensor<2x4x4x7xf32>, tensor<2x4x4xf32>)
}

// -----

// attention_c19: every member has two chunks of the keys.
train.step @attention_c19 {
  %a = train.input {name = "a"} : tensor<2x4x4x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x9x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x9x7xf32>
  // expected-error@+2 {{zigzag queries are 4 and keys 9, should be even and 2 times as many}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, group = "cp", members = 2 : i64, zigzag, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x4x6xf32>, tensor<2x2x9x6xf32>, tensor<2x2x9x7xf32>) -> (tensor<2x4x4x7xf32>, tensor<2x4x4xf32>)
}

// -----

// attention_c20: somebody has to be in the ring.
train.step @attention_c20 {
  %a = train.input {name = "a"} : tensor<2x4x4x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x4x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x4x7xf32>
  // expected-error@+2 {{is in a ring without a group, should have one}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, ring, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x4x6xf32>, tensor<2x2x4x6xf32>, tensor<2x2x4x7xf32>) -> (tensor<2x4x4x7xf32>, tensor<2x4x4xf32>)
}

// -----

// attention_c21: steps are found one by one.
train.step @attention_c21 {
  %a = train.input {name = "a"} : tensor<2x4x4x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x4x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x4x7xf32>
  // expected-error@+2 {{members of the ring are 65537, should be in [1, 65536]}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, ring, group = "cp", members = 65537 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x4x6xf32>, tensor<2x2x4x6xf32>, tensor<2x2x4x7xf32>) -> (tensor<2x4x4x7xf32>, tensor<2x4x4xf32>)
}

// -----

// attention_c22: a member has the keys of its queries' positions, not all keys.
train.step @attention_c22 {
  %a = train.input {name = "a"} : tensor<2x4x4x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x8x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x8x7xf32>
  // expected-error@+2 {{queries and keys of a ring's member are 4 and 8, should be as many, and at most 140737488355328}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, ring, group = "cp", members = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x4x6xf32>, tensor<2x2x8x6xf32>, tensor<2x2x8x7xf32>) -> (tensor<2x4x4x7xf32>, tensor<2x4x4xf32>)
}

// -----

// In a ring padding has all keys (attention_c8).
train.step @ring_padding {
  %a = train.input {name = "a"} : tensor<2x4x4x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x4x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x4x7xf32>
  %d = train.input {name = "d"} : tensor<2x4xi1>
  // expected-error@+2 {{padding is of shape 2x4, should be 2x8}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c, %d {scale = 0.5 : f64, ring, group = "cp", members = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0>} : (tensor<2x4x4x6xf32>, tensor<2x2x4x6xf32>, tensor<2x2x4x7xf32>, tensor<2x4xi1>) -> (tensor<2x4x4x7xf32>, tensor<2x4x4xf32>)
}

// -----

// attention_backward_c18: a member does not know the others' part of dropout's mask.
train.step @attention_backward_c18 {
  %a = train.input {name = "a"} : tensor<2x4x4x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x4x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x8x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x8x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x4x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x4xf32>
  %n = train.input {name = "n"} : tensor<i64>
  // expected-error@+2 {{has dropout and a group, should have one of them}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f, %n, %n, %n {scale = 0.5 : f64, group = "cp", members = 2 : i64, dropout = 0.5 : f64, stream = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1>} : (tensor<2x4x4x7xf32>, tensor<2x4x4x6xf32>, tensor<2x2x8x6xf32>, tensor<2x2x8x7xf32>, tensor<2x4x4x7xf32>, tensor<2x4x4xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> (tensor<2x4x4x6xf32>, tensor<2x2x8x6xf32>, tensor<2x2x8x7xf32>)
}

// -----

// attention_backward_c19: a bias of a group is that of heads.
train.step @attention_backward_c19 {
  %a = train.input {name = "a"} : tensor<2x4x4x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x4x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x8x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x8x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x4x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x4xf32>
  %g = train.input {name = "g"} : tensor<1x4x1x8xf32>
  // expected-error@+2 {{bias is of shape 1x4x1x8, should have dimensions 2 and 3 of size 1 beside a group}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f, %g {scale = 0.5 : f64, group = "cp", members = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 0>} : (tensor<2x4x4x7xf32>, tensor<2x4x4x6xf32>, tensor<2x2x8x6xf32>, tensor<2x2x8x7xf32>, tensor<2x4x4x7xf32>, tensor<2x4x4xf32>, tensor<1x4x1x8xf32>) -> (tensor<2x4x4x6xf32>, tensor<2x2x8x6xf32>, tensor<2x2x8x7xf32>)
}

// -----

// attention_backward_c20: chunks are dealt out to somebody.
train.step @attention_backward_c20 {
  %a = train.input {name = "a"} : tensor<2x4x4x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x4x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x8x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x8x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x4x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x4xf32>
  // expected-error@+2 {{is zigzag without a group, should have one}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, zigzag, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x4x7xf32>, tensor<2x4x4x6xf32>, tensor<2x2x8x6xf32>, tensor<2x2x8x7xf32>, tensor<2x4x4x7xf32>, tensor<2x4x4xf32>) -> (tensor<2x4x4x6xf32>, tensor<2x2x8x6xf32>, tensor<2x2x8x7xf32>)
}

// -----

// attention_backward_c21: a member's two chunks are of one size.
train.step @attention_backward_c21 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x6x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x6x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  // expected-error@+2 {{zigzag queries are 3 and keys 6, should be even and 2 times as many}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, group = "cp", members = 2 : i64, zigzag, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x6x6xf32>, tensor<2x2x6x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x2x6x6xf32>, tensor<2x2x6x7xf32>)
}

// -----

// attention_backward_c22: somebody has to be in the ring.
train.step @attention_backward_c22 {
  %a = train.input {name = "a"} : tensor<2x4x4x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x4x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x4x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x4x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x4x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x4xf32>
  // expected-error@+2 {{is in a ring without a group, should have one}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, ring, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x4x7xf32>, tensor<2x4x4x6xf32>, tensor<2x2x4x6xf32>, tensor<2x2x4x7xf32>, tensor<2x4x4x7xf32>, tensor<2x4x4xf32>) -> (tensor<2x4x4x6xf32>, tensor<2x2x4x6xf32>, tensor<2x2x4x7xf32>)
}

// -----

// attention_backward_c23: steps are found one by one.
train.step @attention_backward_c23 {
  %a = train.input {name = "a"} : tensor<2x4x4x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x4x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x4x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x4x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x4x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x4xf32>
  // expected-error@+2 {{members of the ring are 65537, should be in [1, 65536]}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, ring, group = "cp", members = 65537 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x4x7xf32>, tensor<2x4x4x6xf32>, tensor<2x2x4x6xf32>, tensor<2x2x4x7xf32>, tensor<2x4x4x7xf32>, tensor<2x4x4xf32>) -> (tensor<2x4x4x6xf32>, tensor<2x2x4x6xf32>, tensor<2x2x4x7xf32>)
}

// -----

// attention_backward_c24: a member has the keys of its queries' positions, not all keys.
train.step @attention_backward_c24 {
  %a = train.input {name = "a"} : tensor<2x4x4x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x4x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x8x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x8x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x4x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x4xf32>
  // expected-error@+2 {{queries and keys of a ring's member are 4 and 8, should be as many, and at most 140737488355328}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, ring, group = "cp", members = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x4x7xf32>, tensor<2x4x4x6xf32>, tensor<2x2x8x6xf32>, tensor<2x2x8x7xf32>, tensor<2x4x4x7xf32>, tensor<2x4x4xf32>) -> (tensor<2x4x4x6xf32>, tensor<2x2x8x6xf32>, tensor<2x2x8x7xf32>)
}
