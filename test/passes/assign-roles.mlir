// RUN: amc-opt %s --split-input-file --assign-roles 2>/dev/null | FileCheck %s
// RUN: amc-opt %s --split-input-file --assign-roles 2>&1 >/dev/null | FileCheck %s --check-prefix=TABLE

// Tests that weights, norms, biases and tables that tokens look up are trained, each named by its role.
// CHECK-LABEL: train.step @trained
// TABLE: remark: 5 of 5 parameters are trained, 51 elements
// TABLE-NEXT: table  embedding  5x4  trained
// TABLE-NEXT: norm   norm weight  4    trained
// TABLE-NEXT: w      weight  4x3  trained
// TABLE-NEXT: b      bias  3    trained
// TABLE-NEXT: scale  factor  3x4  trained
train.step @trained {
  %ids = train.input {name = "ids"} : tensor<2x3xi64>
  // CHECK: name = "table", trainable
  %table = train.parameter {name = "table"} : tensor<5x4xf32>
  // CHECK: name = "norm", trainable
  %norm = train.parameter {name = "norm"} : tensor<4xf32>
  // CHECK: name = "w", trainable
  %w = train.parameter {name = "w"} : tensor<4x3xf32>
  // CHECK: name = "b", trainable
  %b = train.parameter {name = "b"} : tensor<3xf32>
  // CHECK: name = "scale", trainable
  %scale = train.parameter {name = "scale"} : tensor<3x4xf32>
  %x = train.embedding %table, %ids : (tensor<5x4xf32>, tensor<2x3xi64>) -> tensor<2x3x4xf32>
  %s = train.mul %x, %scale : (tensor<2x3x4xf32>, tensor<3x4xf32>) -> tensor<2x3x4xf32>
  %n, %rstd = train.rms_norm %s, %norm {epsilon = 1.0e-5} : (tensor<2x3x4xf32>, tensor<4xf32>) -> (tensor<2x3x4xf32>, tensor<2x3xf32>)
  %y = train.linear %n, %w, %b : (tensor<2x3x4xf32>, tensor<4x3xf32>, tensor<3xf32>) -> tensor<2x3x3xf32>
  train.output %y {name = "y"} : tensor<2x3x3xf32>
}

// -----

// Tests that a norm weight which two layers share is remarked on, by its name and uses.
// TABLE: remark: 2 of 2 parameters are trained
// TABLE: remark: 1 norm weight or bias is used in several places (first: shared, 2 uses) and trained as one; where the model has several, its exporter merged equal initializers: export with optimize=False to train them apart
// TABLE-NOT: used in several places
train.step @shared {
  %x = train.input {name = "x"} : tensor<2x4xf32>
  %w = train.parameter {name = "shared"} : tensor<4xf32>
  %m = train.parameter {name = "m"} : tensor<4x4xf32>
  %n, %r = train.rms_norm %x, %w {epsilon = 1.0e-5} : (tensor<2x4xf32>, tensor<4xf32>) -> (tensor<2x4xf32>, tensor<2xf32>)
  %y = train.linear %n, %m : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
  %o, %s = train.rms_norm %y, %w {epsilon = 1.0e-5} : (tensor<2x4xf32>, tensor<4xf32>) -> (tensor<2x4xf32>, tensor<2xf32>)
  train.output %o {name = "y"} : tensor<2x4xf32>
}

// -----

// Tests that a norm weight of which one plus is used (Gemma) is trained: it is followed through what it is made into.
// CHECK-LABEL: train.step @made_on
train.step @made_on {
  %x = train.input {name = "x"} : tensor<2x4xf32>
  // CHECK: name = "w", trainable
  %w = train.parameter {name = "w"} : tensor<4xf32>
  %one = train.constant {value = dense<1.0> : tensor<f32>} : tensor<f32>
  %w1 = train.add %w, %one : (tensor<4xf32>, tensor<f32>) -> tensor<4xf32>
  %y = train.mul %x, %w1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>
  train.output %y {name = "y"} : tensor<2x4xf32>
}

// -----

// Tests that rotary tables are not trained: as operands of train.rotary, as x * cos + rotated(x) * sin, and looked up
// by positions.
// CHECK-LABEL: train.step @rotary
train.step @rotary {
  %x = train.input {name = "x"} : tensor<1x2x3x4xf32>
  %positions = train.input {name = "positions"} : tensor<3xi64>
  // CHECK: name = "cos"} :
  %cos = train.parameter {name = "cos"} : tensor<1x1x3x4xf32>
  // CHECK: name = "sin"} :
  %sin = train.parameter {name = "sin"} : tensor<1x1x3x4xf32>
  // CHECK: name = "cos_cache"} :
  %cache = train.parameter {name = "cos_cache"} : tensor<9x4xf32>
  %r = train.rotary %x, %cos, %sin : (tensor<1x2x3x4xf32>, tensor<1x1x3x4xf32>, tensor<1x1x3x4xf32>) -> tensor<1x2x3x4xf32>
  %c = train.gather %cache, %positions {axis = 0 : i64} : (tensor<9x4xf32>, tensor<3xi64>) -> tensor<3x4xf32>
  %a = train.mul %r, %c : (tensor<1x2x3x4xf32>, tensor<3x4xf32>) -> tensor<1x2x3x4xf32>
  %x1 = train.slice %r {starts = array<i64: 0, 0, 0, 0>, sizes = array<i64: 1, 2, 3, 2>, steps = array<i64: 1, 1, 1, 1>} : (tensor<1x2x3x4xf32>) -> tensor<1x2x3x2xf32>
  %x2 = train.slice %r {starts = array<i64: 0, 0, 0, 2>, sizes = array<i64: 1, 2, 3, 2>, steps = array<i64: 1, 1, 1, 1>} : (tensor<1x2x3x4xf32>) -> tensor<1x2x3x2xf32>
  %neg = train.neg %x2 : (tensor<1x2x3x2xf32>) -> tensor<1x2x3x2xf32>
  %half = train.concat %neg, %x1 {axis = 3 : i64} : (tensor<1x2x3x2xf32>, tensor<1x2x3x2xf32>) -> tensor<1x2x3x4xf32>
  %b = train.mul %half, %sin : (tensor<1x2x3x4xf32>, tensor<1x1x3x4xf32>) -> tensor<1x2x3x4xf32>
  %y = train.add %a, %b : (tensor<1x2x3x4xf32>, tensor<1x2x3x4xf32>) -> tensor<1x2x3x4xf32>
  train.output %y {name = "y"} : tensor<1x2x3x4xf32>
}

// -----

// Tests that frequencies that meet positions only, a mask on its way into a softmax, a buffer and what has no way to
// the output are not trained, while the weight beside them is.
// CHECK-LABEL: train.step @untrained
// TABLE: remark: 1 of 5 parameters are trained, 9 elements
// TABLE-NEXT: inv_freq  position factor
// TABLE-NEXT: mask      mask
// TABLE-NEXT: mean      buffer
// TABLE-NEXT: chosen    weight, no gradient
// TABLE-NEXT: w         weight
train.step @untrained {
  %x = train.input {name = "x"} : tensor<3x3xf32>
  %positions = train.input {name = "positions"} : tensor<3x1xi64>
  // CHECK: name = "inv_freq"} :
  %freq = train.parameter {name = "inv_freq"} : tensor<3xf32>
  // CHECK: name = "mask"} :
  %mask = train.parameter {name = "mask"} : tensor<3x3xf32>
  // CHECK: name = "mean", train.buffer} :
  %mean = train.parameter {name = "mean", train.buffer} : tensor<3xf32>
  // CHECK: name = "chosen"} :
  %chosen = train.parameter {name = "chosen"} : tensor<3x3xf32>
  // CHECK: name = "w", trainable} :
  %w = train.parameter {name = "w"} : tensor<3x3xf32>
  %p = train.cast %positions {to = f32} : (tensor<3x1xi64>) -> tensor<3x1xf32>
  %angles = train.mul %p, %freq : (tensor<3x1xf32>, tensor<3xf32>) -> tensor<3x3xf32>
  %s = train.linear %x, %w : (tensor<3x3xf32>, tensor<3x3xf32>) -> tensor<3x3xf32>
  %masked = train.add %s, %mask : (tensor<3x3xf32>, tensor<3x3xf32>) -> tensor<3x3xf32>
  %soft = train.softmax %masked {axis = 1 : i64} : (tensor<3x3xf32>) -> tensor<3x3xf32>
  %moved = train.sub %soft, %mean : (tensor<3x3xf32>, tensor<3xf32>) -> tensor<3x3xf32>
  %y = train.add %moved, %angles : (tensor<3x3xf32>, tensor<3x3xf32>) -> tensor<3x3xf32>
  %scores = train.linear %x, %chosen : (tensor<3x3xf32>, tensor<3x3xf32>) -> tensor<3x3xf32>
  %best = train.arg_max %scores {axis = 1 : i64, keepdims = false} : (tensor<3x3xf32>) -> tensor<3xi64>
  train.output %y {name = "y"} : tensor<3x3xf32>
  train.output %best {name = "best"} : tensor<3xi64>
}

// -----

// Tests that a vector added on the way into a softmax is a bias, not a mask.
// CHECK-LABEL: train.step @router
train.step @router {
  %x = train.input {name = "x"} : tensor<2x4xf32>
  // CHECK: name = "b", trainable
  %b = train.parameter {name = "b"} : tensor<4xf32>
  %s = train.add %x, %b : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>
  %y = train.softmax %s {axis = 1 : i64} : (tensor<2x4xf32>) -> tensor<2x4xf32>
  train.output %y {name = "y"} : tensor<2x4xf32>
}

// -----

// Tests that a table of relative positions (T5) is trained although it meets a padding mask, added or selected by,
// before it meets the scores.
// CHECK-LABEL: train.step @relative_positions
train.step @relative_positions {
  %x = train.input {name = "x"} : tensor<1x2x3x3xf32>
  %padding = train.input {name = "padding"} : tensor<1x1x1x3xi64>
  // CHECK: name = "relative", trainable
  %relative = train.parameter {name = "relative"} : tensor<5x2xf32>
  %buckets = train.constant {value = dense<[[0, 1, 2], [3, 0, 1], [4, 3, 0]]> : tensor<3x3xi64>} : tensor<3x3xi64>
  %e = train.embedding %relative, %buckets : (tensor<5x2xf32>, tensor<3x3xi64>) -> tensor<3x3x2xf32>
  %t = train.transpose %e {permutation = array<i64: 2, 0, 1>} : (tensor<3x3x2xf32>) -> tensor<2x3x3xf32>
  %r = train.reshape %t {shape = array<i64: 1, 2, 3, 3>} : (tensor<2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %p = train.cast %padding {to = f32} : (tensor<1x1x1x3xi64>) -> tensor<1x1x1x3xf32>
  %added = train.add %r, %p : (tensor<1x2x3x3xf32>, tensor<1x1x1x3xf32>) -> tensor<1x2x3x3xf32>
  %allowed = train.cast %padding {to = i1} : (tensor<1x1x1x3xi64>) -> tensor<1x1x1x3xi1>
  %never = train.constant {value = dense<-1.0e38> : tensor<f32>} : tensor<f32>
  %bias = train.select %allowed, %added, %never : (tensor<1x1x1x3xi1>, tensor<1x2x3x3xf32>, tensor<f32>) -> tensor<1x2x3x3xf32>
  %scores = train.add %x, %bias : (tensor<1x2x3x3xf32>, tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %y = train.softmax %scores {axis = 3 : i64} : (tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  train.output %y {name = "y"} : tensor<1x2x3x3xf32>
}
