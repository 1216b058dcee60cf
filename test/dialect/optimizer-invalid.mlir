// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/OptimizerOps.cpp, named by its label, that violates nothing else.

// clip_scale_c1: max_norm is a bound, or 0 for none.
train.step @clip_scale_c1 {
  %a = train.input {name = "a"} : tensor<f64>
  // expected-error@+2 {{max_norm is -1, should be 0 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.clip_scale %a {max_norm = -1.0 : f64} : (tensor<f64>) -> (tensor<f32>, tensor<f32>)
}

// -----

// accumulate_c1: the accumulator is memory.
train.step @accumulate_c1 {
  %a = train.input {name = "a"} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.input {name = "c"} : tensor<i64>
  // expected-error@+1 {{accumulator is not the result of train.parameter or train.state, should be}}
  train.accumulate %a, %b, %c : tensor<3xf32>, tensor<3xf32>, tensor<i64>
}

// -----

// accumulate_c2: it is like x, or x's shape in fp32.
train.step @accumulate_c2 {
  %a = train.state {name = "a", parameter = "a", kind = "optimizer"} : tensor<4xbf16>
  %b = train.input {name = "b"} : tensor<3xbf16>
  %c = train.input {name = "c"} : tensor<i64>
  // expected-error@+1 {{accumulator is 'tensor<4xbf16>', should be 'tensor<3xf32>'}}
  train.accumulate %a, %b, %c : tensor<4xbf16>, tensor<3xbf16>, tensor<i64>
}

// -----

// adamw_c1: the parameter is memory.
train.step @adamw_c1 {
  %a = train.input {name = "a"} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.state {name = "c", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %d = train.state {name = "d", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %e = train.input {name = "e"} : tensor<f32>
  %f = train.input {name = "f"} : tensor<f64>
  %g = train.input {name = "g"} : tensor<i64>
  // expected-error@+1 {{parameter is not the result of train.parameter or train.state, should be}}
  train.adamw %a, %b, %c, %d, %e, %f, %g {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}

// -----

// adamw_c2: both moments are memory.
train.step @adamw_c2 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.state {name = "c", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %d = train.input {name = "d"} : tensor<3xf32>
  %e = train.input {name = "e"} : tensor<f32>
  %f = train.input {name = "f"} : tensor<f64>
  %g = train.input {name = "g"} : tensor<i64>
  // expected-error@+1 {{exp_avg_sq is not the result of train.parameter or train.state, should be}}
  train.adamw %a, %b, %c, %d, %e, %f, %g {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}

// -----

// adamw_c3: the gradient is like the parameter.
train.step @adamw_c3 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<4xf32>
  %c = train.state {name = "c", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %d = train.state {name = "d", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %e = train.input {name = "e"} : tensor<f32>
  %f = train.input {name = "f"} : tensor<f64>
  %g = train.input {name = "g"} : tensor<i64>
  // expected-error@+1 {{gradient is 'tensor<4xf32>', should be 'tensor<3xf32>'}}
  train.adamw %a, %b, %c, %d, %e, %f, %g {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : tensor<3xf32>, tensor<4xf32>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}

// -----

// adamw_c4: moments have the shape of the parameter.
train.step @adamw_c4 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.state {name = "c", parameter = "a", kind = "optimizer"} : tensor<1x3xf32>
  %d = train.state {name = "d", parameter = "a", kind = "optimizer"} : tensor<1x3xf32>
  %e = train.input {name = "e"} : tensor<f32>
  %f = train.input {name = "f"} : tensor<f64>
  %g = train.input {name = "g"} : tensor<i64>
  // expected-error@+1 {{exp_avg is 'tensor<1x3xf32>', should be 'tensor<3xf32>'}}
  train.adamw %a, %b, %c, %d, %e, %f, %g {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : tensor<3xf32>, tensor<3xf32>, tensor<1x3xf32>, tensor<1x3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}

// -----

// adamw_c5: both moments are alike.
train.step @adamw_c5 {
  %a = train.parameter {name = "a", trainable} : tensor<3xbf16>
  %b = train.input {name = "b"} : tensor<3xbf16>
  %c = train.state {name = "c", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %d = train.state {name = "d", parameter = "a", kind = "optimizer"} : tensor<3xbf16>
  %e = train.input {name = "e"} : tensor<f32>
  %f = train.input {name = "f"} : tensor<f64>
  %g = train.input {name = "g"} : tensor<i64>
  // expected-error@+1 {{exp_avg_sq is 'tensor<3xbf16>', should be 'tensor<3xf32>'}}
  train.adamw %a, %b, %c, %d, %e, %f, %g {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : tensor<3xbf16>, tensor<3xbf16>, tensor<3xf32>, tensor<3xbf16>, tensor<f32>, tensor<f64>, tensor<i64>
}

// -----

// adamw_c6: a moment forgets.
train.step @adamw_c6 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.state {name = "c", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %d = train.state {name = "d", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %e = train.input {name = "e"} : tensor<f32>
  %f = train.input {name = "f"} : tensor<f64>
  %g = train.input {name = "g"} : tensor<i64>
  // expected-error@+1 {{beta2 is 1, should be 0 or more and less than 1}}
  train.adamw %a, %b, %c, %d, %e, %f, %g {beta1 = 0.9 : f64, beta2 = 1.0 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}

// -----

// adamw_c7: epsilon is not negative.
train.step @adamw_c7 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.state {name = "c", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %d = train.state {name = "d", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %e = train.input {name = "e"} : tensor<f32>
  %f = train.input {name = "f"} : tensor<f64>
  %g = train.input {name = "g"} : tensor<i64>
  // expected-error@+1 {{epsilon is -1, should be 0 or more and finite}}
  train.adamw %a, %b, %c, %d, %e, %f, %g {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = -1.0 : f64, weight_decay = 0.01 : f64} : tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}

// -----

// adamw_c8: weights do not grow by decay.
train.step @adamw_c8 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.state {name = "c", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %d = train.state {name = "d", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %e = train.input {name = "e"} : tensor<f32>
  %f = train.input {name = "f"} : tensor<f64>
  %g = train.input {name = "g"} : tensor<i64>
  // expected-error@+1 {{weight_decay is -1, should be 0 or more and finite}}
  train.adamw %a, %b, %c, %d, %e, %f, %g {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = -1.0 : f64} : tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}

// -----

// adamw_c9: no memory is updated twice.
train.step @adamw_c9 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.state {name = "c", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %d = train.state {name = "d", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  %e = train.input {name = "e"} : tensor<f32>
  %f = train.input {name = "f"} : tensor<f64>
  %g = train.input {name = "g"} : tensor<i64>
  // expected-error@+1 {{updates one value twice, should update three}}
  train.adamw %a, %b, %c, %c, %e, %f, %g {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}

// -----

// sgd_c1: the parameter is memory.
train.step @sgd_c1 {
  %a = train.input {name = "a"} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.input {name = "c"} : tensor<f32>
  %d = train.input {name = "d"} : tensor<f64>
  %e = train.input {name = "e"} : tensor<i64>
  %f = train.state {name = "f", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  // expected-error@+1 {{parameter is not the result of train.parameter or train.state, should be}}
  train.sgd %a, %b, %c, %d, %e, %f {momentum = 0.9 : f64, weight_decay = 0.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0>} : tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
}

// -----

// sgd_c2: the gradient is like the parameter.
train.step @sgd_c2 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf64>
  %c = train.input {name = "c"} : tensor<f32>
  %d = train.input {name = "d"} : tensor<f64>
  %e = train.input {name = "e"} : tensor<i64>
  %f = train.state {name = "f", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  // expected-error@+1 {{gradient is 'tensor<3xf64>', should be 'tensor<3xf32>'}}
  train.sgd %a, %b, %c, %d, %e, %f {momentum = 0.9 : f64, weight_decay = 0.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0>} : tensor<3xf32>, tensor<3xf64>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
}

// -----

// sgd_c3: momentum is not negative.
train.step @sgd_c3 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.input {name = "c"} : tensor<f32>
  %d = train.input {name = "d"} : tensor<f64>
  %e = train.input {name = "e"} : tensor<i64>
  %f = train.state {name = "f", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  // expected-error@+1 {{momentum is -0.5, should be 0 or more and finite}}
  train.sgd %a, %b, %c, %d, %e, %f {momentum = -0.5 : f64, weight_decay = 0.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0>} : tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
}

// -----

// sgd_c4: weights do not grow by decay.
train.step @sgd_c4 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.input {name = "c"} : tensor<f32>
  %d = train.input {name = "d"} : tensor<f64>
  %e = train.input {name = "e"} : tensor<i64>
  %f = train.state {name = "f", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  // expected-error@+1 {{weight_decay is -1, should be 0 or more and finite}}
  train.sgd %a, %b, %c, %d, %e, %f {momentum = 0.9 : f64, weight_decay = -1.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0>} : tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
}

// -----

// sgd_c5: momentum needs a buffer.
train.step @sgd_c5 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.input {name = "c"} : tensor<f32>
  %d = train.input {name = "d"} : tensor<f64>
  %e = train.input {name = "e"} : tensor<i64>
  // expected-error@+1 {{buffer is absent, should be there exactly when momentum is not 0}}
  train.sgd %a, %b, %c, %d, %e {momentum = 0.9 : f64, weight_decay = 0.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 0>} : tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}

// -----

// sgd_c6: Nesterov looks ahead along the momentum.
train.step @sgd_c6 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.input {name = "c"} : tensor<f32>
  %d = train.input {name = "d"} : tensor<f64>
  %e = train.input {name = "e"} : tensor<i64>
  // expected-error@+1 {{nesterov is set without momentum, should be set with one}}
  train.sgd %a, %b, %c, %d, %e {momentum = 0.0 : f64, weight_decay = 0.0 : f64, nesterov, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 0>} : tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}

// -----

// sgd_c7: the buffer is memory.
train.step @sgd_c7 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.input {name = "c"} : tensor<f32>
  %d = train.input {name = "d"} : tensor<f64>
  %e = train.input {name = "e"} : tensor<i64>
  %f = train.input {name = "f"} : tensor<3xf32>
  // expected-error@+1 {{buffer is not the result of train.parameter or train.state, should be}}
  train.sgd %a, %b, %c, %d, %e, %f {momentum = 0.9 : f64, weight_decay = 0.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0>} : tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
}

// -----

// sgd_c8: the buffer has the shape of the parameter.
train.step @sgd_c8 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.input {name = "c"} : tensor<f32>
  %d = train.input {name = "d"} : tensor<f64>
  %e = train.input {name = "e"} : tensor<i64>
  %f = train.state {name = "f", parameter = "a", kind = "optimizer"} : tensor<4xf32>
  // expected-error@+1 {{buffer is 'tensor<4xf32>', should be 'tensor<3xf32>'}}
  train.sgd %a, %b, %c, %d, %e, %f {momentum = 0.9 : f64, weight_decay = 0.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0>} : tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<4xf32>
}

// -----

// sgd_c9: no memory is updated twice.
train.step @sgd_c9 {
  %a = train.parameter {name = "a", trainable} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.input {name = "c"} : tensor<f32>
  %d = train.input {name = "d"} : tensor<f64>
  %e = train.input {name = "e"} : tensor<i64>
  %f = train.state {name = "f", parameter = "a", kind = "optimizer"} : tensor<3xf32>
  // expected-error@+1 {{updates one value twice, should update two}}
  train.sgd %a, %b, %c, %d, %e, %a {momentum = 0.9 : f64, weight_decay = 0.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0>} : tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
}

// -----

// adamw_c10: a master is wider than its parameter.
train.step @adamw_c10 {
  %p = train.parameter {name = "p", trainable} : tensor<3xf32>
  %g = train.input {name = "g"} : tensor<3xf32>
  %m = train.state {name = "m", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %v = train.state {name = "v", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %s = train.input {name = "s"} : tensor<f32>
  %r = train.input {name = "r"} : tensor<f64>
  %n = train.input {name = "n"} : tensor<i64>
  // expected-error@+1 {{has a master of the parameter's own type, should have none}}
  train.adamw %p, %g, %m, %v, %s, %r, %n, %v {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
}

// -----

// adamw_c11: a moment is no master.
train.step @adamw_c11 {
  %p = train.parameter {name = "p", trainable} : tensor<3xbf16>
  %g = train.input {name = "g"} : tensor<3xbf16>
  %m = train.state {name = "m", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %v = train.state {name = "v", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %s = train.input {name = "s"} : tensor<f32>
  %r = train.input {name = "r"} : tensor<f64>
  %n = train.input {name = "n"} : tensor<i64>
  // expected-error@+1 {{updates one value twice, should update four}}
  train.adamw %p, %g, %m, %v, %s, %r, %n, %v {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : tensor<3xbf16>, tensor<3xbf16>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
}

// -----

// sgd_c10: a master is memory.
train.step @sgd_c10 {
  %p = train.parameter {name = "p", trainable} : tensor<3xbf16>
  %g = train.input {name = "g"} : tensor<3xbf16>
  %m = train.state {name = "m", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %v = train.state {name = "v", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %s = train.input {name = "s"} : tensor<f32>
  %r = train.input {name = "r"} : tensor<f64>
  %n = train.input {name = "n"} : tensor<i64>
  %w = train.input {name = "w"} : tensor<3xf32>
  // expected-error@+1 {{master is not the result of train.parameter or train.state, should be}}
  train.sgd %p, %g, %s, %r, %n, %w {momentum = 0.0 : f64, weight_decay = 0.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 1>} : tensor<3xbf16>, tensor<3xbf16>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
}

// -----

// sgd_c11: the momentum is no master.
train.step @sgd_c11 {
  %p = train.parameter {name = "p", trainable} : tensor<3xbf16>
  %g = train.input {name = "g"} : tensor<3xbf16>
  %m = train.state {name = "m", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %v = train.state {name = "v", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %s = train.input {name = "s"} : tensor<f32>
  %r = train.input {name = "r"} : tensor<f64>
  %n = train.input {name = "n"} : tensor<i64>
  // expected-error@+1 {{updates one value twice, should update three}}
  train.sgd %p, %g, %s, %r, %n, %m, %m {momentum = 0.9 : f64, weight_decay = 0.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 1>} : tensor<3xbf16>, tensor<3xbf16>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>, tensor<3xf32>
}

// -----

// sgd_c12: segments give every required operand its value.
train.step @sgd_c12 {
  %p = train.parameter {name = "p", trainable} : tensor<3xf32>
  %g = train.input {name = "g"} : tensor<3xf32>
  %m = train.state {name = "m", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %v = train.state {name = "v", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %s = train.input {name = "s"} : tensor<f32>
  %r = train.input {name = "r"} : tensor<f64>
  %n = train.input {name = "n"} : tensor<i64>
  // expected-error@+1 {{operandSegmentSizes should give every required operand one value}}
  train.sgd %p, %g, %s, %r, %n {momentum = 0.0 : f64, weight_decay = 0.0 : f64, operandSegmentSizes = array<i32: 2, 0, 1, 1, 1, 0, 0>} : tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}
