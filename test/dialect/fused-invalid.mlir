// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/FusionOps.cpp, named by its label, that violates nothing else.

// fused_c1: arguments of the body have the operands' types.
train.step @fused_c1 {
  %x = train.input {name = "x"} : tensor<4xf32>
  // expected-error@+1 {{arguments of the body should be of the operands' types}}
  %y = "train.fused"(%x) <{taken = array<i64: -1>}> ({
  ^bb0(%a: tensor<2x2xf32>):
    %0 = train.exp %a : (tensor<2x2xf32>) -> tensor<2x2xf32>
    train.yield %0 : tensor<2x2xf32>
  }) : (tensor<4xf32>) -> tensor<2x2xf32>
}

// -----

// fused_c2: the body yields the results.
train.step @fused_c2 {
  %x = train.input {name = "x"} : tensor<4xf32>
  // expected-error@+1 {{the body should yield values of the results' types}}
  %y = train.fused(%a = %x) {taken = array<i64: -1>} : (tensor<4xf32>) -> tensor<4xf32> {
    %0 = train.exp %a : (tensor<4xf32>) -> tensor<4xf32>
    train.yield
  }
}

// -----

// fused_c3: an entry of taken for each result.
train.step @fused_c3 {
  %x = train.input {name = "x"} : tensor<4xf32>
  // expected-error@+1 {{taken has 2 entries, should have one for each of 1 results}}
  %y = train.fused(%a = %x) {taken = array<i64: -1, -1>} : (tensor<4xf32>) -> tensor<4xf32> {
    %0 = train.exp %a : (tensor<4xf32>) -> tensor<4xf32>
    train.yield %0 : tensor<4xf32>
  }
}

// -----

// fused_c4: what is taken is an operand of as many bytes.
train.step @fused_c4 {
  %x = train.input {name = "x"} : tensor<4xf32>
  // expected-error@+1 {{taken has 1, should be -1 or the number of an operand with as many bytes}}
  %y = train.fused(%a = %x) {taken = array<i64: 1>} : (tensor<4xf32>) -> tensor<4xf32> {
    %0 = train.exp %a : (tensor<4xf32>) -> tensor<4xf32>
    train.yield %0 : tensor<4xf32>
  }
}

// -----

// fused_c5: operations that can be fused, on types that can.
train.step @fused_c5 {
  %x = train.input {name = "x"} : tensor<4xf64>
  %y = train.fused(%a = %x) {taken = array<i64: -1>} : (tensor<4xf64>) -> tensor<4xf64> {
    // expected-error@+1 {{should be one that can be fused, with elements of f32, bf16, f16 or i1}}
    %0 = train.exp %a : (tensor<4xf64>) -> tensor<4xf64>
    train.yield %0 : tensor<4xf64>
  }
}

// -----

// fused_c6: one domain.
train.step @fused_c6 {
  %x = train.input {name = "x"} : tensor<4xf32>
  %z = train.input {name = "z"} : tensor<2x4xf32>
  %y:2 = train.fused(%a = %x, %b = %z) {taken = array<i64: -1, -1>} : (tensor<4xf32>, tensor<2x4xf32>) -> (tensor<4xf32>, tensor<2x4xf32>) {
    %0 = train.exp %a : (tensor<4xf32>) -> tensor<4xf32>
    // expected-error@+1 {{works on 2 rows of 4, the group on 1 of 4}}
    %1 = train.exp %b : (tensor<2x4xf32>) -> tensor<2x4xf32>
    train.yield %0, %1 : tensor<4xf32>, tensor<2x4xf32>
  }
}

// -----

// fused_c7: there is an operation.
train.step @fused_c7 {
  %x = train.input {name = "x"} : tensor<4xf32>
  // expected-error@+1 {{should hold an operation}}
  %y = train.fused(%a = %x) {taken = array<i64: -1>} : (tensor<4xf32>) -> tensor<4xf32> {
    train.yield %a : tensor<4xf32>
  }
}
