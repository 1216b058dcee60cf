// RUN: not amc-opt %s --attach-loss=loss=hinge 2>&1 | FileCheck %s --check-prefix=KIND
// RUN: not amc-opt %s --attach-loss=loss=model 2>&1 | FileCheck %s --check-prefix=MODEL
// RUN: not amc-opt %s --attach-loss=loss=causal-lm 2>&1 | FileCheck %s --check-prefix=RANK
// RUN: not amc-opt %s --attach-loss=logits=y 2>&1 | FileCheck %s --check-prefix=NAME

// Tests each option that does not fit the model.
// KIND: error: loss is "hinge", should be auto, causal-lm, cross-entropy or model
// MODEL: error: the model has no loss of its own: no float scalar output is named like one
// MODEL: note: outputs: logits (2x8); choose --loss=causal-lm or cross-entropy
// RANK: error: causal-lm needs logits of rank 3 (batch, sequence, vocabulary), these have rank 2
// NAME: error: no output is named y
train.step @step {
  %x = train.input {name = "x"} : tensor<2x8xf32>
  train.output %x {name = "logits"} : tensor<2x8xf32>
}
