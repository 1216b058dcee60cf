// RUN: amc-opt %s --verify-diagnostics --schedule

// All foreign operations are reported in one run.
train.step @foreign {
  %x = train.input {name = "x"} : tensor<4xf32>
  // expected-error @+1 {{is not part of a step: it is neither a computation, a source, an output nor a marker}}
  %y = builtin.unrealized_conversion_cast %x : tensor<4xf32> to tensor<4xf32>
  // expected-error @+1 {{is not part of a step: it is neither a computation, a source, an output nor a marker}}
  %z = builtin.unrealized_conversion_cast %y : tensor<4xf32> to tensor<4xf32>
}
