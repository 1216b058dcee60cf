// RUN: amc-opt %s --overlap-collectives=mode=prefetch --verify-diagnostics | FileCheck %s
// RUN: not amc-opt %s --overlap-collectives --verify-diagnostics 2>&1 | FileCheck %s --check-prefix=AUTO

// Tests that who asks for windows hears that there is nothing to have them for; what auto is, was not asked for.
// CHECK-LABEL: train.step @alone
// CHECK-NOT: train.overlap
// AUTO: expected remark "overlap: there is nothing to overlap: {{.*}} was not produced
// expected-remark @+1 {{overlap: there is nothing to overlap: the step has no collective that could run beside computation}}
train.step @alone {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %y = train.exp %x : (tensor<4x8xf32>) -> tensor<4x8xf32>
  train.output %y {name = "y"} : tensor<4x8xf32>
}
