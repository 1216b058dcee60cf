// RUN: amc-opt %s --split-input-file --verify-diagnostics --plan-budget=memory-budget=1000
// RUN: not amc-opt %s --split-input-file --plan-budget="memory-budget=-1 policy=full target=abacus alignment=3 work-limit=-1 exact-items=-1 exact-steps=-1 curve-points=1" 2>&1 | FileCheck %s
// CHECK: error: target is "abacus", should be cpu, cuda:sm_80, cuda:sm_90 or cuda:sm_100
// CHECK: error: memory-budget is -1, should not be negative
// CHECK: error: policy is "full", should be budget or auto
// CHECK: error: alignment is 3, should be a power of two up to 2^30
// CHECK: error: curve-points is 1, should be 0 or in [2, 1024]
// CHECK: error: work-limit is -1, should not be negative
// CHECK: error: exact-items is -1, should not be negative
// CHECK: error: exact-steps is -1, should not be negative

train.step @foreign {
  %x = train.input {name = "x"} : tensor<4xf32>
  // expected-error @+1 {{is not part of a step: it is neither a computation, a source, an output nor a marker}}
  %y = builtin.unrealized_conversion_cast %x : tensor<4xf32> to tensor<4xf32>
}

// -----

// A step without backward fits or does not: there is nothing to run again.
// expected-remark @+1 {{memory budget: 1000 B; arena at most 512 bytes (512 B); recomputation 0 s}}
train.step @forward {
  %x = train.input {name = "x"} : tensor<4xf32>
  %y = train.exp %x : (tensor<4xf32>) -> tensor<4xf32>
  train.output %y {name = "y"} : tensor<4xf32>
}

// -----

// expected-error @+2 {{the memory budget is 1000 bytes (1000 B), should be at least 65536 (64.00 KiB), the smallest arena found}}
// expected-note @+1 {{no plan of this step, in whatever order, needs less than 65536 bytes (64.00 KiB)}}
train.step @large {
  // expected-note @+1 {{alive at the smallest peak: 64.00 KiB, 'tensor<16384xf32>' of train.parameter}}
  %w = train.parameter {name = "w"} : tensor<16384xf32>
}
