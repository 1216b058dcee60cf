// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of linear_cross_entropy and its backward (compiler/dialect/LossOps.cpp), named by its
// label, that violates nothing else.

// linear_cross_entropy_c1: every required operand is there.
train.step @linear_cross_entropy_c1 {
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  // expected-error@+2 {{operandSegmentSizes should give every required operand one value}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy %x, %w, %y {operandSegmentSizes = array<i32: 2, 0, 0, 1, 0>}
    : (tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// linear_cross_entropy_c2: the weight is a matrix.
train.step @linear_cross_entropy_c2 {
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5x1xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  // expected-error@+2 {{hidden and weight are of shapes 4x3 and 3x5x1, should be of rank 1 or more and of rank 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy %x, %w, %y {operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>}
    : (tensor<4x3xf32>, tensor<3x5x1xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// linear_cross_entropy_c3: hidden and weight meet.
train.step @linear_cross_entropy_c3 {
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  // expected-error@+2 {{inner dimensions are 3 and 5, should be equal}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy %x, %w, %y {transpose_w, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>}
    : (tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// linear_cross_entropy_c4: one element type.
train.step @linear_cross_entropy_c4 {
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xbf16>
  %y = train.input {name = "y"} : tensor<4xi64>
  // expected-error@+2 {{hidden and weight are of element types f32 and bf16, should be of one}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy %x, %w, %y {operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>}
    : (tensor<4x3xf32>, tensor<3x5xbf16>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// linear_cross_entropy_c5: a number for every class.
train.step @linear_cross_entropy_c5 {
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  // expected-error@+2 {{bias is tensor<3xf32>, should be tensor<5xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy %x, %w, %b, %y {operandSegmentSizes = array<i32: 1, 1, 1, 1, 0>}
    : (tensor<4x3xf32>, tensor<3x5xf32>, tensor<3xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// linear_cross_entropy_c6: every row has a label.
train.step @linear_cross_entropy_c6 {
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<3xi64>
  // expected-error@+2 {{labels is of shape 3, should be 4, that of hidden without the last dimension}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy %x, %w, %y {operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>}
    : (tensor<4x3xf32>, tensor<3x5xf32>, tensor<3xi64>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// linear_cross_entropy_c7: a class weight for every class.
train.step @linear_cross_entropy_c7 {
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  %c = train.input {name = "c"} : tensor<5xf64>
  // expected-error@+2 {{class_weights is tensor<5xf64>, should be tensor<5xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy %x, %w, %y, %c {operandSegmentSizes = array<i32: 1, 1, 0, 1, 1>}
    : (tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<5xf64>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// linear_cross_entropy_c8: the smoothed share is a share.
train.step @linear_cross_entropy_c8 {
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  // expected-error@+2 {{label_smoothing is 2, should be in [0, 1]}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy %x, %w, %y {label_smoothing = 2.0 : f64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>}
    : (tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// linear_cross_entropy_c9: z-loss is no reward.
train.step @linear_cross_entropy_c9 {
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  // expected-error@+2 {{z_loss is -1, should be 0 or more and finite}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy %x, %w, %y {z_loss = -1.0 : f64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>}
    : (tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// linear_cross_entropy_c10: a cap is no number below zero.
train.step @linear_cross_entropy_c10 {
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  // expected-error@+2 {{softcap is -30, should be 0 or more and finite}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy %x, %w, %y {softcap = -30.0 : f64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>}
    : (tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// linear_cross_entropy_c11: something is in flight.
train.step @linear_cross_entropy_c11 {
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  // expected-error@+2 {{tokens_in_flight is 0, should be in [1, 256]}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy %x, %w, %y {tokens_in_flight = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>}
    : (tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// linear_cross_entropy_backward_c1: every required operand is there.
train.step @linear_cross_entropy_backward_c1 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{operandSegmentSizes should give every required operand one value}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %y, %l {operandSegmentSizes = array<i32: 1, 2, 0, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<f32>, tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<4xf32>) -> (tensor<4x3xf32>, tensor<3x5xf32>)
}

// -----

// linear_cross_entropy_backward_c2: the weight is a matrix.
train.step @linear_cross_entropy_backward_c2 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5x1xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{hidden and weight are of shapes 4x3 and 3x5x1, should be of rank 1 or more and of rank 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %y, %l {operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<f32>, tensor<4x3xf32>, tensor<3x5x1xf32>, tensor<4xi64>, tensor<4xf32>) -> (tensor<4x3xf32>, tensor<3x5x1xf32>)
}

// -----

// linear_cross_entropy_backward_c3: hidden and weight meet.
train.step @linear_cross_entropy_backward_c3 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{inner dimensions are 3 and 5, should be equal}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %y, %l {transpose_w, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<f32>, tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<4xf32>) -> (tensor<4x3xf32>, tensor<3x5xf32>)
}

// -----

// linear_cross_entropy_backward_c4: one element type.
train.step @linear_cross_entropy_backward_c4 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xbf16>
  %y = train.input {name = "y"} : tensor<4xi64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{hidden and weight are of element types f32 and bf16, should be of one}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %y, %l {operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<f32>, tensor<4x3xf32>, tensor<3x5xbf16>, tensor<4xi64>, tensor<4xf32>) -> (tensor<4x3xf32>, tensor<3x5xbf16>)
}

// -----

// linear_cross_entropy_backward_c5: a number for every class.
train.step @linear_cross_entropy_backward_c5 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{bias is tensor<3xf32>, should be tensor<5xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %b, %y, %l {operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<f32>, tensor<4x3xf32>, tensor<3x5xf32>, tensor<3xf32>, tensor<4xi64>, tensor<4xf32>) -> (tensor<4x3xf32>, tensor<3x5xf32>)
}

// -----

// linear_cross_entropy_backward_c6: every row has a label.
train.step @linear_cross_entropy_backward_c6 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<3xi64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{labels is of shape 3, should be 4, that of hidden without the last dimension}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %y, %l {operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<f32>, tensor<4x3xf32>, tensor<3x5xf32>, tensor<3xi64>, tensor<4xf32>) -> (tensor<4x3xf32>, tensor<3x5xf32>)
}

// -----

// linear_cross_entropy_backward_c7: a class weight for every class.
train.step @linear_cross_entropy_backward_c7 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  %c = train.input {name = "c"} : tensor<5xf64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{class_weights is tensor<5xf64>, should be tensor<5xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %y, %c, %l {operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 1, 1>, resultSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<f32>, tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<5xf64>, tensor<4xf32>) -> (tensor<4x3xf32>, tensor<3x5xf32>)
}

// -----

// linear_cross_entropy_backward_c8: the smoothed share is a share.
train.step @linear_cross_entropy_backward_c8 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{label_smoothing is 2, should be in [0, 1]}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %y, %l {label_smoothing = 2.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<f32>, tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<4xf32>) -> (tensor<4x3xf32>, tensor<3x5xf32>)
}

// -----

// linear_cross_entropy_backward_c9: z-loss is no reward.
train.step @linear_cross_entropy_backward_c9 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{z_loss is -1, should be 0 or more and finite}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %y, %l {z_loss = -1.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<f32>, tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<4xf32>) -> (tensor<4x3xf32>, tensor<3x5xf32>)
}

// -----

// linear_cross_entropy_backward_c10: a cap is no number below zero.
train.step @linear_cross_entropy_backward_c10 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{softcap is -30, should be 0 or more and finite}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %y, %l {softcap = -30.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<f32>, tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<4xf32>) -> (tensor<4x3xf32>, tensor<3x5xf32>)
}

// -----

// linear_cross_entropy_backward_c11: something is in flight.
train.step @linear_cross_entropy_backward_c11 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{tokens_in_flight is 0, should be in [1, 256]}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %y, %l {tokens_in_flight = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<f32>, tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<4xf32>) -> (tensor<4x3xf32>, tensor<3x5xf32>)
}

// -----

// linear_cross_entropy_backward_c12: dloss is what the loss is.
train.step @linear_cross_entropy_backward_c12 {
  %d = train.input {name = "d"} : tensor<bf16>
  %x = train.input {name = "x"} : tensor<4x3xbf16>
  %w = train.input {name = "w"} : tensor<3x5xbf16>
  %y = train.input {name = "y"} : tensor<4xi64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{dloss is tensor<bf16>, should be tensor<f32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %y, %l {operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<bf16>, tensor<4x3xbf16>, tensor<3x5xbf16>, tensor<4xi64>, tensor<4xf32>) -> (tensor<4x3xbf16>, tensor<3x5xbf16>)
}

// -----

// linear_cross_entropy_backward_c13: lse is one number for each row.
train.step @linear_cross_entropy_backward_c13 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  %l = train.input {name = "l"} : tensor<3xf32>
  // expected-error@+2 {{lse is tensor<3xf32>, should be tensor<4xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %y, %l {operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<f32>, tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<3xf32>) -> (tensor<4x3xf32>, tensor<3x5xf32>)
}

// -----

// linear_cross_entropy_backward_c14: no gradient without its operand.
train.step @linear_cross_entropy_backward_c14 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xf32>
  %w = train.input {name = "w"} : tensor<3x5xf32>
  %y = train.input {name = "y"} : tensor<4xi64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{resultSegmentSizes should be 0 or 1 each, that of dbias 0 without a bias}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:1 = train.linear_cross_entropy_backward %d, %x, %w, %y, %l {operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 0, 0, 1>}
    : (tensor<f32>, tensor<4x3xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<4xf32>) -> (tensor<5xf32>)
}

// -----

// linear_cross_entropy_backward_c15: dweight is wide, dhidden is not.
train.step @linear_cross_entropy_backward_c15 {
  %d = train.input {name = "d"} : tensor<f32>
  %x = train.input {name = "x"} : tensor<4x3xbf16>
  %w = train.input {name = "w"} : tensor<3x5xbf16>
  %y = train.input {name = "y"} : tensor<4xi64>
  %l = train.input {name = "l"} : tensor<4xf32>
  // expected-error@+2 {{inferred type(s) 'tensor<4x3xbf16>', 'tensor<3x5xf32>' are incompatible with return type(s) of operation 'tensor<4x3xbf16>', 'tensor<3x5xbf16>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.linear_cross_entropy_backward %d, %x, %w, %y, %l {operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1, 0>, wide}
    : (tensor<f32>, tensor<4x3xbf16>, tensor<3x5xbf16>, tensor<4xi64>, tensor<4xf32>) -> (tensor<4x3xbf16>, tensor<3x5xbf16>)
}
