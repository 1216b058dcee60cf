// Rotary embedding and attention.
#ifndef AMC_DIALECT_ATTENTIONOPS
#define AMC_DIALECT_ATTENTIONOPS

include "compiler/dialect/TrainDialect.td"

def Train_RotaryOp : Train_DiffOp<"rotary", [Train_FusableRows<[]>,
                                             DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule"]>]> {
  let summary = "rotary position embedding: y = x * cos + rotate(x) * sin over the last dimension";
  let description = [{
    x [B, H, S, D]; cos and sin broadcast to x's shape (usually [1, 1, S, D] or [B, 1, S, D]). rotate negates and
    swaps halves, (x1, x2) -> (-x2, x1); with `interleaved`, neighbours instead of halves. No gradient flows to
    cos and sin; each is of x's type, or fp32 beside a bf16 x (positions are no activations). Su et al., 2021.
  }];
  let arguments = (ins Train_FloatTensor:$x, Train_FloatTensor:$cos, Train_FloatTensor:$sin, UnitAttr:$interleaved);
  let results = (outs Train_FloatTensor:$y);
}
def Train_RotaryBackwardOp : Train_ComputeOp<"rotary_backward", [Train_FusableRows<[]>]> {
  let summary = "dx = dy * cos + rotate^T(dy * sin); rotate^T maps (g1, g2) to (g2, -g1)";
  let arguments = (ins Train_FloatTensor:$dy, Train_FloatTensor:$cos, Train_FloatTensor:$sin, UnitAttr:$interleaved);
  let results = (outs Train_FloatTensor:$dx);
}

class Train_AttentionBase<string mnemonic, list<Trait> traits>
    : Train_Op<mnemonic, !listconcat(traits, [Pure, AttrSizedOperandSegments,
        DeclareOpInterfaceMethods<InferTypeOpInterface>, DeclareOpInterfaceMethods<CollectiveOpInterface, ["getSteps"]>,
        DeclareOpInterfaceMethods<ComputeOpInterface, ["evaluate", "getFlops", "getBytesMoved", "getKernelName",
                                                       "getKernelInputs", "getWorkspaceBytes", "getCudaWorkspaceBytes"]>])> {
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

def Train_AttentionOp : Train_AttentionBase<"attention", [DeclareOpInterfaceMethods<DifferentiableOpInterface>,
    DeclareOpInterfaceMethods<ShardingOpInterface, ["getShardingRule", "localize"]>]> {
  let summary = "softmax(scale * q k^T, masked) v, without a score matrix in memory";
  let description = [{
    q [B, H, Sq, D], k [B, Hkv, Sk, D], v [B, Hkv, Sk, Dv]; Hkv divides H and query head h reads key head
    h / (H / Hkv). Result y [B, H, Sq, Dv] and lse [B, H, Sq] (fp32; natural log-sum-exp of the masked, scaled
    scores), from which backward recomputes the probabilities (Dao et al., 2022).

    score = scale * q.k; if softcap > 0: score = softcap * tanh(score / softcap); then + bias.
    Query position i (of Sq) and key position j (of Sk) may attend when all of these hold:
      j - i <= right      (`right` = 0 and Sq = Sk is causal; absent: unlimited)
      i - j <= left       (sliding window; absent: unlimited)
      padding[b, j]       (operand absent: all true)
    `bias` (of q's type, or fp32 beside a bf16 q) is added, broadcast from rank 4 to [B, H, Sq, Sk]; minus infinity
    there masks. It has no gradient.
    A row with nothing to attend to: `masked_rows` "zero" gives y = 0 (lse is -infinity), "average" the mean of all
    Sk values (lse is log Sk), what a finite minimum as mask gives.

    With `dropout`, the probability that a probability is dropped, those that stay are divided by 1 - dropout before
    they are multiplied with v: y = (train.dropout of the probabilities [B, H, Sq, Sk]) v, with that operation's seed,
    step, micro_batch and `stream`, hence its mask, element for element, though it is never in memory: backward draws
    it again. lse knows nothing of it. Step 0 drops nothing. Kernel: attention_dropout.

    With `group`, context parallelism: the sequence is spread over R = `members` ranks. q, y and lse are this member's Sq
    rows of Sq * R; k, v and padding are whole. Of member r, row i stands at position r * Sq + i, and key j at j; `left`
    and `right` compare these. With `zigzag` the sequence is stored in another order, which makes causal work the same
    for all members: 2 R chunks of equal size, of which member r has chunk r and then chunk 2 R - 1 - r; for R = 2 this
    is 0 3 1 2. Keys and padding are stored so, too: member 0's piece, then member 1's (as all_gather has it). Sk is then
    Sq * R, and Sq even. A bias has no dimensions of queries and keys here, and there is no dropout.

    With `ring` beside `group` (ring attention; Liu et al., 2023) k and v are this member's piece of Sk = Sq rows, at the
    positions of its queries; padding is still whole, [B, Sk * R]. It is a collective then: in step d = 1, 2, … R - 1 a
    member attends to the piece of the member d before it (counted round), after its own in step 0. Partial results are
    merged by their log-sum-exp, in this order, in fp32 (f64 for f64). Steps in which no member sees anything of the piece
    (a sliding window) are left out, and nothing is sent for them (runtime/plan/Ring.h).
  }];
  let arguments = (ins Train_FloatTensor:$q, Train_FloatTensor:$k, Train_FloatTensor:$v,
                       Optional<Train_BoolTensor>:$padding, Optional<Train_FloatTensor>:$bias,
                       Optional<Train_I64Scalar>:$seed, Optional<Train_I64Scalar>:$step,
                       Optional<Train_I64Scalar>:$micro_batch, F64Attr:$scale,
                       OptionalAttr<I64Attr>:$left, OptionalAttr<I64Attr>:$right,
                       DefaultValuedAttr<F64Attr, "0.0">:$softcap,
                       DefaultValuedStrAttr<StrAttr, "zero">:$masked_rows, OptionalAttr<F64Attr>:$dropout,
                       OptionalAttr<I64Attr>:$stream, OptionalAttr<StrAttr>:$group, OptionalAttr<I64Attr>:$members,
                       UnitAttr:$zigzag, UnitAttr:$ring);
  let results = (outs Train_FloatTensor:$y, Train_FloatTensor:$lse);
  let extraClassDeclaration = [{
    /// What the steps of a ring, and its scratch, follow from.
    ::amc::rt::RingShape ringShape();
  }];
}
def Train_AttentionBackwardOp : Train_AttentionBase<"attention_backward", []> {
  let summary = "dq, dk, dv of attention; dk and dv summed over the query heads of a group, ascending";
  let description = [{
    With `group` (as of attention) dk and dv have all keys and are partial: of this member's queries only. What gathered
    the keys and values has a reduce_scatter as its gradient, which adds them up. With `ring`, too, they are complete, of
    this member's piece: what the other members give to them is added up in fp32 (f64 for f64), from this member on to
    the one behind it and so on round, and rounded once.
  }];
  let arguments = (ins Train_FloatTensor:$dy, Train_FloatTensor:$q, Train_FloatTensor:$k, Train_FloatTensor:$v,
                       Train_FloatTensor:$y, Train_FloatTensor:$lse, Optional<Train_BoolTensor>:$padding,
                       Optional<Train_FloatTensor>:$bias, Optional<Train_I64Scalar>:$seed,
                       Optional<Train_I64Scalar>:$step, Optional<Train_I64Scalar>:$micro_batch, F64Attr:$scale,
                       OptionalAttr<I64Attr>:$left, OptionalAttr<I64Attr>:$right,
                       DefaultValuedAttr<F64Attr, "0.0">:$softcap,
                       DefaultValuedStrAttr<StrAttr, "zero">:$masked_rows, OptionalAttr<F64Attr>:$dropout,
                       OptionalAttr<I64Attr>:$stream, OptionalAttr<StrAttr>:$group, OptionalAttr<I64Attr>:$members,
                       UnitAttr:$zigzag, UnitAttr:$ring);
  let results = (outs Train_FloatTensor:$dq, Train_FloatTensor:$dk, Train_FloatTensor:$dv);
}

#endif
