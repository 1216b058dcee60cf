// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/IndexOps.cpp, named by its label, that violates nothing else.

// gather_c1: the axis is a dimension.
train.step @gather_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<4xi64>
  // expected-error@+2 {{axis is 2, should be in [0, 2)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather %a, %b {axis = 2 : i64} : (tensor<2x3xf32>, tensor<4xi64>) -> tensor<2x4xf32>
}

// -----

// gather_c1: it does not count from the end.
train.step @gather_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<4xi64>
  // expected-error@+2 {{axis is -1, should be in [0, 2)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather %a, %b {axis = -1 : i64} : (tensor<2x3xf32>, tensor<4xi64>) -> tensor<2x4xf32>
}

// -----

// tensor_c3: a gather may not explode.
train.step @tensor_c3 {
  %a = train.input {name = "a"} : tensor<2x1048576xf32>
  %b = train.input {name = "b"} : tensor<1048576x1048576xi64>
  // expected-error@+2 {{tensor of 1048576x1048576x1048576 has more than 2^48 elements}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather %a, %b {axis = 0 : i64} : (tensor<2x1048576xf32>, tensor<1048576x1048576xi64>) -> tensor<2xf32>
}

// -----

// gather_backward_c1: the axis is a dimension of the shape.
train.step @gather_backward_c1 {
  %a = train.input {name = "a"} : tensor<4xf32>
  %b = train.input {name = "b"} : tensor<4xi64>
  // expected-error@+2 {{axis is 1, should be in [0, 1)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather_backward %a, %b {axis = 1 : i64, shape = array<i64: 3>} : (tensor<4xf32>, tensor<4xi64>) -> tensor<3xf32>
}

// -----

// gather_backward_c2: dy is like gather's result.
train.step @gather_backward_c2 {
  %a = train.input {name = "a"} : tensor<4x5xf32>
  %b = train.input {name = "b"} : tensor<4xi64>
  // expected-error@+2 {{shape of dy is 4x5, should be 4x2}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather_backward %a, %b {axis = 0 : i64, shape = array<i64: 3, 2>} : (tensor<4x5xf32>, tensor<4xi64>) -> tensor<3x2xf32>
}

// -----

// embedding_c1: a table has two dimensions.
train.step @embedding_c1 {
  %a = train.input {name = "a"} : tensor<2x3x4xf32>
  %b = train.input {name = "b"} : tensor<5xi64>
  // expected-error@+2 {{rank of table is 3, should be 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.embedding %a, %b : (tensor<2x3x4xf32>, tensor<5xi64>) -> tensor<5x3x4xf32>
}

// -----

// embedding_backward_c1: a row of dy for each id.
train.step @embedding_backward_c1 {
  %a = train.input {name = "a"} : tensor<4x2xf32>
  %b = train.input {name = "b"} : tensor<5xi64>
  // expected-error@+2 {{shape of dy is 4x2, should be that of ids, 5, and a last dimension}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.embedding_backward %a, %b {rows = 3 : i64} : (tensor<4x2xf32>, tensor<5xi64>) -> tensor<3x2xf32>
}

// -----

// embedding_backward_c1: ids may be a scalar, dy may not.
train.step @embedding_backward_c1 {
  %a = train.input {name = "a"} : tensor<f32>
  %b = train.input {name = "b"} : tensor<i64>
  // expected-error@+2 {{shape of dy is scalar, should be that of ids, scalar, and a last dimension}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.embedding_backward %a, %b {rows = 3 : i64} : (tensor<f32>, tensor<i64>) -> tensor<3x2xf32>
}

// -----

// embedding_backward_c2: a wide result is not rounded.
train.step @embedding_backward_c2 {
  %a = train.input {name = "a"} : tensor<5x2xf16>
  %b = train.input {name = "b"} : tensor<5xi64>
  // expected-error@+2 {{inferred type(s) 'tensor<3x2xf32>' are incompatible with return type(s) of operation 'tensor<3x2xf16>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.embedding_backward %a, %b {rows = 3 : i64, wide} : (tensor<5x2xf16>, tensor<5xi64>) -> tensor<3x2xf16>
}

// -----

// tensor_c2: the table has no negative number of rows.
train.step @tensor_c2 {
  %a = train.input {name = "a"} : tensor<5x2xf32>
  %b = train.input {name = "b"} : tensor<5xi64>
  // expected-error@+2 {{dimension is -3, should be 0 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.embedding_backward %a, %b {rows = -3 : i64} : (tensor<5x2xf32>, tensor<5xi64>) -> tensor<3x2xf32>
}

// -----

// elements_c1: the axis is a dimension.
train.step @elements_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2x3xi64>
  // expected-error@+2 {{axis is 2, should be in [0, 2)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather_elements %a, %b {axis = 2 : i64} : (tensor<2x3xf32>, tensor<2x3xi64>) -> tensor<2x3xf32>
}

// -----

// elements_c2: indices have the rank of x.
train.step @elements_c2 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2xi64>
  // expected-error@+2 {{shape of indices is 2, should have the rank of x, 2x3}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather_elements %a, %b {axis = 0 : i64} : (tensor<2x3xf32>, tensor<2xi64>) -> tensor<2xf32>
}

// -----

// elements_c2: and do not go beyond it off the axis.
train.step @elements_c2 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<1x4xi64>
  %c = train.input {name = "c"} : tensor<1x4xf32>
  // expected-error@+2 {{shape of indices is 1x4, should have the rank of x, 2x3, and its dimensions at most but for axis 0}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.scatter_elements %a, %b, %c {axis = 0 : i64} : (tensor<2x3xf32>, tensor<1x4xi64>, tensor<1x4xf32>) -> tensor<2x3xf32>
}

// -----

// scatter_c1: the reduction is known.
train.step @scatter_c1 {
  %a = train.input {name = "a"} : tensor<2xf32>
  %b = train.input {name = "b"} : tensor<2xi64>
  %c = train.input {name = "c"} : tensor<2xf32>
  // expected-error@+2 {{reduction is 'sum', should be none, add, mul, max or min}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.scatter_elements %a, %b, %c {axis = 0 : i64, reduction = "sum"} : (tensor<2xf32>, tensor<2xi64>, tensor<2xf32>) -> tensor<2xf32>
}

// -----

// scatter_c2: one element type.
train.step @scatter_c2 {
  %a = train.input {name = "a"} : tensor<2xf32>
  %b = train.input {name = "b"} : tensor<2x1xi64>
  %c = train.input {name = "c"} : tensor<2xf64>
  // expected-error@+2 {{x and updates have different element types, should have one}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.scatter_nd %a, %b, %c : (tensor<2xf32>, tensor<2x1xi64>, tensor<2xf64>) -> tensor<2xf32>
}

// -----

// scatter_c3: truth values are not added.
train.step @scatter_c3 {
  %a = train.input {name = "a"} : tensor<2xi1>
  %b = train.input {name = "b"} : tensor<2x1xi64>
  %c = train.input {name = "c"} : tensor<2xi1>
  // expected-error@+2 {{reduction of i1 elements is 'add', should be none}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.scatter_nd %a, %b, %c {reduction = "add"} : (tensor<2xi1>, tensor<2x1xi64>, tensor<2xi1>) -> tensor<2xi1>
}

// -----

// scatter_elements_c1: an update for each index.
train.step @scatter_elements_c1 {
  %a = train.input {name = "a"} : tensor<4xf32>
  %b = train.input {name = "b"} : tensor<2xi64>
  %c = train.input {name = "c"} : tensor<3xf32>
  // expected-error@+2 {{shape of updates is 3, should be that of indices, 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.scatter_elements %a, %b, %c {axis = 0 : i64} : (tensor<4xf32>, tensor<2xi64>, tensor<3xf32>) -> tensor<4xf32>
}

// -----

// nd_c1: indices have a last dimension.
train.step @nd_c1 {
  %a = train.input {name = "a"} : tensor<4xf32>
  %b = train.input {name = "b"} : tensor<i64>
  // expected-error@+2 {{rank of indices is 0, should be 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather_nd %a, %b : (tensor<4xf32>, tensor<i64>) -> tensor<4xf32>
}

// -----

// nd_c2: batch dimensions are not negative.
train.step @nd_c2 {
  %a = train.input {name = "a"} : tensor<2x4xf32>
  %b = train.input {name = "b"} : tensor<2x1xi64>
  // expected-error@+2 {{batch_dims is -1, should be in [0, 1]}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather_nd %a, %b {batch_dims = -1 : i64} : (tensor<2x4xf32>, tensor<2x1xi64>) -> tensor<2xf32>
}

// -----

// nd_c2: and leave the indexing dimension.
train.step @nd_c2 {
  %a = train.input {name = "a"} : tensor<2x1xf32>
  %b = train.input {name = "b"} : tensor<2x1xi64>
  // expected-error@+2 {{batch_dims is 2, should be in [0, 1]}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather_nd %a, %b {batch_dims = 2 : i64} : (tensor<2x1xf32>, tensor<2x1xi64>) -> tensor<2xf32>
}

// -----

// nd_c3: x and indices have the same batches.
train.step @nd_c3 {
  %a = train.input {name = "a"} : tensor<2x4xf32>
  %b = train.input {name = "b"} : tensor<3x1xi64>
  // expected-error@+2 {{shape of indices is 3x1, should start as 2x4 in 1 batch dimensions}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather_nd %a, %b {batch_dims = 1 : i64} : (tensor<2x4xf32>, tensor<3x1xi64>) -> tensor<3xf32>
}

// -----

// nd_c4: an index is not longer than x's rank.
train.step @nd_c4 {
  %a = train.input {name = "a"} : tensor<2x4xf32>
  %b = train.input {name = "b"} : tensor<3x3xi64>
  // expected-error@+2 {{last dimension of indices is 3, should be at most 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather_nd %a, %b : (tensor<2x4xf32>, tensor<3x3xi64>) -> tensor<3xf32>
}

// -----

// gather_nd_backward_c1: dy is like gather_nd's result.
train.step @gather_nd_backward_c1 {
  %a = train.input {name = "a"} : tensor<3x5xf32>
  %b = train.input {name = "b"} : tensor<3x1xi64>
  // expected-error@+2 {{shape of dy is 3x5, should be 3x4}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather_nd_backward %a, %b {batch_dims = 0 : i64, shape = array<i64: 2, 4>} : (tensor<3x5xf32>, tensor<3x1xi64>) -> tensor<2x4xf32>
}

// -----

// scatter_nd_c1: an update for each index.
train.step @scatter_nd_c1 {
  %a = train.input {name = "a"} : tensor<2x4xf32>
  %b = train.input {name = "b"} : tensor<3x1xi64>
  %c = train.input {name = "c"} : tensor<3xf32>
  // expected-error@+2 {{shape of updates is 3, should be 3x4}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.scatter_nd %a, %b, %c : (tensor<2x4xf32>, tensor<3x1xi64>, tensor<3xf32>) -> tensor<2x4xf32>
}

// -----

// one_hot_c1: the new dimension is among the others.
train.step @one_hot_c1 {
  %a = train.input {name = "a"} : tensor<3xi64>
  // expected-error@+2 {{axis is 2, should be in [0, 2)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.one_hot %a {depth = 2 : i64, axis = 2 : i64, element = f32} : (tensor<3xi64>) -> tensor<3x2xf32>
}

// -----

// tensor_c2: its depth is not negative.
train.step @tensor_c2 {
  %a = train.input {name = "a"} : tensor<3xi64>
  // expected-error@+2 {{dimension is -2, should be 0 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.one_hot %a {depth = -2 : i64, axis = 0 : i64, element = f32} : (tensor<3xi64>) -> tensor<3x2xf32>
}

// -----

// top_k_c1: the axis is a dimension.
train.step @top_k_c1 {
  %a = train.input {name = "a"} : tensor<3xf32>
  // expected-error@+2 {{axis is 1, should be in [0, 1)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.top_k %a {k = 1 : i64, axis = 1 : i64} : (tensor<3xf32>) -> (tensor<1xf32>, tensor<1xi64>)
}

// -----

// top_k_c2: there are k elements.
train.step @top_k_c2 {
  %a = train.input {name = "a"} : tensor<3xf32>
  // expected-error@+2 {{k is 4, should be in [0, 3]}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.top_k %a {k = 4 : i64, axis = 0 : i64} : (tensor<3xf32>) -> (tensor<4xf32>, tensor<4xi64>)
}

// -----

// top_k_c2: k is not negative.
train.step @top_k_c2 {
  %a = train.input {name = "a"} : tensor<3xf32>
  // expected-error@+2 {{k is -1, should be in [0, 3]}}
  // expected-error@+1 {{failed to infer returned types}}
  %r:2 = train.top_k %a {k = -1 : i64, axis = 0 : i64} : (tensor<3xf32>) -> (tensor<1xf32>, tensor<1xi64>)
}

// -----

// arg_max_c1: the axis is a dimension.
train.step @arg_max_c1 {
  %a = train.input {name = "a"} : tensor<f32>
  // expected-error@+2 {{axis is 0, should be in [0, 0)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.arg_max %a {axis = 0 : i64, keepdims = false} : (tensor<f32>) -> tensor<i64>
}

// -----

// arg_max_c2: there is a position to name.
train.step @arg_max_c2 {
  %a = train.input {name = "a"} : tensor<3x0xf32>
  // expected-error@+2 {{dimension of the axis is 0, should be 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.arg_max %a {axis = 1 : i64, keepdims = false} : (tensor<3x0xf32>) -> tensor<3xi64>
}

// -----

// cumsum_c1: the axis is a dimension.
train.step @cumsum_c1 {
  %a = train.input {name = "a"} : tensor<3xf32>
  // expected-error@+2 {{axis is 1, should be in [0, 1)}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.cumsum %a {axis = 1 : i64} : (tensor<3xf32>) -> tensor<3xf32>
}

// -----

// Declared types are compared with what the operation infers.
train.step @inferred_types_gather {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<4xi64>
  // expected-error@+2 {{inferred type(s) 'tensor<4x3xf32>' are incompatible with return type(s) of operation 'tensor<4x2xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.gather %a, %b {axis = 0 : i64} : (tensor<2x3xf32>, tensor<4xi64>) -> tensor<4x2xf32>
}
