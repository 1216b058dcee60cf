// RUN: amc-opt %s --assign-roles="frozen=em* trainable=mask" 2>/dev/null | FileCheck %s
// RUN: not amc-opt %s --assign-roles="frozen=*,-none* trainable=mask" 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: amc-opt %s --assign-roles="frozen=head" 2>/dev/null | FileCheck %s --check-prefix=TIED
// RUN: amc-opt %s --assign-roles="frozen=* trainable=hea?" 2>/dev/null | FileCheck %s --check-prefix=ONLY
// RUN: amc-opt %s --assign-roles="frozen=em*,ma* trainable=e*,*sk" 2>/dev/null | FileCheck %s --check-prefix=ALIKE

// Tests that globs overrule roles, and that a weight goes by the names of what is tied to it, too.
// CHECK: name = "embed", tied = [#train.tied<"head", [1, 0]>], train.frozen} :
// CHECK: name = "mask", trainable} :
// NONE: error: --frozen '-none*' matches no initializer
// NONE-NEXT: note: a pattern is held against all of a name, such as 'embed'; amc compile without it lists them all
// TIED: name = "embed", tied = [#train.tied<"head", [1, 0]>], train.frozen} :
// TIED: name = "mask"} :
// Of two globs the one with more letters decides ("hea?" over "*"; "em*" over "e*"), of two alike the frozen one.
// ONLY: name = "embed", tied = [#train.tied<"head", [1, 0]>], trainable} :
// ONLY: name = "mask"} :
// ALIKE: name = "embed", tied = [#train.tied<"head", [1, 0]>], train.frozen} :
// ALIKE: name = "mask"} :
train.step @step {
  %ids = train.input {name = "ids"} : tensor<2xi64>
  %embed = train.parameter {name = "embed", tied = [#train.tied<"head", [1, 0]>]} : tensor<4x4xf32>
  %mask = train.parameter {name = "mask"} : tensor<2x4xf32>
  %x = train.embedding %embed, %ids : (tensor<4x4xf32>, tensor<2xi64>) -> tensor<2x4xf32>
  %m = train.add %x, %mask : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
  %y = train.softmax %m {axis = 1 : i64} : (tensor<2x4xf32>) -> tensor<2x4xf32>
  train.output %y {name = "y"} : tensor<2x4xf32>
}
