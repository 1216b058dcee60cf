// RUN: amc-opt %s --split-input-file --verify-diagnostics --assign-roles="trainable=cos"

// Tests that a parameter without a gradient cannot be asked for.
// expected-remark@+1 {{1 of 1 parameters are trained}}
train.step @rotary {
  %x = train.input {name = "x"} : tensor<1x2x3x4xf32>
  // expected-error@+2 {{is asked to be trained, but is rotary table}}
  // expected-note@+1 {{no gradient reaches it; take it out of --trainable}}
  %cos = train.parameter {name = "cos"} : tensor<1x1x3x4xf32>
  %y = train.rotary %x, %cos, %cos : (tensor<1x2x3x4xf32>, tensor<1x1x3x4xf32>, tensor<1x1x3x4xf32>) -> tensor<1x2x3x4xf32>
  train.output %y {name = "y"} : tensor<1x2x3x4xf32>
}

// -----

// Tests that a glob that names nothing is an error with the nearest name.
// expected-error@+2 {{--trainable 'cos' matches no initializer}}
// expected-note@+1 {{the nearest name is 'cosine', which '*cos*' matches}}
module {
train.step @none {
  %x = train.input {name = "x"} : tensor<4xf32>
  %w = train.parameter {name = "cosine"} : tensor<4xf32>
  %y = train.mul %x, %w : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  train.output %y {name = "y"} : tensor<4xf32>
}
}
