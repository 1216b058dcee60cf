// RUN: amc-opt %s | amc-opt | FileCheck %s
//
// Operations driven by indices. The types on the right are what the operations
// infer: the verifier compares them. Attributes at their default are not printed.

// The indices' shape replaces the axis.
// CHECK-LABEL: train.step @gathers
train.step @gathers {
  %a = train.input {name = "a"} : tensor<2x3x4xf32>
  %b = train.input {name = "b"} : tensor<5x6xi64>
  // CHECK: train.gather {{.*}}{axis = 1 : i64} : (tensor<2x3x4xf32>, tensor<5x6xi64>) -> tensor<2x5x6x4xf32>
  %r0 = train.gather %a, %b {axis = 1 : i64} : (tensor<2x3x4xf32>, tensor<5x6xi64>) -> tensor<2x5x6x4xf32>
  %c = train.input {name = "c"} : tensor<2x3xi64>
  %d = train.input {name = "d"} : tensor<i32>
  // CHECK: train.gather {{.*}}{axis = 0 : i64} : (tensor<2x3xi64>, tensor<i32>) -> tensor<3xi64>
  %r1 = train.gather %c, %d {axis = 0 : i64} : (tensor<2x3xi64>, tensor<i32>) -> tensor<3xi64>
  %e = train.input {name = "e"} : tensor<2x5x6x4xf32>
  // CHECK: train.gather_backward {{.*}}{axis = 1 : i64, shape = array<i64: 2, 3, 4>} : (tensor<2x5x6x4xf32>, tensor<5x6xi64>) -> tensor<2x3x4xf32>
  %r2 = train.gather_backward %e, %b {axis = 1 : i64, shape = array<i64: 2, 3, 4>} : (tensor<2x5x6x4xf32>, tensor<5x6xi64>) -> tensor<2x3x4xf32>
  %f = train.input {name = "f"} : tensor<32x8xbf16>
  %g = train.input {name = "g"} : tensor<2x5xi64>
  // CHECK: train.embedding {{.*}}: (tensor<32x8xbf16>, tensor<2x5xi64>) -> tensor<2x5x8xbf16>
  %r3 = train.embedding %f, %g : (tensor<32x8xbf16>, tensor<2x5xi64>) -> tensor<2x5x8xbf16>
  %h = train.input {name = "h"} : tensor<2x5x8xbf16>
  // CHECK: train.embedding_backward {{.*}}{rows = 32 : i64} : (tensor<2x5x8xbf16>, tensor<2x5xi64>) -> tensor<32x8xbf16>
  %r4 = train.embedding_backward %h, %g {rows = 32 : i64} : (tensor<2x5x8xbf16>, tensor<2x5xi64>) -> tensor<32x8xbf16>
}

// One index for each element of the result; off the axis there may be fewer than in x.
// CHECK-LABEL: train.step @elements
train.step @elements {
  %a = train.input {name = "a"} : tensor<2x3xf32>
  %b = train.input {name = "b"} : tensor<1x7xi64>
  // CHECK: train.gather_elements {{.*}}{axis = 1 : i64} : (tensor<2x3xf32>, tensor<1x7xi64>) -> tensor<1x7xf32>
  %r0 = train.gather_elements %a, %b {axis = 1 : i64} : (tensor<2x3xf32>, tensor<1x7xi64>) -> tensor<1x7xf32>
  %c = train.input {name = "c"} : tensor<2x1xi64>
  %d = train.input {name = "d"} : tensor<2x1xf32>
  // CHECK: train.scatter_elements {{.*}}{axis = 1 : i64} : (tensor<2x3xf32>, tensor<2x1xi64>, tensor<2x1xf32>) -> tensor<2x3xf32>
  %r1 = train.scatter_elements %a, %c, %d {axis = 1 : i64} : (tensor<2x3xf32>, tensor<2x1xi64>, tensor<2x1xf32>) -> tensor<2x3xf32>
  // CHECK: train.scatter_elements {{.*}}{axis = 1 : i64, reduction = "max"} : (tensor<2x3xf32>, tensor<2x1xi64>, tensor<2x1xf32>) -> tensor<2x3xf32>
  %r2 = train.scatter_elements %a, %c, %d {axis = 1 : i64, reduction = "max"} : (tensor<2x3xf32>, tensor<2x1xi64>, tensor<2x1xf32>) -> tensor<2x3xf32>
}

// The last dimension of the indices names a place in x, after batch dimensions.
// CHECK-LABEL: train.step @nd
train.step @nd {
  %a = train.input {name = "a"} : tensor<2x3x4xf32>
  %b = train.input {name = "b"} : tensor<5x2xi64>
  // CHECK: train.gather_nd {{.*}}: (tensor<2x3x4xf32>, tensor<5x2xi64>) -> tensor<5x4xf32>
  %r0 = train.gather_nd %a, %b : (tensor<2x3x4xf32>, tensor<5x2xi64>) -> tensor<5x4xf32>
  %c = train.input {name = "c"} : tensor<2x5x1xi64>
  // CHECK: train.gather_nd {{.*}}{batch_dims = 1 : i64} : (tensor<2x3x4xf32>, tensor<2x5x1xi64>) -> tensor<2x5x4xf32>
  %r1 = train.gather_nd %a, %c {batch_dims = 1 : i64} : (tensor<2x3x4xf32>, tensor<2x5x1xi64>) -> tensor<2x5x4xf32>
  %d = train.input {name = "d"} : tensor<0xi64>
  // CHECK: train.gather_nd {{.*}}: (tensor<2x3x4xf32>, tensor<0xi64>) -> tensor<2x3x4xf32>
  %r2 = train.gather_nd %a, %d : (tensor<2x3x4xf32>, tensor<0xi64>) -> tensor<2x3x4xf32>
  %e = train.input {name = "e"} : tensor<2x5x4xf32>
  // CHECK: train.gather_nd_backward {{.*}}{batch_dims = 1 : i64, shape = array<i64: 2, 3, 4>} : (tensor<2x5x4xf32>, tensor<2x5x1xi64>) -> tensor<2x3x4xf32>
  %r3 = train.gather_nd_backward %e, %c {batch_dims = 1 : i64, shape = array<i64: 2, 3, 4>} : (tensor<2x5x4xf32>, tensor<2x5x1xi64>) -> tensor<2x3x4xf32>
  %f = train.input {name = "f"} : tensor<5x4xf32>
  // CHECK: train.scatter_nd {{.*}}{reduction = "add"} : (tensor<2x3x4xf32>, tensor<5x2xi64>, tensor<5x4xf32>) -> tensor<2x3x4xf32>
  %r4 = train.scatter_nd %a, %b, %f {reduction = "add"} : (tensor<2x3x4xf32>, tensor<5x2xi64>, tensor<5x4xf32>) -> tensor<2x3x4xf32>
}

// Positions are i64.
// CHECK-LABEL: train.step @searches
train.step @searches {
  %a = train.input {name = "a"} : tensor<2x3xi64>
  // CHECK: train.one_hot {{.*}}{axis = 1 : i64, depth = 5 : i64, element = f32} : (tensor<2x3xi64>) -> tensor<2x5x3xf32>
  %r0 = train.one_hot %a {axis = 1 : i64, depth = 5 : i64, element = f32} : (tensor<2x3xi64>) -> tensor<2x5x3xf32>
  %b = train.input {name = "b"} : tensor<2x5xf16>
  // CHECK: train.top_k {{.*}}{axis = 1 : i64, k = 3 : i64, largest = false} : (tensor<2x5xf16>) -> (tensor<2x3xf16>, tensor<2x3xi64>)
  %r1:2 = train.top_k %b {axis = 1 : i64, k = 3 : i64, largest = false} : (tensor<2x5xf16>) -> (tensor<2x3xf16>, tensor<2x3xi64>)
  // CHECK: train.arg_max {{.*}}{axis = 1 : i64, keepdims = true, min} : (tensor<2x5xf16>) -> tensor<2x1xi64>
  %r2 = train.arg_max %b {axis = 1 : i64, keepdims = true, min} : (tensor<2x5xf16>) -> tensor<2x1xi64>
  // CHECK: train.arg_max {{.*}}{axis = 0 : i64, keepdims = false, last} : (tensor<2x5xf16>) -> tensor<5xi64>
  %r3 = train.arg_max %b {axis = 0 : i64, keepdims = false, last} : (tensor<2x5xf16>) -> tensor<5xi64>
  // CHECK: train.cumsum {{.*}}{axis = 0 : i64, exclusive, reverse} : (tensor<2x5xf16>) -> tensor<2x5xf16>
  %r4 = train.cumsum %b {axis = 0 : i64, exclusive, reverse} : (tensor<2x5xf16>) -> tensor<2x5xf16>
}
