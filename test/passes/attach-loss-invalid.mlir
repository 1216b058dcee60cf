// RUN: amc-opt %s --split-input-file --verify-diagnostics --attach-loss
// RUN: amc-opt %s --split-input-file --verify-diagnostics --attach-loss=loss=auto

// Tests that two candidates for the logits are not guessed between.
// expected-error @+2 {{which output holds the logits is ambiguous}}
// expected-note @+1 {{outputs: a (2x8), b (2x8); name one with --logits}}
train.step @ambiguous {
  %x = train.input {name = "x"} : tensor<2x8xf32>
  train.output %x {name = "a"} : tensor<2x8xf32>
  train.output %x {name = "b"} : tensor<2x8xf32>
}

// -----

// Tests a model without any usable output.
// expected-error @+2 {{which output holds the logits is unknown: none is a float tensor of rank 2 or more}}
// expected-note @+1 {{outputs: ids (2x8); name one with --logits}}
train.step @none {
  %x = train.input {name = "x"} : tensor<2x8xi64>
  train.output %x {name = "ids"} : tensor<2x8xi64>
}

// -----

// Tests logits of the wrong type.
train.step @integers {
  %x = train.input {name = "x"} : tensor<2x8xi64>
  // expected-error @+1 {{logits are 'tensor<2x8xi64>', should be a float tensor of rank 2 or more}}
  train.output %x {name = "logits"} : tensor<2x8xi64>
}
