// RUN: amc-opt %s --split-input-file --verify-diagnostics --rematerialize=policy=full
// RUN: not amc-opt %s --split-input-file --rematerialize=policy=most 2>&1 | FileCheck %s --check-prefix=POLICY
// RUN: not amc-opt %s --split-input-file --rematerialize="policy=selective matmuls=few" 2>&1 | FileCheck %s --check-prefix=MATMULS
// RUN: not amc-opt %s --split-input-file --rematerialize="policy=full matmuls=all" 2>&1 | FileCheck %s --check-prefix=TOGETHER
// POLICY: error: checkpointing policy is "most", should be none, full or selective
// MATMULS: error: matmuls is "few", should be alternate or all
// TOGETHER: error: matmuls is "all" with checkpointing policy "full", should be used with selective only

train.step @foreign {
  %x = train.input {name = "x"} : tensor<4xf32>
  // expected-error @+1 {{is not part of a step: it is neither a computation, a source, an output nor a marker}}
  %y = builtin.unrealized_conversion_cast %x : tensor<4xf32> to tensor<4xf32>
}

// -----

// Tests that a model without repeated blocks is said to be one, and is left as it is when it is tiny.
// expected-remark @+1 {{no block repeats in this model and it is too small to be split; everything that backward reads is saved}}
train.step @tiny {
  %x = train.input {name = "x"} : tensor<4xf32>
  %y = train.exp %x : (tensor<4xf32>) -> tensor<4xf32>
  train.output %y {name = "y"} : tensor<4xf32>
}
