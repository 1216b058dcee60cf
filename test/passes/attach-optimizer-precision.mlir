// RUN: amc-opt %s --attach-optimizer="max-grad-norm=1" | FileCheck %s --check-prefix=PLAIN
// RUN: amc-opt %s --attach-optimizer="master-weights=fp32 optimizer-state=fp32" | FileCheck %s --check-prefix=WIDE
// RUN: amc-opt %s --attach-optimizer="optimizer=sgd master-weights=fp32" | FileCheck %s --check-prefix=SGD
// RUN: amc-opt %s --attach-optimizer="accumulation=2 optimizer-state=fp32" | FileCheck %s --check-prefix=ACC
// RUN: not amc-opt %s --attach-optimizer="master-weights=bf16" 2>&1 | FileCheck %s --check-prefix=MASTER
// RUN: not amc-opt %s --attach-optimizer="optimizer-state=fp8" 2>&1 | FileCheck %s --check-prefix=STATE
// RUN: sed "s/xbf16/xf32/" %s | not amc-opt --attach-optimizer="master-weights=fp32 optimizer-state=bf16" 2>&1 | FileCheck %s --check-prefix=NARROW

// Tests that moments have the parameter's type unless asked for in fp32, that a master is fp32 and the update's last
// operand, that gradients are accumulated in the parameter's type, and choices that make no sense.
// PLAIN: %[[M:.*]] = train.state {{.*}}name = "exp_avg", {{.*}} : tensor<4xbf16>
// PLAIN: %[[V:.*]] = train.state {{.*}}name = "exp_avg_sq", {{.*}} : tensor<4xbf16>
// PLAIN: train.adamw %{{.*}}, %{{.*}}, %[[M]], %[[V]], %{{[^,]*}}, %{{[^,]*}}, %{{[^,]*}} {
// WIDE: %[[COPY:.*]] = train.state {kind = "optimizer", name = "master", parameter = "w", {{.*}}} : tensor<4xf32>
// WIDE: train.state {{.*}}name = "exp_avg", {{.*}} : tensor<4xf32>
// WIDE: train.state {{.*}}name = "exp_avg_sq", {{.*}} : tensor<4xf32>
// WIDE: train.adamw {{.*}}, %[[COPY]] {
// SGD: %[[COPY:.*]] = train.state {{.*}}name = "master"
// SGD: train.sgd {{.*}}, %[[COPY]] {
// ACC: train.state {kind = "gradient", {{.*}}} : tensor<4xbf16>
// MASTER: error: master-weights is "bf16", should be none or fp32
// STATE: error: optimizer-state is "fp8", should be fp32 or bf16
// NARROW: error: is 'f32', should be narrower to have a master copy in fp32
// NARROW: error: is 'f32', should be bf16 for states in bf16
train.step @step {
  %w = train.parameter {name = "w", trainable} : tensor<4xbf16>
  train.gradient %w {parameter = "w"} : tensor<4xbf16>
}
