// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/CollectiveOps.cpp and of groups in OpSupport.cpp, named by its label, that violates nothing else.

// collective_c1: a group is named by axes of the mesh, in their order.
train.step @collective_c1 {
  %a = train.input {name = "a"} : tensor<4xf32>
  // expected-error@+2 {{group is "tp+cp", should be axes among dp_replicate, dp_shard, cp and tp, in that order, joined by +, or ep or ep_shard in the place of dp_shard and cp}}
  // expected-error@+1 {{failed to infer returned types}}
  %b = train.all_reduce %a {group = "tp+cp", members = 4 : i64} : (tensor<4xf32>) -> tensor<4xf32>
}

// -----

// collective_c2: somebody is in it, and no more than a mesh has.
train.step @collective_c2 {
  %a = train.input {name = "a"} : tensor<4xf32>
  // expected-error@+2 {{members are 0, should be in [1, 16777216]}}
  // expected-error@+1 {{failed to infer returned types}}
  %b = train.vary %a {group = "tp", members = 0 : i64} : (tensor<4xf32>) -> tensor<4xf32>
}

// -----

// collective_c3: the dimension exists.
train.step @collective_c3 {
  %a = train.input {name = "a"} : tensor<4xf32>
  // expected-error@+2 {{dim is 1, should be one of the 1 dimensions}}
  // expected-error@+1 {{failed to infer returned types}}
  %b = train.reduce_scatter %a {dim = 1 : i64, group = "tp", members = 2 : i64} : (tensor<4xf32>) -> tensor<2xf32>
}

// -----

// collective_c4: what may do without a group has both of its attributes or none.
train.step @collective_c4 {
  %t = train.input {name = "t"} : tensor<4x2xf32>
  %i = train.input {name = "i"} : tensor<3xi64>
  // expected-error@+2 {{group and members should be there both or none}}
  // expected-error@+1 {{failed to infer returned types}}
  %y = train.embedding %t, %i {members = 2 : i64} : (tensor<4x2xf32>, tensor<3xi64>) -> tensor<3x2xf32>
}

// -----

// all_gather_c1: a piece has its share of the whole, rounded up: 3 of 10 for 4 members.
train.step @all_gather_c1 {
  %a = train.input {name = "a"} : tensor<2xf32>
  // expected-error@+2 {{dimension 0 of the piece is 2, should be ceil(10 / 4)}}
  // expected-error@+1 {{failed to infer returned types}}
  %b = train.all_gather %a {dim = 0 : i64, size = 10 : i64, group = "dp_shard", members = 4 : i64} : (tensor<2xf32>) -> tensor<10xf32>
}

// -----

// all_gather_c2: the result is either gathered again for backward or kept.
train.step @all_gather_c2 {
  %a = train.input {name = "a"} : tensor<3xf32>
  // expected-error@+2 {{is to be both resharded and retained, should be one or none}}
  // expected-error@+1 {{failed to infer returned types}}
  %b = train.all_gather %a {dim = 0 : i64, size = 10 : i64, group = "dp_shard", members = 4 : i64, reshard, retain} : (tensor<3xf32>) -> tensor<10xf32>
}

// -----

// take_piece_c1: in zigzag every member takes two chunks of one size.
train.step @take_piece_c1 {
  %a = train.input {name = "a"} : tensor<6xf32>
  // expected-error@+2 {{dimension 0 is 6, should be divisible by twice the 2 members}}
  // expected-error@+1 {{failed to infer returned types}}
  %b = train.take_piece %a {dim = 0 : i64, group = "cp", members = 2 : i64, zigzag} : (tensor<6xf32>) -> tensor<3xf32>
}

// -----

// refresh_c1: what is written lives from step to step.
train.step @refresh_c1 {
  %w = train.input {name = "w"} : tensor<4xf32>
  %s = train.state {name = "shard", parameter = "w", kind = "optimizer"} : tensor<2xf32>
  // expected-error@+1 {{parameter is not the result of train.parameter or train.state, should be}}
  train.refresh %w, %s {dim = 0 : i64, size = 4 : i64, group = "dp_shard", members = 2 : i64} : tensor<4xf32>, tensor<2xf32>
}

// -----

// refresh_c2: the shard is the parameter's own.
train.step @refresh_c2 {
  %w = train.parameter {name = "w"} : tensor<4xf32>
  %s = train.state {name = "shard", parameter = "v", kind = "optimizer"} : tensor<2xf32>
  // expected-error@+1 {{shard is not a train.state of the parameter, should be}}
  train.refresh %w, %s {dim = 0 : i64, size = 4 : i64, group = "dp_shard", members = 2 : i64} : tensor<4xf32>, tensor<2xf32>
}

// -----

// refresh_c3: all of the parameter is written.
train.step @refresh_c3 {
  %w = train.parameter {name = "w"} : tensor<4xf32>
  %s = train.state {name = "shard", parameter = "w", kind = "optimizer"} : tensor<2xf32>
  // expected-error@+1 {{size is 3, should be the 4 elements of dimension 0}}
  train.refresh %w, %s {dim = 0 : i64, size = 3 : i64, group = "dp_shard", members = 2 : i64} : tensor<4xf32>, tensor<2xf32>
}

// -----

// refresh_c4: the shard has its share, rounded up, in the parameter's type.
train.step @refresh_c4 {
  %w = train.parameter {name = "w"} : tensor<5x2xf32>
  %s = train.state {name = "shard", parameter = "w", kind = "optimizer"} : tensor<2x2xf32>
  // expected-error@+1 {{shard is 'tensor<2x2xf32>', should be 'tensor<3x2xf32>'}}
  train.refresh %w, %s {dim = 0 : i64, size = 5 : i64, group = "dp_shard", members = 2 : i64} : tensor<5x2xf32>, tensor<2x2xf32>
}

// -----

// all_to_all_c1: a part for each member.
train.step @all_to_all_c1 {
  %a = train.input {name = "a"} : tensor<5x2xf32>
  // expected-error@+2 {{dimension 0 is 5, should be divisible by the 2 members}}
  // expected-error@+1 {{failed to infer returned types}}
  %b = train.all_to_all %a {split_dim = 0 : i64, concat_dim = 0 : i64, group = "ep", members = 2 : i64} : (tensor<5x2xf32>) -> tensor<5x2xf32>
}

// -----

// split_phase_c1: what is only started is waited for.
train.step @split_phase_c1 {
  %a = train.input {name = "a"} : tensor<4xf32>
  // expected-error@+1 {{is async and has 0 waits, should have one}}
  %b = train.all_gather %a {async, dim = 0 : i64, size = 8 : i64, group = "dp_shard", members = 2 : i64} : (tensor<4xf32>) -> tensor<8xf32>
}

// -----

// split_phase_c2: nothing reads the result while it is being written.
train.step @split_phase_c2 {
  %a = train.input {name = "a"} : tensor<4xf32>
  // expected-error@+1 {{is async, and its result is read without waiting for it; should be read behind its wait}}
  %b = train.all_reduce %a {async, group = "dp_shard", members = 2 : i64} : (tensor<4xf32>) -> tensor<4xf32>
  // expected-note@+1 {{this should read the result of the train.wait}}
  %c = train.exp %b : (tensor<4xf32>) -> tensor<4xf32>
  %d = train.wait %b, %a : tensor<4xf32>, tensor<4xf32>
}

// -----

// wait_c1: only what has been started can be waited for.
train.step @wait_c1 {
  %a = train.input {name = "a"} : tensor<4xf32>
  %b = train.all_reduce %a {group = "dp_shard", members = 2 : i64} : (tensor<4xf32>) -> tensor<4xf32>
  // expected-error@+1 {{waits for something that is not the result of a collective with async, should be}}
  %c = train.wait %b, %a : tensor<4xf32>, tensor<4xf32>
}

// -----

// wait_c2: what is kept while the collective runs is what that reads.
train.step @wait_c2 {
  %a = train.input {name = "a"} : tensor<4xf32>
  %b = train.input {name = "b"} : tensor<4xf32>
  %c = train.reduce_scatter %a {async, dim = 0 : i64, group = "dp_shard", members = 2 : i64} : (tensor<4xf32>) -> tensor<2xf32>
  // expected-error@+1 {{source is not what the collective reads, should be}}
  %d = train.wait %c, %b : tensor<2xf32>, tensor<4xf32>
}
