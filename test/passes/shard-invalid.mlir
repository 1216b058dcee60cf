// RUN: amc-opt %s --split-input-file --shard="dp-shard=4" --verify-diagnostics
// RUN: not amc-opt %s --shard="dp-shard=0" 2>&1 | FileCheck %s --check-prefix=SIZE
// RUN: not amc-opt %s --shard="dp-shard=16777216 tp=2" 2>&1 | FileCheck %s --check-prefix=MANY
// RUN: not amc-opt %s --shard="strategy=zero reshard=maybe" 2>&1 | FileCheck %s --check-prefix=NAMES
// RUN: not amc-opt %s --shard="cp=2 cp-attention=chain target=abacus" 2>&1 | FileCheck %s --check-prefix=CONTEXT
// RUN: not amc-opt %s --shard="strategy=ddp dp-replicate=2" 2>&1 | FileCheck %s --check-prefix=REPLICAS
// RUN: not amc-opt %s --shard="strategy=megatron_fsdp zero=4" 2>&1 | FileCheck %s --check-prefix=ZERO
// SIZE: dp-shard is 0, should be at least 1, and all sizes together at most 16777216 ranks
// MANY: tp is 2, should be at least 1, and all sizes together at most 16777216 ranks
// NAMES-DAG: strategy is "zero", should be fsdp2, megatron_fsdp or ddp
// NAMES-DAG: reshard is "maybe", should be auto, always or never
// CONTEXT-DAG: cp-attention is "chain", should be auto, ring or all-gather
// CONTEXT-DAG: target is "abacus", should be a device that is modelled: cpu, cuda:sm_80, cuda:sm_90 or cuda:sm_100
// ZERO: zero is 4, should be 0 to 3
// REPLICAS: dp-replicate is 2 with strategy "ddp", should be 1: replicas of sharded groups are fsdp2's

// Tests a step that has no loss to sum.
// expected-error @+2 {{there is no output named loss to sum over ranks}}
// expected-note @+1 {{run attach-loss first}}
train.step @no_loss {
  %w = train.parameter {name = "w", trainable} : tensor<8xf32>
  train.output %w {name = "logits"} : tensor<8xf32>
}

// -----

// Tests that nothing is spread twice.
train.step @twice {
  // expected-error @+1 {{is spread over ranks already}}
  %w = train.parameter {name = "w", splits = [#train.split<0, "dp_shard", 4, 8>], trainable} : tensor<2xf32>
  %loss = train.reduce_sum %w {axes = array<i64: 0>, keepdims = false} : (tensor<2xf32>) -> tensor<f32>
  train.output %loss {name = "loss"} : tensor<f32>
}
