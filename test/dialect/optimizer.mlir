// RUN: amc-opt %s --split-input-file | amc-opt --split-input-file | FileCheck %s
// RUN: amc-opt %s --split-input-file --cse --canonicalize | FileCheck %s
//
// Updates have no results, yet nothing removes or merges them: they overwrite memory.

// CHECK-LABEL: @adamw
train.step @adamw {
  %p = train.parameter {name = "p", trainable} : tensor<3xbf16>
  %g = train.input {name = "g"} : tensor<3xbf16>
  %m = train.state {name = "exp_avg", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %v = train.state {name = "exp_avg_sq", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %lr = train.input {name = "lr", role = "learning_rate"} : tensor<f64>
  %step = train.input {name = "step", role = "step_number"} : tensor<i64>
  // CHECK: train.squared_norm {{.*}} -> tensor<f64>
  %n = train.squared_norm %g : (tensor<3xbf16>) -> tensor<f64>
  // CHECK: train.clip_scale {{.*}} -> (tensor<f32>, tensor<f32>)
  %norm, %scale = train.clip_scale %n {max_norm = 1.0 : f64} : (tensor<f64>) -> (tensor<f32>, tensor<f32>)
  // CHECK: train.adamw {{.*}} : tensor<3xbf16>, tensor<3xbf16>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
  // CHECK: train.adamw
  train.adamw %p, %g, %m, %v, %scale, %lr, %step {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : tensor<3xbf16>, tensor<3xbf16>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
  train.adamw %p, %g, %m, %v, %scale, %lr, %step {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : tensor<3xbf16>, tensor<3xbf16>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}

// -----

// CHECK-LABEL: @sgd
train.step @sgd {
  %p = train.parameter {name = "p", trainable} : tensor<3xf32>
  %g = train.input {name = "g"} : tensor<3xf32>
  %sum = train.state {name = "sum", parameter = "p", kind = "gradient"} : tensor<3xf32>
  %b = train.state {name = "momentum", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %scale = train.input {name = "scale"} : tensor<f32>
  %lr = train.input {name = "lr", role = "learning_rate"} : tensor<f64>
  %step = train.input {name = "step", role = "step_number"} : tensor<i64>
  %micro = train.input {name = "micro", role = "micro_batch"} : tensor<i64>
  // CHECK: train.accumulate
  train.accumulate %sum, %g, %micro : tensor<3xf32>, tensor<3xf32>, tensor<i64>
  train.micro_batch_end
  // CHECK: train.sgd {{.*}} {momentum = 9.000000e-01 : f64, nesterov, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0>, weight_decay
  train.sgd %p, %sum, %scale, %lr, %step, %b {momentum = 0.9 : f64, weight_decay = 0.0 : f64, nesterov, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0>} : tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
  // CHECK: train.sgd {{.*}} {momentum = 0.000000e+00 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 0>, weight_decay
  train.sgd %p, %g, %scale, %lr, %step {momentum = 0.0 : f64, weight_decay = 0.1 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 0>} : tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}

// Tests that a bf16 parameter keeps its updates in an fp32 master beside moments of either type.
// CHECK-LABEL: @master
train.step @master {
  %p = train.parameter {name = "p", trainable} : tensor<3xbf16>
  %g = train.input {name = "g"} : tensor<3xbf16>
  %m = train.state {name = "exp_avg", parameter = "p", kind = "optimizer"} : tensor<3xbf16>
  %v = train.state {name = "exp_avg_sq", parameter = "p", kind = "optimizer"} : tensor<3xbf16>
  %master = train.state {name = "master", parameter = "p", kind = "optimizer"} : tensor<3xf32>
  %scale = train.input {name = "scale"} : tensor<f32>
  %lr = train.input {name = "lr", role = "learning_rate"} : tensor<f64>
  %step = train.input {name = "step", role = "step_number"} : tensor<i64>
  // CHECK: train.adamw {{.*}} : tensor<3xbf16>, tensor<3xbf16>, tensor<3xbf16>, tensor<3xbf16>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
  train.adamw %p, %g, %m, %v, %scale, %lr, %step, %master {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : tensor<3xbf16>, tensor<3xbf16>, tensor<3xbf16>, tensor<3xbf16>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
  // CHECK: train.sgd {{.*}} : tensor<3xbf16>, tensor<3xbf16>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
  train.sgd %p, %g, %scale, %lr, %step, %master {momentum = 0.0 : f64, weight_decay = 0.1 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 1>} : tensor<3xbf16>, tensor<3xbf16>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<3xf32>
}
