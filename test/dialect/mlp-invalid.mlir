// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/MlpOps.cpp, named by its label, that violates nothing else.

// gated_mlp_c1: x has a last dimension.
train.step @gated_mlp_c1 {
  %x = train.input {name = "x"} : tensor<f32>
  %g = train.input {name = "g"} : tensor<3x4xf32>
  %u = train.input {name = "u"} : tensor<3x4xf32>
  %d = train.input {name = "d"} : tensor<4x6xf32>
  // expected-error@+2 {{x is a scalar, should be of rank 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gated_mlp %x, %g, %u, %d {activation = "silu"} : (tensor<f32>, tensor<3x4xf32>, tensor<3x4xf32>, tensor<4x6xf32>) -> tensor<2x6xf32>
}

// -----

// gated_mlp_c2: the activations that exist.
train.step @gated_mlp_c2 {
  %x = train.input {name = "x"} : tensor<2x3xf32>
  %g = train.input {name = "g"} : tensor<3x4xf32>
  %u = train.input {name = "u"} : tensor<3x4xf32>
  %d = train.input {name = "d"} : tensor<4x6xf32>
  // expected-error@+2 {{activation is "swish", should be silu, gelu, gelu_tanh or relu}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gated_mlp %x, %g, %u, %d {activation = "swish"} : (tensor<2x3xf32>, tensor<3x4xf32>, tensor<3x4xf32>, tensor<4x6xf32>) -> tensor<2x6xf32>
}

// -----

// gated_mlp_c3: weights are matrices.
train.step @gated_mlp_c3 {
  %x = train.input {name = "x"} : tensor<2x3xf32>
  %g = train.input {name = "g"} : tensor<3x4xf32>
  %u = train.input {name = "u"} : tensor<3xf32>
  %d = train.input {name = "d"} : tensor<4x6xf32>
  // expected-error@+2 {{a weight is of shape 3, should be of rank 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gated_mlp %x, %g, %u, %d {activation = "silu"} : (tensor<2x3xf32>, tensor<3x4xf32>, tensor<3xf32>, tensor<4x6xf32>) -> tensor<2x6xf32>
}

// -----

// gated_mlp_c4: one element type.
train.step @gated_mlp_c4 {
  %x = train.input {name = "x"} : tensor<2x3xf32>
  %g = train.input {name = "g"} : tensor<3x4xf32>
  %u = train.input {name = "u"} : tensor<3x4xbf16>
  %d = train.input {name = "d"} : tensor<4x6xf32>
  // expected-error@+2 {{x and weights should have one element type}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gated_mlp %x, %g, %u, %d {activation = "silu"} : (tensor<2x3xf32>, tensor<3x4xf32>, tensor<3x4xbf16>, tensor<4x6xf32>) -> tensor<2x6xf32>
}

// -----

// gated_mlp_c5: the input's width; up is stored the other way round here.
train.step @gated_mlp_c5 {
  %x = train.input {name = "x"} : tensor<2x3xf32>
  %g = train.input {name = "g"} : tensor<3x4xf32>
  %u = train.input {name = "u"} : tensor<3x4xf32>
  %d = train.input {name = "d"} : tensor<4x6xf32>
  // expected-error@+2 {{gate and up have 3 and 4 rows, should have x's last dimension 3}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gated_mlp %x, %g, %u, %d {activation = "silu", transpose_up} : (tensor<2x3xf32>, tensor<3x4xf32>, tensor<3x4xf32>, tensor<4x6xf32>) -> tensor<2x6xf32>
}

// -----

// gated_mlp_c6: one inner dimension.
train.step @gated_mlp_c6 {
  %x = train.input {name = "x"} : tensor<2x3xf32>
  %g = train.input {name = "g"} : tensor<3x4xf32>
  %u = train.input {name = "u"} : tensor<3x4xf32>
  %d = train.input {name = "d"} : tensor<5x6xf32>
  // expected-error@+2 {{gate, up and down have inner dimensions 4, 4 and 5, should be equal}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gated_mlp %x, %g, %u, %d {activation = "silu"} : (tensor<2x3xf32>, tensor<3x4xf32>, tensor<3x4xf32>, tensor<5x6xf32>) -> tensor<2x6xf32>
}

// -----

// gated_mlp_backward_c1: dy is like y.
train.step @gated_mlp_backward_c1 {
  %dy = train.input {name = "dy"} : tensor<2x3xf32>
  %x = train.input {name = "x"} : tensor<2x3xf32>
  %g = train.input {name = "g"} : tensor<3x4xf32>
  %u = train.input {name = "u"} : tensor<3x4xf32>
  %d = train.input {name = "d"} : tensor<4x6xf32>
  // expected-error@+2 {{dy is tensor<2x3xf32>, should be tensor<2x6xf32>}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:4 = train.gated_mlp_backward %dy, %x, %g, %u, %d {activation = "silu"} : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<3x4xf32>, tensor<3x4xf32>, tensor<4x6xf32>) -> (tensor<2x3xf32>, tensor<3x4xf32>, tensor<3x4xf32>, tensor<4x6xf32>)
}

// -----

// gated_mlp_backward_c2: the weight gradients are all wide, dx is not.
train.step @gated_mlp_backward_c2 {
  %dy = train.input {name = "dy"} : tensor<2x6xbf16>
  %x = train.input {name = "x"} : tensor<2x3xbf16>
  %g = train.input {name = "g"} : tensor<3x4xbf16>
  %u = train.input {name = "u"} : tensor<3x4xbf16>
  %d = train.input {name = "d"} : tensor<4x6xbf16>
  // expected-error@+2 {{inferred type(s) 'tensor<2x3xbf16>', 'tensor<3x4xf32>', 'tensor<3x4xf32>', 'tensor<4x6xf32>' are incompatible with return type(s) of operation 'tensor<2x3xbf16>', 'tensor<3x4xf32>', 'tensor<3x4xbf16>', 'tensor<4x6xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:4 = train.gated_mlp_backward %dy, %x, %g, %u, %d {activation = "silu", wide} : (tensor<2x6xbf16>, tensor<2x3xbf16>, tensor<3x4xbf16>, tensor<3x4xbf16>, tensor<4x6xbf16>) -> (tensor<2x3xbf16>, tensor<3x4xf32>, tensor<3x4xbf16>, tensor<4x6xf32>)
}
