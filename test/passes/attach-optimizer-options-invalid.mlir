// RUN: not amc-opt %s --attach-optimizer=optimizer=lion 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: not amc-opt %s --attach-optimizer=weight-decay-on=biases 2>&1 | FileCheck %s --check-prefix=DECAY
// RUN: not amc-opt %s --attach-optimizer=beta1=1.0 2>&1 | FileCheck %s --check-prefix=BETA
// RUN: not amc-opt %s --attach-optimizer=epsilon=-1 2>&1 | FileCheck %s --check-prefix=NEGATIVE
// RUN: not amc-opt %s --attach-optimizer=nesterov 2>&1 | FileCheck %s --check-prefix=NESTEROV
// RUN: not amc-opt %s --attach-optimizer=accumulation=0 2>&1 | FileCheck %s --check-prefix=ACC
// RUN: not amc-opt %s --attach-optimizer=in-backward=maybe 2>&1 | FileCheck %s --check-prefix=WHEN
// RUN: not amc-opt %s --attach-optimizer=in-backward=on 2>&1 | FileCheck %s --check-prefix=CLIP
// RUN: not amc-opt %s --attach-optimizer="in-backward=on max-grad-norm=0 accumulation=2" 2>&1 | FileCheck %s --check-prefix=BATCH

// Tests each option value that makes no sense.
// NAME: error: optimizer is "lion", should be adamw or sgd
// DECAY: error: weight-decay-on is "biases", should be all or matrices
// BETA: error: betas should be at least 0 and below 1
// NEGATIVE: error: epsilon, weight-decay, momentum, max-grad-norm and learning-rate should not be negative
// NESTEROV: error: nesterov needs a momentum
// ACC: error: accumulation is 0, should be at least 1
// WHEN: error: in-backward is "maybe", should be auto, on or off
// CLIP: error: in-backward is on and max-grad-norm is not 0; clipping needs the norm of all gradients before the first update
// BATCH: error: in-backward is on and accumulation is above 1; updates wait for the last micro-batch
train.step @step {
  %w = train.parameter {name = "w", trainable} : tensor<2xf32>
  train.gradient %w {parameter = "w"} : tensor<2xf32>
}
