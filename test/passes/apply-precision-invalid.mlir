// RUN: not amc-opt %s --apply-precision=precision=fp8 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: not amc-opt %s --apply-precision 2>&1 | FileCheck %s --check-prefix=LATE

// Tests a precision that AMC does not have, and a step that has been differentiated already.
// NAME: error: precision is "fp8", should be fp32 or bf16
// LATE: error: the step has a backward pass, should have none yet
// LATE: note: run apply-precision before derive-backward
train.step @step {
  %w = train.parameter {name = "w", trainable} : tensor<2xf32>
  %g = train.mul %w, %w {train.phase = "backward"} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  train.gradient %g {parameter = "w"} : tensor<2xf32>
}
