// RUN: amc-opt %s | amc-opt | FileCheck %s
//
// Elementwise operations. The types on the right are what the operations
// infer: the verifier compares them. Attributes at their default are not printed.

// Unary operations keep the type.
// CHECK-LABEL: train.step @unary
train.step @unary {
  %a = train.input {name = "a"} : tensor<2x3xbf16>
  // CHECK: train.exp {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r0 = train.exp %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.log {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r1 = train.log %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.sqrt {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r2 = train.sqrt %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.rsqrt {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r3 = train.rsqrt %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.reciprocal {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r4 = train.reciprocal %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.sin {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r5 = train.sin %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.cos {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r6 = train.cos %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.tan {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r7 = train.tan %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.asin {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r8 = train.asin %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.acos {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r9 = train.acos %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.atan {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r10 = train.atan %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.sinh {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r11 = train.sinh %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.cosh {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r12 = train.cosh %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.tanh {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r13 = train.tanh %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.asinh {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r14 = train.asinh %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.acosh {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r15 = train.acosh %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.atanh {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r16 = train.atanh %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.sigmoid {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r17 = train.sigmoid %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.erf {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r18 = train.erf %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.silu {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r19 = train.silu %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.softplus {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r20 = train.softplus %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.gelu {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r21 = train.gelu %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.elu {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r22 = train.elu %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.ceil {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r23 = train.ceil %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.floor {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r24 = train.floor %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.round {{.*}}: (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r25 = train.round %a : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %b = train.input {name = "b"} : tensor<i8>
  // CHECK: train.abs {{.*}}: (tensor<i8>) -> tensor<i8>
  %r26 = train.abs %b : (tensor<i8>) -> tensor<i8>
  // CHECK: train.neg {{.*}}: (tensor<i8>) -> tensor<i8>
  %r27 = train.neg %b : (tensor<i8>) -> tensor<i8>
  // CHECK: train.relu {{.*}}: (tensor<i8>) -> tensor<i8>
  %r28 = train.relu %b : (tensor<i8>) -> tensor<i8>
  // CHECK: train.sign {{.*}}: (tensor<i8>) -> tensor<i8>
  %r29 = train.sign %b : (tensor<i8>) -> tensor<i8>
  // CHECK: train.bitwise_not {{.*}}: (tensor<i8>) -> tensor<i8>
  %r30 = train.bitwise_not %b : (tensor<i8>) -> tensor<i8>
  %c = train.input {name = "c"} : tensor<0xi1>
  // CHECK: train.not {{.*}}: (tensor<0xi1>) -> tensor<0xi1>
  %r31 = train.not %c : (tensor<0xi1>) -> tensor<0xi1>
  // CHECK: train.gelu {{.*}}{approximate = "tanh"} : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r32 = train.gelu %a {approximate = "tanh"} : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  // CHECK: train.elu {{.*}}{alpha = 5.000000e-01 : f64} : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
  %r33 = train.elu %a {alpha = 5.000000e-01 : f64} : (tensor<2x3xbf16>) -> tensor<2x3xbf16>
}

// Questions are answered in i1.
// CHECK-LABEL: train.step @tests
train.step @tests {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // CHECK: train.is_nan {{.*}}: (tensor<2x3xf32>) -> tensor<2x3xi1>
  %r0 = train.is_nan %a : (tensor<2x3xf32>) -> tensor<2x3xi1>
  // CHECK: train.is_inf {{.*}}{negative = false} : (tensor<2x3xf32>) -> tensor<2x3xi1>
  %r1 = train.is_inf %a {negative = false} : (tensor<2x3xf32>) -> tensor<2x3xi1>
  %b = train.input {name = "b"} : tensor<3xf32>
  // CHECK: train.equal {{.*}}: (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  %r2 = train.equal %a, %b : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  // CHECK: train.less {{.*}}: (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  %r3 = train.less %a, %b : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  // CHECK: train.less_equal {{.*}}: (tensor<3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  %r4 = train.less_equal %b, %a : (tensor<3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  %c = train.input {name = "c"} : tensor<2x3xi1>
  %d = train.input {name = "d"} : tensor<3xi1>
  // CHECK: train.and {{.*}}: (tensor<2x3xi1>, tensor<3xi1>) -> tensor<2x3xi1>
  %r5 = train.and %c, %d : (tensor<2x3xi1>, tensor<3xi1>) -> tensor<2x3xi1>
  // CHECK: train.or {{.*}}: (tensor<2x3xi1>, tensor<3xi1>) -> tensor<2x3xi1>
  %r6 = train.or %c, %d : (tensor<2x3xi1>, tensor<3xi1>) -> tensor<2x3xi1>
  // CHECK: train.xor {{.*}}: (tensor<2x3xi1>, tensor<3xi1>) -> tensor<2x3xi1>
  %r7 = train.xor %c, %d : (tensor<2x3xi1>, tensor<3xi1>) -> tensor<2x3xi1>
}

// Shapes broadcast, aligned at the last dimension.
// CHECK-LABEL: train.step @binary
train.step @binary {
  %a = train.input {name = "a"} : tensor<4x1x3xf32>
  %b = train.input {name = "b"} : tensor<5x1xf32>
  // CHECK: train.add {{.*}}: (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  %r0 = train.add %a, %b : (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  // CHECK: train.sub {{.*}}: (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  %r1 = train.sub %a, %b : (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  // CHECK: train.mul {{.*}}: (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  %r2 = train.mul %a, %b : (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  // CHECK: train.div {{.*}}: (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  %r3 = train.div %a, %b : (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  // CHECK: train.pow {{.*}}: (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  %r4 = train.pow %a, %b : (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  // CHECK: train.max {{.*}}: (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  %r5 = train.max %a, %b : (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  // CHECK: train.min {{.*}}: (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  %r6 = train.min %a, %b : (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  // CHECK: train.mod {{.*}}: (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  %r7 = train.mod %a, %b : (tensor<4x1x3xf32>, tensor<5x1xf32>) -> tensor<4x5x3xf32>
  %c = train.input {name = "c"} : tensor<i64>
  %d = train.input {name = "d"} : tensor<2xi64>
  // CHECK: train.mod {{.*}}{fmod} : (tensor<i64>, tensor<2xi64>) -> tensor<2xi64>
  %r8 = train.mod %c, %d {fmod} : (tensor<i64>, tensor<2xi64>) -> tensor<2xi64>
  // CHECK: train.bitwise_and {{.*}}: (tensor<i64>, tensor<2xi64>) -> tensor<2xi64>
  %r9 = train.bitwise_and %c, %d : (tensor<i64>, tensor<2xi64>) -> tensor<2xi64>
  // CHECK: train.bitwise_or {{.*}}: (tensor<i64>, tensor<2xi64>) -> tensor<2xi64>
  %r10 = train.bitwise_or %c, %d : (tensor<i64>, tensor<2xi64>) -> tensor<2xi64>
  // CHECK: train.bitwise_xor {{.*}}: (tensor<i64>, tensor<2xi64>) -> tensor<2xi64>
  %r11 = train.bitwise_xor %c, %d : (tensor<i64>, tensor<2xi64>) -> tensor<2xi64>
  %e = train.input {name = "e"} : tensor<0xf32>
  %f = train.input {name = "f"} : tensor<1xf32>
  // CHECK: train.add {{.*}}: (tensor<0xf32>, tensor<1xf32>) -> tensor<0xf32>
  %r12 = train.add %e, %f : (tensor<0xf32>, tensor<1xf32>) -> tensor<0xf32>
  %g = train.input {name = "g"} : tensor<4x1xi1>
  %h = train.input {name = "h"} : tensor<f32>
  %i = train.input {name = "i"} : tensor<3xf32>
  // CHECK: train.select {{.*}}: (tensor<4x1xi1>, tensor<f32>, tensor<3xf32>) -> tensor<4x3xf32>
  %r13 = train.select %g, %h, %i : (tensor<4x1xi1>, tensor<f32>, tensor<3xf32>) -> tensor<4x3xf32>
}

// A cast's target is an attribute.
// CHECK-LABEL: train.step @conversions
train.step @conversions {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // CHECK: train.cast {{.*}}{to = bf16} : (tensor<2x3xf32>) -> tensor<2x3xbf16>
  %r0 = train.cast %a {to = bf16} : (tensor<2x3xf32>) -> tensor<2x3xbf16>
  // CHECK: train.cast {{.*}}{to = i1} : (tensor<2x3xf32>) -> tensor<2x3xi1>
  %r1 = train.cast %a {to = i1} : (tensor<2x3xf32>) -> tensor<2x3xi1>
}

// A gated activation is of two like tensors, its gradients like both.
// CHECK-LABEL: train.step @gates
train.step @gates {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2x3xf32>
  // CHECK: train.gated_activation {{.*}}{activation = "silu"} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %r0 = train.gated_activation %a, %b {activation = "silu"} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %c = train.input {name = "c"} : tensor<2x3xf32>
  // CHECK: train.gated_activation_backward {{.*}}{activation = "gelu_tanh"} : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>)
  %r1:2 = train.gated_activation_backward %a, %b, %c {activation = "gelu_tanh"} : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>)
  // CHECK: train.silu_backward {{.*}}: (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %r2 = train.silu_backward %a, %b : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: train.gelu_backward {{.*}}{approximate = "tanh"} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %r3 = train.gelu_backward %a, %b {approximate = "tanh"} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
}
