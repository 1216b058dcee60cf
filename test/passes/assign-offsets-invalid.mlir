// RUN: not amc-opt %s --assign-offsets=alignment=48 2>&1 | FileCheck %s --check-prefix=ALIGNMENT
// RUN: not amc-opt %s --assign-offsets=work-limit=-1 2>&1 | FileCheck %s --check-prefix=WORK
// RUN: not amc-opt %s --assign-offsets=exact-items=-1 2>&1 | FileCheck %s --check-prefix=ITEMS
// RUN: not amc-opt %s --assign-offsets=exact-steps=-1 2>&1 | FileCheck %s --check-prefix=STEPS
// RUN: amc-opt %s --split-input-file --verify-diagnostics --assign-offsets="work-limit=0 exact-steps=0"
// ALIGNMENT: error: alignment is 48, should be a power of two up to 2^30
// WORK: error: work-limit is -1, should not be negative
// ITEMS: error: exact-items is -1, should not be negative
// STEPS: error: exact-steps is -1, should not be negative

train.step @foreign {
  %x = train.input {name = "x"} : tensor<4xf32>
  // expected-error @+1 {{is not part of a step: it is neither a computation, a source, an output nor a marker}}
  %y = builtin.unrealized_conversion_cast %x : tensor<4xf32> to tensor<4xf32>
}

// -----

// Tests that a search which was cut short says so. Sweeping packs badly here: the long-lived c comes between.
// expected-remark @+1 {{offsets: 5 buffers are too many for every packing rule; the best of 2 rules was taken}}
train.step @limited {
  %x = train.input {name = "x"} : tensor<64xf32>
  %a = train.transpose %x {permutation = array<i64: 0>} : (tensor<64xf32>) -> tensor<64xf32>
  %c = train.slice %a {starts = array<i64: 0>, sizes = array<i64: 32>, steps = array<i64: 1>} : (tensor<64xf32>) -> tensor<32xf32>
  %d = train.concat %a, %a, %c {axis = 0 : i64} : (tensor<64xf32>, tensor<64xf32>, tensor<32xf32>) -> tensor<160xf32>
  %e = train.concat %d, %c {axis = 0 : i64} : (tensor<160xf32>, tensor<32xf32>) -> tensor<192xf32>
}
