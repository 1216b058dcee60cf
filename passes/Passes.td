// Every pass of the pipeline; order and reasons are in compiler/driver/Pipeline.cpp.
#ifndef AMC_PASSES_PASSES
#define AMC_PASSES_PASSES

include "mlir/Pass/PassBase.td"

def Raise : Pass<"raise", "::mlir::ModuleOp"> {
  let summary = "turn decomposed subgraphs into one named operation each";
  let description = [{
    Exporters write normalisations, activations, rotary embeddings, attention with its masks and dropout, and mixtures
    of experts as chains of elementary operations, each in its own way. They are found by structure, never by name, with
    operands in any order, and become rms_norm, layer_norm, gelu, silu, gated_activation, rotary, linear, attention,
    grouped_matmul and embedding. Masks are read symbolically (causal, window, padding) and never computed.
    Everything else is left as it is.

    ```mlir
    %square = train.pow %x, %two : ...
    %mean = train.reduce_mean %square {axes = array<i64: 2>, keepdims = true} : ...
    %sum = train.add %mean, %epsilon : ...
    %root = train.rsqrt %sum : ...
    %normal = train.mul %x, %root : ...
    %y = train.mul %weight, %normal : ...
    // becomes
    %y, %rstd = train.rms_norm %x, %weight {epsilon = 1.0e-6 : f64} : ...
    ```
  }];
  let statistics = [
    Statistic<"norms", "norms", "normalisations found">,
    Statistic<"activations", "activations", "activations found">,
    Statistic<"gatedActivations", "gated-activations", "gated activations found">,
    Statistic<"linears", "linears", "products with a weight found">,
    Statistic<"rotaries", "rotaries", "rotary embeddings found">,
    Statistic<"attentions", "attentions", "decomposed attentions found">,
    Statistic<"masksRead", "masks", "masks read symbolically, by use">,
    Statistic<"experts", "experts", "products with gathered experts found">,
    Statistic<"embeddings", "embeddings", "embeddings found">,
    Statistic<"shapes", "shapes", "shape operations simplified">,
  ];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def AssignRoles : Pass<"assign-roles", "::mlir::ModuleOp"> {
  let summary = "decide which parameters are trained, by what they do";
  let description = [{
    Follows each parameter to where it meets an activation. Weights, biases, norm weights, embedding tables and other
    factors are trained; rotary tables, masks, buffers, factors of positions and what has no differentiable path to an
    output are not. A remark lists all parameters with their roles.

    ```mlir
    %w = train.parameter {name = "w"} : tensor<4x3xf32>
    %y = train.linear %x, %w : ...
    // becomes
    %w = train.parameter {name = "w", trainable} : tensor<4x3xf32>
    ```
  }];
  let options = [
    ListOption<"trainable", "trainable", "std::string", "globs over initializer names: trained whatever their role">,
    ListOption<"frozen", "frozen", "std::string", "globs over initializer names: not trained; beats a trainable glob that is no more exact">,
  ];
  let statistics = [Statistic<"trainedParameters", "trained-parameters", "parameters that are trained">];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def AttachLoss : Pass<"attach-loss", "::mlir::ModuleOp"> {
  let summary = "add the training loss to the forward graph";
  let description = [{
    `auto` takes the model's own loss if an output is a float scalar named like one, causal-LM cross-entropy if the
    logits have rank 3, and plain cross-entropy if they have rank 2 or if the model's attention looks both ways (a
    masked language model). Adds the int64 input `labels` and the
    loss normaliser, the number of labelled tokens in the whole step (with class weights the sum of the labels' weights;
    for a sum there is none); the model's other outputs are erased. Options that change the formula are refused for a
    model's own loss. Leaves train.loss, train.ignore_index and, for a weighted mean, train.class_weights on the step.

    ```mlir
    train.output %logits {name = "logits"} : tensor<2x48x512xf32>
    // becomes, for causal-lm
    %labels = train.input {name = "labels", role = "labels"} : tensor<2x48xi64>
    %shifted = train.shift_labels %labels {ignore_index = -100 : i64} : ...
    %sum, %lse = train.cross_entropy %logits, %shifted {ignore_index = -100 : i64} : ...
    %loss = train.div %sum, %normalizer : ...
    train.output %loss {name = "loss", sum} : tensor<f32>
    ```
  }];
  let options = [
    Option<"loss", "loss", "std::string", "\"auto\"", "auto, causal-lm, cross-entropy or model">,
    Option<"logits", "logits", "std::string", "\"\"", "the output that holds the logits; default: named logits, or the only float one">,
    Option<"ignoreIndex", "ignore-index", "int64_t", "-100", "label of positions that do not count">,
    Option<"labelSmoothing", "label-smoothing", "double", "0.0", "share of the target that all classes have alike, as torch's">,
    Option<"zLoss", "z-loss", "double", "0.0", "factor of the squared log-sum-exp that is added">,
    Option<"reduction", "reduction", "std::string", "\"mean\"", "mean over the labelled positions of the whole step, or sum">,
    ListOption<"classWeights", "class-weights", "double", "one for each class; a mean divides by the labels' weights">,
  ];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def FuseLinearCrossEntropy : Pass<"fuse-linear-cross-entropy", "::mlir::ModuleOp"> {
  let summary = "make the LM head and the loss one operation, so that the logits never exist as a whole";
  let description = [{
    The head is the product behind the logits of each `train.cross_entropy`, with its bias, constant factors, a softcap
    (softcap * tanh(x / softcap)), casts between floats and reshapes that keep the vocabulary. Logits that something
    else reads, or that no product makes, are an error: nothing is left unfused. Needs: attach-loss, which erases the
    model's outputs. Must stand before apply-precision, so that the logits keep fp32 inside, and before
    derive-backward. Leaves train.token_tiles on the step: the most tiles of tokens that any of them can have in flight.

    ```mlir
    %z = train.linear %x, %w {transpose_w} : ...
    %loss, %lse = train.cross_entropy %z, %labels : ...
    // becomes
    %loss, %lse = train.linear_cross_entropy %x, %w, %labels {transpose_w, ...} : ...
    ```
  }];
  let options = [
    Option<"tokensInFlight", "tokens-in-flight", "int64_t", "16", "tiles of tokens that the kernels work on at a time">,
  ];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def ApplyPrecision : Pass<"apply-precision", "::mlir::ModuleOp"> {
  let summary = "compute in bf16 what depends on a weight";
  let description = [{
    Parameters become bf16, and so does every float that is computed from one; derive-backward then gives gradients of
    these types. What depends on no weight (rotary angles and tables, masks, positions: auxiliary values) stays as it
    is and is cast where it meets an activation, unless the operation takes both types (rotary, attention's bias). The
    loss, log-sum-exps and statistics of norms are fp32 by their operations' own rules; a loss that the model computes
    by itself is kept fp32 from its last reduction on. Casts of activations between float types vanish. `fp32` leaves
    everything as it is. Needs: attach-loss. Must stand before derive-backward. Leaves train.precision on the step.

    ```mlir
    %w = train.parameter {name = "w", trainable} : tensor<4x3xf32>
    %y = train.linear %x, %w : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
    // becomes
    %w = train.parameter {name = "w", source_dtype = "f32", trainable} : tensor<4x3xbf16>
    %c = train.cast %x {to = bf16} : (tensor<2x4xf32>) -> tensor<2x4xbf16>
    %y = train.linear %c, %w : (tensor<2x4xbf16>, tensor<4x3xbf16>) -> tensor<2x3xbf16>
    ```
  }];
  let options = [Option<"precision", "precision", "std::string", "\"bf16\"", "fp32 or bf16">];
  let statistics = [
    Statistic<"narrowed", "narrowed-values", "values that became bf16">,
    Statistic<"castsRemoved", "casts-removed", "casts between float types that have gone">,
    Statistic<"castsAdded", "casts-added", "auxiliary values cast for activations">,
  ];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def TileMlp : Pass<"tile-mlp", "::mlir::ModuleOp"> {
  let summary = "gated feed-forward networks work on a tile of rows at a time";
  let description = [{
    Two products with one input, gated, then a product become `train.gated_mlp`, whose activations never exist whole
    and are computed again in backward. The results are the same bits. Networks with biases and inputs with more
    readers are left alone (a remark says how many). Must stand before derive-backward. Leaves train.tiled_mlps, the
    number of networks, on the step.

    ```mlir
    %g = train.linear %x, %gate : ...
    %u = train.linear %x, %up : ...
    %h = train.gated_activation %g, %u {activation = "silu"} : ...
    %y = train.linear %h, %down : ...
    // becomes
    %y = train.gated_mlp %x, %gate, %up, %down {activation = "silu"} : ...
    ```
  }];
  let statistics = [Statistic<"tiled", "tiled", "networks that are tiled">];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def Shard : Pass<"shard", "::mlir::ModuleOp"> {
  let summary = "spread parameters over the ranks of a mesh; collectives appear as ordinary operations";
  let description = [{
    With `ddp` parameters are alike on all ranks; with `fsdp2` and `megatron_fsdp` the first dimension of each is spread
    over dp_shard, uneven sizes too, and gathered once for every unit that uses it: a transformer block, or an operation
    outside of them. The loss becomes the sum over ranks. Gradients follow from derive-backward. `reshard` says of
    gathered parameters in blocks whether they live until backward: always gathers them again, never keeps them, auto
    leaves it to the checkpointing pass. With `megatron_fsdp`, `zero` says what is spread: parameters, too (3), gradients
    and optimizer state (2), optimizer state (1), nothing (0); below 3 parameters are placed as with `ddp`, and
    attach-optimizer spreads the rest. With `cp`, `cp-attention` says how attention gets at other ranks' keys and values:
    all-gather, ring, or auto, each as compiler/analysis/ContextAttention.h finds better. Where random numbers are drawn, micro-batches are numbered over all ranks. One
    rank: nothing changes. Needs: attach-loss. Must stand before derive-backward. Leaves train.mesh, train.strategy
    and, where attach-optimizer has something to spread, train.zero on the step.

    ```mlir
    %w = train.parameter {name = "w", trainable} : tensor<10x3xf32>
    %y = train.linear %x, %w : ...
    // becomes, over four ranks
    %w = train.parameter {name = "w", splits = [#train.split<0, "dp_shard", 4, 10>], trainable} : tensor<3x3xf32>
    %g = train.all_gather %w {dim = 0 : i64, group = "dp_shard", members = 4 : i64, size = 10 : i64} : ...
    %y = train.linear %x, %g : ...
    ```
  }];
  let options = [
    Option<"strategy", "strategy", "std::string", "\"fsdp2\"", "fsdp2, megatron_fsdp or ddp">,
    Option<"dpReplicate", "dp-replicate", "int64_t", "1", "ranks of the mesh's axis dp_replicate">,
    Option<"dpShard", "dp-shard", "int64_t", "1", "ranks of the axis dp_shard">,
    Option<"cp", "cp", "int64_t", "1", "ranks of the axis cp">,
    Option<"tp", "tp", "int64_t", "1", "ranks of the axis tp">,
    Option<"cpAttention", "cp-attention", "std::string", "\"auto\"", "with cp: auto, ring or all-gather">,
    Option<"target", "target", "std::string", "\"cpu\"", "the device that auto is decided for">,
    Option<"precision", "precision", "std::string", "\"fp32\"", "in which it computes: fp32 or bf16">,
    Option<"ep", "ep", "int64_t", "1", "ranks that share experts, regrouped from the axes (runtime/plan/Mesh.h)">,
    Option<"capacityFactor", "capacity-factor", "double", "0", "with ep: slots for rows from a rank to another, of an even share; 0: for all">,
    Option<"sequenceParallel", "sequence-parallel", "bool", "false", "with tp: cut the sequence where weights are not cut">,
    Option<"reshard", "reshard", "std::string", "\"always\"", "auto, always or never">,
    Option<"zero", "zero", "int64_t", "3", "megatron_fsdp: what is spread, 0 to 3">,
  ];
  let statistics = [
    Statistic<"shardedParameters", "sharded-parameters", "parameters that are spread">,
    Statistic<"dividedOps", "divided-ops", "operations that do a part of their work">,
    Statistic<"gathers", "gathers", "gathers of parameters in forward">,
    Statistic<"rings", "rings", "attentions in a ring">,
  ];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def DeriveBackward : Pass<"derive-backward", "::mlir::ModuleOp"> {
  let summary = "append the gradient of the loss with respect to every trainable parameter";
  let description = [{
    Reverse mode: operations are visited in reverse order and asked for their vector-Jacobian product; contributions
    to one value are added in the order in which its uses are visited, which no later pass changes, so that every
    memory decision leaves the same bits. All uses without a gradient are reported in one run.

    ```mlir
    %y = train.exp %w : ...
    train.output %loss {name = "loss"} : tensor<f32>
    // gains
    %g = train.mul %dy, %y {train.phase = "backward"} : ...
    train.gradient %g {parameter = "w"} : ...
    ```
  }];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def WidenGradients : Pass<"widen-gradients", "::mlir::ModuleOp"> {
  let summary = "gradients that are rounded only to be widened again are not rounded";
  let description = [{
    A cast in backward from bf16 or f16 to fp32 whose operand is a sum that only it reads (WideningOpInterface: gradients
    of weights, biases, tables, norms) goes, and the sum is stored as it was added up, with one rounding less. Also where
    views, or additions of nothing but such sums, stand between the two; they become fp32. All sums of an operation are
    widened together: where another of its sums is read as it is, nothing changes. Where more would be alive than with
    the cast (the gradient of a fused head, which is made beside the weight), only with `exact`. What is rounded all the
    same travels narrow: a collective between a cast to fp32 and one back loses both, since it adds up in fp32 and
    rounds once whatever it is given. One rank has no such casts: sums over ranks make them. Needs: derive-backward.

    ```mlir
    %dw = train.linear_weight_grad %x, %dy : (tensor<9x4xbf16>, tensor<9x8xbf16>) -> tensor<4x8xbf16>
    %wide = train.cast %dw {to = f32} : (tensor<4x8xbf16>) -> tensor<4x8xf32>
    %sum = train.reduce_scatter %wide {...} : (tensor<4x8xf32>) -> tensor<2x8xf32>
    // becomes
    %dw = train.linear_weight_grad %x, %dy {wide} : (tensor<9x4xbf16>, tensor<9x8xbf16>) -> tensor<4x8xf32>
    %sum = train.reduce_scatter %dw {...} : (tensor<4x8xf32>) -> tensor<2x8xf32>
    ```
  }];
  let options = [
    Option<"exact", "exact", "bool", "false", "widen sums, too, that take more memory than the cast does">,
  ];
  let statistics = [
    Statistic<"widened", "widened", "operations whose sums are stored as they were added up">,
    Statistic<"narrowSums", "narrow-sums", "collectives that take contributions as they were rounded">,
    Statistic<"castsRemoved", "casts-removed", "casts that have gone">,
  ];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def AttachOptimizer : Pass<"attach-optimizer", "::mlir::ModuleOp"> {
  let summary = "clip gradients and update parameters; accumulate over micro-batches";
  let description = [{
    Turns each `train.gradient` into an update. With accumulation, gradients are added into persistent buffers by
    every micro-batch and `train.micro_batch_end` separates what runs once per step. Without clipping the norm is
    still computed, because it is logged. In backward (without clipping and accumulation only), updates read a
    constant 1 for the scale instead of the norm's: each may then run as soon as its gradient is final and all
    readers of its parameter are done, and Schedule lets the gradient die there. The weights are the same bits.

    With train.zero (see shard) every rank updates its rows of each parameter that is alike on the ranks of dp_shard and
    has a dimension to be split along: the optimizer works on the state "shard" with moments and master of its size, and
    train.refresh gathers the parameter from the shards. 1: the piece is taken from the whole gradient when the
    optimizer needs it. 2: where the gradient is a sum over the ranks, or additions of such sums, each rank gets its
    rows of the sum and no more (reduce_scatter in the place of all_reduce), and accumulators have only those.

    ```mlir
    train.gradient %g {parameter = "w"} : tensor<4xf32>
    // becomes
    %n = train.squared_norm %g : ...
    %norm, %scale = train.clip_scale %n {max_norm = 1.0 : f64} : ...
    train.adamw %w, %g, %m, %v, %scale, %lr, %step {...} : ...
    // and with train.zero = 1 over two ranks
    %s = train.state {kind = "optimizer", name = "shard", parameter = "w", splits = [...]} : tensor<2xf32>
    %p = train.take_piece %g {dim = 0 : i64, group = "dp_shard", members = 2 : i64} : ...
    train.adamw %s, %p, %m, %v, %scale, %lr, %step {...} : ...
    train.refresh %w, %s {dim = 0 : i64, group = "dp_shard", members = 2 : i64, size = 4 : i64} : ...
    ```
  }];
  let options = [
    Option<"optimizer", "optimizer", "std::string", "\"adamw\"", "adamw or sgd">,
    Option<"beta1", "beta1", "double", "0.9", "AdamW">,
    Option<"beta2", "beta2", "double", "0.999", "AdamW">,
    Option<"epsilon", "epsilon", "double", "1e-8", "AdamW">,
    Option<"weightDecay", "weight-decay", "double", "0.01", "decoupled for AdamW, L2 for SGD">,
    Option<"weightDecayOn", "weight-decay-on", "std::string", "\"all\"", "all parameters, or matrices: those of two or more dimensions">,
    Option<"momentum", "momentum", "double", "0.0", "SGD">,
    Option<"nesterov", "nesterov", "bool", "false", "SGD">,
    Option<"learningRate", "learning-rate", "double", "1e-3", "what amrun uses unless told otherwise">,
    Option<"maxGradNorm", "max-grad-norm", "double", "1.0", "global norm to clip to; 0: no clipping">,
    Option<"accumulation", "accumulation", "int64_t", "1", "micro-batches per step">,
    Option<"masterWeights", "master-weights", "std::string", "\"none\"", "none, or fp32: a copy that updates are computed in">,
    Option<"optimizerState", "optimizer-state", "std::string", "\"\"", "fp32 or bf16; default: the parameter's type">,
    Option<"inBackward", "in-backward", "std::string", "\"auto\"", "on: updates do not wait for the whole norm; off; auto: on where nothing needs it">,
  ];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def Rematerialize : Pass<"rematerialize", "::mlir::ModuleOp"> {
  let summary = "decide which forward values live until backward and compute the others again";
  let description = [{
    Works on the joint graph of forward and backward, block by block (compiler/analysis/Blocks.h). `none`: everything
    that backward reads is saved. `full`: only what flows into a block is, and what routed tokens to experts.
    `selective`: SAVE operations are (compiler/dialect/SaveClasses.cpp, or `classes`), and every other ALTERNATE
    operation of a block; with `matmuls=all` the cheapest set with which no SAVE or ALTERNATE operation runs twice.
    Values outside blocks are saved as in `none`. Where blocks read keys and values of earlier ones,
    `kv-sharing=submodule` makes full and selective keep attention and recompute the rest, with a warning. Needs:
    derive-backward. Leaves: copies with train.phase = "recompute" before their first reader, train.saved,
    train.block; on the step train.ac_policy, train.saved_bytes, train.recompute_flops, train.blocks,
    train.block_runs, train.save_classes.

    ```mlir
    %y = train.exp %x : ...
    %z = train.exp %y : ...
    %dx = train.mul %dz, %y {train.phase = "backward"} : ...
    // becomes, if y is not saved
    %y = train.exp %x : ...
    %z = train.exp %y : ...
    %y2 = train.exp %x {train.phase = "recompute"} : ...
    %dx = train.mul %dz, %y2 {train.phase = "backward"} : ...
    ```
  }];
  let options = [
    Option<"policy", "policy", "std::string", "\"none\"", "none, full or selective">,
    Option<"matmuls", "matmuls", "std::string", "\"alternate\"", "with selective: alternate or all">,
    ListOption<"classes", "classes", "std::string", "with selective: OP=save, OP=recompute or OP=alternate">,
    Option<"kvSharing", "kv-sharing", "std::string", "\"submodule\"", "where layers share keys and values: submodule or block">,
    Option<"trace", "trace", "bool", "false", "print what selective does with each distinct operation to stderr">,
  ];
  let statistics = [
    Statistic<"recomputedOps", "recomputed-ops", "operations that run twice">,
    Statistic<"blocksFound", "blocks", "transformer blocks found">,
  ];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def PlanBudget : Pass<"plan-budget", "::mlir::ModuleOp"> {
  let summary = "decide what lives until backward so that the arena keeps within a budget";
  let description = [{
    Stands in Rematerialize's place. Of the plans whose whole arena (after Schedule and AssignOffsets, which run on
    the decided graph here to see) is at most `memory-budget` bytes, takes one with least modelled recompute time
    (compiler/analysis/BudgetPlanner.h), and says by a remark how far it is from a proven bound. Where none is found,
    an error states the smallest arena found, a proven bound for it, and what is alive at its peak. Needs:
    derive-backward. Leaves what Rematerialize leaves, and on the step train.memory_budget, which AssignOffsets holds
    it to, train.recompute_seconds, train.recompute_bound_seconds, train.step_seconds; with `curve-points` also
    train.pareto_curve: arena bytes and picoseconds of recomputation of so many plans at most.

    ```mlir
    %y = train.exp %x : ...
    %z = train.exp %y : ...
    %dx = train.mul %dz, %y {train.phase = "backward"} : ...
    // becomes, if y does not fit
    %y = train.exp %x : ...
    %z = train.exp %y : ...
    %y2 = train.exp %x {train.phase = "recompute"} : ...
    %dx = train.mul %dz, %y2 {train.phase = "backward"} : ...
    ```
  }];
  let options = [
    Option<"policy", "policy", "std::string", "\"budget\"", "what train.ac_policy will say: budget or auto">,
    Option<"memoryBudget", "memory-budget", "int64_t", "0", "bytes of the arena">,
    Option<"origin", "origin", "std::string", "\"\"", "where the budget comes from, for messages">,
    Option<"curvePoints", "curve-points", "int64_t", "0", "plans that train.pareto_curve shows, at least 2; 0: none">,
    Option<"target", "target", "std::string", "\"cpu\"", "the device whose costs are modelled">,
    Option<"precision", "precision", "std::string", "\"fp32\"", "fp32 or bf16">,
    Option<"fusion", "fusion", "bool", "false", "whether FuseElementwise follows: what runs again in a gradient's kernel is cheap">,
    Option<"alignment", "alignment", "int64_t", "256", "as AssignOffsets is given">,
    Option<"workLimit", "work-limit", "int64_t", "6000000000", "as AssignOffsets is given">,
    Option<"exactItems", "exact-items", "int64_t", "2000", "as AssignOffsets is given">,
    Option<"exactSteps", "exact-steps", "int64_t", "200000000", "as AssignOffsets is given">,
  ];
  let statistics = [
    Statistic<"recomputedOps", "recomputed-ops", "operations that run twice">,
    Statistic<"blocksFound", "blocks", "transformer blocks found">,
  ];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def Schedule : Pass<"schedule", "::mlir::ModuleOp"> {
  let summary = "put the operations of a step into an order with a low peak";
  let description = [{
    Sources come first, then the forward operations, then the others; `train.micro_batch_end` stays between what
    stood before and behind it, and updates stay behind the readers of what they overwrite. The order is the best of
    a portfolio (compiler/analysis/ListSchedule.h); train.schedule on the step names the winners.

    ```mlir
    %a = train.exp %x : ...           // 4 KiB
    %b = train.exp %y : ...           // 4 KiB
    %c = train.reduce_sum %a {...}    // frees a
    // becomes
    %a = train.exp %x : ...
    %c = train.reduce_sum %a {...}
    %b = train.exp %y : ...
    ```
  }];
  let statistics = [
    Statistic<"programBytes", "program-bytes", "largest live sum of the order given">,
    Statistic<"scheduledBytes", "scheduled-bytes", "largest live sum of the order chosen">,
  ];
}

def OverlapCollectives : Pass<"overlap-collectives", "::mlir::ModuleOp"> {
  let summary = "start collectives of a scheduled step before they are needed, and wait for them when they are";
  let description = [{
    Gathers of parameters, also those that backward makes again, start when the unit (block of the model) before theirs
    begins to compute; other collectives, sums of gradients above all, are waited for where something reads them, at
    most a unit later, and what only passes a gradient on waits with them (compiler/analysis/Overlap.h). No window leaves
    its section of the step. In-place updates stay behind the waits of what reads the old value. `auto`: the arena, as
    assign-offsets packs it, becomes no larger than it would be without; windows that do not fit become smaller or
    vanish, those that hide least for their bytes first. `prefetch`: as large as FSDP2's, whatever that takes, or what
    train.memory_budget leaves. Needs: schedule; assign-offsets behind it. Leaves: `async` on what is split, a
    train.wait for each, train.overlap on the step.

    ```mlir
    %a = train.linear %x, %v : ...
    %w = train.all_gather %p {dim = 0 : i64, group = "dp_shard", members = 2 : i64, size = 8 : i64} : ...
    %b = train.linear %a, %w : ...
    // becomes
    %s = train.all_gather %p {async, dim = 0 : i64, group = "dp_shard", members = 2 : i64, size = 8 : i64} : ...
    %a = train.linear %x, %v : ...
    %w = train.wait %s, %p : ...
    %b = train.linear %a, %w : ...
    ```
  }];
  let options = [
    Option<"mode", "mode", "std::string", "\"auto\"", "auto: without more memory; prefetch: a unit ahead whatever it takes">,
    Option<"target", "target", "std::string", "\"cpu\"", "the device whose times are modelled">,
    Option<"precision", "precision", "std::string", "\"fp32\"", "fp32 or bf16">,
    Option<"alignment", "alignment", "int64_t", "256", "as AssignOffsets is given">,
    Option<"workLimit", "work-limit", "int64_t", "6000000000", "as AssignOffsets is given">,
    Option<"exactItems", "exact-items", "int64_t", "2000", "as AssignOffsets is given">,
    Option<"exactSteps", "exact-steps", "int64_t", "200000000", "as AssignOffsets is given">,
  ];
  let statistics = [
    Statistic<"windows", "windows", "collectives that run beside computation">,
    Statistic<"reduced", "reduced", "collectives that would take more memory, or a larger window">,
    Statistic<"hiddenMicroseconds", "hidden-microseconds", "of computation beside collectives, modelled">,
  ];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def AssignOffsets : Pass<"assign-offsets", "::mlir::ModuleOp"> {
  let summary = "place every buffer of a scheduled step in one arena";
  let description = [{
    Lifetimes are half-open intervals of instructions; results may take over the buffer of an operand that dies
    (compiler/analysis/Liveness.h). Leaves: train.offsets on whatever has results, train.workspace_offset, and on the
    step train.arena_bytes, train.max_live_bytes, train.arena_bound_bytes (no packing is lower), train.alignment,
    train.packing (the rule that won).

    ```mlir
    %a = train.exp %x : (tensor<64xf32>) -> tensor<64xf32>
    // becomes
    %a = train.exp %x {train.offsets = array<i64: 256>} : (tensor<64xf32>) -> tensor<64xf32>
    ```
  }];
  let options = [
    Option<"alignment", "alignment", "int64_t", "256", "bytes, a power of two">,
    Option<"workLimit", "work-limit", "int64_t", "6000000000", "pairs of buffers that all packing rules together may look at">,
    Option<"exactItems", "exact-items", "int64_t", "2000", "buffers that are alive for a part of the step; more are not searched exactly">,
    Option<"exactSteps", "exact-steps", "int64_t", "200000000", "steps of the exact search for the bound; 0: none">,
  ];
  let statistics = [
    Statistic<"heightBytes", "height-bytes", "bytes of all arenas">,
    Statistic<"boundBytes", "bound-bytes", "no packing has fewer">,
    Statistic<"searchSteps", "search-steps", "of the exact search">,
  ];
}

def VerifyPlan : Pass<"verify-plan", "::mlir::ModuleOp"> {
  let summary = "prove that a placed step computes what its graph says";
  let description = [{
    Shares no code with the passes it checks. Runs the step symbolically over the arena: every operation writes its
    results' bytes, and whatever an operand reads must still hold the very value. So overlaps of live buffers, wrong
    order, early frees and updates before readers all show as bytes that hold something else. Also checks bounds,
    alignment, phases, that recomputed operations equal their originals, that nothing overwrites what persists, and
    that the step's attributes state the truth. Changes nothing.
  }];
}

def FuseElementwise : Pass<"fuse-elementwise", "::mlir::ModuleOp"> {
  let summary = "join cheap operations of a placed step into kernels";
  let description = [{
    Operations with FusableOpInterface whose elements and rows are alike, that follow each other and read each other's
    results or the same tensor, become one `train.fused`; every other that can be fused becomes one of its own, so that
    a value's bits do not depend on its neighbours. Order, places and lifetimes stay as they were decided; a value that is
    used within a group only is no longer written. A group is refused where it would write bytes that it has yet to read.
    A `train.full` becomes a constant of the groups that read it. What is computed again joins the backward operations that
    read it; such a group is of phase backward and has train.joined_flops.
    Needs: assign-offsets; verify-plan before it, which knows single operations.

    ```mlir
    %h = train.add %x, %d {train.offsets = array<i64: 512>} : ...
    %y, %rstd = train.rms_norm %h, %w {epsilon = 1.0e-6 : f64, train.offsets = array<i64: 768, 1024>} : ...
    // becomes
    %h, %y, %rstd = train.fused (%a = %x, %b = %d, %c = %w) {taken = array<i64: -1, -1, -1>, train.offsets = array<i64: 512, 768, 1024>} : ... {
      %0 = train.add %a, %b : ...
      %1, %2 = train.rms_norm %0, %c {epsilon = 1.0e-6 : f64} : ...
      train.yield %0, %1, %2 : ...
    }
    ```
  }];
  let statistics = [
    Statistic<"groups", "groups", "kernels">,
    Statistic<"joinedOps", "joined-ops", "operations that share a kernel with others">,
    Statistic<"recomputing", "recomputing", "kernels of backward that compute something again">,
  ];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

def LowerToPlan : Pass<"lower-to-plan", "::mlir::ModuleOp"> {
  let summary = "turn a placed step into buffers and kernel calls";
  let description = [{
    Replaces each `train.step` by a `plan.program`. Every computation becomes a `plan.call` of the kernel that the
    operation names; sources and outputs become tables. Needs: assign-offsets.

    ```mlir
    %a = train.exp %x {train.offsets = array<i64: 256>} : (tensor<64xf32>) -> tensor<64xf32>
    // becomes
    plan.buffer 1 {offset = 256 : i64, bytes = 256 : i64, category = "activation", first = 0 : i64, last = 1 : i64, ...}
    plan.call "exp" {inputs = [#plan.view<0, 0, tensor<64xf32>>], outputs = [#plan.view<1, 0, tensor<64xf32>>], ...}
    ```
  }];
  let dependentDialects = ["::amc::train::TrainDialect", "::amc::plan::PlanDialect"];
}

#endif
