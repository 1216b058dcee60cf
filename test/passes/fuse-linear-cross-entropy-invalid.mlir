// RUN: amc-opt %s --split-input-file --verify-diagnostics --fuse-linear-cross-entropy
// RUN: not amc-opt %s --split-input-file --fuse-linear-cross-entropy="tokens-in-flight=0" 2>&1 | FileCheck %s
// CHECK: error: tokens-in-flight is 0, should be in [1, 256]

// Tests that every other reader of the logits is named, before and behind the bias.
train.step @readers {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %w = train.parameter {name = "w", trainable} : tensor<8x7xf32>
  %b = train.parameter {name = "b", trainable} : tensor<7xf32>
  %labels = train.input {name = "labels", role = "labels"} : tensor<4xi64>
  %z = train.linear %x, %w : (tensor<4x8xf32>, tensor<8x7xf32>) -> tensor<4x7xf32>
  // expected-error @+2 {{train.exp reads the logits, which linear-cross-entropy never has in memory}}
  // expected-note @+1 {{--loss-impl=unfused keeps them}}
  %e = train.exp %z : (tensor<4x7xf32>) -> tensor<4x7xf32>
  %s = train.add %z, %b : (tensor<4x7xf32>, tensor<7xf32>) -> tensor<4x7xf32>
  // expected-error @+2 {{train.output reads the logits, which linear-cross-entropy never has in memory}}
  // expected-note @+1 {{--loss-impl=unfused keeps them}}
  train.output %s {name = "logits"} : tensor<4x7xf32>
  %loss, %lse = train.cross_entropy %s, %labels : (tensor<4x7xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests logits that no product makes.
train.step @unknown {
  // expected-error @+1 {{train.input makes the logits, which linear-cross-entropy cannot compute tile by tile; it should be a product with a weight, its bias, a constant factor or a softcap}}
  %z = train.input {name = "x"} : tensor<4x7xf32>
  %labels = train.input {name = "labels", role = "labels"} : tensor<4xi64>
  // expected-note @+1 {{this loss reads them; --loss-impl=unfused keeps them in memory}}
  %loss, %lse = train.cross_entropy %z, %labels : (tensor<4x7xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests that what was capped is not scaled: factor * cap(x) is no cap.
train.step @scaled_cap {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %w = train.parameter {name = "w", trainable} : tensor<8x7xf32>
  %labels = train.input {name = "labels", role = "labels"} : tensor<4xi64>
  %c = train.constant {value = dense<2.0> : tensor<f32>} : tensor<f32>
  %z = train.linear %x, %w : (tensor<4x8xf32>, tensor<8x7xf32>) -> tensor<4x7xf32>
  // expected-error @+1 {{train.tanh makes the logits, which linear-cross-entropy cannot compute tile by tile}}
  %t = train.tanh %z : (tensor<4x7xf32>) -> tensor<4x7xf32>
  %n = train.tanh %t : (tensor<4x7xf32>) -> tensor<4x7xf32>
  // expected-note @+1 {{this loss reads them}}
  %loss, %lse = train.cross_entropy %n, %labels : (tensor<4x7xf32>, tensor<4xi64>) -> (tensor<f32>, tensor<4xf32>)
  train.output %loss {name = "loss", sum} : tensor<f32>
}

// -----

// Tests a loss that the model computes itself.
// expected-error @+2 {{there is no cross-entropy that linear-cross-entropy could fuse with an LM head}}
// expected-note @+1 {{the loss is the model's own; --loss=causal-lm or cross-entropy attaches one, --loss-impl=unfused leaves the model's as it is}}
train.step @own {
  %l = train.input {name = "l"} : tensor<f32>
  train.output %l {name = "loss", sum} : tensor<f32>
}
