// RUN: not amc-opt %s --assign-offsets=alignment=48 2>&1 | FileCheck %s --check-prefix=ALIGNMENT
// RUN: amc-opt %s --verify-diagnostics --assign-offsets
// ALIGNMENT: error: alignment is 48, should be a power of two up to 2^30

train.step @foreign {
  %x = train.input {name = "x"} : tensor<4xf32>
  // expected-error @+1 {{is not part of a step: it is neither a computation, a source, an output nor a marker}}
  %y = builtin.unrealized_conversion_cast %x : tensor<4xf32> to tensor<4xf32>
}
