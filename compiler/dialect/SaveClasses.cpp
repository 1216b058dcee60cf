// What selective checkpointing saves (SaveClasses.h), in one table. SAVE is for what is expensive or cannot be
// repeated: attention, random numbers, routing, maxima, collectives on activations, products with a bias and products of two activations, as in the guide that
// users come from. ALTERNATE is for the product of an activation and a weight, experts' included: every other one of
// a block. Convolutions are slices and such products by the time they are here (compiler/import/ConvOps.cpp).
#include "compiler/dialect/SaveClasses.h"
#include "compiler/dialect/OpSupport.h"

using namespace mlir;

namespace amc::train {
namespace {

bool hasBias(Operation *op) { return static_cast<bool>(cast<LinearOp>(op).getBias()); }
bool hasWeight(Operation *op) {
  return llvm::any_of(op->getOperands(), [](Value v) { return static_cast<bool>(parameterBehind(v)); });
}

bool ofActivation(Operation *op) { return !parameterBehind(op->getOperand(0)); }

const SaveRule rules[] = {
    {"train.all_gather", "of an activation", SaveClass::Save, ofActivation},
    {"train.all_reduce", "", SaveClass::Save, nullptr},
    {"train.all_to_all", "", SaveClass::Save, nullptr},
    {"train.arg_max", "", SaveClass::Save, nullptr},
    {"train.attention", "", SaveClass::Save, nullptr},
    {"train.dropout", "", SaveClass::Save, nullptr},
    {"train.expert_slots", "", SaveClass::Save, nullptr},
    {"train.gated_mlp", "", SaveClass::Alternate, nullptr},
    {"train.grouped_matmul", "", SaveClass::Alternate, nullptr},
    {"train.linear", "with a bias", SaveClass::Save, hasBias},
    {"train.linear", "without a bias", SaveClass::Alternate, nullptr},
    {"train.linear_cross_entropy", "", SaveClass::Save, nullptr},
    {"train.matmul", "with a weight", SaveClass::Alternate, hasWeight},
    {"train.matmul", "of two activations", SaveClass::Save, nullptr},
    {"train.reduce_max", "", SaveClass::Save, nullptr},
    {"train.reduce_scatter", "", SaveClass::Save, nullptr},
    {"train.top_k", "", SaveClass::Save, nullptr},
};

} // namespace

ArrayRef<SaveRule> saveRules() { return rules; }

SaveClass tabledSaveClass(Operation *op) {
  for (const SaveRule &rule : rules)
    if (rule.op == op->getName().getStringRef() && (!rule.matches || rule.matches(op)))
      return rule.saveClass;
  return SaveClass::Recompute;
}

StringRef saveClassName(SaveClass saveClass) {
  switch (saveClass) {
  case SaveClass::Save:
    return "SAVE";
  case SaveClass::Recompute:
    return "RECOMPUTE";
  case SaveClass::Alternate:
    return "ALTERNATE";
  }
  llvm_unreachable("all classes are covered");
}

std::optional<SaveClass> saveClassNamed(StringRef name) {
  for (SaveClass saveClass : {SaveClass::Save, SaveClass::Recompute, SaveClass::Alternate})
    if (name.equals_insensitive(saveClassName(saveClass)))
      return saveClass;
  return std::nullopt;
}

SmallVector<StringRef> forwardOperations(MLIRContext *context) {
  SmallVector<StringRef> names;
  for (RegisteredOperationName op : context->getRegisteredOperations()) {
    StringRef name = op.getStringRef();
    // Gradients' kernels are never saved or run again; their names say what they are.
    if (op.hasInterface<ComputeOpInterface>() && !op.hasInterface<UpdateOpInterface>() &&
        !name.ends_with("_backward") && !name.ends_with("_grad"))
      names.push_back(name);
  }
  llvm::sort(names);
  return names;
}

} // namespace amc::train
