// See GradientDump.h.
#include "runtime/trainer/GradientDump.h"

#include "runtime/trainer/Weights.h"

#include <algorithm>

namespace amc::rt {

Expected<std::unique_ptr<GradientDump>>
GradientDump::create(const Executor &executor, const Ranks &ranks, const std::string &path) {
  std::vector<SafetensorsWriter::Spec> specs = {{"loss", plan::F32, {}}};
  std::vector<std::pair<uint64_t, size_t>> due;
  for (int i = 0; i < executor.plan().parameters_size(); ++i) {
    const plan::Parameter &parameter = executor.plan().parameters(i);
    Tensor gradient = executor.gradient(static_cast<size_t>(i));
    if (!gradient.data)
      continue;
    // The verifier has seen to it that gradient and weight have the same shape as wholes.
    if (Status failure =
            appendSpecs(executor, ranks, static_cast<size_t>(i), "grad.", gradient.dtype, specs);
        !failure.ok())
      return failure;
    due.emplace_back(parameter.gradient_ready(), static_cast<size_t>(i));
  }
  std::sort(due.begin(), due.end());
  Expected<SharedWriter> writer = SharedWriter::create(ranks, path, std::move(specs), {});
  if (!writer.ok())
    return writer.status();
  std::unique_ptr<GradientDump> dump(new GradientDump(executor, ranks, std::move(writer.value())));
  dump->due = std::move(due);
  return dump;
}

std::vector<uint64_t> GradientDump::instructions() const {
  std::vector<uint64_t> all;
  for (const auto &[instruction, parameter] : due)
    all.push_back(instruction);
  return all;
}

Status GradientDump::afterInstruction(uint64_t instruction) {
  for (; next < due.size() && due[next].first == instruction; ++next)
    if (Status failure = saveTensor(
            executor, ranks, due[next].second, executor.gradient(due[next].second),
            executor.plan().parameters(static_cast<int>(due[next].second)).gradient_splits(),
            "grad.", writer);
        !failure.ok())
      return failure;
  return {};
}

Status GradientDump::finish(double loss) {
  float value = static_cast<float>(loss);
  if (ranks.isFirst())
    if (Status failure = writer.write("loss", 0, std::as_bytes(std::span(&value, 1)));
        !failure.ok())
      return failure;
  return writer.finish();
}

} // namespace amc::rt
