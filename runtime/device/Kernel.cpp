#include "runtime/device/Kernel.h"
#include "runtime/plan/Ranges.h"

namespace amc::rt {
namespace {

Status convert(const google::protobuf::RepeatedPtrField<plan::View> &views, const char *what,
               std::vector<TensorSpec> &specs) {
  for (int i = 0; i < views.size(); ++i) {
    const plan::View &view = views[i];
    TensorSpec spec;
    spec.dtype = view.dtype();
    if (spec.present()) {
      std::optional<uint64_t> bytes = viewBytes(view);
      if (!bytes)
        return inputError(what, "[", i, "]: the tensor's dtype is unknown or its size beyond 2^48 bytes");
      if (static_cast<size_t>(view.shape_size()) > maxRank)
        return inputError(what, "[", i, "]: rank is ", view.shape_size(), " and should be at most ", maxRank);
      for (uint64_t dim : view.shape())
        spec.shape.push_back(static_cast<int64_t>(dim));
      spec.bytes = *bytes;
      spec.elements = static_cast<int64_t>(*bytes / dtypeBytes(spec.dtype));
    }
    specs.push_back(std::move(spec));
  }
  return Status();
}

} // namespace

Expected<InstructionSpec> InstructionSpec::create(const plan::Instruction &instruction) {
  InstructionSpec spec;
  spec.kernel = instruction.kernel();
  spec.location = instruction.location();
  if (Status s = convert(instruction.inputs(), "inputs", spec.inputs); !s.ok())
    return s;
  if (Status s = convert(instruction.outputs(), "outputs", spec.outputs); !s.ok())
    return s;
  if (Status s = convert(instruction.workspaces(), "workspaces", spec.workspaces); !s.ok())
    return s;
  spec.attributeList = instruction.attributes();
  return spec;
}

const plan::Attribute *InstructionSpec::find(std::string_view name) const {
  for (const plan::Attribute &attribute : attributeList)
    if (attribute.name() == name)
      return &attribute;
  return nullptr;
}

} // namespace amc::rt
