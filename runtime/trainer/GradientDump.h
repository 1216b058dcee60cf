// --dump-gradients: the first step's `loss` and `grad.NAME`, before clipping, as safetensors.
//
// A gradient is copied to the file the moment it is final (Parameter.gradient_ready in the last
// micro-batch), because its bytes may serve another tensor soon after. Tied names each get the
// whole gradient, laid out as they are. Of several ranks each writes what it holds, so all of them
// create and finish the dump.
#ifndef AMC_RUNTIME_TRAINER_GRADIENTDUMP_H
#define AMC_RUNTIME_TRAINER_GRADIENTDUMP_H

#include "runtime/executor/Executor.h"
#include "runtime/trainer/SaveWeights.h"

#include <memory>
#include <utility>
#include <vector>

namespace amc::rt {

class GradientDump {
public:
  static Expected<std::unique_ptr<GradientDump>>
  create(const Executor &executor, const Ranks &ranks, const std::string &path);
  // After which instructions of the last micro-batch and of the update it is to be called.
  std::vector<uint64_t> instructions() const;
  Status afterInstruction(uint64_t instruction);
  // Adds the loss and puts the file in place.
  Status finish(double loss);

private:
  GradientDump(const Executor &executor, const Ranks &ranks, SharedWriter writer)
      : executor(executor), ranks(ranks), writer(std::move(writer)) {}
  const Executor &executor;
  const Ranks &ranks;
  SharedWriter writer;
  std::vector<std::pair<uint64_t, size_t>> due; // (instruction, parameter), ascending
  size_t next = 0;
};

} // namespace amc::rt

#endif
