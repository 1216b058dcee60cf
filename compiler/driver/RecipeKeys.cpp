// The table of foreign keys. Facts about the guide's keys and their defaults are from NeMo AutoModel's examples,
// documents and configuration classes as of August 2026. A key that only tunes how the guide's own machinery runs is
// ignored; one that alters numbers is an option, or refused.
#include "compiler/driver/RecipeKeys.h"

namespace amc {
namespace {

constexpr std::string_view floats = "bf16=bf16|bfloat16=bf16|torch.bfloat16=bf16|float32=fp32|fp32=fp32|"
                                    "torch.float32=fp32|auto=";
constexpr std::string_view stateFloats = "torch.float32=fp32|float32=fp32|fp32=fp32|torch.bfloat16=bf16|bfloat16=bf16|"
                                         "bf16=bf16";
constexpr std::string_view strategies = "FSDP2Manager=fsdp2|FSDP2Config=fsdp2|MegatronFSDPManager=megatron_fsdp|"
                                        "MegatronFSDPConfig=megatron_fsdp|DDPManager=ddp|DDPConfig=ddp";

} // namespace

const std::vector<ForeignKey> &foreignKeys() {
  using enum Fate;
  static const std::vector<ForeignKey> table = {
      // What kind of run: the loss follows from the model's outputs (--loss auto).
      {"recipe", Means, "",
       "TrainFinetuneRecipeForNextTokenPrediction=|FinetuneRecipeForNextTokenPrediction=|"
       "TrainFinetuneRecipeForSequenceClassification=|BenchmarkingRecipeForNextTokenPrediction="},
      {"recipe._target_", Means, "",
       "TrainFinetuneRecipeForNextTokenPrediction=|FinetuneRecipeForNextTokenPrediction=|"
       "TrainFinetuneRecipeForSequenceClassification=|BenchmarkingRecipeForNextTokenPrediction="},

      {"step_scheduler.save_checkpoint_every_epoch"},
      {"step_scheduler.gc_every_steps"},
      {"step_scheduler.log_remote_every_steps"},
      {"step_scheduler.loss_average_window_steps"},
      {"step_scheduler.preemption_signal"},
      {"step_scheduler._target_"},

      {"dist_env.*"},
      {"rng._target_"},
      {"rng.ranked"},
      {"rng.seed", Means, "dataset.seed"},
      {"seed", Means, "dataset.seed"},

      // The ONNX file is the model: how the guide builds its own says nothing about it.
      {"model._target_"},
      {"model.config.*"},
      {"model.backend.*"},
      {"model.output_hidden_states"},
      {"model.attn_implementation"},
      {"model.use_liger_kernel"},
      {"model.use_sdpa_patching"},
      {"model.sdpa_method"},
      {"model.trust_remote_code"},
      {"model.force_hf"},
      {"model.load_base_model"},
      {"model.low_cpu_mem_usage"},
      {"model.use_cache"},
      {"model.cache_dir"},
      {"model.revision"},
      {"model.device_map"},
      {"model.text_config.*"},
      {"model.num_labels"},
      {"model.vocab_size"},
      {"model.n_embd"},
      {"model.n_head"},
      {"model.n_layer"},
      {"model.n_positions"},
      {"model.bos_token_id"},
      {"model.eos_token_id"},
      {"model.pad_token_id"},
      {"model.torch_dtype", Means, "model.precision", floats},
      {"model.dtype", Means, "model.precision", floats},
      {"model.precision", Means, "model.precision", floats},
      {"model.num_nextn_predict_layers", Refused, "", "0", "AMC trains the loss of the ONNX file's logits alone"},
      {"model.mtp_loss_scaling_factor"},
      {"model.mtp_use_repeated_layer"},
      {"model.quantization_config.*", Refused, "", "", "AMC trains in fp32 and bf16; leave it out"},

      {"distributed._target_", Means, "distributed.strategy", strategies},
      {"distributed.reshard_after_forward", Means, "distributed.reshard_after_forward", "true=always|false=never"},
      {"distributed.pp_size", Refused, "", "0|1",
       "AMC has no pipeline parallelism; give distributed.pp_size 1 and other sizes"},
      {"distributed.pipeline.*"},
      {"distributed.moe.*"},
      {"distributed.moe.lm_head_precision", Refused, "", "",
       "AMC computes the head in model.precision and its sums in fp32; leave it out"},
      {"distributed.mp_policy.*"},
      {"distributed.mp_policy.param_dtype", Means, "model.precision", floats},
      {"distributed.mp_policy.reduce_dtype", Refused, "", "float32|fp32|torch.float32",
       "AMC sums gradients in fp32; give float32"},
      {"distributed.activation_checkpointing_scope", Refused, "", "all|language",
       "AMC checkpoints the blocks of the whole model; give all"},
      {"distributed.autocast_dtype", Refused, "", "", "AMC has one precision for all of a model; set model.precision"},
      {"distributed.offload_policy.*", Refused, "", "", "AMC keeps everything on the device; leave it out"},
      {"distributed.defer_fsdp_grad_sync"},
      {"distributed.enable_async_tensor_parallel"},
      {"distributed.enable_compile"},
      {"distributed.enable_fsdp2_prefetch"},
      {"distributed.fsdp2_backward_prefetch_depth"},
      {"distributed.fsdp2_forward_prefetch_depth"},
      {"distributed.patch_is_packed_sequence"},
      {"distributed.multimodal.*"},
      {"distributed.tp_plan.*"}, // AMC finds the plan in the graph
      {"distributed.use_hf_tp_plan"},
      {"distributed.backend"},
      {"distributed.world_size"},
      {"distributed.megatron_fsdp_unit_modules"},
      {"distributed.init_fsdp_with_meta_device"},
      {"distributed.grad_reduce_in_fp32"}, // always
      {"distributed.preserve_fp32_weights"},
      {"distributed.overlap_grad_reduce"},
      {"distributed.overlap_param_gather"},
      {"distributed.check_for_nan_in_grad"},
      {"distributed.report_nan_in_param_grad"},
      {"distributed.average_in_collective"},
      {"distributed.disable_bucketing"},
      {"distributed.calculate_per_token_loss"}, // always
      {"distributed.keep_fp8_transpose_cache"},
      {"distributed.nccl_ub"},
      {"distributed.fsdp_double_buffer"},
      {"distributed.broadcast_buffers"},
      {"distributed.find_unused_parameters"},
      {"distributed.static_graph"},
      {"distributed.bucket_cap_mb"},
      {"distributed.gradient_as_bucket_view"},
      {"parallelizer._target_"},
      {"parallelizer.activation_checkpointing", Means, "distributed.activation_checkpointing"},
      {"autopipeline.*"},

      {"loss_fn._target_", Means, "loss_fn.implementation",
       "FusedLinearCrossEntropy=linear-cross-entropy|MaskedCrossEntropy=unfused|ChunkedCrossEntropy=unfused|"
       "TEParallelCrossEntropy=unfused"},
      {"loss_fn.logit_softcapping", Refused, "", "0|0.0",
       "AMC takes a cap on logits from the model's graph; leave it out"},
      {"loss_fn.fp32_upcast"}, // always
      {"loss_fn.chunk_len"},   // how it is cut never changes numbers
      {"loss_fn.compile"},
      {"loss_fn.tp_group"},

      {"optimizer._target_", Means, "optimizer.name", "AdamW=adamw|Adam=adamw|FusedAdam=adamw|SGD=sgd"},
      {"optimizer.master_weights", Means, "optimizer.master_weights", "true=fp32|false=none"},
      {"optimizer.exp_avg_dtype", Means, "optimizer.state", stateFloats},
      {"optimizer.exp_avg_sq_dtype", Means, "optimizer.state", stateFloats},
      {"optimizer.foreach"},
      {"optimizer.fused"},
      {"optimizer.capturable"},
      {"optimizer.store_param_remainders"},
      {"optimizer.amsgrad", Refused, "", "false", "AMC's AdamW is torch's without amsgrad; leave it out"},
      {"optimizer.maximize", Refused, "", "false", "AMC minimises; leave it out"},
      {"optimizer.dampening", Refused, "", "0|0.0", "AMC's SGD is torch's without dampening; leave it out"},
      {"optimizer.bias_correction", Refused, "", "true", "AMC's AdamW corrects the bias; leave it out"},
      {"optimizer.adam_w_mode", Refused, "", "true", "AMC decays weights as AdamW does; give true"},

      {"lr_scheduler._target_", Means, "", "OptimizerParamScheduler=|LRSchedulerConfig="},
      {"lr_scheduler.max_lr", Means, "optimizer.lr"},
      {"lr_scheduler.wd_incr_style", Refused, "", "constant", "AMC's weight decay is constant; leave it out"},
      {"lr_scheduler.start_wd", Means, "optimizer.weight_decay"},
      {"lr_scheduler.end_wd", Means, "optimizer.weight_decay"}, // another than start_wd: two values of one option
      {"lr_scheduler.wd_incr_steps"},
      {"lr_scheduler.use_checkpoint_opt_param_scheduler"},
      {"lr_scheduler.override_opt_param_scheduler"},
      {"clip_grad_norm.norm_type", Refused, "", "2|2.0", "AMC clips by the 2-norm; leave it out"},
      {"max_grad_norm", Means, "clip_grad_norm.max_norm"},

      {"checkpoint.enabled", Means, "", "true=|false="}, // Recipe.cpp reads it
      {"checkpoint._target_"},
      {"checkpoint.model_save_format"},
      {"checkpoint.save_consolidated"},
      {"checkpoint.model_cache_dir"},
      {"checkpoint.model_repo_id"},
      {"checkpoint.is_async"},
      {"checkpoint.wait_for_staging"},
      {"checkpoint.cpu_offload"},
      {"checkpoint.single_rank_consolidation"},
      {"checkpoint.allow_legacy_pickle_restore"},
      {"checkpoint.dequantize_base_checkpoint"},
      {"checkpoint.original_model_root_dir"},
      {"checkpoint.skip_task_head_prefixes_for_base_model"},
      {"checkpoint.is_peft", Refused, "", "false", "AMC trains whole weights; leave it out"},
      {"checkpoint.restore_from", Refused, "", "", "a run is continued by amrun --resume; leave it out"},

      // Data come from --data or dataset.path; whose arguments these are, only the guide's classes know.
      {"dataset.*"},
      {"dataloader.*"},
      {"validation_dataset.*"},
      {"validation_dataloader.*"},
      {"tokenizer.*"},
      {"processor.*"},
      {"packed_sequence.*"},
      {"packed_sequence.packed_sequence_size", Refused, "", "0",
       "AMC trains rows of one document each; give 0, or pack the tokens of --data beforehand"},

      {"peft.*", Refused, "", "false", "AMC trains whole weights, no adapters; leave it out (--frozen keeps weights)"},
      {"fp8.*"},
      {"fp8.enabled", Refused, "", "false", "AMC trains in fp32 and bf16; give false"},
      {"quantization.*"},
      {"quantization.load_in_4bit", Refused, "", "false", "AMC trains in fp32 and bf16; give false"},
      {"quantization.load_in_8bit", Refused, "", "false", "AMC trains in fp32 and bf16; give false"},
      {"qat.*"},
      {"qat.enabled", Refused, "", "false", "AMC trains in fp32 and bf16; give false"},
      {"ema.*", Refused, "", "false", "AMC keeps no average of the weights; leave it out"},
      {"neftune.*", Refused, "", "false", "AMC adds no noise to embeddings; leave it out"},
      {"embedding_row_repair.*", Refused, "", "false", "AMC trains the weights it is given; leave it out"},
      {"freeze_config.*", Refused, "", "false", "AMC has model.frozen and --frozen, which take names of weights"},
      {"teacher_model.*", Refused, "", "false", "AMC has no distillation; leave it out"},
      {"kd_loss_fn.*", Refused, "", "false", "AMC has no distillation; leave it out"},

      {"compile.*"},
      {"wandb.*"},
      {"mlflow.*"},
      {"comet.*"},
      {"logger.*"},
      {"logging.*"},
      {"benchmark.*"},
      {"profiling.*"},
      {"nvtx"},
      {"mfu.*"},
      {"prewarm.*"},
      {"slurm.*"},
      {"skypilot.*"},
      {"k8s.*"},
      {"ci.*"},
      {"tool_call_eval.*"},
      {"longalign"},
  };
  return table;
}

const ForeignKey *findForeignKey(std::string_view key) {
  const ForeignKey *section = nullptr;
  size_t longest = 0;
  for (const ForeignKey &foreign : foreignKeys()) {
    if (foreign.key == key)
      return &foreign;
    if (!foreign.key.ends_with(".*"))
      continue;
    std::string_view name = foreign.key.substr(0, foreign.key.size() - 2);
    bool inside = key == name || (key.starts_with(name) && key[name.size()] == '.');
    if (inside && name.size() > longest) {
      section = &foreign;
      longest = name.size();
    }
  }
  return section;
}

std::string lastComponent(std::string_view dotted) {
  // The guide also names a class by a file: "path/to/file.py:Class".
  size_t at = dotted.find_last_of(".:");
  return std::string(at == dotted.npos ? dotted : dotted.substr(at + 1));
}

namespace {
template <class Visit> void eachValue(std::string_view values, Visit &&visit) {
  while (!values.empty()) {
    std::string_view entry = values.substr(0, values.find('|'));
    values.remove_prefix(std::min(values.size(), entry.size() + 1));
    size_t equals = entry.find('=');
    visit(entry.substr(0, equals), equals == entry.npos ? std::string_view() : entry.substr(equals + 1));
  }
}
} // namespace

std::optional<std::string> ourValue(std::string_view values, std::string_view text) {
  std::optional<std::string> found;
  eachValue(values, [&](std::string_view theirs, std::string_view ours) {
    if (theirs == text)
      found = ours;
  });
  return found;
}

std::vector<std::string> theirValues(std::string_view values) {
  std::vector<std::string> list;
  eachValue(values, [&](std::string_view theirs, std::string_view) { list.emplace_back(theirs); });
  return list;
}

} // namespace amc
