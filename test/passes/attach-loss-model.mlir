// RUN: amc-opt %s --attach-loss | FileCheck %s
// RUN: amc-opt %s --attach-loss 2>&1 >/dev/null | FileCheck %s --check-prefix=SAID
// RUN: amc-opt %s --attach-loss=loss=model 2>&1 >/dev/null | count 0
// SAID: remark: the loss is the model's own output 'loss'; --loss chooses

// Tests that a model's own scalar loss is used as it is and divided by what the runtime counts (micro-batches).
// CHECK-LABEL: train.step @own
// CHECK-SAME: train.loss = "model"
// CHECK: %[[X:.*]] = train.input {name = "x"
// CHECK: %[[L:.*]] = train.reduce_sum %[[X]]
// CHECK-NOT: train.cross_entropy
// CHECK: %[[M:.*]] = train.div %[[L]]
// CHECK: train.output %[[M]] {name = "loss", sum}
train.step @own {
  %x = train.input {name = "x"} : tensor<2x8xf32>
  %l = train.reduce_sum %x {axes = array<i64: 0, 1>, keepdims = false} : (tensor<2x8xf32>) -> tensor<f32>
  train.output %x {name = "logits"} : tensor<2x8xf32>
  train.output %l {name = "loss"} : tensor<f32>
}
