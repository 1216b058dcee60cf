// RUN: amc-opt %s --verify-diagnostics --attach-loss="label-smoothing=0.1 z-loss=0.01 class-weights=1,2 reduction=sum"

// Tests that options which would change the formula are refused for a loss that the model computes itself.
train.step @own {
  %l = train.input {name = "l"} : tensor<f32>
  // expected-error @+2 {{the loss is the model's own and has no label-smoothing, z-loss, class-weights, reduction}}
  // expected-note @+1 {{choose --loss=causal-lm or cross-entropy, or leave out the option}}
  train.output %l {name = "loss"} : tensor<f32>
}
