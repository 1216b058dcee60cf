// The table of options. A flag beats a recipe; both beat the default, which is CompileOptions'
// initializer.
#include "compiler/driver/Options.h"
#include "compiler/driver/MeshRules.h"
#include "runtime/plan/Ranges.h"
#include "runtime/plan/Workspace.h"
#include "runtime/support/Nearest.h"
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <sstream>

namespace amc {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (true) {
    size_t end = text.find(separator, begin);
    parts.emplace_back(text.substr(begin, end == text.npos ? end : end - begin));
    if (end == text.npos)
      return parts;
    begin = end + 1;
  }
}

template <class T> std::optional<T> parseNumber(std::string_view text) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return std::nullopt;
  if constexpr (std::is_floating_point_v<T>)
    if (!std::isfinite(value))
      return std::nullopt;
  return value;
}

std::string notNegative(std::string_view text) {
  return parseNumber<double>(text).value_or(-1) >= 0 ? "" : "a number that is not negative";
}
std::string positive(std::string_view text) {
  return parseNumber<double>(text).value_or(0) > 0 ? "" : "a number above 0";
}
std::string atLeastOne(std::string_view text) {
  return parseNumber<int64_t>(text).value_or(0) >= 1 ? "" : "an integer of at least 1";
}
std::string atLeastZero(std::string_view text) {
  return parseNumber<int64_t>(text).value_or(-1) >= 0 ? "" : "an integer of at least 0";
}
std::string atLeastOneOrNone(std::string_view text) {
  return text == "none" || atLeastOne(text).empty() ? "" : "an integer of at least 1, or none: what the others leave";
}
std::string fraction(std::string_view text) {
  double value = parseNumber<double>(text).value_or(-1);
  return value >= 0 && value < 1 ? "" : "a number of at least 0 and below 1";
}
std::string twoFractions(std::string_view text) {
  std::vector<std::string> parts = split(text, ',');
  if (parts.size() != 2 || !fraction(parts[0]).empty() || !fraction(parts[1]).empty())
    return "two numbers of at least 0 and below 1, as 0.9,0.999";
  return "";
}
std::string share(std::string_view text) {
  double value = parseNumber<double>(text).value_or(-1);
  return value >= 0 && value <= 1 ? "" : "a number of at least 0 and at most 1";
}
std::string weights(std::string_view text) {
  for (const std::string &part : split(text, ','))
    if (!notNegative(part).empty())
      return "numbers that are not negative, as 1,0.5,2";
  return "";
}
std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
  return result;
}
std::string classOfOperation(std::string_view text) {
  size_t equals = text.find('=');
  std::string given = equals == text.npos ? "" : lower(text.substr(equals + 1));
  if (equals == 0 || (given != "save" && given != "recompute" && given != "alternate"))
    return "an operation and save, recompute or alternate, as softmax=save";
  return "";
}
std::string byteCount(std::string_view text) {
  return parseBytes(text) ? "" : "a number of bytes that is not negative, as 7.3GiB, 512MiB or 80GB";
}
std::string namedShape(std::string_view text) {
  size_t equals = text.find('=');
  if (equals == text.npos || equals == 0 || !parseShape(text.substr(equals + 1)))
    return "an input and its dimensions, as input_ids=8x256";
  return "";
}

std::string tilesInFlight(std::string_view text) {
  int64_t tiles = parseNumber<int64_t>(text).value_or(0);
  constexpr auto most = static_cast<int64_t>(rt::workspace::lceMostInFlight);
  return text == "auto" || (tiles >= 1 && tiles <= most) ? ""
                                                         : "auto, or an integer in [1, " + std::to_string(most) + "]";
}

std::string microBatches(std::string_view text) {
  int64_t count = parseNumber<int64_t>(text).value_or(0);
  constexpr auto most = static_cast<int64_t>(rt::mostMicroBatches);
  return count >= 1 && count <= most ? "" : "an integer in [1, " + std::to_string(most) + "]";
}

std::string number(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

constexpr std::string_view model = "Model", loss = "Loss", memory = "Memory",
                           optimizer = "Optimizer", ranks = "Ranks and device", result = "Result",
                           run = "amrun";

} // namespace

const std::vector<OptionSpec> &optionTable() {
  using O = CompileOptions;
  static const std::vector<OptionSpec> table = {
      {"--output", "", &O::output, "FILE", result, "where the plan (or the stage's text) goes"},
      {"--emit", "", &O::emit,
       "import|raise|loss|shard|backward|optimizer|rematerialize|schedule|offsets|plan|ptx", result,
       "stop after a stage and write its IR; plan is the finished plan file, ptx a GPU's kernels in it"},
      {"--report", "", &O::report, "FILE.html", result, "also write a report for people"},
      {"--embed-weights", "model.embed_weights", &O::embedWeights, "", result,
       "put the initial weights into the plan instead of referring to the model's files"},

      {"--shape", "model.shape", &O::shape, "INPUT=8x256", model,
       "bind the symbolic dimensions of an input; repeatable", namedShape},
      {"--trainable", "model.trainable", &O::trainable, "GLOB", model,
       "train the initializers whose names match, whatever their role; repeatable"},
      {"--frozen", "model.frozen", &O::frozen, "GLOB", model,
       "keep the initializers whose names match; repeatable. Where --trainable matches too, the "
       "more exact pattern decides (more characters besides * and ?), --frozen if they are alike"},
      {"--untied", "model.untied", &O::untied, "GLOB", model,
       "train the initializers whose names match apart from others that hold the same numbers, as upcycled experts do at the "
       "start; repeatable"},
      {"--precision", "model.precision", &O::precision, "fp32|bf16", model,
       "type of weights, activations and gradients; loss and statistics are fp32 always"},

      {"--loss", "loss_fn.name", &O::loss, "auto|causal-lm|cross-entropy|model", loss,
       "what is minimised; auto decides by the model's outputs"},
      {"--loss-impl", "loss_fn.implementation", &O::lossImplementation,
       "linear-cross-entropy|unfused", loss,
       "make the LM head and the loss one operation that never has all logits in memory"},
      {"--loss-tiles-in-flight", "loss_fn.tiles_in_flight", &O::lossTilesInFlight, "N", memory,
       "linear-cross-entropy: tiles of tokens whose logits are in memory at a time; fewer take less scratch and more "
       "time; auto: by the budget, 16 without one",
       tilesInFlight},
      {"--logits", "loss_fn.logits", &O::logits, "OUTPUT", loss,
       "the output that holds the logits"},
      {"--ignore-index", "loss_fn.ignore_index", &O::ignoreIndex, "LABEL", loss,
       "label of positions that do not count"},
      {"--label-smoothing", "loss_fn.label_smoothing", &O::labelSmoothing, "SHARE", loss,
       "share of the target that all classes have alike, as torch's", share},
      {"--z-loss", "loss_fn.z_loss", &O::zLoss, "FACTOR", loss,
       "adds FACTOR times the squared log-sum-exp of the logits", notNegative},
      {"--class-weights", "loss_fn.class_weights", &O::classWeights, "W0,W1,…", loss,
       "one for each class, as torch's: a mean divides by the weights of the labels", weights},
      {"--loss-reduction", "loss_fn.reduction", &O::lossReduction, "mean|sum", loss,
       "mean over all labelled positions of a step, or their sum"},

      {"--ac", "distributed.activation_checkpointing", &O::activationCheckpointing,
       "none|full|selective|budget|auto", memory,
       "activation checkpointing: which forward values are kept for backward"},
      {"--ac-matmuls", "distributed.ac_matmuls", &O::acMatmuls, "alternate|all", memory,
       "selective: keep every other matmul of a block, or all"},
      {"--memory-budget", "distributed.memory_budget", &O::memoryBudget, "BYTES", memory,
       "the whole arena, which --ac=budget keeps within", byteCount},
      {"--device-memory", "distributed.device_memory", &O::deviceMemory, "BYTES", memory,
       "what --ac=auto plans for, less a reserve; left out, this machine's memory",
       byteCount},
      {"--ac-policy", "distributed.ac_policy", &O::acPolicy, "OP=CLASS", memory,
       "selective: save, recompute or alternate an operation, as softmax=save; repeatable; amc "
       "inspect --ac-policy prints the table",
       classOfOperation},
      {"--ac-kv-sharing", "distributed.ac_kv_sharing", &O::acKvSharing, "submodule|block", memory,
       "full and selective, where layers share keys and values: keep attention, or checkpoint whole "
       "blocks"},
      {"--fusion", "", &O::fusion, "on|off", memory,
       "generate kernels for cheap operations, joining those that follow each other; memory is the same with and without"},
      {"--tile-mlp", "distributed.tile_mlp", &O::tileMlp, "auto|on|off", memory,
       "work through gated feed-forward networks a tile of tokens at a time and compute their "
       "activations again in backward; auto: where a budget is cheaper to keep so"},
      {"--ac-trace", "", &O::acTrace, "", memory,
       "say per operation what selective checkpointing does with it"},

      {"--optimizer", "optimizer.name", &O::optimizer, "adamw|sgd", optimizer, "as torch's"},
      {"--lr", "optimizer.lr", &O::learningRate, "RATE", optimizer,
       "learning rate; amrun may be given another", notNegative},
      {"--betas", "optimizer.betas", &O::betas, "B1,B2", optimizer, "AdamW", twoFractions},
      {"--eps", "optimizer.eps", &O::epsilon, "EPSILON", optimizer, "AdamW", positive},
      {"--weight-decay", "optimizer.weight_decay", &O::weightDecay, "DECAY", optimizer,
       "decoupled for AdamW, L2 for SGD", notNegative},
      {"--weight-decay-on", "optimizer.weight_decay_on", &O::weightDecayOn, "all|matrices",
       optimizer, "decay every parameter, or those of two or more dimensions"},
      {"--momentum", "optimizer.momentum", &O::momentum, "MOMENTUM", optimizer, "SGD", fraction},
      {"--nesterov", "optimizer.nesterov", &O::nesterov, "", optimizer, "SGD with momentum"},
      {"--master-weights", "optimizer.master_weights", &O::masterWeights, "none|fp32", optimizer,
       "with bf16: also keep each trained weight in fp32, and update that"},
      {"--optimizer-state", "optimizer.state", &O::optimizerState, "precision|fp32|bf16", optimizer,
       "type of moments; precision: that of the weights, as torch has it"},
      {"--max-grad-norm", "clip_grad_norm.max_norm", &O::maxGradNorm, "NORM", optimizer,
       "clip gradients to this global norm; 0: never", notNegative},
      {"--grad-accumulation", "step_scheduler.grad_acc_steps", &O::gradAccumulation, "N", optimizer,
       "micro-batches per step", microBatches},
      {"--optimizer-in-backward", "optimizer.in_backward", &O::optimizerInBackward, "auto|on|off",
       optimizer,
       "update each parameter as soon as its gradient is final; auto: unless clipping or accumulation "
       "need all gradients first"},

      {"--target", "distributed.target", &O::target, "cpu|cuda:sm_80|cuda:sm_90|cuda:sm_100", ranks,
       "the device the plan is for"},
      {"--strategy", "distributed.strategy", &O::strategy, "fsdp2|megatron_fsdp|ddp", ranks,
       "how parameters are spread; all are the same on one rank"},
      {"--dp-size", "distributed.dp_size", &O::dpSize, "N", ranks,
       "data-parallel ranks, replicas included; none: what --ranks leaves to them", atLeastOneOrNone},
      {"--dp-replicate-size", "distributed.dp_replicate_size", &O::dpReplicateSize, "N", ranks,
       "fsdp2: replicas of the sharded group (HSDP); divides --dp-size", atLeastOne},
      {"--tp-size", "distributed.tp_size", &O::tpSize, "N", ranks, "tensor-parallel ranks",
       atLeastOne},
      {"--cp-size", "distributed.cp_size", &O::cpSize, "N", ranks, "context-parallel ranks",
       atLeastOne},
      {"--cp-attention", "distributed.cp_attention", &O::cpAttention, "auto|ring|all-gather", ranks,
       "context parallelism: other ranks' keys and values visited in turn, or gathered; auto: what is modelled better"},
      {"--ep-size", "distributed.ep_size", &O::epSize, "N", ranks, "expert-parallel ranks: of dp x cp, or of dp x cp x tp, that share the experts of a mixture",
       atLeastOne},
      {"--ep-capacity-factor", "distributed.ep_capacity_factor", &O::epCapacityFactor, "F", ranks,
       "rows that a rank may send to each other, in even shares; rows beyond are dropped, and counted; 0: no limit",
       notNegative},
      {"--ranks", "", &O::ranks, "N", ranks,
       "number of ranks, which the sizes have to make (default: dp x cp x tp)", atLeastOne},
      {"--zero-dp-strategy", "distributed.zero_dp_strategy", &O::zeroDpStrategy, "0|1|2|3", ranks,
       "megatron_fsdp: spread nothing, optimizer state, gradients too, parameters too"},
      {"--sequence-parallel", "distributed.sequence_parallel", &O::sequenceParallel, "", ranks,
       "with tensor parallelism: norms work on a share of the sequence"},
      {"--reshard-after-forward", "distributed.reshard_after_forward", &O::reshardAfterForward,
       "auto|always|never", ranks,
       "whether gathered parameters are let go after forward; auto: with a budget as its planner decides, else always"},
      {"--overlap", "distributed.overlap", &O::overlap, "auto|off|prefetch", ranks,
       "run collectives beside computation; auto: as far as that takes no more memory; prefetch: gather a block ahead and "
       "wait for gradients a block later, as FSDP2, whatever that takes"},

      {"--global-batch-size", "step_scheduler.global_batch_size", &O::globalBatchSize, "N", optimizer,
       "rows of a step: local batch x data-parallel ranks x accumulation, of which it gives the last",
       atLeastOne},
      {"--local-batch-size", "step_scheduler.local_batch_size", &O::localBatchSize, "N", optimizer,
       "rows of a rank's micro-batch: binds the first dimension of the model's first input", atLeastOne},

      {"", "model.path", &O::model, "FILE", model, "the ONNX file"},
      {"", "model.pretrained_model_name_or_path", &O::pretrainedModel, "NAME", model,
       "what the guide loads; AMC takes the ONNX file exported from it"},

      // A recipe describes the run too. These are amrun's flags; amc prints them for it.
      {"--data", "dataset.path", {}, "FILE", run, "training data"},
      {"--seed", "dataset.seed", {}, "N", run, "order of the data"},
      {"--steps", "step_scheduler.max_steps", {}, "N", run, "steps", atLeastOne},
      {"--epochs", "step_scheduler.num_epochs", {}, "N", run, "passes over the data", atLeastOne},
      {"--checkpoint-every",
       "step_scheduler.ckpt_every_steps",
       {},
       "N",
       run,
       "steps between checkpoints",
       atLeastOne},
      {"--eval-every",
       "step_scheduler.val_every_steps",
       {},
       "N",
       run,
       "steps between evaluations",
       atLeastOne},
      {"--lr-schedule", "lr_scheduler.lr_decay_style", {},
       "constant|linear|cosine|inverse-square-root|WSD", run, "learning-rate schedule"},
      {"--warmup-steps", "lr_scheduler.lr_warmup_steps", {}, "N", run, "steps of warm-up", atLeastZero},
      {"--init-lr", "lr_scheduler.init_lr", {}, "RATE", run, "rate that the warm-up starts from", notNegative},
      {"--min-lr", "lr_scheduler.min_lr", {}, "RATE", run, "rate at the schedule's end", notNegative},
      {"--lr-decay-steps", "lr_scheduler.lr_decay_steps", {}, "N", run, "step at which the schedule ends", atLeastOne},
      {"--wsd-decay-steps", "lr_scheduler.wsd_decay_steps", {}, "N", run, "WSD: steps of its decay", atLeastOne},
      {"--wsd-decay-style", "lr_scheduler.lr_wsd_decay_style", {}, "linear|cosine|exponential|minus_sqrt",
       run, "WSD: how it decays"},
      {"--checkpoint-dir", "checkpoint.checkpoint_dir", {}, "DIR", run, "where checkpoints go"},
  };
  return table;
}

std::optional<std::vector<int64_t>> parseShape(std::string_view text) {
  std::vector<int64_t> dims;
  for (const std::string &part : split(text, 'x')) {
    std::optional<int64_t> dim = parseNumber<int64_t>(part);
    if (!dim || *dim < 0) // 0 is the length of an empty cache
      return std::nullopt;
    dims.push_back(*dim);
  }
  return dims;
}

std::optional<uint64_t> parseBytes(std::string_view text) {
  size_t end = text.find_first_not_of("0123456789.");
  std::optional<double> number = parseNumber<double>(text.substr(0, end));
  if (!number || text.empty() || text[0] == '.' || text[0] == '-')
    return std::nullopt;
  std::string_view unit = end == text.npos ? std::string_view() : text.substr(end);
  while (!unit.empty() && unit[0] == ' ')
    unit.remove_prefix(1);
  static constexpr std::pair<std::string_view, double> units[] = {
      {"", 1},    {"B", 1},    {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
      {"KB", 1e3}, {"kB", 1e3}, {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};
  for (auto [name, bytes] : units)
    if (unit == name)
      return *number * bytes < 0x1p63 ? std::optional(static_cast<uint64_t>(*number * bytes))
                                      : std::nullopt;
  return std::nullopt;
}

std::string checkpointingSpelling(std::string_view text) {
  std::string word = lower(text);
  for (const char *full : {"true", "on", "full", "enabled", "yes"})
    if (word == full)
      return "full";
  for (const char *none : {"false", "off", "none", "disabled", "no", "null", "~"})
    if (word == none)
      return "none";
  for (const char *same : {"selective", "budget", "auto"})
    if (word == same)
      return word;
  return std::string(text);
}

namespace {

void setRunArgument(CompileOptions &options, std::string_view flag, std::string_view text) {
  for (size_t i = 0; i < options.runArguments.size(); i += 2)
    if (options.runArguments[i] == flag) {
      options.runArguments[i + 1] = text;
      return;
    }
  options.runArguments.emplace_back(flag);
  options.runArguments.emplace_back(text);
}

} // namespace

std::optional<std::string> setOption(CompileOptions &options, const OptionSpec &spec,
                                     std::string_view text, bool append) {
  auto is = [&](const std::string &should) {
    return "is '" + std::string(text) + "', should be " + should;
  };
  if (spec.check)
    if (std::string should = spec.check(text); !should.empty())
      return is(should);
  if (spec.value.find('|') != spec.value.npos) {
    std::vector<std::string> choices = split(spec.value, '|');
    auto nearChoice = [](const std::string &near) { return near.empty() ? "" : " (nearest: " + near + ")"; };
    if (std::find(choices.begin(), choices.end(), text) == choices.end())
      return is("one of " + std::string(spec.value) + nearChoice(rt::nearest(text, choices)));
  }

  if (std::holds_alternative<std::monostate>(spec.member)) {
    setRunArgument(options, spec.flag, text);
  } else if (auto *member = std::get_if<std::string CompileOptions::*>(&spec.member)) {
    options.*(*member) = text;
  } else if (auto *member = std::get_if<bool CompileOptions::*>(&spec.member)) {
    if (text != "true" && text != "false")
      return is("true or false");
    options.*(*member) = text == "true";
  } else if (auto *member = std::get_if<int64_t CompileOptions::*>(&spec.member)) {
    std::optional<int64_t> value =
        text == "none" && spec.check == atLeastOneOrNone ? 0 : parseNumber<int64_t>(text);
    if (!value)
      return is("an integer");
    options.*(*member) = *value;
  } else if (auto *member = std::get_if<double CompileOptions::*>(&spec.member)) {
    std::optional<double> value = parseNumber<double>(text);
    if (!value)
      return is("a number");
    options.*(*member) = *value;
  } else if (auto *member = std::get_if<std::vector<std::string> CompileOptions::*>(&spec.member)) {
    if (!append)
      (options.*(*member)).clear();
    (options.*(*member)).emplace_back(text);
  } else {
    auto values = std::get<std::vector<double> CompileOptions::*>(spec.member);
    (options.*values).clear();
    for (const std::string &part : split(text, ','))
      (options.*values).push_back(*parseNumber<double>(part)); // spec.check has parsed them
  }
  return std::nullopt;
}

std::string valueText(const CompileOptions &options, const OptionSpec &spec) {
  std::string text;
  auto append = [&](const std::string &part) { text += (text.empty() ? "" : ",") + part; };
  if (auto *member = std::get_if<std::string CompileOptions::*>(&spec.member))
    return options.*(*member);
  if (auto *member = std::get_if<bool CompileOptions::*>(&spec.member))
    return options.*(*member) ? "true" : "false";
  if (auto *member = std::get_if<int64_t CompileOptions::*>(&spec.member)) {
    if (options.*(*member) == 0 && spec.check == atLeastOneOrNone)
      return "none";
    return options.*(*member) == 0 && spec.check == atLeastOne ? "" : std::to_string(options.*(*member));
  }
  if (auto *member = std::get_if<double CompileOptions::*>(&spec.member))
    return number(options.*(*member));
  if (auto *member = std::get_if<std::vector<double> CompileOptions::*>(&spec.member))
    for (double value : options.*(*member))
      append(number(value));
  if (auto *member = std::get_if<std::vector<std::string> CompileOptions::*>(&spec.member))
    for (const std::string &value : options.*(*member))
      append(value);
  return text;
}

std::string defaultText(const OptionSpec &spec) {
  static const CompileOptions defaults;
  return std::holds_alternative<bool CompileOptions::*>(spec.member) ? "" : valueText(defaults, spec);
}

void settle(CompileOptions &options) {
  // On a GPU a product's bits depend on how many rows it has, and no decision about memory may change a bit.
  if (options.target != "cpu" && options.tileMlp == "auto")
    options.tileMlp = "off";
  MeshDecision mesh = decideMesh(options);
  if (!mesh.errors.empty())
    return;
  options.dpSize = mesh.dataParallel;
  options.gradAccumulation = mesh.gradAccumulation;
}

std::vector<std::string> checkTogether(const CompileOptions &options) {
  std::vector<std::string> errors;
  if (options.model.empty() && options.pretrainedModel.empty())
    errors.push_back("no model is given; name an ONNX file, or set model.path in the recipe");
  else if (options.model.empty())
    errors.push_back("no model is given; the recipe's model.pretrained_model_name_or_path is '" +
                     options.pretrainedModel +
                     "', which AMC does not load: export it to ONNX (models/export.py is a complete example), then "
                     "name that file, or set model.path in the recipe");
  if (options.emit == "plan" && options.output.empty())
    errors.push_back("no output is given; name a plan file with -o");
  if (options.output == "-" && options.report == "-")
    errors.push_back("the plan and the report cannot both go to standard output");
  if (options.emit == "ptx" && options.fusion == "off")
    errors.push_back("--emit is 'ptx' and --fusion is 'off': there are no generated kernels to print");
  if (options.emit != "plan" && !options.report.empty())
    errors.push_back("--report describes a finished plan, --emit is '" + options.emit + "'");
  if (options.target != "cpu" && options.tileMlp == "on")
    errors.push_back("--tile-mlp is 'on' and the target is '" + options.target +
                     "', whose products of fewer rows have other bits; networks are tiled on the CPU only");
  if (options.target != "cpu" && options.cpAttention == "ring")
    errors.push_back("--cp-attention is 'ring' and the target is '" + options.target +
                     "', which has no attention in a ring; all-gather has");
  if (options.emit == "ptx" && options.target == "cpu")
    errors.push_back("--emit is 'ptx' and the target is 'cpu', which has none; name a GPU with --target");
  std::vector<std::string> choices = checkChoices(options);
  errors.insert(errors.end(), choices.begin(), choices.end());
  return errors;
}

std::vector<std::string> checkChoices(const CompileOptions &options) {
  std::vector<std::string> errors = decideMesh(options).errors;
  if (options.optimizer != "sgd" && (options.momentum != 0 || options.nesterov))
    errors.push_back("--momentum and --nesterov are for sgd, the optimizer is " +
                     options.optimizer);
  const CompileOptions defaults;
  if (options.optimizer != "adamw" &&
      (options.betas != defaults.betas || options.epsilon != defaults.epsilon))
    errors.push_back("--betas and --eps are for adamw, the optimizer is " + options.optimizer);
  if (options.optimizer == "sgd" && options.nesterov && options.momentum == 0)
    errors.push_back("--nesterov needs a --momentum above 0");
  if (options.optimizerInBackward == "on" && options.maxGradNorm > 0)
    errors.push_back("--optimizer-in-backward is on and --max-grad-norm is " +
                     number(options.maxGradNorm) +
                     ": clipping needs the norm of all gradients before the first update; give "
                     "--max-grad-norm 0, or leave --optimizer-in-backward at auto");
  if (options.optimizerInBackward == "on" && options.gradAccumulation > 1)
    errors.push_back("--optimizer-in-backward is on and --grad-accumulation is " +
                     std::to_string(options.gradAccumulation) +
                     ": updates wait for the last micro-batch; leave --optimizer-in-backward at "
                     "auto");
  if (options.masterWeights == "fp32" && options.precision == "fp32")
    errors.push_back("--master-weights is fp32 and so is --precision: the weights are their own masters; leave it "
                     "out, or compile with --precision=bf16");
  if (options.optimizerState == "bf16" && options.precision == "fp32")
    errors.push_back("--optimizer-state is bf16 and --precision is fp32: moments are not narrower than weights; "
                     "compile with --precision=bf16, or leave it out");
  if (options.optimizerState != "precision" && options.optimizer == "sgd" && options.momentum == 0)
    errors.push_back("--optimizer-state is " + options.optimizerState +
                     ", but sgd without --momentum keeps no state");
  if (options.lossTilesInFlight != "auto" && options.lossImplementation != "linear-cross-entropy")
    errors.push_back("--loss-tiles-in-flight is for --loss-impl=linear-cross-entropy, which is '" +
                     options.lossImplementation + "'");
  if (!options.acPolicy.empty() && options.activationCheckpointing != "selective")
    errors.push_back("--ac-policy is for --ac=selective, which is '" +
                     options.activationCheckpointing + "'");
  std::map<std::string, std::string> classOf;
  for (const std::string &rule : options.acPolicy) {
    const std::string op = rule.substr(0, rule.find('='));
    auto [at, fresh] = classOf.try_emplace(op, rule);
    if (!fresh && at->second != rule)
      errors.push_back("--ac-policy has " + at->second + " and " + rule + ", should name " + op + " once");
  }
  const std::string &ac = options.activationCheckpointing;
  if (options.acMatmuls != defaults.acMatmuls && ac != "selective")
    errors.push_back("--ac-matmuls is for --ac=selective, which is '" + ac + "'");
  if (options.acKvSharing != defaults.acKvSharing && (ac == "budget" || ac == "auto"))
    errors.push_back("--ac-kv-sharing is for --ac=selective and full: '" + ac + "' decides value by value");
  if (options.acTrace && ac != "selective" && ac != "full")
    errors.push_back("--ac-trace is for --ac=selective and full, not '" + ac + "'");
  if (ac == "budget" && options.memoryBudget.empty())
    errors.push_back("--ac is 'budget' and no budget is given; name one with --memory-budget");
  if (ac != "budget" && !options.memoryBudget.empty())
    errors.push_back("--memory-budget is for --ac=budget, which is '" + ac + "'");
  if (ac != "auto" && !options.deviceMemory.empty())
    errors.push_back("--device-memory is for --ac=auto, which is '" + ac + "'");
  if (ac == "auto" && options.deviceMemory.empty() && options.target != "cpu")
    errors.push_back("--ac is 'auto' and the target is '" + options.target +
                     "', whose memory is not this machine's; name it with --device-memory");
  return errors;
}

} // namespace amc
