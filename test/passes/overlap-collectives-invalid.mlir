// RUN: amc-opt %s --split-input-file --verify-diagnostics --overlap-collectives="mode=always target=abacus alignment=3 work-limit=-1"

// Tests that all options that make no sense are told of at once.
// expected-error@+4 {{mode is "always", should be auto or prefetch}}
// expected-error@+3 {{target is "abacus", should be cpu, cuda:sm_80, cuda:sm_90 or cuda:sm_100}}
// expected-error@+2 {{alignment is 3, should be a power of two up to 2^30}}
// expected-error@+1 {{work-limit is -1, should not be negative}}
module {
  train.step @step {
  }
}
