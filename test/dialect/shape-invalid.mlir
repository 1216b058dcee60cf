// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/ShapeOps.cpp and of what all shape rules share, named by its label, that violates nothing else.

// tensor_c1: the dialect has the element type.
train.step @tensor_c1 {
  // expected-error@+2 {{element type is i7, should be a float, an integer of 8 to 64 bits or i1}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.full {value = 1.0 : f64, shape = array<i64: 2>, element = i7} : () -> tensor<2xf32>
}

// -----

// tensor_c2: no dimension is negative.
train.step @tensor_c2 {
  // expected-error@+2 {{dimension is -3, should be 0 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.full {value = 1.0 : f64, shape = array<i64: 2, -3>, element = f32} : () -> tensor<2xf32>
}

// -----

// tensor_c2: the mark of a dynamic dimension is as negative.
train.step @tensor_c2 {
  // expected-error@+2 {{dimension is -9223372036854775808, should be 0 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.full {value = 1.0 : f64, shape = array<i64: -9223372036854775808>, element = f32} : () -> tensor<2xf32>
}

// -----

// tensor_c3: the element count is bounded, and computed without overflow.
train.step @tensor_c3 {
  // expected-error@+2 {{tensor of 4294967296x4294967296 has more than 2^48 elements}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.full {value = 1.0 : f64, shape = array<i64: 4294967296, 4294967296>, element = f32} : () -> tensor<2xf32>
}

// -----

// tensor_c3: an empty dimension does not excuse the others.
train.step @tensor_c3 {
  // expected-error@+2 {{has more than 2^48 elements}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.full {value = 1.0 : f64, shape = array<i64: 0, 9223372036854775807>, element = f32} : () -> tensor<2xf32>
}

// -----

// tensor_c4: sources bring in no larger ones.
train.step @tensor_c4 {
  // expected-error@+1 {{result #0 must be statically shaped tensor (2^48 elements at most)}}
  %a = train.input {name = "a"} : tensor<4294967296x4294967296xf32>
}

// -----

// tensor_c4: and no dynamic ones.
train.step @tensor_c4_dynamic {
  // expected-error@+1 {{result #0 must be statically shaped tensor}}
  %a = train.input {name = "a"} : tensor<?xf32>
}

// -----

// reshape_c1: the element count stays.
train.step @reshape_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{element count of shape 4x2 is 8, should be 6}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.reshape %a {shape = array<i64: 4, 2>} : (tensor<2x3xf32>) -> tensor<4x2xf32>
}

// -----

// transpose_c1: one entry for each dimension.
train.step @transpose_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{length of permutation is 1, should be 2, the rank of x}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.transpose %a {permutation = array<i64: 0>} : (tensor<2x3xf32>) -> tensor<2xf32>
}

// -----

// transpose_c2: every dimension once.
train.step @transpose_c2 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{permutation entry 1 is repeated or out of range, should be each of 0 to 1 once}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.transpose %a {permutation = array<i64: 1, 1>} : (tensor<2x3xf32>) -> tensor<3x3xf32>
}

// -----

// transpose_c2: and no other.
train.step @transpose_c2 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{permutation entry -1 is repeated or out of range}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.transpose %a {permutation = array<i64: 0, -1>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
}

// -----

// broadcast_c1: a dimension is kept unless it is 1.
train.step @broadcast_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{shape of x is 2x3, should broadcast to 2x6}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.broadcast %a {shape = array<i64: 2, 6>} : (tensor<2x3xf32>) -> tensor<2x6xf32>
}

// -----

// broadcast_c1: no dimension goes away, not even 1.
train.step @broadcast_c1 {
  %a = train.input {name = "a"} : tensor<1x3xf32>
  // expected-error@+2 {{shape of x is 1x3, should broadcast to 3}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.broadcast %a {shape = array<i64: 3>} : (tensor<1x3xf32>) -> tensor<3xf32>
}

// -----

// slice_c1: a start, a size and a step for each dimension.
train.step @slice_c1 {
  %a = train.input {name = "a"} : tensor<4x5xf32>
  // expected-error@+2 {{length of steps is 1, should be 2, the rank of x}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.slice %a {starts = array<i64: 0, 0>, sizes = array<i64: 1, 1>, steps = array<i64: 1>} : (tensor<4x5xf32>) -> tensor<1x1xf32>
}

// -----

// slice_c2: a step goes somewhere.
train.step @slice_c2 {
  %a = train.input {name = "a"} : tensor<4xf32>
  // expected-error@+2 {{step of dimension 0 is 0, should not be}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.slice %a {starts = array<i64: 0>, sizes = array<i64: 2>, steps = array<i64: 0>} : (tensor<4xf32>) -> tensor<2xf32>
}

// -----

// slice_c3: the last element is inside x.
train.step @slice_c3 {
  %a = train.input {name = "a"} : tensor<4xf32>
  // expected-error@+2 {{dimension 0 takes 3 elements from 1 by 2, should stay in [0, 4)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.slice %a {starts = array<i64: 1>, sizes = array<i64: 3>, steps = array<i64: 2>} : (tensor<4xf32>) -> tensor<3xf32>
}

// -----

// slice_c3: so is the first.
train.step @slice_c3 {
  %a = train.input {name = "a"} : tensor<4xf32>
  // expected-error@+2 {{dimension 0 takes 2 elements from 4 by -1, should stay in [0, 4)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.slice %a {starts = array<i64: 4>, sizes = array<i64: 2>, steps = array<i64: -1>} : (tensor<4xf32>) -> tensor<2xf32>
}

// -----

// slice_c3: going backwards, too, without overflow.
train.step @slice_c3 {
  %a = train.input {name = "a"} : tensor<4xf32>
  // expected-error@+2 {{should stay in [0, 4)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.slice %a {starts = array<i64: 3>, sizes = array<i64: 3>, steps = array<i64: -9223372036854775808>} : (tensor<4xf32>) -> tensor<3xf32>
}

// -----

// concat_c1: there is something to join.
train.step @concat_c1 {
  // expected-error@+2 {{number of inputs is 0, should be 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.concat {axis = 0 : i64} : () -> tensor<2xf32>
}

// -----

// concat_c2: the axis is a dimension.
train.step @concat_c2 {
  %a = train.input {name = "a"} : tensor<2xf32>
  %b = train.input {name = "b"} : tensor<2xf32>
  // expected-error@+2 {{axis is 1, should be in [0, 1)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.concat %a, %b {axis = 1 : i64} : (tensor<2xf32>, tensor<2xf32>) -> tensor<4xf32>
}

// -----

// concat_c3: one element type.
train.step @concat_c3 {
  %a = train.input {name = "a"} : tensor<2xf32>
  %b = train.input {name = "b"} : tensor<2xf64>
  // expected-error@+2 {{inputs have different element types, should have one}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.concat %a, %b {axis = 0 : i64} : (tensor<2xf32>, tensor<2xf64>) -> tensor<4xf32>
}

// -----

// concat_c4: shapes are equal but for the axis.
train.step @concat_c4 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2x4xf32>
  // expected-error@+2 {{shape of an input is 2x4, should be 2x3 but for axis 0}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.concat %a, %b {axis = 0 : i64} : (tensor<2x3xf32>, tensor<2x4xf32>) -> tensor<4x3xf32>
}

// -----

// concat_c4: so are ranks.
train.step @concat_c4 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2xf32>
  // expected-error@+2 {{shape of an input is 2, should be 2x3 but for axis 0}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.concat %a, %b {axis = 0 : i64} : (tensor<2x3xf32>, tensor<2xf32>) -> tensor<4x3xf32>
}

// -----

// pad_c1: low, high and interior padding for each dimension.
train.step @pad_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{length of high is 1, should be 2, the rank of x}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.pad %a {low = array<i64: 0, 0>, high = array<i64: 0>, interior = array<i64: 0, 0>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
}

// -----

// pad_c2: nothing is taken away.
train.step @pad_c2 {
  %a = train.input {name = "a"} : tensor<3xf32>
  // expected-error@+2 {{padding of dimension 0 is -1, 0, 0, should be 0 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.pad %a {low = array<i64: -1>, high = array<i64: 0>, interior = array<i64: 0>} : (tensor<3xf32>) -> tensor<2xf32>
}

// -----

// pad_c3: the element type can hold the padding.
train.step @pad_c3 {
  %a = train.input {name = "a"} : tensor<3xi8>
  // expected-error@+2 {{value is 300, should be an integer that i8 can hold}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.pad %a {low = array<i64: 1>, high = array<i64: 0>, interior = array<i64: 0>, value = 300.0 : f64} : (tensor<3xi8>) -> tensor<4xi8>
}

// -----

// tensor_c3: padding that would overflow is too much.
train.step @tensor_c3 {
  %a = train.input {name = "a"} : tensor<3xf32>
  // expected-error@+2 {{has more than 2^48 elements}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.pad %a {low = array<i64: 1>, high = array<i64: 1>, interior = array<i64: 9223372036854775807>} : (tensor<3xf32>) -> tensor<5xf32>
}

// -----

// full_c1: the element type can hold the value.
train.step @full_c1 {
  // expected-error@+2 {{value is 1.5, should be an integer that i64 can hold}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.full {value = 1.5 : f64, shape = array<i64: 2>, element = i64} : () -> tensor<2xi64>
}

// -----

// full_c1: infinity is no integer.
train.step @full_c1 {
  // expected-error@+2 {{value is inf, should be an integer}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.full {value = 0x7FF0000000000000 : f64, shape = array<i64: 2>, element = i64} : () -> tensor<2xi64>
}

// -----

// iota_c1: the axis is a dimension.
train.step @iota_c1 {
  // expected-error@+2 {{axis is 0, should be in [0, 0)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.iota {start = 0.0 : f64, step = 1.0 : f64, axis = 0 : i64, shape = array<i64>, element = i64} : () -> tensor<i64>
}

// -----

// iota_c2: the element type can hold all values.
train.step @iota_c2 {
  // expected-error@+2 {{last value is 256, should be an integer that ui8 can hold}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.iota {start = 0.0 : f64, step = 1.0 : f64, axis = 0 : i64, shape = array<i64: 257>, element = ui8} : () -> tensor<257xui8>
}

// -----

// iota_c2: steps between them are whole.
train.step @iota_c2 {
  // expected-error@+2 {{second value is 0.5, should be an integer that i64 can hold}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.iota {start = 0.0 : f64, step = 0.5 : f64, axis = 0 : i64, shape = array<i64: 3>, element = i64} : () -> tensor<3xi64>
}

// -----

// triangle_c1: there are rows and columns.
train.step @triangle_c1 {
  %a = train.input {name = "a"} : tensor<3xf32>
  // expected-error@+2 {{rank of x is 1, should be 2 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.triangle %a {upper = true} : (tensor<3xf32>) -> tensor<3xf32>
}

// -----

// Declared types are compared with what the operation infers.
train.step @inferred_types_transpose {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  // expected-error@+2 {{inferred type(s) 'tensor<3x2xf32>' are incompatible with return type(s) of operation 'tensor<2x3xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.transpose %a {permutation = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
}
