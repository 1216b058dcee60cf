// RUN: amc-opt %s --split-input-file --raise | FileCheck %s

// Tests SiLU that gates another tensor.
// CHECK-LABEL: @silu
// CHECK: %[[G:.*]] = train.input {name = "g"
// CHECK: %[[U:.*]] = train.input {name = "u"
// CHECK-NEXT: train.gated_activation %[[G]], %[[U]] {activation = "silu"}
// CHECK-NEXT: train.output
train.step @silu {
  %g = train.input {name = "g"} : tensor<4x8xf32>
  %u = train.input {name = "u"} : tensor<4x8xf32>
  %s = train.sigmoid %g : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %a = train.mul %s, %g : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %y = train.mul %u, %a : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  train.output %y {name = "y"} : tensor<4x8xf32>
}

// -----

// Tests that an activation with another reader stays one of its own, and that quick GELU stays as it is.
// CHECK-LABEL: @read_twice
// CHECK: train.silu
// CHECK: train.mul
// CHECK: train.sigmoid
// CHECK-NOT: train.gated_activation
train.step @read_twice {
  %g = train.input {name = "g"} : tensor<4x8xf32>
  %u = train.input {name = "u"} : tensor<4x8xf32>
  %c = train.full {value = 1.702 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %s = train.sigmoid %g : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %a = train.mul %s, %g : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %y = train.mul %u, %a : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %scaled = train.mul %c, %u : (tensor<f32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %q = train.sigmoid %scaled : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %quick = train.mul %u, %q : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  train.output %a {name = "a"} : tensor<4x8xf32>
  train.output %y {name = "y"} : tensor<4x8xf32>
  train.output %quick {name = "quick"} : tensor<4x8xf32>
}

// -----

// Tests GELU by erf: x * (0.5 * (1 + erf(x / sqrt 2))).
// CHECK-LABEL: @erf
// CHECK: %[[X:.*]] = train.input
// CHECK-NEXT: train.gelu %[[X]]
// CHECK-NOT: tanh
// CHECK-NEXT: train.output
train.step @erf {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %root = train.full {value = 1.4142135381698608 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %one = train.full {value = 1.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %half = train.full {value = 0.5 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %d = train.div %x, %root : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %f = train.erf %d : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %a = train.add %f, %one : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %h = train.mul %half, %a : (tensor<f32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %y = train.mul %x, %h : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  train.output %y {name = "y"} : tensor<4x8xf32>
}

// -----

// Tests GPT-2's association: (0.5 * x) * (1 + tanh(c * (x + 0.044715 x^3))).
// CHECK-LABEL: @gpt2
// CHECK: %[[X:.*]] = train.input
// CHECK-NEXT: train.gelu %[[X]] {approximate = "tanh"}
// CHECK-NEXT: train.output
train.step @gpt2 {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %three = train.full {value = 3.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %k = train.full {value = 0.044714998453855515 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %c = train.full {value = 0.7978845834732056 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %one = train.full {value = 1.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %half = train.full {value = 0.5 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %h = train.mul %x, %half : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %p = train.pow %x, %three : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %s = train.mul %p, %k : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %a = train.add %x, %s : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %u = train.mul %a, %c : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %t = train.tanh %u : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %g = train.add %t, %one : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %y = train.mul %h, %g : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  train.output %y {name = "y"} : tensor<4x8xf32>
}

// -----

// Tests x * c * (1 + 0.044715 * x * x) inside, and a gate outside.
// CHECK-LABEL: @fast
// CHECK: train.gated_activation %{{.*}}, %{{.*}} {activation = "gelu_tanh"}
// CHECK-NEXT: train.output
train.step @fast {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %up = train.input {name = "up"} : tensor<4x8xf32>
  %k = train.full {value = 0.044714998453855515 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %c = train.full {value = 0.7978845834732056 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %one = train.full {value = 1.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %half = train.full {value = 0.5 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %kx = train.mul %k, %x : (tensor<f32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %kxx = train.mul %kx, %x : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %a = train.add %one, %kxx : (tensor<f32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %cx = train.mul %x, %c : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %u = train.mul %cx, %a : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %t = train.tanh %u : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %g = train.add %one, %t : (tensor<f32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %xg = train.mul %x, %g : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %y = train.mul %half, %xg : (tensor<f32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %z = train.mul %y, %up : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  train.output %z {name = "z"} : tensor<4x8xf32>
}

// -----

// Tests that another constant, or erf of another tensor, is not GELU.
// CHECK-LABEL: @not_gelu
// CHECK-NOT: train.gelu
train.step @not_gelu {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %z = train.input {name = "z"} : tensor<4x8xf32>
  %root = train.full {value = 1.5 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %right = train.full {value = 1.4142135381698608 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %one = train.full {value = 1.0 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %half = train.full {value = 0.5 : f64, shape = array<i64>, element = f32} : () -> tensor<f32>
  %d = train.div %x, %root : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %f = train.erf %d : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %a = train.add %f, %one : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %h = train.mul %half, %a : (tensor<f32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %y = train.mul %x, %h : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %d2 = train.div %z, %right : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %f2 = train.erf %d2 : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %a2 = train.add %f2, %one : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %h2 = train.mul %half, %a2 : (tensor<f32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %y2 = train.mul %x, %h2 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  train.output %y {name = "y"} : tensor<4x8xf32>
  train.output %y2 {name = "y2"} : tensor<4x8xf32>
}
