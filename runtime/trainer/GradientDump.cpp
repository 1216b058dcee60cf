// See GradientDump.h.
#include "runtime/trainer/GradientDump.h"

#include "runtime/trainer/Weights.h"

#include <algorithm>

namespace amc::rt {

Expected<std::unique_ptr<GradientDump>> GradientDump::create(const Executor &executor,
                                                             const std::string &path) {
  std::vector<SafetensorsWriter::Spec> specs = {{"loss", plan::F32, {}}};
  std::vector<std::pair<uint64_t, size_t>> due;
  for (int i = 0; i < executor.plan().parameters_size(); ++i) {
    const plan::Parameter &parameter = executor.plan().parameters(i);
    Tensor gradient = executor.gradient(static_cast<size_t>(i));
    if (!gradient.data)
      continue;
    if (gradient.dtype != parameter.view().dtype() ||
        gradient.elements != executor.parameter(static_cast<size_t>(i)).elements)
      return inputError("the gradient of '", parameter.name(), "' should have its type and shape");
    appendSpecs(executor, static_cast<size_t>(i), "grad.", specs);
    due.emplace_back(parameter.gradient_ready(), static_cast<size_t>(i));
  }
  std::sort(due.begin(), due.end());
  Expected<SafetensorsWriter> writer = SafetensorsWriter::create(path, std::move(specs), {});
  if (!writer.ok())
    return writer.status();
  std::unique_ptr<GradientDump> dump(new GradientDump(executor, std::move(writer.value())));
  dump->due = std::move(due);
  return dump;
}

Status GradientDump::afterInstruction(uint64_t instruction) {
  for (; next < due.size() && due[next].first == instruction; ++next)
    if (Status failure = saveTensor(executor, due[next].second, executor.gradient(due[next].second),
                                    "grad.", writer);
        !failure.ok())
      return failure;
  return {};
}

Status GradientDump::finish(double loss) {
  float value = static_cast<float>(loss);
  if (Status failure = writer.write("loss", 0, std::as_bytes(std::span(&value, 1))); !failure.ok())
    return failure;
  return writer.finish();
}

} // namespace amc::rt
