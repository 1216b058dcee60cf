// The pipeline. Each line says why it stands where it does; `upTo` ends it early for --emit.
#include "compiler/driver/Pipeline.h"
#include "compiler/driver/DeviceMemory.h"
#include "compiler/driver/MeshRules.h"
#include "passes/Passes.h"

using namespace mlir;

namespace amc {
namespace {

// The stages that --emit names, in order.
enum Stage { Import, Raise, Loss, Shard, Backward, Optimizer, Rematerialize, Schedule, Offsets, Plan, Ptx };

Stage stageOf(llvm::StringRef name) {
  static constexpr llvm::StringLiteral names[] = {"import",        "raise",    "loss",    "shard", "backward", "optimizer",
                                                  "rematerialize", "schedule", "offsets", "plan",  "ptx"};
  const auto *found = llvm::find(names, name);
  assert(found != std::end(names) && "the option table lets no other name through");
  return static_cast<Stage>(found - names);
}

AttachOptimizerOptions optimizerOptions(const CompileOptions &options) {
  AttachOptimizerOptions result;
  result.optimizer = options.optimizer;
  result.beta1 = options.betas[0];
  result.beta2 = options.betas[1];
  result.epsilon = options.epsilon;
  result.weightDecay = options.weightDecay;
  result.weightDecayOn = options.weightDecayOn;
  result.momentum = options.momentum;
  result.nesterov = options.nesterov;
  result.maxGradNorm = options.maxGradNorm;
  result.accumulation = options.gradAccumulation;
  result.inBackward = options.optimizerInBackward;
  result.masterWeights = options.masterWeights;
  if (options.optimizerState != "precision")
    result.optimizerState = options.optimizerState;
  return result;
}

ShardOptions shardOptions(const CompileOptions &options) {
  ShardOptions result;
  result.strategy = options.strategy;
  const rt::MeshShape mesh = decideMesh(options).shape;
  result.dpReplicate = static_cast<int64_t>(mesh.size[0]);
  result.dpShard = static_cast<int64_t>(mesh.size[1]);
  result.cp = static_cast<int64_t>(mesh.size[2]);
  result.tp = static_cast<int64_t>(mesh.size[3]);
  result.ep = static_cast<int64_t>(mesh.ep);
  result.capacityFactor = options.epCapacityFactor;
  // A CUDA device has no attention in a ring.
  result.cpAttention = options.target != "cpu" && options.cpAttention == "auto" ? "all-gather" : options.cpAttention;
  result.target = options.target;
  result.precision = options.precision;
  result.sequenceParallel = options.sequenceParallel;
  result.zero = options.zeroDpStrategy;
  // A budget's planner weighs a gathered parameter like any other value; without one, FSDP2's default.
  bool plans = options.activationCheckpointing == "budget" || options.activationCheckpointing == "auto";
  result.reshard = options.reshardAfterForward != "auto" ? options.reshardAfterForward : plans ? "auto" : "always";
  return result;
}

OverlapCollectivesOptions overlapOptions(const CompileOptions &options) {
  OverlapCollectivesOptions result;
  result.mode = options.overlap;
  result.target = options.target;
  result.precision = options.precision;
  return result;
}

// The model alone.
void addFrontEnd(OpPassManager &passes, const CompileOptions &options) {
  // Patterns are matched on the graph as exporters write it, so nothing may rewrite it before.
  // Roles come after: a norm's weight is known by the norm that it belongs to.
  passes.addPass(createRaise());
  {
    AssignRolesOptions roles;
    roles.trainable.assign(options.trainable.begin(), options.trainable.end());
    roles.frozen.assign(options.frozen.begin(), options.frozen.end());
    passes.addPass(createAssignRoles(roles));
  }
}

// From the model to a whole training step.
void addStep(OpPassManager &passes, const CompileOptions &options, Stage last) {
  // The loss is part of the graph before it is differentiated, so its gradient needs no case of its
  // own.
  {
    AttachLossOptions loss;
    loss.loss = options.loss;
    loss.logits = options.logits;
    loss.ignoreIndex = options.ignoreIndex;
    loss.labelSmoothing = options.labelSmoothing;
    loss.zLoss = options.zLoss;
    loss.reduction = options.lossReduction;
    loss.classWeights.assign(options.classWeights.begin(), options.classWeights.end());
    passes.addPass(createAttachLoss(loss));
  }
  // The logits' readers are known once the model's outputs are gone. Before precision: the fused
  // loss keeps its logits in fp32, the unfused one stores them.
  if (options.lossImplementation == "linear-cross-entropy") {
    FuseLinearCrossEntropyOptions fuse;
    if (options.lossTilesInFlight != "auto")
      fuse.tokensInFlight = std::stoll(options.lossTilesInFlight); // the option table has read it
    passes.addPass(createFuseLinearCrossEntropy(fuse));
  }
  // After the loss: what is computed in which type is decided on the forward graph alone, so that gradients come out
  // in the types of what they are gradients of, by each operation's own rule.
  {
    ApplyPrecisionOptions precision;
    precision.precision = options.precision;
    passes.addPass(createApplyPrecision(precision));
  }
  if (last == Loss)
    return;

  // Before backward, which asks each operation for its gradient: a tiled network has one of its own.
  if (options.tileMlp == "on")
    passes.addPass(createTileMlp());

  // Before backward: the gradient of a collective is another, so that no strategy needs a backward of its own.
  passes.addPass(createShard(shardOptions(options)));
  if (last == Shard)
    return;

  // Every decision about memory is made on the joint graph, so backward exists before any of them.
  passes.addPass(createDeriveBackward());
  // At once: derivation asks one operation at a time, so a sum is rounded to its operand's type before what follows
  // says that it is wanted in fp32. Before anything reads types as bytes. Not where it takes more memory: there a
  // contribution is rounded before the sum over ranks, as PyTorch's FSDP2 does for all of them.
  passes.addPass(createWidenGradients());
  if (last == Backward)
    return;
  passes.addPass(createAttachOptimizer(optimizerOptions(options)));
}

// What is kept, in which order, and where.
void addMemory(OpPassManager &passes, const CompileOptions &options, Stage last,
               std::shared_ptr<PlannedStep> planned) {
  // Before Schedule: what is recomputed has to be scheduled too. After AttachOptimizer: an update
  // may be the last reader of a gradient, and lifetimes decide what is worth saving.
  if (options.activationCheckpointing == "budget" || options.activationCheckpointing == "auto") {
    PlanBudgetOptions budget = budgetOptions(options);
    if (planned && planned->curve)
      budget.curvePoints = paretoPoints;
    passes.addPass(createPlanBudget(budget, std::move(planned)));
  } else {
    RematerializeOptions remat;
    remat.policy = options.activationCheckpointing;
    remat.matmuls = options.acMatmuls;
    remat.classes.assign(options.acPolicy.begin(), options.acPolicy.end());
    remat.kvSharing = options.acKvSharing;
    remat.trace = options.acTrace;
    passes.addPass(createRematerialize(remat));
  }
  if (last == Rematerialize)
    return;

  passes.addPass(createSchedule());
  // After Schedule, whose order for the lowest peak says what windows cost; before offsets, since they are lifetimes.
  if (options.overlap != "off")
    passes.addPass(createOverlapCollectives(overlapOptions(options)));
  if (last == Schedule)
    return;
  // Order decides lifetimes, lifetimes decide offsets; from here on nothing may move or add an operation.
  passes.addPass(createAssignOffsets());
  // Always: a wrong placement is silent corruption at run time. It shares no code with what it
  // checks.
  passes.addPass(createVerifyPlan());
  if (last == Offsets)
    return;
  // On what has been placed and proven: kernels change neither order nor memory.
  if (options.fusion == "on")
    passes.addPass(createFuseElementwise());
  passes.addPass(createLowerToPlan());
}

} // namespace

PlanBudgetOptions budgetOptions(const CompileOptions &options) {
  PlanBudgetOptions budget;
  budget.policy = options.activationCheckpointing;
  if (options.activationCheckpointing == "auto") {
    DeviceMemory memory = deviceMemory(options);
    budget.memoryBudget = static_cast<int64_t>(memory.forArena());
    budget.origin = std::to_string(memory.capacity) + " bytes (" + memory.origin +
                    ") less a reserve of " + std::to_string(memory.reserve);
  } else {
    budget.memoryBudget = static_cast<int64_t>(*parseBytes(options.memoryBudget));
  }
  budget.target = options.target;
  budget.precision = options.precision;
  budget.fusion = options.fusion == "on";
  return budget;
}

bool reachesMemory(const CompileOptions &options) { return stageOf(options.emit) > Optimizer; }

void buildPipeline(OpPassManager &passes, const CompileOptions &options, llvm::StringRef upTo,
                   llvm::StringRef after, std::shared_ptr<PlannedStep> planned) {
  Stage first = stageOf(after), last = stageOf(upTo);
  if (first < Raise && last >= Raise)
    addFrontEnd(passes, options);
  if (first < Optimizer && last > Raise)
    addStep(passes, options, last);
  if (last > Optimizer)
    addMemory(passes, options, last, std::move(planned));
}

} // namespace amc
