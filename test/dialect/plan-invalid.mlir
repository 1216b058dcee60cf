// RUN: amc-opt %s --split-input-file --verify-diagnostics

// Tests that buffers are numbered in order.
plan.program @numbers attributes {arena_bytes = 64 : i64, alignment = 64 : i64, forward_end = 0 : i64, micro_batch_end = 0 : i64, accumulation = 1 : i64} {
  // expected-error @+1 {{number is 1, should be 0}}
  plan.buffer 1 {bytes = 64 : i64, offset = 0 : i64, first = 0 : i64, last = 0 : i64, category = "input", name = "x"}
}

// -----

// Tests that buffers lie in the arena, where offset + bytes would overflow too.
plan.program @arena attributes {arena_bytes = 64 : i64, alignment = 64 : i64, forward_end = 0 : i64, micro_batch_end = 0 : i64, accumulation = 1 : i64} {
  // expected-error @+1 {{with 9223372036854775807 bytes at offset 64 should lie in the arena of 64 bytes}}
  plan.buffer 0 {bytes = 9223372036854775807 : i64, offset = 64 : i64, first = 0 : i64, last = 0 : i64, category = "input", name = "x"}
}

// -----

// Tests that lifetimes are intervals of calls.
plan.program @lifetime attributes {arena_bytes = 64 : i64, alignment = 64 : i64, forward_end = 0 : i64, micro_batch_end = 0 : i64, accumulation = 1 : i64} {
  // expected-error @+1 {{lifetime is [0, 1), should be an interval of the 0 calls}}
  plan.buffer 0 {bytes = 64 : i64, offset = 0 : i64, first = 0 : i64, last = 1 : i64, category = "input", name = "x"}
}

// -----

// Tests that views lie in their buffers.
plan.program @view attributes {arena_bytes = 64 : i64, alignment = 64 : i64, forward_end = 0 : i64, micro_batch_end = 0 : i64, accumulation = 1 : i64} {
  plan.buffer 0 {bytes = 64 : i64, offset = 0 : i64, first = 0 : i64, last = 0 : i64, category = "input", name = "x"}
  // expected-error @+1 {{view of buffer 0 at byte 4 with 64 bytes should lie in the buffer's 64 bytes}}
  plan.input "x" {role = "data", view = #plan.view<0, 4, tensor<16xf32>>}
}

// -----

// Tests that views are of buffers that are there.
plan.program @buffer attributes {arena_bytes = 64 : i64, alignment = 64 : i64, forward_end = 0 : i64, micro_batch_end = 0 : i64, accumulation = 1 : i64} {
  // expected-error @+1 {{view of buffer 3 should be of one of the 0 buffers}}
  plan.input "x" {role = "data", view = #plan.view<3, 0, tensor<16xf32>>}
}

// -----

// Tests that views have static shapes.
plan.program @shape attributes {arena_bytes = 64 : i64, alignment = 64 : i64, forward_end = 0 : i64, micro_batch_end = 0 : i64, accumulation = 1 : i64} {
  plan.buffer 0 {bytes = 64 : i64, offset = 0 : i64, first = 0 : i64, last = 0 : i64, category = "input", name = "x"}
  // expected-error @+1 {{view of 'tensor<?xf32>' should have a static shape of numbers}}
  plan.input "x" {role = "data", view = #plan.view<0, 0, tensor<?xf32>>}
}

// -----

// Tests that the parts of the program are ascending.
// expected-error @+1 {{forward_end 2 and micro_batch_end 1 should be ascending and at most the number of calls, 0}}
plan.program @parts attributes {arena_bytes = 64 : i64, alignment = 64 : i64, forward_end = 2 : i64, micro_batch_end = 1 : i64, accumulation = 1 : i64} {
}
