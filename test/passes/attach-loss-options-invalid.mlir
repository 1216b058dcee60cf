// RUN: not amc-opt %s --attach-loss=loss=hinge 2>&1 | FileCheck %s --check-prefix=KIND
// RUN: not amc-opt %s --attach-loss=loss=model 2>&1 | FileCheck %s --check-prefix=MODEL
// RUN: not amc-opt %s --attach-loss=loss=causal-lm 2>&1 | FileCheck %s --check-prefix=RANK
// RUN: not amc-opt %s --attach-loss=logits=y 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: not amc-opt %s --attach-loss="reduction=none label-smoothing=2 z-loss=-1 class-weights=-1,nan" 2>&1 | FileCheck %s --check-prefix=VALUES
// RUN: not amc-opt %s --attach-loss="class-weights=0,0" 2>&1 | FileCheck %s --check-prefix=ZEROS
// RUN: not amc-opt %s --attach-loss="class-weights=1,2,3" 2>&1 | FileCheck %s --check-prefix=COUNT

// Tests each option that does not fit the model.
// KIND: error: loss is "hinge", should be auto, causal-lm, cross-entropy or model
// MODEL: error: the model has no loss of its own: no float scalar output is named like one
// MODEL: note: outputs: logits (2x8); choose --loss=causal-lm or cross-entropy
// RANK: error: causal-lm needs logits of rank 3 (batch, sequence, vocabulary), these have rank 2
// NAME: error: no output is named y
// VALUES: error: reduction is "none", should be mean or sum
// VALUES: error: label-smoothing is 2.000000, should be in [0, 1]
// VALUES: error: z-loss is -1.000000, should be 0 or more and finite
// VALUES: error: class-weights should be 0 or more and finite
// ZEROS: error: class-weights are all 0, one should be more
// COUNT: error: class-weights are 3 numbers, should be 8, one for each class
train.step @step {
  %x = train.input {name = "x"} : tensor<2x8xf32>
  train.output %x {name = "logits"} : tensor<2x8xf32>
}
