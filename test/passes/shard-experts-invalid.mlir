// RUN: amc-opt %s --shard="dp-shard=4 ep=2" --verify-diagnostics

// Tests that experts that ranks cannot share are an error that names them.
train.step @odd {
  %x = train.input {name = "x"} : tensor<8x4xf32>
  %ids = train.input {name = "ids"} : tensor<8xi64>
  // expected-error @+1 {{has 3 experts, which the 2 ranks of ep (--ep-size) cannot share; give an ep that divides their number}}
  %up = train.parameter {name = "up", trainable} : tensor<3x4x6xf32>
  %y = train.grouped_matmul %x, %up, %ids : (tensor<8x4xf32>, tensor<3x4x6xf32>, tensor<8xi64>) -> tensor<8x6xf32>
  %a = train.reduce_sum %y {axes = array<i64: 0, 1>, keepdims = false} : (tensor<8x6xf32>) -> tensor<f32>
  train.output %a {name = "loss", sum} : tensor<f32>
}
