// Expert parallelism: rows find their experts on other ranks. The ids of N rows become slots of a buffer of static size,
// `capacity` of them for each of `members` ranks; rows are placed there, exchanged by all_to_all (CollectiveOps.td), worked
// on where their expert is, exchanged back and taken from their slots again. A row for which a rank's slots do not reach
// is dropped: it comes back as zeros, and is counted. GShard (Lepikhin et al., 2021), with the capacity kept for each pair
// of ranks instead of each expert.
#ifndef AMC_DIALECT_EXPERTOPS
#define AMC_DIALECT_EXPERTOPS

include "compiler/dialect/TrainDialect.td"

def Train_ExpertSlotsOp : Train_ComputeOp<"expert_slots"> {
  let summary = "where each row goes: its slot among members x capacity, and of each slot the expert";
  let description = [{
    ids is [N], each in [0, experts); member m has the experts [m, m + 1) x experts / members, and the slots
    [m, m + 1) x capacity, which its rows fill in ascending order. `slots` is [N]: a slot, or members x capacity for a row
    that is dropped. `groups` is [members x capacity]: the expert among the member's, or experts / members in a slot
    without a row, as grouped_matmul's `expected_rows` has it. `dropped` counts. Save class: SAVE.
  }];
  let arguments = (ins Train_IndexTensor:$ids, I64Attr:$experts, I64Attr:$members, I64Attr:$capacity);
  let results = (outs Train_TensorOf<[I64]>:$slots, Train_TensorOf<[I64]>:$groups, Train_TensorOf<[F64]>:$dropped);
}

def Train_PlaceRowsOp : Train_DiffOp<"place_rows"> {
  let summary = "y[slots[i]] = x[i], zeros elsewhere; y has `rows` rows, and a slot of `rows` is none";
  let description = [{ x is [N, …], slots [N], each in [0, rows], no two alike but `rows`. Its gradient is take_rows. }];
  let arguments = (ins Train_FloatTensor:$x, Train_IndexTensor:$slots, I64Attr:$rows);
  let results = (outs Train_FloatTensor:$y);
}

def Train_TakeRowsOp : Train_DiffOp<"take_rows"> {
  let summary = "y[i] = x[slots[i]], zeros where that is the number of x's rows";
  let description = [{ x is [R, …], slots [N], each in [0, R], no two alike but R. Its gradient is place_rows. }];
  let arguments = (ins Train_FloatTensor:$x, Train_IndexTensor:$slots);
  let results = (outs Train_FloatTensor:$y);
}

#endif
