// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/ExpertOps.cpp, named by its label, that violates nothing else.

// expert_slots_c1: an id for each row.
train.step @expert_slots_c1 {
  %i = train.input {name = "i"} : tensor<2x3xi64>
  // expected-error@+2 {{ids is of shape 2x3, should be of rank 1}}
  // expected-error@+1 {{failed to infer returned types}}
  %s, %g, %d = train.expert_slots %i {experts = 4 : i64, members = 2 : i64, capacity = 2 : i64} : (tensor<2x3xi64>) -> (tensor<2x3xi64>, tensor<4xi64>, tensor<f64>)
}

// -----

// expert_slots_c2: every member has as many experts.
train.step @expert_slots_c2 {
  %i = train.input {name = "i"} : tensor<6xi64>
  // expected-error@+2 {{experts are 4 and members 3, should be at least one expert for each member, as many for all}}
  // expected-error@+1 {{failed to infer returned types}}
  %s, %g, %d = train.expert_slots %i {experts = 4 : i64, members = 3 : i64, capacity = 2 : i64} : (tensor<6xi64>) -> (tensor<6xi64>, tensor<6xi64>, tensor<f64>)
}

// -----

// expert_slots_c3: no more slots than there are rows.
train.step @expert_slots_c3 {
  %i = train.input {name = "i"} : tensor<6xi64>
  // expected-error@+2 {{capacity is 7, should be in [0, 6]}}
  // expected-error@+1 {{failed to infer returned types}}
  %s, %g, %d = train.expert_slots %i {experts = 4 : i64, members = 2 : i64, capacity = 7 : i64} : (tensor<6xi64>) -> (tensor<6xi64>, tensor<14xi64>, tensor<f64>)
}

// -----

// expert_slots_c4: slots can be counted.
train.step @expert_slots_c4 {
  %i = train.input {name = "i"} : tensor<281474976710656xi64>
  // expected-error@+2 {{there are more than 2^48 slots}}
  // expected-error@+1 {{failed to infer returned types}}
  %s, %g, %d = train.expert_slots %i {experts = 4 : i64, members = 2 : i64, capacity = 281474976710656 : i64} : (tensor<281474976710656xi64>) -> (tensor<281474976710656xi64>, tensor<2xi64>, tensor<f64>)
}

// -----

// slots_c1: rows of something, and a slot for each.
train.step @slots_c1 {
  %x = train.input {name = "x"} : tensor<f32>
  %s = train.input {name = "s"} : tensor<6xi64>
  // expected-error@+2 {{x and slots are of shapes scalar and 6, should be of rank 1 or more, and of rank 1}}
  // expected-error@+1 {{failed to infer returned types}}
  %y = train.take_rows %x, %s : (tensor<f32>, tensor<6xi64>) -> tensor<6xf32>
}

// -----

// place_rows_c1: a slot for each row.
train.step @place_rows_c1 {
  %x = train.input {name = "x"} : tensor<5x2xf32>
  %s = train.input {name = "s"} : tensor<6xi64>
  // expected-error@+2 {{x has 5 rows, should be 6, one for each slot}}
  // expected-error@+1 {{failed to infer returned types}}
  %y = train.place_rows %x, %s {rows = 9 : i64} : (tensor<5x2xf32>, tensor<6xi64>) -> tensor<9x2xf32>
}

// -----

// place_rows_c2: a number of rows.
train.step @place_rows_c2 {
  %x = train.input {name = "x"} : tensor<6x2xf32>
  %s = train.input {name = "s"} : tensor<6xi64>
  // expected-error@+2 {{rows is -1, should be 0 or more}}
  // expected-error@+1 {{failed to infer returned types}}
  %y = train.place_rows %x, %s {rows = -1 : i64} : (tensor<6x2xf32>, tensor<6xi64>) -> tensor<1x2xf32>
}
