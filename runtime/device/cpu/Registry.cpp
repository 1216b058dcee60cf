#include "runtime/device/cpu/Registry.h"

namespace amc::rt::cpu {

KernelRegistry::KernelRegistry() {
  registerElementwise(*this);
  registerDropout(*this);
  registerActivations(*this);
  registerMovement(*this);
  registerShaping(*this);
  registerGather(*this);
  registerScatter(*this);
  registerSelection(*this);
  registerReductions(*this);
  registerSoftmax(*this);
  registerNorms(*this);
  registerMatmul(*this);
  registerGroupedMatmul(*this);
  registerGatedMlp(*this);
  registerRotary(*this);
  registerAttention(*this);
  registerAttentionBackward(*this);
  registerLoss(*this);
  registerLinearCrossEntropy(*this);
  registerOptimizer(*this);
  registerCollectives(*this);
  registerDispatch(*this);
}

void KernelRegistry::add(std::string name, KernelEntry entry) {
  [[maybe_unused]] bool added = entries.emplace(std::move(name), entry).second;
  assert(added && "two kernels of one name");
}

const KernelEntry *KernelRegistry::find(std::string_view name) const {
  auto found = entries.find(name);
  return found == entries.end() ? nullptr : &found->second;
}

std::vector<std::string> KernelRegistry::names() const {
  std::vector<std::string> names;
  for (const auto &entry : entries)
    names.push_back(entry.first);
  return names;
}

Status KernelRegistry::check(const plan::Instruction &instruction) const {
  const KernelEntry *entry = find(instruction.kernel());
  if (!entry)
    return inputError("kernel '", instruction.kernel(), "' is not one of this device's");
  Expected<InstructionSpec> spec = InstructionSpec::create(instruction);
  if (!spec.ok())
    return std::move(spec).status();
  if (!entry->scratch)
    AMC_TRY(expectWorkspace(*spec, 0));
  return entry->check(*spec);
}

bool KernelRegistry::mayAlias(const plan::Instruction &instruction, int output, int input) const {
  const KernelEntry *entry = find(instruction.kernel());
  if (!entry || !entry->mayAlias)
    return false;
  Expected<InstructionSpec> spec = InstructionSpec::create(instruction);
  return spec.ok() && entry->mayAlias(*spec, static_cast<size_t>(output), static_cast<size_t>(input));
}

bool KernelRegistry::mustAlias(const plan::Instruction &instruction, int output, int input) const {
  const KernelEntry *entry = find(instruction.kernel());
  return entry && entry->updates && mayAlias(instruction, output, input);
}

namespace {

Status expectTensors(const char *what, const std::vector<TensorSpec> &tensors,
                     const std::vector<OperandRule> &rules) {
  AMC_EXPECT(tensors.size() == rules.size(), what, ": there are ", tensors.size(), " and should be ", rules.size());
  size_t i = 0;
  for (const OperandRule &rule : rules) {
    const TensorSpec &tensor = tensors[i];
    if (!tensor.present()) {
      AMC_EXPECT(rule.optional, what, "[", i, "] (", rule.name, "): is absent and should be there");
    } else {
      AMC_EXPECT(rule.accepts >> tensor.dtype & 1, what, "[", i, "] (", rule.name, "): dtype ",
                 dtypeName(tensor.dtype), " is not one this kernel takes");
    }
    ++i;
  }
  return Status();
}

AttributeKind kindOf(const plan::Attribute &attribute, bool &known) {
  known = true;
  switch (attribute.value_case()) {
  case plan::Attribute::kI: return Int;
  case plan::Attribute::kF: return Real;
  case plan::Attribute::kS: return Text;
  case plan::Attribute::kInts: return Ints;
  default: known = false; return Int;
  }
}

const char *kindName(AttributeKind kind) {
  switch (kind) {
  case AttributeKind::Integer: return "an integer";
  case AttributeKind::Real: return "a number";
  case AttributeKind::String: return "a string";
  case AttributeKind::Integers: return "integers";
  }
  return "";
}

} // namespace

Status expectAttributes(const InstructionSpec &spec, const std::vector<AttributeRule> &rules) {
  for (const plan::Attribute &attribute : spec.attributes()) {
    const AttributeRule *found = nullptr;
    for (const AttributeRule &rule : rules)
      if (attribute.name() == rule.name)
        found = &rule;
    AMC_EXPECT(found, "attributes.", attribute.name(), ": kernel '", spec.kernel, "' has no such attribute");
    bool known;
    AttributeKind kind = kindOf(attribute, known);
    AMC_EXPECT(known && kind == found->kind, "attributes.", attribute.name(), ": should be ",
               kindName(found->kind));
    AMC_EXPECT(spec.find(attribute.name()) == &attribute, "attributes.", attribute.name(), ": is there twice");
  }
  for (const AttributeRule &rule : rules)
    AMC_EXPECT(rule.optional || spec.find(rule.name), "attributes.", rule.name, ": is absent and should be there");
  return Status();
}

Status expectOperands(const InstructionSpec &spec, const std::vector<OperandRule> &inputs,
                      const std::vector<OperandRule> &outputs, const std::vector<AttributeRule> &attributes) {
  AMC_TRY(expectTensors("inputs", spec.inputs, inputs));
  AMC_TRY(expectTensors("outputs", spec.outputs, outputs));
  return expectAttributes(spec, attributes);
}

Status expectWorkspace(const InstructionSpec &spec, uint64_t bytes) {
  if (spec.workspaceChecked)
    return Status();
  if (bytes == 0) {
    AMC_EXPECT(spec.workspaces.empty(), "workspaces: there are ", spec.workspaces.size(), " and should be 0");
    return Status();
  }
  AMC_EXPECT(spec.workspaces.size() == 1, "workspaces: there are ", spec.workspaces.size(), " and should be 1");
  AMC_EXPECT(spec.workspaces[0].dtype == plan::U8 && spec.workspaces[0].bytes >= bytes,
             "workspaces[0]: has ", spec.workspaces[0].bytes, " bytes of ", dtypeName(spec.workspaces[0].dtype),
             " and should have ", bytes, " of ui8");
  return Status();
}

std::string shapeText(const std::vector<int64_t> &shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

Status expectShape(const char *what, const TensorSpec &tensor, const std::vector<int64_t> &shape) {
  AMC_EXPECT(tensor.shape == shape, what, ": shape is ", shapeText(tensor.shape), " and should be ",
             shapeText(shape));
  return Status();
}

Status expectDType(const char *what, const TensorSpec &tensor, plan::DType dtype) {
  AMC_EXPECT(tensor.dtype == dtype, what, ": dtype is ", dtypeName(tensor.dtype), " and should be ",
             dtypeName(dtype));
  return Status();
}

Status expectStatisticType(const char *what, const TensorSpec &tensor, const TensorSpec &data) {
  return expectDType(what, tensor, data.dtype == plan::F64 ? plan::F64 : plan::F32);
}

Status expectSumType(const char *what, const InstructionSpec &spec, const TensorSpec &tensor, const TensorSpec &data) {
  if (spec.flag("wide") && isFloat(data.dtype))
    return expectStatisticType(what, tensor, data);
  return expectDType(what, tensor, data.dtype);
}

Status expectOneOf(const InstructionSpec &spec, const char *attribute,
                   std::initializer_list<std::string_view> values) {
  std::string all;
  for (std::string_view value : values) {
    if (spec.string(attribute) == value)
      return Status();
    all += text(all.empty() ? "'" : ", '", value, "'");
  }
  return inputError("attributes.", attribute, ": is '", spec.string(attribute), "' and should be one of ", all);
}

Status expectAxis(const InstructionSpec &spec, const char *attribute, size_t rank) {
  int64_t axis = spec.integer(attribute);
  AMC_EXPECT(axis >= 0 && static_cast<uint64_t>(axis) < rank, "attributes.", attribute, ": is ", axis,
             " and should be in [0, ", rank, ")");
  return Status();
}

Status expectBroadcast(const char *what, const TensorSpec &tensor, const std::vector<int64_t> &result) {
  bool fits = tensor.rank() <= result.size();
  for (size_t i = 0; fits && i < tensor.rank(); ++i) {
    int64_t dim = tensor.shape[tensor.rank() - 1 - i], wanted = result[result.size() - 1 - i];
    fits = dim == wanted || dim == 1;
  }
  AMC_EXPECT(fits, what, ": shape ", shapeText(tensor.shape), " does not broadcast to ", shapeText(result));
  return Status();
}

bool aliasElementwise(const InstructionSpec &spec, size_t output, size_t input) {
  const TensorSpec &out = spec.outputs[output], &in = spec.inputs[input];
  return out.bytes == in.bytes && dtypeBytes(out.dtype) == dtypeBytes(in.dtype);
}

Split splitAt(const std::vector<int64_t> &shape, size_t axis) {
  Split split;
  for (size_t i = 0; i < axis; ++i)
    split.outer *= shape[i];
  split.axis = shape[axis];
  for (size_t i = axis + 1; i < shape.size(); ++i)
    split.inner *= shape[i];
  return split;
}

Rows rowsOf(const std::vector<int64_t> &shape) {
  Rows rows;
  if (shape.empty())
    return rows;
  for (size_t i = 0; i + 1 < shape.size(); ++i)
    rows.rows *= shape[i];
  rows.columns = shape.back();
  return rows;
}

} // namespace amc::rt::cpu
