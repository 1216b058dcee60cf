// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/MatmulOps.cpp, named by its label, that violates nothing else.

// matmul_c1: operands are matrices or batches of them.
train.step @matmul_c1 {
  %a = train.input {name = "a"} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<3x4xf32>
  // expected-error@+2 {{operands are of shapes 3 and 3x4, should be of rank 2 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.matmul %a, %b : (tensor<3xf32>, tensor<3x4xf32>) -> tensor<4xf32>
}

// -----

// matmul_c2: operands have one element type.
train.step @matmul_c2 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<3x4xf64>
  // expected-error@+2 {{operands are of element types f32 and f64, should be of one}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.matmul %a, %b : (tensor<2x3xf32>, tensor<3x4xf64>) -> tensor<2x4xf32>
}

// -----

// matmul_c3: the inner dimension is the same; here b is transposed, so its last one is inner.
train.step @matmul_c3 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<3x4xf32>
  // expected-error@+2 {{inner dimensions are 3 and 4, should be equal}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.matmul %a, %b {transpose_b} : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
}

// -----

// matmul_c4: leading dimensions broadcast.
train.step @matmul_c4 {
  %a = train.input {name = "a"} : tensor<2x2x3xf32>
  %b = train.input {name = "b"} : tensor<5x3x4xf32>
  // expected-error@+2 {{leading dimensions 2 and 5 do not broadcast}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.matmul %a, %b : (tensor<2x2x3xf32>, tensor<5x3x4xf32>) -> tensor<5x2x4xf32>
}

// -----

// matmul_result: a result of another type than the inferred one is refused.
train.step @matmul_result {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<3x4xf32>
  // expected-error@+2 {{inferred type(s) 'tensor<2x4xf32>' are incompatible with return type(s) of operation 'tensor<2x5xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.matmul %a, %b : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x5xf32>
}

// -----

// linear_c1: x has a last dimension.
train.step @linear_c1 {
  %a = train.input {name = "a"} : tensor<f32>
  %b = train.input {name = "b"} : tensor<3x4xf32>
  // expected-error@+2 {{x is a scalar, should be of rank 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.linear %a, %b : (tensor<f32>, tensor<3x4xf32>) -> tensor<4xf32>
}

// -----

// linear_c2: w is a matrix.
train.step @linear_c2 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<1x3x4xf32>
  // expected-error@+2 {{w is of shape 1x3x4, should be of rank 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.linear %a, %b : (tensor<2x3xf32>, tensor<1x3x4xf32>) -> tensor<2x4xf32>
}

// -----

// linear_c3: the last dimension of x goes into w; here [N, K].
train.step @linear_c3 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<3x4xf32>
  // expected-error@+2 {{x's last dimension is 3, should be w's input dimension 4}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.linear %a, %b {transpose_w} : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
}

// -----

// linear_c4: bias has one element for each column.
train.step @linear_c4 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<3x4xf32>
  %c = train.input {name = "c"} : tensor<3xf32>
  // expected-error@+2 {{bias is of shape 3, should be 4}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.linear %a, %b, %c : (tensor<2x3xf32>, tensor<3x4xf32>, tensor<3xf32>) -> tensor<2x4xf32>
}

// -----

// linear_c5: operands have one element type.
train.step @linear_c5 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<3x4xf32>
  %c = train.input {name = "c"} : tensor<4xf64>
  // expected-error@+2 {{operands should have one element type}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.linear %a, %b, %c : (tensor<2x3xf32>, tensor<3x4xf32>, tensor<4xf64>) -> tensor<2x4xf32>
}

// -----

// linear_weight_grad_c1: both operands have a last dimension.
train.step @linear_weight_grad_c1 {
  %a = train.input {name = "a"} : tensor<3xf32>
  %b = train.input {name = "b"} : tensor<f32>
  // expected-error@+2 {{operands are of shapes 3 and scalar, should be of rank 1 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.linear_weight_grad %a, %b : (tensor<3xf32>, tensor<f32>) -> tensor<3x1xf32>
}

// -----

// linear_weight_grad_c2: both have the same rows.
train.step @linear_weight_grad_c2 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<5x4xf32>
  // expected-error@+2 {{leading dimensions are 2 and 5, should be equal}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.linear_weight_grad %a, %b : (tensor<2x3xf32>, tensor<5x4xf32>) -> tensor<3x4xf32>
}

// -----

// linear_weight_grad_c3: both have one element type.
train.step @linear_weight_grad_c3 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2x4xbf16>
  // expected-error@+2 {{operands should have one element type}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.linear_weight_grad %a, %b : (tensor<2x3xf32>, tensor<2x4xbf16>) -> tensor<3x4xf32>
}

// -----

// linear_weight_grad_c4: a wide result is not rounded.
train.step @linear_weight_grad_c4 {
  %a = train.input {name = "a"} : tensor<2x3xbf16>
  %b = train.input {name = "b"} : tensor<2x4xbf16>
  // expected-error@+2 {{inferred type(s) 'tensor<3x4xf32>' are incompatible with return type(s) of operation 'tensor<3x4xbf16>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.linear_weight_grad %a, %b {wide} : (tensor<2x3xbf16>, tensor<2x4xbf16>) -> tensor<3x4xbf16>
}

// -----

// grouped_matmul_c1: x is rows.
train.step @grouped_matmul_c1 {
  %a = train.input {name = "a"} : tensor<1x2x3xf32>
  %b = train.input {name = "b"} : tensor<5x3x4xf32>
  %c = train.input {name = "c"} : tensor<2xi64>
  // expected-error@+2 {{x is of shape 1x2x3, should be of rank 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.grouped_matmul %a, %b, %c : (tensor<1x2x3xf32>, tensor<5x3x4xf32>, tensor<2xi64>) -> tensor<2x4xf32>
}

// -----

// grouped_matmul_c2: w is one matrix for each group.
train.step @grouped_matmul_c2 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<3x4xf32>
  %c = train.input {name = "c"} : tensor<2xi64>
  // expected-error@+2 {{w is of shape 3x4, should be of rank 3}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.grouped_matmul %a, %b, %c : (tensor<2x3xf32>, tensor<3x4xf32>, tensor<2xi64>) -> tensor<2x4xf32>
}

// -----

// grouped_matmul_c3: every row has a group.
train.step @grouped_matmul_c3 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<5x3x4xf32>
  %c = train.input {name = "c"} : tensor<3xi64>
  // expected-error@+2 {{ids is of shape 3, should be 2, one for each row of x}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.grouped_matmul %a, %b, %c : (tensor<2x3xf32>, tensor<5x3x4xf32>, tensor<3xi64>) -> tensor<2x4xf32>
}

// -----

// grouped_matmul_c4: the inner dimension is the same.
train.step @grouped_matmul_c4 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<5x3x4xf32>
  %c = train.input {name = "c"} : tensor<2xi64>
  // expected-error@+2 {{x's last dimension is 3, should be w's input dimension 4}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.grouped_matmul %a, %b, %c {transpose_w} : (tensor<2x3xf32>, tensor<5x3x4xf32>, tensor<2xi64>) -> tensor<2x3xf32>
}

// -----

// grouped_matmul_c5: x and w have one element type.
train.step @grouped_matmul_c5 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<5x3x4xf64>
  %c = train.input {name = "c"} : tensor<2xi64>
  // expected-error@+2 {{x and w should have one element type}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.grouped_matmul %a, %b, %c : (tensor<2x3xf32>, tensor<5x3x4xf64>, tensor<2xi64>) -> tensor<2x4xf32>
}

// -----

// grouped_matmul_weight_grad_c1: x and dy are rows.
train.step @grouped_matmul_weight_grad_c1 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<1x2x4xf32>
  %c = train.input {name = "c"} : tensor<2xi64>
  // expected-error@+2 {{operands are of shapes 2x3 and 1x2x4, should be of rank 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.grouped_matmul_weight_grad %a, %b, %c {groups = 5 : i64} : (tensor<2x3xf32>, tensor<1x2x4xf32>, tensor<2xi64>) -> tensor<5x3x4xf32>
}

// -----

// grouped_matmul_weight_grad_c2: x, dy and ids have the same rows.
train.step @grouped_matmul_weight_grad_c2 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2x4xf32>
  %c = train.input {name = "c"} : tensor<3xi64>
  // expected-error@+2 {{x, dy and ids are of shapes 2x3, 2x4 and 3, should have one number of rows}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.grouped_matmul_weight_grad %a, %b, %c {groups = 5 : i64} : (tensor<2x3xf32>, tensor<2x4xf32>, tensor<3xi64>) -> tensor<5x3x4xf32>
}

// -----

// grouped_matmul_weight_grad_c3: x and dy have one element type.
train.step @grouped_matmul_weight_grad_c3 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2x4xf64>
  %c = train.input {name = "c"} : tensor<2xi64>
  // expected-error@+2 {{x and dy should have one element type}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.grouped_matmul_weight_grad %a, %b, %c {groups = 5 : i64} : (tensor<2x3xf32>, tensor<2x4xf64>, tensor<2xi64>) -> tensor<5x3x4xf32>
}

// -----

// grouped_matmul_weight_grad_c4: there are no negative groups.
train.step @grouped_matmul_weight_grad_c4 {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2x4xf32>
  %c = train.input {name = "c"} : tensor<2xi64>
  // expected-error@+2 {{groups is -1, should be 0 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.grouped_matmul_weight_grad %a, %b, %c {groups = -1 : i64} : (tensor<2x3xf32>, tensor<2x4xf32>, tensor<2xi64>) -> tensor<5x3x4xf32>
}

// -----

// grouped_matmul_weight_grad_c5: a result that is not wide is rounded.
train.step @grouped_matmul_weight_grad_c5 {
  %a = train.input {name = "a"} : tensor<2x3xbf16>
  %b = train.input {name = "b"} : tensor<2x4xbf16>
  %c = train.input {name = "c"} : tensor<2xi64>
  // expected-error@+2 {{inferred type(s) 'tensor<5x3x4xbf16>' are incompatible with return type(s) of operation 'tensor<5x3x4xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.grouped_matmul_weight_grad %a, %b, %c {groups = 5 : i64} : (tensor<2x3xbf16>, tensor<2x4xbf16>, tensor<2xi64>) -> tensor<5x3x4xf32>
}

// -----

// grouped_matmul_weight_grad_size: an absurd number of groups is refused, not multiplied.
train.step @grouped_matmul_weight_grad_size {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<2x4xf32>
  %c = train.input {name = "c"} : tensor<2xi64>
  // expected-error@+2 {{tensor of 9223372036854775807x3x4 has more than 2^48 elements}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = train.grouped_matmul_weight_grad %a, %b, %c {groups = 9223372036854775807 : i64} : (tensor<2x3xf32>, tensor<2x4xf32>, tensor<2xi64>) -> tensor<5x3x4xf32>
}

// -----

// grouped_matmul_c6: no more rows have a group than there are.
train.step @grouped_matmul_c6 {
  %x = train.input {name = "x"} : tensor<6x3xf32>
  %w = train.input {name = "w"} : tensor<2x3x4xf32>
  %i = train.input {name = "i"} : tensor<6xi64>
  // expected-error@+2 {{expected_rows is 7, should be in [0, 6]}}
  // expected-error@+1 {{failed to infer returned types}}
  %y = train.grouped_matmul %x, %w, %i {expected_rows = 7 : i64} : (tensor<6x3xf32>, tensor<2x3x4xf32>, tensor<6xi64>) -> tensor<6x4xf32>
}
