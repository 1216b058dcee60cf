// RUN: amc-opt %s --split-input-file --verify-diagnostics --rematerialize=policy=full
// RUN: not amc-opt %s --split-input-file --rematerialize=policy=most 2>&1 | FileCheck %s --check-prefix=POLICY
// RUN: not amc-opt %s --split-input-file --rematerialize="policy=selective matmuls=few" 2>&1 | FileCheck %s --check-prefix=MATMULS
// RUN: not amc-opt %s --split-input-file --rematerialize="policy=full matmuls=all" 2>&1 | FileCheck %s --check-prefix=TOGETHER
// RUN: not amc-opt %s --split-input-file --rematerialize="policy=selective classes=softmx=save,softmax=keep" 2>&1 | FileCheck %s --check-prefix=CLASSES
// RUN: not amc-opt %s --split-input-file --rematerialize="policy=full classes=softmax=save" 2>&1 | FileCheck %s --check-prefix=SELECTIVE
// RUN: not amc-opt %s --split-input-file --rematerialize="policy=full kv-sharing=layer" 2>&1 | FileCheck %s --check-prefix=SHARING
// CLASSES: error: 'train.softmx' is no operation of a forward pass; the nearest is 'train.softmax'
// CLASSES: note: amc inspect --ac-policy lists them all
// CLASSES: error: class of 'train.softmax' is 'keep', should be save, recompute or alternate
// SELECTIVE: error: operations are given classes with checkpointing policy "full", should be with selective only
// SHARING: error: kv-sharing is "layer", should be submodule or block
// POLICY: error: checkpointing policy is "most", should be none, full or selective
// MATMULS: error: matmuls is "few", should be alternate or all
// TOGETHER: error: matmuls is "all" with checkpointing policy "full", should be used with selective only

train.step @foreign {
  %x = train.input {name = "x"} : tensor<4xf32>
  // expected-error @+1 {{is not part of a step: it is neither a computation, a source, an output nor a marker}}
  %y = builtin.unrealized_conversion_cast %x : tensor<4xf32> to tensor<4xf32>
}

// -----

// Tests that there has to be a backward pass to checkpoint for.
// expected-error @+2 {{checkpointing policy is "full", but nothing is trained here: there is no backward pass to keep values for}}
// expected-note @+1 {{checkpoint nothing (none), or train some weights}}
train.step @inference {
  %x = train.input {name = "x"} : tensor<4xf32>
  %y = train.exp %x : (tensor<4xf32>) -> tensor<4xf32>
  train.output %y {name = "y"} : tensor<4xf32>
}
