// RUN: amc-opt %s --split-input-file --verify-diagnostics --attach-optimizer

// Tests a gradient of another shape than its parameter, one without a parameter and one that comes twice: all reported.
train.step @mismatch {
  %w = train.parameter {name = "w", trainable} : tensor<4xf32>
  %g = train.input {name = "g"} : tensor<2xf32>
  // expected-error @+1 {{no parameter of type 'tensor<2xf32>' is named w}}
  train.gradient %g {parameter = "w"} : tensor<2xf32>
  // expected-error @+1 {{no parameter of type 'tensor<2xf32>' is named u}}
  train.gradient %g {parameter = "u"} : tensor<2xf32>
}

// -----

// Tests a parameter with two gradients.
train.step @twice {
  %w = train.parameter {name = "w", trainable} : tensor<2xf32>
  train.gradient %w {parameter = "w"} : tensor<2xf32>
  // expected-error @+1 {{parameter w has more than one gradient}}
  train.gradient %w {parameter = "w"} : tensor<2xf32>
}

// -----

// Tests a step without gradients.
// expected-error @+2 {{nothing to optimize: no gradient is named}}
// expected-note @+1 {{run derive-backward first}}
train.step @nothing {
  %w = train.parameter {name = "w", trainable} : tensor<2xf32>
}
