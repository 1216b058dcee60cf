// RUN: amc-opt %s --split-input-file --attach-loss | FileCheck %s
// RUN: amc-opt %s --split-input-file --attach-loss=loss=cross-entropy | FileCheck %s --check-prefix=CE

// What auto decides is said; a request needs no echo.
// RUN: amc-opt %s --split-input-file --attach-loss 2>&1 >/dev/null | FileCheck %s --check-prefix=SAID
// RUN: amc-opt %s --split-input-file --attach-loss=loss=cross-entropy 2>&1 >/dev/null | count 0
// SAID: remark: the loss is causal-lm: a position is scored by the label after it; --loss chooses
// SAID-NOT: remark
// SAID-COUNT-2: remark: the loss is cross-entropy: a row is scored by its label; --loss chooses
// SAID-NOT: remark
// SAID: remark: the loss is cross-entropy: a position is scored by the label at it; --loss chooses
// SAID-NOT: remark

// Tests that logits of rank 3 get causal-LM cross-entropy: the labels are shifted, never the logits, and the model's
// output goes.
// CHECK-LABEL: train.step @causal
// CHECK-SAME: train.ignore_index = -100 : i64
// CHECK-SAME: train.loss = "causal-lm"
// CHECK: %[[LOGITS:.*]] = train.input {name = "x"
// CHECK: %[[N:.*]] = train.input {name = "num_label_tokens", role = "loss_normalizer"} : tensor<f32>
// CHECK: %[[LABELS:.*]] = train.input {name = "labels", role = "labels"} : tensor<2x4xi64>
// CHECK: %[[SHIFTED:.*]] = train.shift_labels %[[LABELS]]
// CHECK: %[[SUM:.*]], %{{.*}} = train.cross_entropy %[[LOGITS]], %[[SHIFTED]]
// CHECK: %[[MEAN:.*]] = train.div %[[SUM]], %[[N]]
// CHECK: train.output %[[MEAN]] {name = "loss", sum}
// CHECK-NOT: train.output
// CE-LABEL: train.step @causal
// CE-SAME: train.loss = "cross-entropy"
// CE-NOT: train.shift_labels
train.step @causal {
  %x = train.input {name = "x"} : tensor<2x4x8xf32>
  train.output %x {name = "logits"} : tensor<2x4x8xf32>
}

// -----

// Tests that logits of rank 2 get one label a row.
// CHECK-LABEL: train.step @classify
// CHECK-SAME: train.loss = "cross-entropy"
// CHECK: train.input {name = "labels", role = "labels"} : tensor<2xi64>
// CE-LABEL: train.step @classify
train.step @classify {
  %x = train.input {name = "x"} : tensor<2x8xf32>
  train.output %x {name = "logits"} : tensor<2x8xf32>
}

// -----

// Tests that the only float output of rank 2 or more is taken for the logits, whatever its name, and that what only
// other outputs needed goes with them.
// CHECK-LABEL: train.step @unnamed
// CHECK-NOT: train.exp
// CHECK: train.cross_entropy
// CE-LABEL: train.step @unnamed
train.step @unnamed {
  %x = train.input {name = "x"} : tensor<2x8xf32>
  %s = train.input {name = "s"} : tensor<8xf32>
  %e = train.exp %s : (tensor<8xf32>) -> tensor<8xf32>
  train.output %x {name = "y"} : tensor<2x8xf32>
  train.output %e {name = "z"} : tensor<8xf32>
}

// -----

// Tests that a model whose attention looks both ways gets a label for every position: it is a masked language model.
// CHECK-LABEL: train.step @encoder
// CHECK-SAME: train.loss = "cross-entropy"
// CHECK-NOT: train.shift_labels
// CE-LABEL: train.step @encoder
train.step @encoder {
  %q = train.input {name = "q"} : tensor<2x1x4x8xf32>
  %y, %lse = train.attention %q, %q, %q {scale = 1.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>}
    : (tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>) -> (tensor<2x1x4x8xf32>, tensor<2x1x4xf32>)
  %x = train.reshape %y {shape = array<i64: 2, 4, 8>} : (tensor<2x1x4x8xf32>) -> tensor<2x4x8xf32>
  train.output %x {name = "logits"} : tensor<2x4x8xf32>
}
