// RUN: amc-opt %s --split-input-file --raise | FileCheck %s

// Tests RMSNorm as dynamo writes it: Pow, ReduceMean, Add, Sqrt, Reciprocal, Mul, the weight on the left.
// CHECK-LABEL: @rms
// CHECK-DAG: %[[X:.*]] = train.input
// CHECK-DAG: %[[W:.*]] = train.parameter
// CHECK: %[[Y:.*]], %{{.*}} = train.rms_norm %[[X]], %[[W]] {epsilon = 9.99{{.*}}E-7 : f64}
// CHECK-NEXT: train.output %[[Y]]
train.step @rms {
  %x = train.input {name = "x"} : tensor<2x3x8xf32>
  %w = train.parameter {name = "w"} : tensor<8xf32>
  %two = train.full {value = 2.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %e = train.full {value = 1.0e-6 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %square = train.pow %x, %two : (tensor<2x3x8xf32>, tensor<f32>) -> tensor<2x3x8xf32>
  %mean = train.reduce_mean %square {axes = array<i64: 2>, keepdims = true} : (tensor<2x3x8xf32>) -> tensor<2x3x1xf32>
  %sum = train.add %mean, %e : (tensor<2x3x1xf32>, tensor<f32>) -> tensor<2x3x1xf32>
  %root = train.sqrt %sum : (tensor<2x3x1xf32>) -> tensor<2x3x1xf32>
  %r = train.reciprocal %root : (tensor<2x3x1xf32>) -> tensor<2x3x1xf32>
  %n = train.mul %x, %r : (tensor<2x3x8xf32>, tensor<2x3x1xf32>) -> tensor<2x3x8xf32>
  %y = train.mul %w, %n : (tensor<8xf32>, tensor<2x3x8xf32>) -> tensor<2x3x8xf32>
  train.output %y {name = "y"} : tensor<2x3x8xf32>
}

// -----

// Tests x * x, a division by the root, epsilon on the left, and no weight.
// CHECK-LABEL: @division
// CHECK: %[[Y:.*]], %{{.*}} = train.rms_norm %{{.*}} {epsilon = 1.000000e-05 : f64} : (tensor<4x8xf32>)
// CHECK-NEXT: train.output %[[Y]]
train.step @division {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %e = train.full {value = 1.0e-5 : f64, shape = array<i64: 1>, element = f32} : () -> tensor<1xf32>
  %square = train.mul %x, %x : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %mean = train.reduce_mean %square {axes = array<i64: 1>, keepdims = true} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %sum = train.add %e, %mean : (tensor<1xf32>, tensor<4x1xf32>) -> tensor<4x1xf32>
  %root = train.sqrt %sum : (tensor<4x1xf32>) -> tensor<4x1xf32>
  %y = train.div %x, %root : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  train.output %y {name = "y"} : tensor<4x8xf32>
}

// -----

// Tests the power -0.5 and Gemma's weight, 1 + w, which stays a sum.
// CHECK-LABEL: @gemma
// CHECK: %[[W:.*]] = train.add
// CHECK: train.rms_norm %{{.*}}, %[[W]]
// CHECK-NOT: train.mul
train.step @gemma {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %w = train.parameter {name = "w"} : tensor<8xf32>
  %one = train.full {value = 1.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %two = train.full {value = 2.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %half = train.full {value = -0.5 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %e = train.full {value = 1.0e-6 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %square = train.pow %x, %two : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %mean = train.reduce_mean %square {axes = array<i64: 1>, keepdims = true} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %sum = train.add %mean, %e : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %r = train.pow %sum, %half : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %n = train.mul %x, %r : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %v = train.add %one, %w : (tensor<f32>, tensor<8xf32>) -> tensor<8xf32>
  %y = train.mul %n, %v : (tensor<4x8xf32>, tensor<8xf32>) -> tensor<4x8xf32>
  train.output %y {name = "y"} : tensor<4x8xf32>
}

// -----

// Tests a bf16 norm that is computed in f32 between casts.
// CHECK-LABEL: @narrow
// CHECK: %[[Y:.*]], %{{.*}} = train.rms_norm %{{.*}}, %{{.*}} : (tensor<4x8xbf16>, tensor<8xbf16>) -> (tensor<4x8xbf16>, tensor<4xf32>)
// CHECK-NEXT: train.output %[[Y]]
train.step @narrow {
  %x = train.input {name = "x"} : tensor<4x8xbf16>
  %w = train.parameter {name = "w"} : tensor<8xbf16>
  %e = train.full {value = 1.0e-6 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %one = train.full {value = 1.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %wide = train.cast %x {to = f32} : (tensor<4x8xbf16>) -> tensor<4x8xf32>
  %square = train.mul %wide, %wide : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %mean = train.reduce_mean %square {axes = array<i64: 1>, keepdims = true} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %sum = train.add %mean, %e : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %root = train.sqrt %sum : (tensor<4x1xf32>) -> tensor<4x1xf32>
  %r = train.div %one, %root : (tensor<f32>, tensor<4x1xf32>) -> tensor<4x1xf32>
  %n = train.mul %wide, %r : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %back = train.cast %n {to = bf16} : (tensor<4x8xf32>) -> tensor<4x8xbf16>
  %y = train.mul %w, %back : (tensor<8xbf16>, tensor<4x8xbf16>) -> tensor<4x8xbf16>
  train.output %y {name = "y"} : tensor<4x8xbf16>
}

// -----

// Tests LayerNorm in parts; the centred x is computed twice.
// CHECK-LABEL: @layer
// CHECK: %[[Y:.*]], %{{.*}}, %{{.*}} = train.layer_norm %{{.*}}, %{{.*}}, %{{.*}} {epsilon = 1.000000e-05 : f64
// CHECK-NEXT: train.output %[[Y]]
train.step @layer {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %w = train.parameter {name = "w"} : tensor<8xf32>
  %b = train.parameter {name = "b"} : tensor<8xf32>
  %two = train.full {value = 2.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %e = train.full {value = 1.0e-5 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %mean = train.reduce_mean %x {axes = array<i64: 1>, keepdims = true} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %c = train.sub %x, %mean : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %c2 = train.sub %x, %mean : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %square = train.pow %c2, %two : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %var = train.reduce_mean %square {axes = array<i64: 1>, keepdims = true} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %sum = train.add %var, %e : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %root = train.sqrt %sum : (tensor<4x1xf32>) -> tensor<4x1xf32>
  %n = train.div %c, %root : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %s = train.mul %n, %w : (tensor<4x8xf32>, tensor<8xf32>) -> tensor<4x8xf32>
  %y = train.add %s, %b : (tensor<4x8xf32>, tensor<8xf32>) -> tensor<4x8xf32>
  train.output %y {name = "y"} : tensor<4x8xf32>
}
