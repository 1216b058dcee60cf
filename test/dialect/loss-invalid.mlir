// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/LossOps.cpp, named by its label, that violates nothing else.

// shift_labels_c1: labels are rows.
train.step @shift_labels_c1 {
  %a = train.input {name = "a"} : tensor<i64>
  // expected-error@+2 {{labels is a scalar, should be of rank 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.shift_labels %a {ignore_index = -100 : i64} : (tensor<i64>) -> tensor<i64>
}

// -----

// cross_entropy_c1: logits have a dimension of classes.
train.step @cross_entropy_c1 {
  %a = train.input {name = "a"} : tensor<f32>
  %b = train.input {name = "b"} : tensor<i64>
  // expected-error@+2 {{logits is a scalar, should be of rank 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.cross_entropy %a, %b : (tensor<f32>, tensor<i64>) -> (tensor<f32>, tensor<f32>)
}

// -----

// cross_entropy_c2: every row has a label.
train.step @cross_entropy_c2 {
  %a = train.input {name = "a"} : tensor<2x3x5xf32>
  %b = train.input {name = "b"} : tensor<2x5xi64>
  // expected-error@+2 {{labels is of shape 2x5, should be 2x3, that of logits without the last dimension}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.cross_entropy %a, %b : (tensor<2x3x5xf32>, tensor<2x5xi64>) -> (tensor<f32>, tensor<2x3xf32>)
}

// -----

// cross_entropy_c3: a class weight for every class, in the loss's type.
train.step @cross_entropy_c3 {
  %a = train.input {name = "a"} : tensor<4x5xbf16>
  %b = train.input {name = "b"} : tensor<4xi64>
  %c = train.input {name = "c"} : tensor<5xbf16>
  // expected-error@+2 {{class_weights is tensor<5xbf16>, should be tensor<5xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.cross_entropy %a, %b, %c : (tensor<4x5xbf16>, tensor<4xi64>, tensor<5xbf16>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// cross_entropy_c4: the smoothed share is a share.
train.step @cross_entropy_c4 {
  %a = train.input {name = "a"} : tensor<4x5xf32>
  %b = train.input {name = "b"} : tensor<4xi64>
  // expected-error@+2 {{label_smoothing is 1.5, should be in [0, 1]}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.cross_entropy %a, %b {label_smoothing = 1.5 : f64} : (tensor<4x5xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// cross_entropy_c5: z-loss is no reward.
train.step @cross_entropy_c5 {
  %a = train.input {name = "a"} : tensor<4x5xf32>
  %b = train.input {name = "b"} : tensor<4xi64>
  // expected-error@+2 {{z_loss is -0.5, should be 0 or more and finite}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.cross_entropy %a, %b {z_loss = -0.5 : f64} : (tensor<4x5xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
}

// -----

// cross_entropy_backward_c1: logits have a dimension of classes.
train.step @cross_entropy_backward_c1 {
  %a = train.input {name = "a"} : tensor<f32>
  %b = train.input {name = "b"} : tensor<f32>
  %c = train.input {name = "c"} : tensor<i64>
  %d = train.input {name = "d"} : tensor<f32>
  // expected-error@+2 {{logits is a scalar, should be of rank 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.cross_entropy_backward %a, %b, %c, %d : (tensor<f32>, tensor<f32>, tensor<i64>, tensor<f32>) -> tensor<f32>
}

// -----

// cross_entropy_backward_c2: every row has a label.
train.step @cross_entropy_backward_c2 {
  %a = train.input {name = "a"} : tensor<f32>
  %b = train.input {name = "b"} : tensor<4x5xf32>
  %c = train.input {name = "c"} : tensor<5xi64>
  %d = train.input {name = "d"} : tensor<4xf32>
  // expected-error@+2 {{labels is of shape 5, should be 4, that of logits without the last dimension}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.cross_entropy_backward %a, %b, %c, %d : (tensor<f32>, tensor<4x5xf32>, tensor<5xi64>, tensor<4xf32>) -> tensor<4x5xf32>
}

// -----

// cross_entropy_backward_c3: dloss is what the loss is: an fp32 scalar for bf16 logits.
train.step @cross_entropy_backward_c3 {
  %a = train.input {name = "a"} : tensor<bf16>
  %b = train.input {name = "b"} : tensor<4x5xbf16>
  %c = train.input {name = "c"} : tensor<4xi64>
  %d = train.input {name = "d"} : tensor<4xf32>
  // expected-error@+2 {{dloss is tensor<bf16>, should be tensor<f32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.cross_entropy_backward %a, %b, %c, %d : (tensor<bf16>, tensor<4x5xbf16>, tensor<4xi64>, tensor<4xf32>) -> tensor<4x5xbf16>
}

// -----

// cross_entropy_backward_c4: lse is one number for each row.
train.step @cross_entropy_backward_c4 {
  %a = train.input {name = "a"} : tensor<f32>
  %b = train.input {name = "b"} : tensor<4x5xf32>
  %c = train.input {name = "c"} : tensor<4xi64>
  %d = train.input {name = "d"} : tensor<5xf32>
  // expected-error@+2 {{lse is tensor<5xf32>, should be tensor<4xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.cross_entropy_backward %a, %b, %c, %d : (tensor<f32>, tensor<4x5xf32>, tensor<4xi64>, tensor<5xf32>) -> tensor<4x5xf32>
}

// -----

// cross_entropy_backward_c5: a class weight for every class.
train.step @cross_entropy_backward_c5 {
  %a = train.input {name = "a"} : tensor<f32>
  %b = train.input {name = "b"} : tensor<4x5xf32>
  %c = train.input {name = "c"} : tensor<4xi64>
  %d = train.input {name = "d"} : tensor<4xf32>
  %e = train.input {name = "e"} : tensor<4xf32>
  // expected-error@+2 {{class_weights is tensor<4xf32>, should be tensor<5xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.cross_entropy_backward %a, %b, %c, %d, %e : (tensor<f32>, tensor<4x5xf32>, tensor<4xi64>, tensor<4xf32>, tensor<4xf32>) -> tensor<4x5xf32>
}

// -----

// cross_entropy_backward_c6: the smoothed share is a share.
train.step @cross_entropy_backward_c6 {
  %a = train.input {name = "a"} : tensor<f32>
  %b = train.input {name = "b"} : tensor<4x5xf32>
  %c = train.input {name = "c"} : tensor<4xi64>
  %d = train.input {name = "d"} : tensor<4xf32>
  // expected-error@+2 {{label_smoothing is -0.5, should be in [0, 1]}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.cross_entropy_backward %a, %b, %c, %d {label_smoothing = -0.5 : f64} : (tensor<f32>, tensor<4x5xf32>, tensor<4xi64>, tensor<4xf32>) -> tensor<4x5xf32>
}

// -----

// cross_entropy_backward_c7: z-loss is finite.
train.step @cross_entropy_backward_c7 {
  %a = train.input {name = "a"} : tensor<f32>
  %b = train.input {name = "b"} : tensor<4x5xf32>
  %c = train.input {name = "c"} : tensor<4xi64>
  %d = train.input {name = "d"} : tensor<4xf32>
  // expected-error@+2 {{z_loss is +Inf, should be 0 or more and finite}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.cross_entropy_backward %a, %b, %c, %d {z_loss = 0x7FF0000000000000 : f64} : (tensor<f32>, tensor<4x5xf32>, tensor<4xi64>, tensor<4xf32>) -> tensor<4x5xf32>
}
