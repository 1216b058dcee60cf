// RUN: amc-opt %s --split-input-file --assign-offsets=alignment=64 --lower-to-plan | FileCheck %s

// Tests buffers, views and calls: the view op is no call, the sum stands on an operand, an absent bias is a unit.
// CHECK-LABEL: plan.program @infer
// CHECK-SAME: accumulation = 1
// CHECK-SAME: alignment = 64
// CHECK-SAME: forward_end = 3
// CHECK-SAME: micro_batch_end = 3
// CHECK: plan.buffer 0 {bytes = 64 : i64, category = "input", first = 0 : i64, last = 1 : i64, name = "x"
// CHECK: plan.buffer 1 {bytes = 64 : i64, category = "parameter", first = 0 : i64, last = 3 : i64, name = "w", offset = 0 : i64, persistent}
// CHECK: plan.buffer 2 {bytes = 64 : i64, category = "activation", first = 0 : i64, last = 3 : i64
// CHECK-NOT: plan.buffer
// CHECK: plan.input "x" {role = "data", view = #plan.view<0, 0, tensor<4x4xf32>>}
// CHECK: plan.parameter "w" {{.*}}view = #plan.view<1, 0, tensor<4x4xf32>>}
// CHECK: plan.output "y" {ready = 2 : i64, view = #plan.view<2, 0, tensor<16xf32>>}
// CHECK: plan.call "linear" {arguments = {transpose_w}, flops = 128 : i64, inputs = [#plan.view<0, 0, tensor<4x4xf32>>, #plan.view<1, 0, tensor<4x4xf32>>, unit], outputs = [#plan.view<2, 0, tensor<4x4xf32>>], phase = "forward", workspaces = []}
// CHECK: plan.call "gelu" {arguments = {approximate = "none"}
// CHECK-SAME: inputs = [#plan.view<2, 0, tensor<16xf32>>], outputs = [#plan.view<2, 0, tensor<16xf32>>]
// CHECK: plan.call "exp"
// CHECK-NOT: train.
train.step @infer {
  %x = train.input {name = "x"} : tensor<4x4xf32>
  %w = train.parameter {name = "w"} : tensor<4x4xf32>
  %h = train.linear %x, %w {transpose_w} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %v = train.reshape %h {shape = array<i64: 16>} : (tensor<4x4xf32>) -> tensor<16xf32>
  %g = train.gelu %v : (tensor<16xf32>) -> tensor<16xf32>
  %y = train.exp %g : (tensor<16xf32>) -> tensor<16xf32>
  train.output %y {name = "y"} : tensor<16xf32>
}

// -----

// Tests an update: the overwritten operands are listed as outputs again; the parameter's states and gradient; without
// a marker the optimizer's calls at the end are what runs once per step.
// CHECK-LABEL: plan.program @update
// CHECK-SAME: forward_end = 0 : i64, micro_batch_end = 1 : i64
// CHECK: category = "gradient", first = 0 : i64, last = 2 : i64, name = "grad.w"
// CHECK: plan.parameter "w" {gradient = #plan.view<[[G:[0-9]+]], 0, tensor<4xf32>>, gradient_ready = 0 : i64, state_names = ["momentum_buffer"], states = [#plan.view<1, 0, tensor<4xf32>>], trainable, view = #plan.view<0, 0, tensor<4xf32>>}
// CHECK: plan.call "neg"
// CHECK: plan.call "sgd" {arguments = {momentum = 1.000000e-01 : f64, weight_decay = 0.000000e+00 : f64}
// CHECK-SAME: outputs = [#plan.view<0, 0, tensor<4xf32>>, #plan.view<1, 0, tensor<4xf32>>], phase = "optimizer"
train.step @update {
  %w = train.parameter {name = "w", trainable} : tensor<4xf32>
  %m = train.state {name = "momentum_buffer", parameter = "w", kind = "optimizer"} : tensor<4xf32>
  %x = train.input {name = "x"} : tensor<4xf32>
  %scale = train.input {name = "scale"} : tensor<f32>
  %rate = train.input {name = "learning_rate", role = "learning_rate"} : tensor<f64>
  %n = train.input {name = "step_number", role = "step_number"} : tensor<i64>
  %g = train.neg %x {train.phase = "backward"} : (tensor<4xf32>) -> tensor<4xf32>
  train.sgd %w, %g, %scale, %rate, %n, %m {momentum = 0.1 : f64, weight_decay = 0.0 : f64, train.phase = "optimizer", operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0>} : tensor<4xf32>, tensor<4xf32>, tensor<f32>, tensor<f64>, tensor<i64>, tensor<4xf32>
}

// -----

// Tests a shard's update: its gradient belongs to the parameter, split as the shard is, and what refreshes the parameter
// is a gather that writes it.
// CHECK-LABEL: plan.program @shard
// CHECK: plan.parameter "w" {gradient = #plan.view<{{[0-9]+}}, 0, tensor<2xf32>>, gradient_ready = 0 : i64, gradient_splits = [#train.split<0, "dp_shard", 2, 4>]
// CHECK-SAME: state_names = ["shard"], state_splits = {{\[\[}}#train.split<0, "dp_shard", 2, 4>]], states = [#plan.view<1, 0, tensor<2xf32>>], trainable, view = #plan.view<0, 0, tensor<4xf32>>}
// CHECK: plan.call "sgd"
// CHECK-SAME: outputs = [#plan.view<1, 0, tensor<2xf32>>]
// CHECK: plan.call "all_gather" {arguments = {dim = 0 : i64, group = "dp_shard", members = 2 : i64, size = 4 : i64}
// CHECK-SAME: inputs = [#plan.view<1, 0, tensor<2xf32>>], outputs = [#plan.view<0, 0, tensor<4xf32>>], phase = "optimizer"
train.step @shard attributes {train.mesh = array<i64: 1, 2, 1, 1>} {
  %w = train.parameter {name = "w", trainable} : tensor<4xf32>
  %s = train.state {name = "shard", parameter = "w", kind = "optimizer", splits = [#train.split<0, "dp_shard", 2, 4>]} : tensor<2xf32>
  %x = train.input {name = "x"} : tensor<2xf32>
  %scale = train.input {name = "scale"} : tensor<f32>
  %rate = train.input {name = "learning_rate", role = "learning_rate"} : tensor<f64>
  %n = train.input {name = "step_number", role = "step_number"} : tensor<i64>
  %g = train.neg %x {train.phase = "backward"} : (tensor<2xf32>) -> tensor<2xf32>
  train.sgd %s, %g, %scale, %rate, %n {momentum = 0.0 : f64, weight_decay = 0.0 : f64, train.phase = "optimizer", operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 0>} : tensor<2xf32>, tensor<2xf32>, tensor<f32>, tensor<f64>, tensor<i64>
  train.refresh %w, %s {dim = 0 : i64, group = "dp_shard", members = 2 : i64, size = 4 : i64, train.phase = "optimizer"} : tensor<4xf32>, tensor<2xf32>
}

// -----

// Tests that a wait is a call without outputs, of what its collective writes and what that reads, at which both are alive;
// a sum in place has one buffer for the two, and a gradient is ready when it has been waited for.
// CHECK-LABEL: plan.program @wait
// CHECK: plan.buffer [[W:[0-9]+]] {bytes = 64 : i64, category = "activation", first = 0 : i64, last = 4 : i64
// CHECK: plan.buffer [[G:[0-9]+]] {bytes = 64 : i64, category = "gradient", first = 1 : i64, last = 7 : i64, name = "grad.p"
// CHECK: plan.parameter "p" {gradient = #plan.view<[[G]], 0, tensor<16xf32>>, gradient_ready = 5 : i64
// CHECK: plan.call "all_gather" {arguments = {async, dim = 0 : i64,
// CHECK-SAME: outputs = [#plan.view<[[W]], 0, tensor<16xf32>>]
// CHECK: plan.call "neg"
// CHECK: plan.call "wait" {arguments = {}, flops = 0 : i64, inputs = [#plan.view<[[W]], 0, tensor<16xf32>>, #plan.view<0, 0, tensor<8xf32>>], outputs = [], phase = "forward", workspaces = []}
// CHECK: plan.call "exp"
// CHECK: plan.call "all_reduce" {{.*}}inputs = [#plan.view<[[G]], 0, tensor<16xf32>>], outputs = [#plan.view<[[G]], 0, tensor<16xf32>>]
// CHECK: plan.call "wait" {{.*}}inputs = [#plan.view<[[G]], 0, tensor<16xf32>>, #plan.view<[[G]], 0, tensor<16xf32>>], outputs = []
train.step @wait {
  %q = train.parameter {name = "q"} : tensor<8xf32>
  %p = train.parameter {name = "p", trainable} : tensor<16xf32>
  %x = train.input {name = "x"} : tensor<16xf32>
  %scale = train.input {name = "scale"} : tensor<f32>
  %rate = train.input {name = "learning_rate", role = "learning_rate"} : tensor<f64>
  %n = train.input {name = "step_number", role = "step_number"} : tensor<i64>
  %s = train.all_gather %q {async, dim = 0 : i64, size = 16 : i64, group = "dp_shard", members = 2 : i64} : (tensor<8xf32>) -> tensor<16xf32>
  %y = train.neg %x : (tensor<16xf32>) -> tensor<16xf32>
  %w = train.wait %s, %q : tensor<16xf32>, tensor<8xf32>
  %d = train.exp %w {train.phase = "backward"} : (tensor<16xf32>) -> tensor<16xf32>
  %t = train.all_reduce %y {async, group = "dp_shard", members = 2 : i64, train.phase = "backward"} : (tensor<16xf32>) -> tensor<16xf32>
  %g = train.wait %t, %y {train.phase = "backward"} : tensor<16xf32>, tensor<16xf32>
  train.sgd %p, %g, %scale, %rate, %n {momentum = 0.0 : f64, weight_decay = 0.0 : f64, train.phase = "optimizer", operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 0>} : tensor<16xf32>, tensor<16xf32>, tensor<f32>, tensor<f64>, tensor<i64>
}
