// RUN: amc-opt %s --derive-backward --rematerialize="policy=selective classes=linear=recompute,train.exp=SAVE trace" 2>%t | FileCheck %s
// RUN: FileCheck %s --check-prefix=TRACE --input-file=%t
// RUN: amc-opt %s --derive-backward --rematerialize="policy=selective classes=exp=alternate" | FileCheck %s --check-prefix=ALTERNATE

// Two blocks of a product, an exponential and a residual. By the table linear alternates (the first of a block is
// saved) and exp is computed again. Here the user turns that around; names may leave out the dialect.

// CHECK: train.save_classes = {train.add = "2 RECOMPUTE", train.exp = "2 SAVE", train.linear = "3 RECOMPUTE"
// CHECK: train.exp {{.*}} {train.block = 0 : i64, train.saved}
// CHECK: train.exp {{.*}} {train.block = 1 : i64, train.saved}
// CHECK-NOT: train.exp {{.*}}recompute"

// TRACE: [selective-ac] train.linear -> RECOMPUTE
// TRACE-NEXT: [selective-ac] train.exp -> SAVE
// TRACE-NEXT: [selective-ac] train.add -> RECOMPUTE

// Counted together, in forward order: the product is saved, the exponential behind it is not.
// ALTERNATE: train.exp = "2 ALTERNATE"
// ALTERNATE: train.exp {{.*}}recompute"
train.step @pair {
  %x = train.input {name = "x"} : tensor<4x8xf32>
  %e = train.parameter {name = "e", trainable} : tensor<8x8xf32>
  %a = train.parameter {name = "a", trainable} : tensor<8x8xf32>
  %b = train.parameter {name = "b", trainable} : tensor<8x8xf32>
  %x0 = train.linear %x, %e : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %p0 = train.linear %x0, %a : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %s0 = train.exp %p0 : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %x1 = train.add %x0, %s0 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %p1 = train.linear %x1, %b : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %s1 = train.exp %p1 : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %x2 = train.add %x1, %s1 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %l = train.reduce_sum %x2 {axes = array<i64: 0, 1>, keepdims = false} : (tensor<4x8xf32>) -> tensor<f32>
  train.output %l {name = "loss"} : tensor<f32>
}
