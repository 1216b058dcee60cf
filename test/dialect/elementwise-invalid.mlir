// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/ElementwiseOps.cpp, named by its label, that violates nothing else.

// elementwise_c1: shapes broadcast.
train.step @elementwise_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2xf32>
  // expected-error@+2 {{shapes 2x3 and 2 do not broadcast}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.add %a, %b : (tensor<2x3xf32>, tensor<2xf32>) -> tensor<2x3xf32>
}

// -----

// elementwise_c1: all three of a select.
train.step @elementwise_c1 {
  %a = train.input {name = "a"} : tensor<2xi1>
  %b = train.input {name = "b"} : tensor<3xf32>
  %c = train.input {name = "c"} : tensor<1xf32>
  // expected-error@+2 {{shapes 2 and 3 and 1 do not broadcast}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.select %a, %b, %c : (tensor<2xi1>, tensor<3xf32>, tensor<1xf32>) -> tensor<3xf32>
}

// -----

// elementwise_c1: an empty dimension is no 1.
train.step @elementwise_c1 {
  %a = train.input {name = "a"} : tensor<0xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  // expected-error@+2 {{shapes 0 and 3 do not broadcast}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.mul %a, %b : (tensor<0xf32>, tensor<3xf32>) -> tensor<3xf32>
}

// -----

// tensor_c3: broadcasting may not explode.
train.step @tensor_c3 {
  %a = train.input {name = "a"} : tensor<16777216x1x1xf32>
  %b = train.input {name = "b"} : tensor<1x16777216x16777216xf32>
  // expected-error@+2 {{has more than 2^48 elements}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.add %a, %b : (tensor<16777216x1x1xf32>, tensor<1x16777216x16777216xf32>) -> tensor<1xf32>
}

// -----

// elementwise_c2: operands have one element type.
train.step @elementwise_c2 {
  %a = train.input {name = "a"} : tensor<2xf32>
  %b = train.input {name = "b"} : tensor<2xf64>
  // expected-error@+2 {{operands should have one element type}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.sub %a, %b : (tensor<2xf32>, tensor<2xf64>) -> tensor<2xf32>
}

// -----

// elementwise_c3: a gradient is like what it is of.
train.step @elementwise_c3 {
  %a = train.input {name = "a"} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<2x3xf32>
  // expected-error@+2 {{dy and x should have one type}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.silu_backward %a, %b : (tensor<3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
}

// -----

// elementwise_c3: the gradient of gelu, too.
train.step @elementwise_c3 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  // expected-error@+2 {{dy and x should have one type}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gelu_backward %a, %b : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
}

// -----

// gelu_c1: the approximation is known.
train.step @gelu_c1 {
  %a = train.input {name = "a"} : tensor<2xf32>
  // expected-error@+2 {{approximate is "erf", should be "none" or "tanh"}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gelu %a {approximate = "erf"} : (tensor<2xf32>) -> tensor<2xf32>
}

// -----

// select_c1: both choices have one element type.
train.step @select_c1 {
  %a = train.input {name = "a"} : tensor<2xi1>
  %b = train.input {name = "b"} : tensor<2xf32>
  %c = train.input {name = "c"} : tensor<2xi64>
  // expected-error@+2 {{a and b should have one element type}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.select %a, %b, %c : (tensor<2xi1>, tensor<2xf32>, tensor<2xi64>) -> tensor<2xf32>
}

// -----

// cast_c1: the target is a number's type.
train.step @cast_c1 {
  %a = train.input {name = "a"} : tensor<2xf32>
  // expected-error@+2 {{target should be a float or integer type}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.cast %a {to = index} : (tensor<2xf32>) -> tensor<2xf32>
}

// -----

// tensor_c1: and one that the dialect has.
train.step @tensor_c1 {
  %a = train.input {name = "a"} : tensor<2xf32>
  // expected-error@+2 {{element type is f80, should be a float, an integer of 8 to 64 bits or i1}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.cast %a {to = f80} : (tensor<2xf32>) -> tensor<2xf32>
}

// -----

// gated_activation_c1: the activation is known.
train.step @gated_activation_c1 {
  %a = train.input {name = "a"} : tensor<2xf32>
  %b = train.input {name = "b"} : tensor<2xf32>
  // expected-error@+2 {{activation is "tanh", should be silu, gelu, gelu_tanh or relu}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gated_activation %a, %b {activation = "tanh"} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
}

// -----

// gated_activation_c2: gate and up are alike: nothing broadcasts.
train.step @gated_activation_c2 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<3xf32>
  // expected-error@+2 {{operands should have one type}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gated_activation %a, %b {activation = "silu"} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
}

// -----

// Declared types are compared with what the operation infers.
train.step @inferred_types_cast {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{inferred type(s) 'tensor<2x3xbf16>' are incompatible with return type(s) of operation 'tensor<2x3xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.cast %a {to = bf16} : (tensor<2x3xf32>) -> tensor<2x3xf32>
}

// -----

// dropout_c1: not everything can be dropped.
train.step @dropout_c1 {
  %x = train.input {name = "x"} : tensor<2xf32>
  %n = train.input {name = "seed", role = "seed"} : tensor<i64>
  // expected-error@+2 {{probability is 1, should be at least 0 and below 1}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.dropout %x, %n, %n, %n {probability = 1.0 : f64, stream = 0 : i64} : (tensor<2xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2xf32>
}

// -----

// dropout_c2: streams are words of the counter.
train.step @dropout_c2 {
  %x = train.input {name = "x"} : tensor<2xf32>
  %n = train.input {name = "seed", role = "seed"} : tensor<i64>
  // expected-error@+2 {{stream is -1, should be in [0, 2^32)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.dropout %x, %n, %n, %n {probability = 0.5 : f64, stream = -1 : i64} : (tensor<2xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2xf32>
}
