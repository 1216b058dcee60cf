// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/NormOps.cpp, named by its label, that violates nothing else.

// rms_norm_c1: x has a last dimension.
train.step @rms_norm_c1 {
  %a = train.input {name = "a"} : tensor<f32>
  // expected-error@+2 {{x is a scalar, should be of rank 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.rms_norm %a {epsilon = 1.0e-6 : f64} : (tensor<f32>) -> (tensor<f32>, tensor<f32>)
}

// -----

// rms_norm_c2: weight is a vector over the last dimension.
train.step @rms_norm_c2 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2xf32>
  // expected-error@+2 {{weight is tensor<2xf32>, should be tensor<3xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.rms_norm %a, %b {epsilon = 1.0e-6 : f64} : (tensor<2x3xf32>, tensor<2xf32>) -> (tensor<2x3xf32>, tensor<2xf32>)
}

// -----

// rms_norm_c3: epsilon keeps the root real.
train.step @rms_norm_c3 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{epsilon is -1, should be 0 or more and finite}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.rms_norm %a {epsilon = -1.0 : f64} : (tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2xf32>)
}

// -----

// rms_norm_backward_c1: x has a last dimension.
train.step @rms_norm_backward_c1 {
  %a = train.input {name = "a"} : tensor<f32>
  %b = train.input {name = "b"} : tensor<f32>
  %c = train.input {name = "c"} : tensor<f32>
  // expected-error@+2 {{x is a scalar, should be of rank 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.rms_norm_backward %a, %b, %c : (tensor<f32>, tensor<f32>, tensor<f32>) -> tensor<f32>
}

// -----

// rms_norm_backward_c2: dy is like x.
train.step @rms_norm_backward_c2 {
  %a = train.input {name = "a"} : tensor<2x4xf32>
  %b = train.input {name = "b"} : tensor<2x3xf32>
  %c = train.input {name = "c"} : tensor<2xf32>
  // expected-error@+2 {{dy is tensor<2x4xf32>, should be tensor<2x3xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.rms_norm_backward %a, %b, %c : (tensor<2x4xf32>, tensor<2x3xf32>, tensor<2xf32>) -> tensor<2x3xf32>
}

// -----

// rms_norm_backward_c3: rstd is one number for each row, in fp32 for a bf16 x.
train.step @rms_norm_backward_c3 {
  %a = train.input {name = "a"} : tensor<2x3xbf16>
  %b = train.input {name = "b"} : tensor<2x3xbf16>
  %c = train.input {name = "c"} : tensor<2xbf16>
  // expected-error@+2 {{rstd is tensor<2xbf16>, should be tensor<2xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.rms_norm_backward %a, %b, %c : (tensor<2x3xbf16>, tensor<2x3xbf16>, tensor<2xbf16>) -> tensor<2x3xbf16>
}

// -----

// rms_norm_backward_c4: weight is a vector over the last dimension.
train.step @rms_norm_backward_c4 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2x3xf32>
  %c = train.input {name = "c"} : tensor<2xf32>
  %d = train.input {name = "d"} : tensor<3xf64>
  // expected-error@+2 {{weight is tensor<3xf64>, should be tensor<3xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.rms_norm_backward %a, %b, %c, %d : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2xf32>, tensor<3xf64>) -> (tensor<2x3xf32>, tensor<3xf32>)
}

// -----

// rms_norm_backward_c5: of wide results dweight is not rounded, dx is.
train.step @rms_norm_backward_c5 {
  %a = train.input {name = "a"} : tensor<2x3xbf16>
  %b = train.input {name = "b"} : tensor<2x3xbf16>
  %c = train.input {name = "c"} : tensor<2xf32>
  %d = train.input {name = "d"} : tensor<3xbf16>
  // expected-error@+2 {{inferred type(s) 'tensor<2x3xbf16>', 'tensor<3xf32>' are incompatible with return type(s) of operation 'tensor<2x3xf32>', 'tensor<3xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.rms_norm_backward %a, %b, %c, %d {wide} : (tensor<2x3xbf16>, tensor<2x3xbf16>, tensor<2xf32>, tensor<3xbf16>) -> (tensor<2x3xf32>, tensor<3xf32>)
}

// -----

// layer_norm_c1: segments give the required operand its value: without this check the accessor of x would read the weight.
train.step @layer_norm_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  // expected-error@+2 {{operandSegmentSizes should give x one operand}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.layer_norm %a, %b {epsilon = 1.0e-6 : f64, operandSegmentSizes = array<i32: 0, 1, 1>} : (tensor<2x3xf32>, tensor<3xf32>) -> (tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>)
}

// -----

// layer_norm_c2: x has a last dimension.
train.step @layer_norm_c2 {
  %a = train.input {name = "a"} : tensor<f32>
  // expected-error@+2 {{x is a scalar, should be of rank 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.layer_norm %a {epsilon = 1.0e-6 : f64, operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>)
}

// -----

// layer_norm_c3: weight is a vector over the last dimension.
train.step @layer_norm_c3 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<1x3xf32>
  // expected-error@+2 {{weight is tensor<1x3xf32>, should be tensor<3xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.layer_norm %a, %b {epsilon = 1.0e-6 : f64, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<2x3xf32>, tensor<1x3xf32>) -> (tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>)
}

// -----

// layer_norm_c4: bias is a vector over the last dimension.
train.step @layer_norm_c4 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.input {name = "c"} : tensor<4xf32>
  // expected-error@+2 {{bias is tensor<4xf32>, should be tensor<3xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.layer_norm %a, %b, %c {epsilon = 1.0e-6 : f64, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<2x3xf32>, tensor<3xf32>, tensor<4xf32>) -> (tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>)
}

// -----

// layer_norm_c5: a bias comes with a weight.
train.step @layer_norm_c5 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  // expected-error@+2 {{there is a bias without a weight, should be with one}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.layer_norm %a, %b {epsilon = 1.0e-6 : f64, operandSegmentSizes = array<i32: 1, 0, 1>} : (tensor<2x3xf32>, tensor<3xf32>) -> (tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>)
}

// -----

// layer_norm_c6: epsilon is a number.
train.step @layer_norm_c6 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{epsilon is NaN, should be 0 or more and finite}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.layer_norm %a {epsilon = 0x7FF8000000000000 : f64, operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>)
}

// -----

// layer_norm_backward_c1: x has a last dimension.
train.step @layer_norm_backward_c1 {
  %a = train.input {name = "a"} : tensor<f32>
  %b = train.input {name = "b"} : tensor<f32>
  %c = train.input {name = "c"} : tensor<f32>
  %d = train.input {name = "d"} : tensor<f32>
  // expected-error@+2 {{x is a scalar, should be of rank 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.layer_norm_backward %a, %b, %c, %d {resultSegmentSizes = array<i32: 1, 0, 0>} : (tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) -> tensor<f32>
}

// -----

// layer_norm_backward_c2: dy is like x.
train.step @layer_norm_backward_c2 {
  %a = train.input {name = "a"} : tensor<3x2xf32>
  %b = train.input {name = "b"} : tensor<2x3xf32>
  %c = train.input {name = "c"} : tensor<2xf32>
  %d = train.input {name = "d"} : tensor<2xf32>
  // expected-error@+2 {{dy is tensor<3x2xf32>, should be tensor<2x3xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.layer_norm_backward %a, %b, %c, %d {resultSegmentSizes = array<i32: 1, 0, 0>} : (tensor<3x2xf32>, tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<2x3xf32>
}

// -----

// layer_norm_backward_c3: mean is one number for each row.
train.step @layer_norm_backward_c3 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2x3xf32>
  %c = train.input {name = "c"} : tensor<2x1xf32>
  %d = train.input {name = "d"} : tensor<2xf32>
  // expected-error@+2 {{mean is tensor<2x1xf32>, should be tensor<2xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.layer_norm_backward %a, %b, %c, %d {resultSegmentSizes = array<i32: 1, 0, 0>} : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x1xf32>, tensor<2xf32>) -> tensor<2x3xf32>
}

// -----

// layer_norm_backward_c4: rstd is one number for each row.
train.step @layer_norm_backward_c4 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2x3xf32>
  %c = train.input {name = "c"} : tensor<2xf32>
  %d = train.input {name = "d"} : tensor<3xf32>
  // expected-error@+2 {{rstd is tensor<3xf32>, should be tensor<2xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.layer_norm_backward %a, %b, %c, %d {resultSegmentSizes = array<i32: 1, 0, 0>} : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2xf32>, tensor<3xf32>) -> tensor<2x3xf32>
}

// -----

// layer_norm_backward_c5: weight is a vector over the last dimension.
train.step @layer_norm_backward_c5 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2x3xf32>
  %c = train.input {name = "c"} : tensor<2xf32>
  %d = train.input {name = "d"} : tensor<2xf32>
  %e = train.input {name = "e"} : tensor<2xf32>
  // expected-error@+2 {{weight is tensor<2xf32>, should be tensor<3xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.layer_norm_backward %a, %b, %c, %d, %e {resultSegmentSizes = array<i32: 1, 1, 1>} : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf32>)
}

// -----

// layer_norm_backward_c6: segments say which result is which: here the only one would be dbias.
train.step @layer_norm_backward_c6 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2x3xf32>
  %c = train.input {name = "c"} : tensor<2xf32>
  %d = train.input {name = "d"} : tensor<2xf32>
  // expected-error@+2 {{resultSegmentSizes should be 1, 0, 0, as weight is absent}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.layer_norm_backward %a, %b, %c, %d {resultSegmentSizes = array<i32: 0, 0, 1>} : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<2x3xf32>
}

// -----

// layer_norm_backward_c7: dweight and dbias are both wide.
train.step @layer_norm_backward_c7 {
  %a = train.input {name = "a"} : tensor<2x3xbf16>
  %b = train.input {name = "b"} : tensor<2x3xbf16>
  %c = train.input {name = "c"} : tensor<2xf32>
  %d = train.input {name = "d"} : tensor<2xf32>
  %e = train.input {name = "e"} : tensor<3xbf16>
  // expected-error@+2 {{inferred type(s) 'tensor<2x3xbf16>', 'tensor<3xf32>', 'tensor<3xf32>' are incompatible with return type(s) of operation 'tensor<2x3xbf16>', 'tensor<3xf32>', 'tensor<3xbf16>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:3 = train.layer_norm_backward %a, %b, %c, %d, %e {resultSegmentSizes = array<i32: 1, 1, 1>, wide}
    : (tensor<2x3xbf16>, tensor<2x3xbf16>, tensor<2xf32>, tensor<2xf32>, tensor<3xbf16>) -> (tensor<2x3xbf16>, tensor<3xf32>, tensor<3xbf16>)
}
