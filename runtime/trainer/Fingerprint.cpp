// See Fingerprint.h.
#include "runtime/trainer/Fingerprint.h"

#include "runtime/plan/PlanFile.h"
#include "runtime/trainer/Files.h"
#include "runtime/trainer/Random.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>

namespace amc::rt {
namespace {

// The hash in the header of the plan file; readPlanFile has checked that it is the payload's.
Expected<std::string> planHash(const std::string &path) {
  Expected<InputFile> file = InputFile::open(path);
  if (!file.ok())
    return file.status();
  std::string header(planHeaderBytes, '\0');
  if (Status failure = file->readAt(0, std::as_writable_bytes(std::span(header))); !failure.ok())
    return failure;
  std::string digits;
  for (size_t at = planHeaderBytes - 16; at < planHeaderBytes; ++at)
    digits += fmt::format("{:02x}", static_cast<unsigned char>(header[at]));
  return digits;
}

Expected<std::string> sampleOf(const std::string &path) {
  Expected<InputFile> file = InputFile::open(path);
  if (!file.ok())
    return file.status();
  uint64_t length = std::min<uint64_t>(file->size(), 65536), rest = file->size() - length;
  uint64_t hash = 0;
  for (uint64_t offset : {uint64_t(0), rest / 2, rest}) {
    std::string block(length, '\0');
    if (Status failure = file->readAt(offset, std::as_writable_bytes(std::span(block)));
        !failure.ok())
      return failure;
    hash = mixBits(hash ^ streamOf(block));
  }
  return fmt::format("{} bytes, sample {:016x}", file->size(), hash);
}

template <class T> std::string wordOf(const std::optional<T> &value) {
  return value ? fmt::format("{}", *value) : "none";
}
std::string pathOf(const std::string &path) { return path.empty() ? "none" : path; }

} // namespace

Expected<std::vector<std::pair<std::string, std::string>>>
fingerprint(const TrainOptions &options) {
  std::vector<std::pair<std::string, std::string>> facts;
  Expected<std::string> plan = planHash(options.plan);
  if (!plan.ok())
    return plan.status();
  facts.emplace_back("the plan", *plan);
  Expected<std::string> data = sampleOf(options.data);
  if (!data.ok())
    return data.status();
  facts.emplace_back("the data", *data);
  facts.emplace_back("the kind of data", std::filesystem::path(options.data).extension().string());
  std::string init = "the plan's weights";
  std::error_code ignored; // a folder, or a file that is not there, goes by its name
  if (options.init.from == InitialWeights::From::Seed) {
    init = text("seed:", options.init.seed);
  } else if (options.init.from == InitialWeights::From::File) {
    init = options.init.path;
    if (std::filesystem::is_regular_file(init, ignored)) {
      Expected<std::string> sample = sampleOf(init);
      if (!sample.ok())
        return sample.status();
      init = *sample;
    }
  }
  facts.emplace_back("--init", init);
  auto add = [&](const char *name, std::string value) {
    facts.emplace_back(name, std::move(value));
  };
  add("--steps", wordOf(options.steps));
  add("--epochs", wordOf(options.epochs));
  add("--eval", options.eval ? "it" : "none");
  add("--eval-steps", wordOf(options.evalSteps));
  add("--eval-every", text(options.evalEvery));
  add("--eval-fraction", fmt::format("{}", options.evalFraction));
  add("--lr", wordOf(options.learningRate));
  add("--lr-schedule", options.schedule ? std::string(scheduleName(*options.schedule)) : "none");
  add("--warmup-steps", wordOf(options.warmupSteps));
  add("--min-lr", wordOf(options.minLearningRate));
  add("--init-lr", wordOf(options.initLearningRate));
  add("--lr-decay-steps", wordOf(options.decaySteps));
  add("--wsd-decay-steps", wordOf(options.wsdSteps));
  add("--wsd-decay-style", options.wsdStyle ? std::string(decayName(*options.wsdStyle)) : "none");
  add("--seed", wordOf(options.seed));
  add("--token-dtype", options.tokenDType ? std::string(dtypeName(*options.tokenDType)) : "none");
  add("--document-separator", wordOf(options.documentSeparator));
  add("--checkpoint-dir", pathOf(options.checkpointDir));
  add("--checkpoint-every", text(options.checkpointEvery));
  add("--keep", text(options.keep));
  add("--resume", options.resume ? "it" : "none");
  add("--save-weights", pathOf(options.saveWeights));
  add("--profile", pathOf(options.profile));
  add("--profile-steps", text(options.profileSteps));
  add("--dump-gradients", pathOf(options.dumpGradients));
  return facts;
}

} // namespace amc::rt
