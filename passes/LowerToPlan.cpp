// Turns a placed step into a plan.program: buffers with lifetimes, tables of parameters, constants,
// inputs and outputs, and one call for each computation. Lifetimes are those that AssignOffsets
// placed (compiler/analysis/Liveness); nothing is decided here. An attribute that a plan cannot
// carry and a value without an offset are errors.
#include "compiler/analysis/GatherStep.h"
#include "compiler/codegen/Group.h"
#include "compiler/dialect/OpSupport.h"
#include "compiler/dialect/Plan.h"
#include "compiler/dialect/StepSupport.h"
#include "passes/Passes.h"
#include "runtime/plan/CudaKernels.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/StringMap.h"

namespace amc {
#define GEN_PASS_DEF_LOWERTOPLAN
#include "passes/Passes.h.inc"
} // namespace amc

using namespace mlir;
using namespace amc;
using namespace amc::train;

namespace {

constexpr StringRef categoryNames[] = {"",           "parameter", "gradient", "optimizer_state",
                                       "activation", "workspace", "input",    "constant"};

/// The attributes of an operation that a kernel sees: all inherent ones but the segment sizes.
FailureOr<DictionaryAttr> kernelArguments(Operation *op) {
  NamedAttrList arguments;
  bool bad = false;
  for (StringAttr name : op->getName().getAttributeNames()) {
    if (name == "operandSegmentSizes" || name == "resultSegmentSizes")
      continue;
    std::optional<Attribute> value = op->getInherentAttr(name);
    if (!value || !*value)
      continue;
    if (!isa<IntegerAttr, BoolAttr, UnitAttr, FloatAttr, StringAttr, DenseI64ArrayAttr, TypeAttr>(
            *value)) {
      op->emitError("attribute ") << name << " is " << *value
                                  << ", should be something that a plan can carry";
      bad = true;
    }
    arguments.push_back(NamedAttribute(name, *value));
  }
  if (bad)
    return failure();
  return arguments.getDictionary(op->getContext());
}

class Lowering {
public:
  Lowering(StepOp step, GatheredStep &gathered)
      : step(step), gathered(gathered), graph(gathered.graph), b(step.getContext()),
        live(computeLiveness(graph, gathered.programOrder())) {}

  /// Reports everything that keeps the step from being lowered.
  LogicalResult check() {
    bool bad = false;
    for (StringRef name : {"train.arena_bytes", "train.alignment"})
      if (!step->getAttrOfType<IntegerAttr>(name)) {
        step.emitError("attribute ")
            << name << " is missing or no integer; run assign-offsets first";
        bad = true;
      }
    bad = failed(gatherOffsets()) || bad;
    arguments.resize(graph.ops.size());
    for (uint32_t op = 0; op < graph.ops.size(); ++op)
      if (graph.isInstruction(op)) {
        StringRef kernel = cast<ComputeOpInterface>(gathered.ops[op]).getKernelName();
        if (targetOf(step) != "cpu" && !rt::isCudaKernel(std::string_view(kernel))) {
          gathered.ops[op]->emitError("has no kernel for a CUDA device; --target=cpu has one");
          bad = true;
        }
        FailureOr<DictionaryAttr> made =
            isa<FusedOp>(gathered.ops[op]) ? kernelNumber(cast<FusedOp>(gathered.ops[op])) : kernelArguments(gathered.ops[op]);
        bad = bad || failed(made);
        if (succeeded(made))
          arguments[op] = *made;
      }
    return failure(bad);
  }

  void write() {
    auto number = [&](StringRef name) { return step->getAttrOfType<IntegerAttr>(name); };
    b.setInsertionPoint(step);
    Location loc = step.getLoc();
    auto accumulation = number("train.accumulation");
    auto program = amc::plan::ProgramOp::create(
        b, loc, step.getSymNameAttr(), integer(number("train.arena_bytes").getInt()),
        integer(number("train.alignment").getInt()), integer(forwardEnd()),
        integer(microBatchEnd()), accumulation ? accumulation : integer(1));
    for (NamedAttribute attribute : step->getDiscardableAttrs())
      if (attribute.getName() != "train.arena_bytes" && attribute.getName() != "train.alignment" &&
          attribute.getName() != "train.accumulation")
        program->setDiscardableAttr(attribute.getName(), attribute.getValue());
    b.createBlock(&program.getBody());
    indexParameters();
    writeBuffers();
    for (Operation *op : gathered.ops)
      writeTables(op);
    for (uint32_t op : live.instructions)
      if (auto fused = dyn_cast<FusedOp>(gathered.ops[op]))
        writeKernel(fused, arguments[op].getAs<IntegerAttr>(numberName));
    for (uint32_t op : live.instructions)
      writeCall(op);
    noteInstructions(program);
    step.erase();
  }

private:
  LogicalResult gatherOffsets() {
    offsets.assign(live.buffers.size(), -1);
    bool bad = false;
    auto place = [&](uint32_t buffer, Operation *op, int64_t offset) {
      if (offsets[buffer] == -1)
        offsets[buffer] = offset;
      if (offsets[buffer] == offset && offset >= 0)
        return;
      op->emitError("is at offset ")
          << offset << ", should be at " << std::max<int64_t>(offsets[buffer], 0)
          << " like the values that share its buffer; run assign-offsets again";
      bad = true;
    };
    for (uint32_t i = 0; i < graph.ops.size(); ++i) {
      Operation *op = gathered.ops[i];
      if (!graph.ops[i].results.empty()) {
        auto at = op->getAttrOfType<DenseI64ArrayAttr>("train.offsets");
        if (!at || at.size() != static_cast<int64_t>(graph.ops[i].results.size())) {
          op->emitError("has no offset for each of its results; run assign-offsets first");
          bad = true;
          continue;
        }
        for (auto [result, offset] : llvm::zip_equal(graph.ops[i].results, at.asArrayRef()))
          place(live.bufferOfValue[result], op, offset);
      }
      if (live.workspaceOfOp[i] == noIndex)
        continue;
      if (auto at = op->getAttrOfType<IntegerAttr>("train.workspace_offset")) {
        place(live.workspaceOfOp[i], op, at.getInt());
        continue;
      }
      op->emitError("has no offset for its workspace; run assign-offsets first");
      bad = true;
    }
    return failure(bad);
  }

  static constexpr StringRef numberName = "number";
  /// Groups with the same text, which replace the same operands, run the same kernel.
  FailureOr<DictionaryAttr> kernelNumber(FusedOp fused) {
    std::string text = codegen::kernelText(fused.getBody().front());
    llvm::raw_string_ostream out(text);
    llvm::interleave(fused.getTaken(), out, " ");
    return b.getDictionaryAttr(b.getNamedAttr(numberName, integer(kernels.try_emplace(text, kernels.size()).first->second)));
  }
  void writeKernel(FusedOp fused, IntegerAttr number) {
    if (number.getInt() < kernelsWritten)
      return;
    ++kernelsWritten;
    auto kernel = amc::plan::KernelOp::create(b, fused.getLoc(), number,
                                              b.getStringAttr(codegen::kernelName(fused.getBody().front())),
                                              integer(fused.getWorkspaceBytes()), fused.getTakenAttr());
    IRMapping mapping;
    fused.getBody().cloneInto(&kernel.getBody(), mapping);
  }

  IntegerAttr integer(uint64_t value) { return b.getI64IntegerAttr(static_cast<int64_t>(value)); }

  amc::plan::ViewAttr view(Value value) {
    return amc::plan::ViewAttr::get(b.getContext(), live.bufferOfValue[gathered.index(value)], 0,
                                    cast<RankedTensorType>(value.getType()));
  }
  Attribute viewOrUnit(Value value) { return value ? Attribute(view(value)) : b.getUnitAttr(); }

  uint64_t forwardEnd() const {
    uint64_t end = 0;
    while (end < live.instructions.size() &&
           graph.ops[live.instructions[end]].phase == OpPhase::Forward)
      ++end;
    return end;
  }

  // Without a marker the step has one micro-batch, and what runs once is the optimizer's work at
  // its end, so that a caller can look at the loss before the weights change.
  uint64_t microBatchEnd() const {
    if (graph.microBatchEnd() != graph.ops.size())
      return live.microBatchEnd;
    uint64_t end = live.instructions.size();
    while (end > 0 && graph.ops[live.instructions[end - 1]].phase == OpPhase::Optimizer)
      --end;
    return end;
  }

  /// What people call a buffer: the source's name, the gradient's parameter, or the ONNX node of
  /// the value in it.
  std::string bufferName(const LiveBuffer &buffer) {
    if (buffer.workspaceOf != noIndex)
      return "workspace of " + nodeName(gathered.ops[buffer.workspaceOf]);
    Value value = gathered.values[buffer.value];
    if (auto named = gradientNames.find(value); named != gradientNames.end())
      return "grad." + named->second;
    Operation *op = value.getDefiningOp();
    if (auto parameter = dyn_cast<ParameterOp>(op))
      return parameter.getName().str();
    if (auto state = dyn_cast<StateOp>(op))
      return (state.getParameter() + "." + state.getName()).str();
    if (auto input = dyn_cast<InputOp>(op))
      return input.getName().str();
    std::string name = nodeName(op);
    return op->getNumResults() > 1
               ? name + "#" + std::to_string(cast<OpResult>(value).getResultNumber())
               : name;
  }
  std::string nodeName(Operation *op) {
    std::string name = locationName(op->getLoc());
    return name == "?" ? op->getName().stripDialect().str() : name;
  }

  // What belongs to which parameter, by name.
  void indexParameters() {
    for (Operation *op : gathered.ops) {
      if (auto state = dyn_cast<StateOp>(op); state && state.getKind() == "optimizer")
        statesOf[state.getParameter()].push_back(state);
      auto [gradient, parameter] = gradientOf(op);
      if (!gradient)
        continue;
      gradientsOf.try_emplace(parameter, gradient);
      if (auto optimizer = dyn_cast<OptimizerOpInterface>(op))
        if (auto shard = optimizer.getParameterValue().getDefiningOp<StateOp>())
          gradientSplits.try_emplace(parameter, shard.getSplitsAttr());
      gradientNames.try_emplace(gathered.values[graph.rootOf(gathered.index(gradient))], parameter);
    }
    for (uint32_t op : live.instructions) {
      for (uint32_t at : graph.ops[op].updated)
        lastUpdate[graph.rootOf(graph.ops[op].operands[at])] = live.instructionOfOp[op];
      if (graph.ops[op].kind == OpKind::Wait)
        waitedFor[graph.rootOf(graph.ops[op].operands[0])] = live.instructionOfOp[op];
    }
  }

  void writeBuffers() {
    for (auto [number, buffer] : llvm::enumerate(live.buffers))
      amc::plan::BufferOp::create(
          b, step.getLoc(), integer(number), integer(offsets[number]), integer(buffer.bytes),
          integer(buffer.first), integer(buffer.last),
          b.getStringAttr(categoryNames[static_cast<unsigned>(buffer.category)]),
          b.getStringAttr(bufferName(buffer)), buffer.persistent ? b.getUnitAttr() : UnitAttr());
  }

  /// The value that an operation says is a parameter's gradient, and that parameter's name; null if
  /// it says nothing.
  std::pair<Value, std::string> gradientOf(Operation *op) {
    if (auto gradient = dyn_cast<GradientOp>(op))
      return {gradient.getValue(), gradient.getParameter().str()};
    if (auto optimizer = dyn_cast<OptimizerOpInterface>(op)) {
      Operation *updated = optimizer.getParameterValue().getDefiningOp();
      if (auto parameter = dyn_cast_if_present<ParameterOp>(updated))
        return {optimizer.getGradientValue(), parameter.getName().str()};
      if (auto shard = dyn_cast_if_present<StateOp>(updated))
        return {optimizer.getGradientValue(), shard.getParameter().str()};
    }
    return {};
  }

  // The instruction that completes a gradient: its last update if it is an accumulator, else the
  // one that makes it, or waits for it.
  uint64_t readyAt(Value value) {
    uint32_t root = graph.rootOf(gathered.index(value));
    if (auto wait = waitedFor.find(root); wait != waitedFor.end())
      return wait->second;
    return graph.values[root].source ? lastUpdate.lookup(root)
                                     : live.instructionOfOp[graph.values[root].producer];
  }

  void writeTables(Operation *op) {
    Location loc = op->getLoc();
    if (auto input = dyn_cast<InputOp>(op)) {
      amc::plan::InputOp::create(b, loc, input.getNameAttr(), input.getRoleAttr(), view(input));
    } else if (auto constant = dyn_cast<ConstantOp>(op)) {
      amc::plan::ConstantOp::create(b, loc, view(constant), constant.getValue());
    } else if (auto output = dyn_cast<OutputOp>(op)) {
      amc::plan::OutputOp::create(b, loc, output.getNameAttr(), view(output.getValue()),
                                  integer(readyAt(output.getValue())), output.getSumAttr());
    } else if (auto parameter = dyn_cast<ParameterOp>(op)) {
      SmallVector<StringRef> names;
      SmallVector<Attribute> states, stateSplits;
      bool spread = false; // whether any state is
      amc::plan::ViewAttr gradient;
      IntegerAttr ready;
      for (StateOp state : statesOf.lookup(parameter.getName())) {
        names.push_back(state.getName());
        states.push_back(view(state));
        spread = spread || state.getSplits();
        stateSplits.push_back(state.getSplits() ? state.getSplitsAttr() : b.getArrayAttr({}));
      }
      if (Value value = gradientsOf.lookup(parameter.getName())) {
        gradient = view(value);
        ready = integer(readyAt(value));
      }
      amc::plan::ParameterOp::create(
          b, loc, parameter.getNameAttr(), view(parameter), parameter.getTrainableAttr(),
          parameter.getSourceAttr(), parameter.getSourceDtypeAttr(), parameter.getTiedAttr(),
          b.getStrArrayAttr(names), b.getArrayAttr(states), gradient, ready,
          parameter.getSplitsAttr(), spread ? b.getArrayAttr(stateSplits) : ArrayAttr(),
          gradientSplits.lookup(parameter.getName()));
    }
  }

  void writeCall(uint32_t index) {
    Operation *op = gathered.ops[index];
    SmallVector<Attribute> inputs, outputs, workspaces;
    for (Value operand : cast<ComputeOpInterface>(op).getKernelInputs())
      inputs.push_back(viewOrUnit(operand));
    // What waits writes nothing: its result is there.
    if (graph.ops[index].kind != OpKind::Wait)
      for (Value result : resultSlots(op))
        outputs.push_back(viewOrUnit(result));
    for (uint32_t at : graph.ops[index].updated)
      outputs.push_back(view(op->getOperand(at)));
    if (uint32_t scratch = live.workspaceOfOp[index]; scratch != noIndex)
      workspaces.push_back(amc::plan::ViewAttr::get(
          b.getContext(), scratch, 0,
          RankedTensorType::get({static_cast<int64_t>(graph.ops[index].workspaceBytes)},
                                b.getIntegerType(8, /*isSigned=*/false))));
    amc::plan::CallOp::create(
        b, op->getLoc(), b.getStringAttr(cast<ComputeOpInterface>(op).getKernelName()),
        b.getArrayAttr(inputs), b.getArrayAttr(outputs), b.getArrayAttr(workspaces),
        arguments[index], b.getStringAttr(phaseName(phaseOf(op))), integer(graph.ops[index].flops),
        op->getAttrOfType<IntegerAttr>("train.joined_flops"));
  }

  // For reports, of every instruction: the bytes it moves, and its block (-1: none). An operation of
  // backward belongs to the block of the forward operation that it has its location from. Of those
  // that work in parts, each part: instruction, FLOPs, bytes, times, percent.
  void noteInstructions(amc::plan::ProgramOp program) {
    SmallVector<int64_t> bytes, parts, blocks;
    DenseMap<Location, int64_t> blockAt; // look-ups only
    for (uint32_t index : live.instructions)
      if (auto block = gathered.ops[index]->getAttrOfType<IntegerAttr>("train.block"))
        blockAt.try_emplace(gathered.ops[index]->getLoc(), block.getInt());
    for (uint32_t index : live.instructions) {
      for (const GraphWork &part : graph.ops[index].parts)
        for (uint64_t number : {static_cast<uint64_t>(bytes.size()), part.flops, part.bytes, part.times, part.percent})
          parts.push_back(static_cast<int64_t>(number));
      bytes.push_back(static_cast<int64_t>(graph.ops[index].bytesMoved));
      auto own = gathered.ops[index]->getAttrOfType<IntegerAttr>("train.block"); // a fused group's is not its location's
      auto block = blockAt.find(gathered.ops[index]->getLoc());
      bool optimizer = graph.ops[index].phase == OpPhase::Optimizer;
      blocks.push_back(optimizer ? -1 : own ? own.getInt() : block == blockAt.end() ? -1 : block->second);
    }
    program->setAttr("train.instruction_bytes", b.getDenseI64ArrayAttr(bytes));
    if (!parts.empty())
      program->setAttr("train.instruction_parts", b.getDenseI64ArrayAttr(parts));
    if (!blockAt.empty())
      program->setAttr("train.instruction_blocks", b.getDenseI64ArrayAttr(blocks));
  }

  StepOp step;
  GatheredStep &gathered;
  const StepGraph &graph;
  OpBuilder b;
  Liveness live;
  std::vector<int64_t> offsets; // of every buffer
  std::vector<DictionaryAttr> arguments;
  llvm::StringMap<uint64_t> kernels; // numbers of fused kernels, by text; look-ups only
  int64_t kernelsWritten = 0;
  // Look-ups only.
  DenseMap<Value, std::string> gradientNames;
  llvm::StringMap<SmallVector<StateOp>> statesOf;
  llvm::StringMap<Value> gradientsOf;
  llvm::StringMap<ArrayAttr> gradientSplits; // where the gradient is not split as the parameter
  DenseMap<uint32_t, uint64_t>
      lastUpdate; // of source values: the last instruction that overwrites them
  DenseMap<uint32_t, uint64_t> waitedFor; // of values: the instruction that waits for their collective
};

struct LowerToPlanPass : amc::impl::LowerToPlanBase<LowerToPlanPass> {
  void runOnOperation() override {
    bool bad = false;
    for (StepOp step : llvm::make_early_inc_range(getOperation().getOps<StepOp>())) {
      FailureOr<GatheredStep> gathered = gatherStep(step);
      if (failed(gathered)) {
        bad = true;
        continue;
      }
      Lowering lowering(step, *gathered);
      if (failed(lowering.check()))
        bad = true;
      else
        lowering.write();
    }
    if (bad)
      signalPassFailure();
  }
};

} // namespace
