// RUN: amc-opt %s --split-input-file --verify-diagnostics
//
// One case for each constraint of compiler/dialect/StepOps.cpp, named by its label, that violates nothing else.

// state_c1: a state belongs to the optimizer or to gradients.
train.step @state_c1 {
  // expected-error@+1 {{kind is "momentum", should be "optimizer" or "gradient"}}
  %a = train.state {name = "a", parameter = "w", kind = "momentum"} : tensor<2xf32>
}

// -----

// input_c1: labels are 64-bit class numbers.
train.step @input_c1 {
  // expected-error@+1 {{labels are of type 'f32', should be i64}}
  %a = train.input {name = "a", role = "labels"} : tensor<2x3xf32>
}

// -----

// input_c2: the role is known.
train.step @input_c2 {
  // expected-error@+1 {{role is "weights", should be data, labels, loss_normalizer, learning_rate, step_number, micro_batch, seed or data_rank}}
  %a = train.input {name = "a", role = "weights"} : tensor<2xf32>
}

// -----

// input_c3: each scalar has its type.
train.step @input_c3 {
  // expected-error@+1 {{of role learning_rate is 'tensor<f32>', should be 'tensor<f64>'}}
  %a = train.input {name = "a", role = "learning_rate"} : tensor<f32>
}

// -----

// input_c3: and is a scalar.
train.step @input_c3 {
  // expected-error@+1 {{of role step_number is 'tensor<1xi64>', should be 'tensor<i64>'}}
  %a = train.input {name = "a", role = "step_number"} : tensor<1xi64>
}

// -----

// constant_c1: a constant has its value's type.
train.step @constant_c1 {
  // expected-error@+1 {{value is of type 'tensor<2xf32>', result should be, too}}
  %a = train.constant {value = dense<1.0> : tensor<2xf32>} : tensor<3xf32>
}

// -----

// Absent optional attributes aside, all that an operation has is required.
train.step @missing_attribute {
  // expected-error@+1 {{requires attribute 'name'}}
  %a = train.input {role = "data"} : tensor<3xf32>
}
