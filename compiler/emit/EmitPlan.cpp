// plan.program → plan message; see EmitPlan.h. Tables keep the order of the operations, attributes
// are sorted by name.
#include "compiler/emit/EmitPlan.h"
#include "compiler/codegen/Kernels.h"
#include "compiler/dialect/Plan.h"
#include "compiler/dialect/StepSupport.h"
#include "compiler/dialect/PlanTypes.h"
#include "runtime/plan/PlanFile.h"
#include "llvm/ADT/StringSwitch.h"
#include <filesystem>
#include <fstream>
#include <set>

using namespace mlir;

namespace amc {
namespace {

plan::Category categoryOf(StringRef name) {
  return llvm::StringSwitch<plan::Category>(name)
      .Case("parameter", plan::PARAMETER)
      .Case("gradient", plan::GRADIENT)
      .Case("optimizer_state", plan::OPTIMIZER_STATE)
      .Case("activation", plan::ACTIVATION)
      .Case("workspace", plan::WORKSPACE)
      .Case("input", plan::INPUT)
      .Case("constant", plan::CONSTANT)
      .Default(plan::CATEGORY_UNSPECIFIED);
}

plan::Phase phaseFromName(StringRef name) {
  return llvm::StringSwitch<plan::Phase>(name)
      .Case("forward", plan::FORWARD)
      .Case("backward", plan::BACKWARD)
      .Case("recompute", plan::RECOMPUTE)
      .Case("optimizer", plan::OPTIMIZER)
      .Default(plan::PHASE_UNSPECIFIED);
}

plan::InputRole roleOf(StringRef name) {
  return llvm::StringSwitch<plan::InputRole>(name)
      .Case("data", plan::DATA)
      .Case("labels", plan::LABELS)
      .Case("loss_normalizer", plan::LOSS_NORMALIZER)
      .Case("learning_rate", plan::LEARNING_RATE)
      .Case("step_number", plan::STEP_NUMBER)
      .Case("micro_batch", plan::MICRO_BATCH)
      .Case("data_rank", plan::DATA_RANK)
      .Case("seed", plan::SEED)
      .Default(plan::INPUT_ROLE_UNSPECIFIED);
}

plan::LossKind lossOf(StringRef name) {
  return llvm::StringSwitch<plan::LossKind>(name)
      .Case("causal-lm", plan::LOSS_CAUSAL_LM)
      .Case("cross-entropy", plan::LOSS_CROSS_ENTROPY)
      .Case("model", plan::LOSS_MODEL)
      .Default(plan::LOSS_NONE);
}

std::string typeName(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

/// A literal's elements, row-major and little-endian; i1 is a byte each.
std::string bytesOf(ElementsAttr value) {
  auto type = cast<RankedTensorType>(value.getType());
  const unsigned bits = type.getElementType().getIntOrFloatBitWidth();
  const unsigned width = bits < 8 ? 1 : bits / 8;
  std::string bytes;
  bytes.reserve(static_cast<size_t>(type.getNumElements()) * width);
  auto append = [&](const APInt &element) {
    uint64_t word = element.getZExtValue();
    for (unsigned i = 0; i < width; ++i)
      bytes.push_back(static_cast<char>(word >> (8 * i)));
  };
  if (isa<FloatType>(type.getElementType()))
    for (const APFloat &element : value.getValues<APFloat>())
      append(element.bitcastToAPInt());
  else
    for (const APInt &element : value.getValues<APInt>())
      append(element);
  return bytes;
}

class Emitter {
public:
  Emitter(plan::ProgramOp program, const EmitOptions &options)
      : program(program), options(options) {
    if (auto module = program->getParentOfType<ModuleOp>()) {
      if (auto path = module->getAttrOfType<StringAttr>("train.model")) {
        plan.set_model_path(path.getValue().str());
        // IR that was written by hand may name a model that is not there.
        if (rt::Expected<std::string> hash = rt::hashFile(plan.model_path()); hash.ok()) {
          plan.set_model_hash(*hash);
          noteFolder();
        }
      }
      if (auto directory = module->getAttrOfType<StringAttr>("train.model_directory"))
        modelDirectory = directory.getValue().str();
    }
  }

  FailureOr<plan::Plan> emit() {
    emitHeader();
    for (Operation &op : program.getBody().front()) {
      if (auto buffer = dyn_cast<plan::BufferOp>(op))
        emitBuffer(buffer);
      else if (auto parameter = dyn_cast<plan::ParameterOp>(op))
        emitParameter(parameter);
      else if (auto constant = dyn_cast<plan::ConstantOp>(op))
        emitConstant(constant);
      else if (auto input = dyn_cast<plan::InputOp>(op))
        emitInput(input);
      else if (auto output = dyn_cast<plan::OutputOp>(op))
        emitOutput(output);
      else if (auto call = dyn_cast<plan::CallOp>(op))
        emitCall(call);
      else if (isa<plan::KernelOp>(op))
        continue; // all at once
      else
        error(&op, "is not part of a plan");
    }
    if (bad || failed(compileKernels(program, plan)))
      return failure();
    emitWeightFiles();
    if (plan.precision().empty())
      plan.set_precision("fp32"); // nothing to train
    *plan.mutable_promise() = computePromise(plan);
    emitNotes();
    return std::move(plan);
  }

private:
  void error(Operation *op, const Twine &message) {
    op->emitError(message);
    bad = true;
  }

  void emitHeader() {
    plan.set_producer("amc");
    plan.set_target(options.target);
    plan.set_arena_bytes(program.getArenaBytes());
    plan.set_alignment(program.getAlignment());
    plan.set_forward_end(program.getForwardEnd());
    plan.set_micro_batch_end(program.getMicroBatchEnd());
    plan.set_accumulation(program.getAccumulation());
    if (auto loss = program->getAttrOfType<StringAttr>("train.loss"))
      plan.set_loss(lossOf(loss.getValue()));
    if (auto index = program->getAttrOfType<IntegerAttr>("train.ignore_index"))
      plan.set_ignore_index(index.getInt());
    if (auto weights = program->getAttrOfType<DenseF64ArrayAttr>("train.class_weights"))
      for (double weight : weights.asArrayRef())
        plan.add_class_weights(weight);
    if (std::optional<rt::MeshShape> mesh = train::meshOf(program); mesh && program->hasAttr("train.mesh")) {
      plan.mutable_mesh()->set_dp_replicate(mesh->size[0]);
      plan.mutable_mesh()->set_dp_shard(mesh->size[1]);
      plan.mutable_mesh()->set_cp(mesh->size[2]);
      plan.mutable_mesh()->set_tp(mesh->size[3]);
      if (mesh->ep > 1)
        plan.mutable_mesh()->set_ep(mesh->ep);
    }
    if (auto strategy = program->getAttrOfType<StringAttr>("train.strategy"))
      plan.set_strategy(strategy.getValue().str());
    if (auto precision = program->getAttrOfType<StringAttr>("train.precision"))
      plan.set_precision(precision.getValue().str());
    auto policy = program->getAttrOfType<StringAttr>("train.ac_policy");
    plan.set_ac_policy(policy ? policy.getValue().str() : "none");
    if (auto optimizer = program->getAttrOfType<DictionaryAttr>("train.optimizer")) {
      if (auto name = optimizer.getAs<StringAttr>("name"))
        plan.set_optimizer(name.getValue().str());
      if (auto norm = optimizer.getAs<FloatAttr>("max_grad_norm"))
        plan.set_max_grad_norm(norm.getValueAsDouble());
      if (auto rate = optimizer.getAs<FloatAttr>("learning_rate"))
        plan.set_default_learning_rate(options.learningRate.value_or(rate.getValueAsDouble()));
    }
  }

  void emitView(plan::ViewAttr from, plan::View &view) {
    view.set_buffer(from.getBuffer());
    view.set_byte_offset(from.getByteOffset());
    view.set_dtype(dtypeOf(from.getType().getElementType()));
    for (int64_t dim : from.getType().getShape())
      view.add_shape(static_cast<uint64_t>(dim));
  }

  void emitBuffer(plan::BufferOp op) {
    plan::Buffer &buffer = *plan.add_buffers();
    buffer.set_offset(op.getOffset());
    buffer.set_bytes(op.getBytes());
    buffer.set_category(categoryOf(op.getCategory()));
    if (buffer.category() == plan::CATEGORY_UNSPECIFIED)
      error(op, "category " + op.getCategory() + " is not one that plans know");
    buffer.set_first(op.getFirst());
    buffer.set_last(op.getLast());
    buffer.set_name(op.getName().str());
    buffer.set_persistent(op.getPersistent());
  }

  void emitParameter(plan::ParameterOp op) {
    plan::Parameter &parameter = *plan.add_parameters();
    parameter.set_name(op.getName().str());
    emitView(op.getView(), *parameter.mutable_view());
    parameter.set_trainable(op.getTrainable());
    if (isa<FloatType>(op.getView().getType().getElementType()))
      notePrecision(parameter.view().dtype());
    if (auto dtype = op.getSourceDtype();
        dtype && *dtype != typeName(op.getView().getType().getElementType()))
      parameter.set_initializer_dtype(dtype->str());
    if (auto source =
            dyn_cast_if_present<train::FileSourceAttr>(op.getSource().value_or(Attribute())))
      emitSource(op, source, *parameter.mutable_source());
    if (ArrayAttr tied = op.getTiedAttr())
      for (auto name : tied.getAsRange<train::TiedNameAttr>()) {
        plan::TiedName &entry = *parameter.add_tied();
        entry.set_name(name.getInitializer().str());
        for (int64_t dim : name.getPermutation())
          entry.add_permutation(static_cast<uint32_t>(dim));
      }
    emitSplits(op.getSplitsAttr(), parameter.mutable_splits());
    ArrayAttr stateSplits = op.getStateSplitsAttr();
    for (auto [number, name] : llvm::enumerate(op.getStateNames().getAsValueRange<StringAttr>())) {
      plan::OptimizerState &state = *parameter.add_states();
      state.set_name(name.str());
      emitView(cast<plan::ViewAttr>(op.getStates()[number]), *state.mutable_view());
      if (stateSplits && number < stateSplits.size())
        emitSplits(dyn_cast<ArrayAttr>(stateSplits[number]), state.mutable_splits());
      if (name == "shard") // what the optimizer updates
        parameterOfBuffer.try_emplace(state.view().buffer(), plan.parameters_size() - 1);
    }
    if (plan::ViewAttr gradient = op.getGradientAttr()) {
      emitView(gradient, *parameter.mutable_gradient());
      ArrayAttr splits = op.getGradientSplitsAttr();
      emitSplits(splits ? splits : op.getSplitsAttr(), parameter.mutable_gradient_splits());
      parameter.set_gradient_ready(op.getGradientReady().value_or(0));
    }
    parameterOfBuffer.try_emplace(op.getView().getBuffer(), plan.parameters_size() - 1);
  }

  template <class Splits> void emitSplits(ArrayAttr from, Splits *splits) {
    if (!from)
      return;
    for (auto split : from.getAsRange<train::SplitAttr>()) {
      plan::Split &into = *splits->Add();
      into.set_dim(static_cast<uint32_t>(split.getDim()));
      into.set_group(split.getGroup().str());
      into.set_size(static_cast<uint64_t>(split.getSize()));
      if (split.getBlocks() != 1)
        into.set_blocks(static_cast<uint64_t>(split.getBlocks()));
    }
  }

  void notePrecision(plan::DType dtype) {
    if (plan.precision().empty())
      plan.set_precision(dtype == plan::BF16 ? "bf16" : "fp32");
  }

  // Plans are run from other directories than they are compiled in.
  void noteFolder() {
    std::filesystem::path model(plan.model_path());
    std::error_code failed; // then the plan has only the path as it was given
    std::filesystem::path folder =
        std::filesystem::canonical(model.has_parent_path() ? model.parent_path() : ".", failed);
    if (model.is_relative() && !failed)
      plan.set_model_folder(folder.string());
  }

  std::string resolve(const std::string &path) const {
    return path.starts_with('/') || modelDirectory.empty() ? path : modelDirectory + "/" + path;
  }

  void emitSource(plan::ParameterOp op, train::FileSourceAttr from, plan::Source &source) {
    if (!options.embedWeights) {
      plan::Source::File &file = *source.mutable_file();
      file.set_path(from.getPath().str());
      file.set_offset(from.getOffset());
      file.set_length(from.getLength());
      return;
    }
    std::string path = resolve(from.getPath().str());
    std::ifstream file(path, std::ios::binary);
    if (!file || !file.seekg(static_cast<std::streamoff>(from.getOffset()))) {
      error(op, "weight " + op.getName() + " cannot be embedded: " + path + " cannot be read");
      return;
    }
    std::string &bytes = *source.mutable_embedded();
    bytes.resize(from.getLength());
    if (!file.read(bytes.data(), static_cast<std::streamsize>(bytes.size())))
      error(op, "weight " + op.getName() + " cannot be embedded: " + path + " has fewer than the " +
                    Twine(from.getLength()) + " bytes at offset " + Twine(from.getOffset()) +
                    " that it should have");
  }

  // The model's own file, which small models keep their weights in, has its hash already.
  void emitWeightFiles() {
    const std::string model = std::filesystem::path(plan.model_path()).filename();
    std::set<std::string> paths;
    for (const plan::Parameter &parameter : plan.parameters())
      if (parameter.source().has_file() && parameter.source().file().path() != model)
        paths.insert(parameter.source().file().path());
    for (const std::string &path : paths)
      if (rt::Expected<std::string> hash = rt::hashFile(resolve(path)); hash.ok()) {
        plan::WeightFile &file = *plan.add_weight_files();
        file.set_path(path);
        file.set_hash(*hash);
      }
  }

  void emitConstant(plan::ConstantOp op) {
    plan::Constant &constant = *plan.add_constants();
    emitView(op.getView(), *constant.mutable_view());
    if (op.getValue().getType() != op.getView().getType())
      error(op, "value should have its view's type");
    else
      constant.set_data(bytesOf(op.getValue()));
  }

  void emitInput(plan::InputOp op) {
    plan::Input &input = *plan.add_inputs();
    input.set_name(op.getName().str());
    input.set_role(roleOf(op.getRole()));
    if (input.role() == plan::INPUT_ROLE_UNSPECIFIED)
      error(op, "role " + op.getRole() + " is not one that plans know");
    emitView(op.getView(), *input.mutable_view());
  }

  void emitOutput(plan::OutputOp op) {
    plan::Output &output = *plan.add_outputs();
    output.set_name(op.getName().str());
    emitView(op.getView(), *output.mutable_view());
    output.set_ready(op.getReady());
    output.set_sum_over_micro_batches(op.getSum());
  }

  template <class Views> void emitViews(ArrayAttr from, Views *views) {
    for (Attribute view : from) {
      auto *into = views->Add();
      if (auto present = dyn_cast<plan::ViewAttr>(view))
        emitView(present, *into);
    }
  }

  void emitCall(plan::CallOp op) {
    plan::Instruction &instruction = *plan.add_instructions();
    instruction.set_kernel(op.getKernel().str());
    emitViews(op.getInputs(), instruction.mutable_inputs());
    emitViews(op.getOutputs(), instruction.mutable_outputs());
    emitViews(op.getWorkspaces(), instruction.mutable_workspaces());
    // A dictionary is sorted by name.
    for (NamedAttribute argument : op.getArguments())
      emitArgument(op, argument, *instruction.add_attributes());
    if (std::string name = train::locationName(op.getLoc()); name != "?")
      instruction.set_location(name);
    instruction.set_phase(phaseFromName(op.getPhase()));
    if (instruction.phase() == plan::PHASE_UNSPECIFIED)
      error(op, "phase " + op.getPhase() + " is not one that plans know");
    instruction.set_flops(op.getFlops());
    instruction.set_recompute_flops(op.getRecomputeFlops().value_or(0));
    noteNoDecay(op);
  }

  void emitArgument(plan::CallOp op, NamedAttribute argument, plan::Attribute &attribute) {
    attribute.set_name(argument.getName().str());
    Attribute value = argument.getValue();
    if (auto flag = dyn_cast<BoolAttr>(value))
      attribute.set_i(flag.getValue());
    else if (auto integer = dyn_cast<IntegerAttr>(value))
      attribute.set_i(integer.getValue().getSExtValue());
    else if (isa<UnitAttr>(value))
      attribute.set_i(1);
    else if (auto number = dyn_cast<FloatAttr>(value))
      attribute.set_f(number.getValueAsDouble());
    else if (auto text = dyn_cast<StringAttr>(value))
      attribute.set_s(text.getValue().str());
    else if (auto type = dyn_cast<TypeAttr>(value))
      attribute.set_s(typeName(type.getValue()));
    else if (auto list = dyn_cast<DenseI64ArrayAttr>(value))
      for (int64_t element : (attribute.mutable_ints(), list.asArrayRef()))
        attribute.mutable_ints()->add_value(element);
    else
      error(op,
            "argument " + argument.getName().getValue() + " is of a kind that plans cannot carry");
  }

  // For reports: parameters whose update has a weight decay of zero.
  void noteNoDecay(plan::CallOp op) {
    auto decay = op.getArguments().getAs<FloatAttr>("weight_decay");
    if (!decay || decay.getValueAsDouble() != 0)
      return;
    for (auto view : op.getOutputs().getAsRange<plan::ViewAttr>())
      if (auto parameter = parameterOfBuffer.find(view.getBuffer());
          parameter != parameterOfBuffer.end())
        plan.add_adamw_no_decay(plan.parameters(parameter->second).name());
  }

  void emitNotes() {
    auto note = [&](StringRef name, StringRef attribute) {
      Attribute value = program->getAttr(attribute);
      if (!value)
        return;
      plan::Attribute &entry = *plan.add_notes();
      entry.set_name(name.str());
      if (auto integer = dyn_cast<IntegerAttr>(value))
        entry.set_i(integer.getInt());
      else if (auto text = dyn_cast<StringAttr>(value))
        entry.set_s(text.getValue().str());
      else if (auto number = dyn_cast<FloatAttr>(value))
        entry.set_f(number.getValueAsDouble());
    };
    note("arena_bound_bytes", "train.arena_bound_bytes");
    note("blocks", "train.blocks");
    auto noteNumbers = [&](StringRef name, StringRef attribute) {
      auto numbers = program->getAttrOfType<DenseI64ArrayAttr>(attribute);
      if (!numbers)
        return;
      plan::Attribute &entry = *plan.add_notes();
      entry.set_name(name.str());
      for (int64_t number : numbers.asArrayRef())
        entry.mutable_ints()->add_value(number);
    };
    noteNumbers("block_runs", "train.block_runs");
    if (uint64_t live = plan.promise().max_live_bytes()) {
      plan::Attribute &entry = *plan.add_notes();
      entry.set_name("fragmentation");
      entry.set_f(static_cast<double>(plan.arena_bytes()) / static_cast<double>(live));
    }
    noteNumbers("instruction_blocks", "train.instruction_blocks");
    noteNumbers("instruction_bytes", "train.instruction_bytes");
    noteNumbers("instruction_parts", "train.instruction_parts");
    note("memory_budget_bytes", "train.memory_budget");
    note("packing", "train.packing");
    noteNumbers("pareto_curve", "train.pareto_curve");
    note("recompute_bound_seconds", "train.recompute_bound_seconds");
    note("recompute_seconds", "train.recompute_seconds");
    if (auto classes = program->getAttrOfType<DictionaryAttr>("train.save_classes"))
      for (NamedAttribute entry : classes) {
        plan::Attribute &added = *plan.add_notes();
        added.set_name("save_class:" + entry.getName().str());
        added.set_s(cast<StringAttr>(entry.getValue()).getValue().str());
      }
    note("schedule", "train.schedule");
    note("step_seconds", "train.step_seconds");
  }

  plan::ProgramOp program;
  const EmitOptions &options;
  plan::Plan plan;
  std::string modelDirectory;
  DenseMap<uint64_t, int> parameterOfBuffer; // look-ups only
  bool bad = false;
};

} // namespace

FailureOr<plan::Plan> emitPlan(ModuleOp module, const EmitOptions &options) {
  SmallVector<plan::ProgramOp> programs(module.getOps<plan::ProgramOp>());
  if (programs.size() != 1) {
    module.emitError("has ") << programs.size()
                             << " plan.program, should have one; run lower-to-plan first";
    return failure();
  }
  return Emitter(programs.front(), options).emit();
}

} // namespace amc
