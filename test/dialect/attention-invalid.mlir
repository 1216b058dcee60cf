// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/AttentionOps.cpp, named by its label, that violates nothing else;
// those on groups are in attention-group-invalid.mlir.

// rotary_c1: x is [B, H, S, D].
train.step @rotary_c1 {
  %a = train.input {name = "a"} : tensor<4x3x6xf32>
  %b = train.input {name = "b"} : tensor<3x6xf32>
  %c = train.input {name = "c"} : tensor<3x6xf32>
  // expected-error@+2 {{x is of shape 4x3x6, should be of rank 4}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.rotary %a, %b, %c : (tensor<4x3x6xf32>, tensor<3x6xf32>, tensor<3x6xf32>) -> tensor<4x3x6xf32>
}

// -----

// rotary_c2: elements are rotated in pairs.
train.step @rotary_c2 {
  %a = train.input {name = "a"} : tensor<2x4x3x5xf32>
  %b = train.input {name = "b"} : tensor<3x5xf32>
  %c = train.input {name = "c"} : tensor<3x5xf32>
  // expected-error@+2 {{x's last dimension is 5, should be even}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.rotary %a, %b, %c : (tensor<2x4x3x5xf32>, tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<2x4x3x5xf32>
}

// -----

// rotary_c3: cos and sin broadcast to x, and x to nothing.
train.step @rotary_c3 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<1x1x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x4x6x6xf32>
  // expected-error@+2 {{cos and sin are of shapes 1x1x3x6 and 2x4x6x6, should broadcast to x's, 2x4x3x6}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.rotary %a, %b, %c : (tensor<2x4x3x6xf32>, tensor<1x1x3x6xf32>, tensor<2x4x6x6xf32>) -> tensor<2x4x3x6xf32>
}

// -----

// rotary_c4: all have one element type.
train.step @rotary_c4 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<1x1x3x6xf32>
  %c = train.input {name = "c"} : tensor<1x1x3x6xf64>
  // expected-error@+2 {{cos and sin are of element types f32 and f64, should be of x's, f32}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.rotary %a, %b, %c : (tensor<2x4x3x6xf32>, tensor<1x1x3x6xf32>, tensor<1x1x3x6xf64>) -> tensor<2x4x3x6xf32>
}

// -----

// rotary_backward_c1: x is [B, H, S, D].
train.step @rotary_backward_c1 {
  %a = train.input {name = "a"} : tensor<4x3x6xf32>
  %b = train.input {name = "b"} : tensor<3x6xf32>
  %c = train.input {name = "c"} : tensor<3x6xf32>
  // expected-error@+2 {{x is of shape 4x3x6, should be of rank 4}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.rotary_backward %a, %b, %c : (tensor<4x3x6xf32>, tensor<3x6xf32>, tensor<3x6xf32>) -> tensor<4x3x6xf32>
}

// -----

// rotary_backward_c2: elements are rotated in pairs.
train.step @rotary_backward_c2 {
  %a = train.input {name = "a"} : tensor<2x4x3x5xf32>
  %b = train.input {name = "b"} : tensor<3x5xf32>
  %c = train.input {name = "c"} : tensor<3x5xf32>
  // expected-error@+2 {{x's last dimension is 5, should be even}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.rotary_backward %a, %b, %c : (tensor<2x4x3x5xf32>, tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<2x4x3x5xf32>
}

// -----

// rotary_backward_c3: cos and sin broadcast to x, and x to nothing.
train.step @rotary_backward_c3 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<1x1x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x4x6x6xf32>
  // expected-error@+2 {{cos and sin are of shapes 1x1x3x6 and 2x4x6x6, should broadcast to x's, 2x4x3x6}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.rotary_backward %a, %b, %c : (tensor<2x4x3x6xf32>, tensor<1x1x3x6xf32>, tensor<2x4x6x6xf32>) -> tensor<2x4x3x6xf32>
}

// -----

// rotary_backward_c4: all have one element type.
train.step @rotary_backward_c4 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<1x1x3x6xf32>
  %c = train.input {name = "c"} : tensor<1x1x3x6xf64>
  // expected-error@+2 {{cos and sin are of element types f32 and f64, should be of x's, f32}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.rotary_backward %a, %b, %c : (tensor<2x4x3x6xf32>, tensor<1x1x3x6xf32>, tensor<1x1x3x6xf64>) -> tensor<2x4x3x6xf32>
}

// -----

// attention_c1: segments give every required operand its value: without this check the accessor of k would read past the operands.
train.step @attention_c1 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf32>
  // expected-error@+2 {{operandSegmentSizes should give every required operand one value}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, operandSegmentSizes = array<i32: 3, 0, 0, 0, 0, 0, 0, 0>} : (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_c2: q, k and v have heads.
train.step @attention_c2 {
  %a = train.input {name = "a"} : tensor<4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf32>
  // expected-error@+2 {{q, k and v are of shapes 4x3x6, 2x2x5x6 and 2x2x5x7, should be of rank 4}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_c3: one batch.
train.step @attention_c3 {
  %a = train.input {name = "a"} : tensor<1x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf32>
  // expected-error@+2 {{q, k and v are of shapes 1x4x3x6, 2x2x5x6 and 2x2x5x7, should have one batch size}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<1x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_c4: a value for each key.
train.step @attention_c4 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x4x7xf32>
  // expected-error@+2 {{k and v are of shapes 2x2x5x6 and 2x2x4x7, should have the same heads and length}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x4x7xf32>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_c5: every key head serves the same number of query heads.
train.step @attention_c5 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x3x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x3x5x7xf32>
  // expected-error@+2 {{key heads are 3, should divide the query heads 4}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x6xf32>, tensor<2x3x5x6xf32>, tensor<2x3x5x7xf32>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_c6: q and k have one head size.
train.step @attention_c6 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x7xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf32>
  // expected-error@+2 {{head sizes of q and k are 6 and 7, should be equal}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x6xf32>, tensor<2x2x5x7xf32>, tensor<2x2x5x7xf32>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_c7: all have one element type.
train.step @attention_c7 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf64>
  // expected-error@+2 {{q, k, v and bias should have one element type}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf64>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_c8: padding is over the keys.
train.step @attention_c8 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf32>
  %d = train.input {name = "d"} : tensor<2x3xi1>
  // expected-error@+2 {{padding is of shape 2x3, should be 2x5}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c, %d {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0>} : (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x3xi1>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_c9: bias broadcasts to the scores.
train.step @attention_c9 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf32>
  %d = train.input {name = "d"} : tensor<2x2x3x5xf32>
  // expected-error@+2 {{bias is of shape 2x2x3x5, should be of rank 4 and broadcast to 2x4x3x5}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c, %d {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0, 0>} : (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x2x3x5xf32>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_c10: scale is a number.
train.step @attention_c10 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf32>
  // expected-error@+2 {{scale is +Inf, should be finite}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0x7FF0000000000000 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_c11: softcap is a bound.
train.step @attention_c11 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf32>
  // expected-error@+2 {{softcap is -2, should be 0 or more and finite}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, softcap = -2.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_c12: masked_rows is one of two words.
train.step @attention_c12 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf32>
  // expected-error@+2 {{masked_rows is "nan", should be "zero" or "average"}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c {scale = 0.5 : f64, masked_rows = "nan", operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_backward_c1: segments give every required operand its value.
train.step @attention_backward_c1 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  // expected-error@+2 {{operandSegmentSizes should give every required operand one value}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, operandSegmentSizes = array<i32: 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
}

// -----

// attention_backward_c2: q, k and v have heads.
train.step @attention_backward_c2 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  // expected-error@+2 {{q, k and v are of shapes 4x3x6, 2x2x5x6 and 2x2x5x7, should be of rank 4}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>) -> (tensor<4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
}

// -----

// attention_backward_c3: one batch.
train.step @attention_backward_c3 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<1x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  // expected-error@+2 {{q, k and v are of shapes 1x4x3x6, 2x2x5x6 and 2x2x5x7, should have one batch size}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<1x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>) -> (tensor<1x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
}

// -----

// attention_backward_c4: a value for each key.
train.step @attention_backward_c4 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x4x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  // expected-error@+2 {{k and v are of shapes 2x2x5x6 and 2x2x4x7, should have the same heads and length}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x4x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x4x7xf32>)
}

// -----

// attention_backward_c5: every key head serves the same number of query heads.
train.step @attention_backward_c5 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x3x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x3x5x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  // expected-error@+2 {{key heads are 3, should divide the query heads 4}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x3x5x6xf32>, tensor<2x3x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x3x5x6xf32>, tensor<2x3x5x7xf32>)
}

// -----

// attention_backward_c6: q and k have one head size.
train.step @attention_backward_c6 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  // expected-error@+2 {{head sizes of q and k are 6 and 7, should be equal}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x7xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x7xf32>, tensor<2x2x5x7xf32>)
}

// -----

// attention_backward_c7: all have one element type.
train.step @attention_backward_c7 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf64>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  // expected-error@+2 {{q, k, v and bias should have one element type}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf64>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf64>)
}

// -----

// attention_backward_c8: padding is over the keys.
train.step @attention_backward_c8 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  %g = train.input {name = "g"} : tensor<2x3xi1>
  // expected-error@+2 {{padding is of shape 2x3, should be 2x5}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f, %g {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>, tensor<2x3xi1>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
}

// -----

// attention_backward_c9: bias broadcasts to the scores.
train.step @attention_backward_c9 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  %g = train.input {name = "g"} : tensor<2x2x3x5xf32>
  // expected-error@+2 {{bias is of shape 2x2x3x5, should be of rank 4 and broadcast to 2x4x3x5}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f, %g {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>, tensor<2x2x3x5xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
}

// -----

// attention_backward_c10: scale is a number.
train.step @attention_backward_c10 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  // expected-error@+2 {{scale is +Inf, should be finite}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0x7FF0000000000000 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
}

// -----

// attention_backward_c11: softcap is a bound.
train.step @attention_backward_c11 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  // expected-error@+2 {{softcap is -2, should be 0 or more and finite}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, softcap = -2.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
}

// -----

// attention_backward_c12: masked_rows is one of two words.
train.step @attention_backward_c12 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  // expected-error@+2 {{masked_rows is "nan", should be "zero" or "average"}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, masked_rows = "nan", operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
}

// -----

// attention_backward_c13: dy and y are like the result.
train.step @attention_backward_c13 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x6xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  // expected-error@+2 {{y is tensor<2x4x3x6xf32>, should be tensor<2x4x3x7xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x6xf32>, tensor<2x4x3xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
}

// -----

// attention_backward_c14: lse is one number for each query.
train.step @attention_backward_c14 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %e = train.input {name = "e"} : tensor<2x4x3x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x5xf32>
  // expected-error@+2 {{lse is tensor<2x4x5xf32>, should be tensor<2x4x3xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %e, %f {scale = 0.5 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x5xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
}

// -----

// attention_c13: dropout needs all that its mask follows from.
train.step @attention_c13 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf32>
  %n = train.input {name = "n"} : tensor<i64>
  // expected-error@+2 {{seed, step, micro_batch, dropout and stream should be there all or none}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c, %n, %n {scale = 0.5 : f64, dropout = 0.5 : f64, stream = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 1, 0, 1>} : (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<i64>, tensor<i64>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_c14: what is kept is divided by 1 - dropout.
train.step @attention_c14 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf32>
  %n = train.input {name = "n"} : tensor<i64>
  // expected-error@+2 {{dropout is 1, should be at least 0 and below 1}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c, %n, %n, %n {scale = 0.5 : f64, dropout = 1.0 : f64, stream = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 1, 1, 1>} : (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_c15: a stream is a word of the counter.
train.step @attention_c15 {
  %a = train.input {name = "a"} : tensor<2x4x3x6xf32>
  %b = train.input {name = "b"} : tensor<2x2x5x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x7xf32>
  %n = train.input {name = "n"} : tensor<i64>
  // expected-error@+2 {{stream is -1, should be in [0, 2^32)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.attention %a, %b, %c, %n, %n, %n {scale = 0.5 : f64, dropout = 0.5 : f64, stream = -1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 1, 1, 1>} : (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> (tensor<2x4x3x7xf32>, tensor<2x4x3xf32>)
}

// -----

// attention_backward_c15: dropout needs all that its mask follows from.
train.step @attention_backward_c15 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  %n = train.input {name = "n"} : tensor<i64>
  // expected-error@+2 {{seed, step, micro_batch, dropout and stream should be there all or none}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %a, %f, %n, %n {scale = 0.5 : f64, dropout = 0.5 : f64, stream = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 1>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>, tensor<i64>, tensor<i64>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
}

// -----

// attention_backward_c16: what is kept is divided by 1 - dropout.
train.step @attention_backward_c16 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  %n = train.input {name = "n"} : tensor<i64>
  // expected-error@+2 {{dropout is 1, should be at least 0 and below 1}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %a, %f, %n, %n, %n {scale = 0.5 : f64, dropout = 1.0 : f64, stream = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
}

// -----

// attention_backward_c17: a stream is a word of the counter.
train.step @attention_backward_c17 {
  %a = train.input {name = "a"} : tensor<2x4x3x7xf32>
  %b = train.input {name = "b"} : tensor<2x4x3x6xf32>
  %c = train.input {name = "c"} : tensor<2x2x5x6xf32>
  %d = train.input {name = "d"} : tensor<2x2x5x7xf32>
  %f = train.input {name = "f"} : tensor<2x4x3xf32>
  %n = train.input {name = "n"} : tensor<i64>
  // expected-error@+2 {{stream is -1, should be in [0, 2^32)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.attention_backward %a, %b, %c, %d, %a, %f, %n, %n, %n {scale = 0.5 : f64, dropout = 0.5 : f64, stream = -1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1>} : (tensor<2x4x3x7xf32>, tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>, tensor<2x4x3x7xf32>, tensor<2x4x3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> (tensor<2x4x3x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x7xf32>)
}
