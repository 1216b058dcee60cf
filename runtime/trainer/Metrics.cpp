// See Metrics.h.
#include "runtime/trainer/Metrics.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace amc::rt {

std::string gibibytes(uint64_t bytes) {
  double gib = static_cast<double>(bytes) / (1024.0 * 1024.0 * 1024.0);
  return gib >= 0.1 ? fmt::format("{:.2f} GiB", gib) : fmt::format("{:.2f} MiB", gib * 1024.0);
}

std::string droppedText(std::optional<double> droppedTokens) {
  return droppedTokens ? fmt::format(" | dropped_tokens {:.0f}", *droppedTokens) : "";
}

std::string logLine(const StepRecord &record) {
  std::string norm = record.gradNorm ? fmt::format("{:.4f}", *record.gradNorm) : "-";
  return fmt::format("step {} | epoch {} | loss {:.4f} | grad_norm {} | lr {:.2e} | mem {} | "
                     "tps {:.2f}({:.2f}/rank) | num_label_tokens {}{}",
                     record.step, record.epoch, record.loss, norm, record.learningRate,
                     gibibytes(record.memoryBytes), record.tokensPerSecond,
                     record.tokensPerSecond / static_cast<double>(record.ranks),
                     record.labelTokens,
                     droppedText(record.droppedTokens));
}

std::string logJson(const StepRecord &record) {
  nlohmann::ordered_json object;
  object["step"] = record.step;
  object["epoch"] = record.epoch;
  object["loss"] = record.loss; // nlohmann writes NaN and infinities as null
  object["grad_norm"] = record.gradNorm ? nlohmann::ordered_json(*record.gradNorm) : nullptr;
  object["lr"] = record.learningRate;
  object["mem"] = record.memoryBytes;
  object["tps"] = record.tokensPerSecond;
  object["num_label_tokens"] = record.labelTokens;
  if (record.droppedTokens)
    object["dropped_tokens"] = *record.droppedTokens;
  return object.dump();
}

} // namespace amc::rt
