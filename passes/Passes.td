// Every pass of the pipeline; order and reasons are in compiler/driver/Pipeline.cpp.
#ifndef AMC_PASSES_PASSES
#define AMC_PASSES_PASSES

include "mlir/Pass/PassBase.td"

def AttachLoss : Pass<"attach-loss", "::mlir::ModuleOp"> {
  let summary = "add the training loss to the forward graph";
  let description = [{
    `auto` takes the model's own loss if an output is a float scalar named like one, causal-LM cross-entropy if the
    logits have rank 3, and plain cross-entropy if they have rank 2. Adds the int64 input `labels` and the
    loss normaliser, the number of labelled tokens in the whole step; the model's other outputs are erased.

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

def AttachOptimizer : Pass<"attach-optimizer", "::mlir::ModuleOp"> {
  let summary = "clip gradients and update parameters; accumulate over micro-batches";
  let description = [{
    Turns each `train.gradient` into an update. With accumulation, gradients are added into persistent buffers by
    every micro-batch and `train.micro_batch_end` separates what runs once per step. Without clipping the norm is
    still computed, because it is logged.

    ```mlir
    train.gradient %g {parameter = "w"} : tensor<4xf32>
    // becomes
    %n = train.squared_norm %g : ...
    %norm, %scale = train.clip_scale %n {max_norm = 1.0 : f64} : ...
    train.adamw %w, %g, %m, %v, %scale, %lr, %step {...} : ...
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
  ];
  let dependentDialects = ["::amc::train::TrainDialect"];
}

#endif
