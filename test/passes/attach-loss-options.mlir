// RUN: amc-opt %s --attach-loss="label-smoothing=0.1 z-loss=0.01 class-weights=1,2,0.5" | FileCheck %s
// RUN: amc-opt %s --attach-loss="class-weights=1,2,0.5 reduction=sum" | FileCheck %s --check-prefix=SUM

// Tests that the loss has the options, and that the runtime is told the weights that a mean divides by.
// CHECK: train.step @step
// CHECK-SAME: train.class_weights = array<f64: 1.000000e+00, 2.000000e+00, 5.000000e-01>
// CHECK: %[[N:.*]] = train.input {name = "num_label_tokens"
// CHECK: %[[W:.*]] = train.constant {value = dense<[1.000000e+00, 2.000000e+00, 5.000000e-01]> : tensor<3xf32>}
// CHECK: %[[L:.*]], %{{.*}} = train.cross_entropy %{{.*}}, %{{.*}}, %[[W]] {label_smoothing = 1.000000e-01 : f64, z_loss = 1.000000e-02 : f64}
// CHECK: %[[M:.*]] = train.div %[[L]], %[[N]]
// CHECK: train.output %[[M]]

// Tests that a sum is divided by nothing: there is no normaliser.
// SUM: train.step @step
// SUM-NOT: train.class_weights
// SUM-NOT: num_label_tokens
// SUM: %[[L:.*]], %{{.*}} = train.cross_entropy
// SUM-NEXT: train.output %[[L]] {name = "loss", sum}
train.step @step {
  %x = train.input {name = "x"} : tensor<2x3xbf16>
  train.output %x {name = "logits"} : tensor<2x3xbf16>
}
