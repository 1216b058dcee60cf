// RUN: amc-opt %s --split-input-file --verify-diagnostics --derive-backward

// Tests that every kind of operation without a gradient is reported in one run, once each, at its first use.
train.step @missing {
  %w = train.parameter {name = "w", trainable} : tensor<f32>
  %c = train.full {value = 2.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  // expected-error @+2 {{train.mod has no gradient here (2 uses, this is the first)}}
  // expected-note @+1 {{freeze the parameters that it depends on with --frozen, or use another form of it}}
  %a = train.mod %w, %c {fmod} : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %b = train.mod %w, %c : (tensor<f32>, tensor<f32>) -> tensor<f32>
  // expected-error @+2 {{train.gelu_backward has no gradient here (1 use)}}
  // expected-note @+1 {{freeze the parameters}}
  %d = train.gelu_backward %w, %c : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %s = train.add %a, %b : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %l = train.add %s, %d : (tensor<f32>, tensor<f32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}

// -----

// Tests a step that has no loss yet.
// expected-error @+2 {{there is no float scalar output named loss}}
// expected-note @+1 {{run attach-loss first}}
train.step @no_loss {
  %w = train.parameter {name = "w", trainable} : tensor<2xf32>
  train.output %w {name = "loss"} : tensor<2xf32>
}

// -----

// Tests a loss that nothing trainable reaches.
// expected-error @+2 {{the loss depends on no trainable parameter}}
// expected-note @+1 {{parameters that neither --trainable nor --frozen names are trained by what they do: amc compile --verbose lists what each is taken for}}
train.step @all_frozen {
  %w = train.parameter {name = "w"} : tensor<f32>
  train.output %w {name = "loss"} : tensor<f32>
}

// -----

// Tests that the operation which lets no gradient through is named.
// expected-error @+2 {{the loss depends on no trainable parameter}}
// expected-note @+1 {{parameters that neither}}
train.step @blocked {
  %w = train.parameter {name = "w", trainable} : tensor<f32>
  // expected-note @+1 {{train.floor lets no gradient through}}
  %f = train.floor %w : (tensor<f32>) -> tensor<f32>
  train.output %f {name = "loss"} : tensor<f32>
}

// -----

// Tests a parameter that the loss does not reach.
train.step @unreached {
  %w = train.parameter {name = "w", trainable} : tensor<f32>
  // expected-remark @+1 {{parameter v is not trained: the loss does not depend on it}}
  %v = train.parameter {name = "v", trainable} : tensor<f32>
  train.output %w {name = "loss"} : tensor<f32>
}
