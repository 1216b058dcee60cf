// What all data sources share, and the named batches. See Data.h.
#include "runtime/trainer/Data.h"

#include "runtime/support/Counted.h"
#include "runtime/trainer/DataFormat.h"
#include "runtime/trainer/Random.h"
#include "runtime/trainer/Safetensors.h"
#include "runtime/trainer/TokenData.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace amc::rt {

void shuffledOrder(uint64_t seed, uint64_t epoch, std::span<uint64_t> order) {
  std::iota(order.begin(), order.end(), uint64_t(0));
  for (uint64_t i = order.size(); i > 1; --i) {
    // Multiply-shift maps 64 random bits to [0, i) with a bias below i / 2^64.
    unsigned __int128 wide = static_cast<unsigned __int128>(randomBits(seed, epoch, i)) * i;
    std::swap(order[i - 1], order[static_cast<uint64_t>(wide >> 64)]);
  }
}

DataRequest requestFor(const plan::Plan &plan) {
  DataRequest request;
  request.loss = plan.loss();
  request.ignoreIndex = plan.ignore_index();
  request.classWeights.assign(plan.class_weights().begin(), plan.class_weights().end());
  for (const plan::Input &input : plan.inputs()) {
    if (input.role() != plan::DATA && input.role() != plan::LABELS)
      continue;
    DataInput wanted;
    wanted.name = input.name();
    wanted.labels = input.role() == plan::LABELS || input.name() == "labels";
    wanted.dtype = input.view().dtype();
    wanted.shape.assign(input.view().shape().begin(), input.view().shape().end());
    request.inputs.push_back(std::move(wanted));
  }
  return request;
}

LabelCount countLabels(const DataRequest &request,
                       std::span<const std::vector<std::byte>> buffers) {
  LabelCount count;
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const DataInput &input = request.inputs[i];
    if (!input.labels)
      continue;
    bool shifted = request.loss == plan::LOSS_CAUSAL_LM;
    uint64_t row = shifted && !input.shape.empty() ? input.shape.back() : 1;
    for (uint64_t at = 0, end = input.elements(); at < end; ++at) {
      if (shifted && at % row == 0)
        continue;
      int64_t label = elementAsInt(input.dtype, buffers[i].data(), at);
      if (label == request.ignoreIndex)
        continue;
      ++count.tokens;
      // A label that is no class is the kernel's to report.
      if (request.classWeights.empty())
        count.weight += 1;
      else if (label >= 0 && static_cast<uint64_t>(label) < request.classWeights.size())
        count.weight += request.classWeights[static_cast<size_t>(label)];
    }
  }
  // The model's loss is a mean already, whatever its inputs are called: of a step, the mean of those.
  if (request.loss == plan::LOSS_MODEL)
    count.weight = 1;
  return count;
}

namespace {

// Entries held out of `total`: the share rounded, at least one if any is asked for, and one is
// always left to train.
Expected<uint64_t> heldOutOf(uint64_t total, double share, std::string_view what) {
  if (share == 0)
    return uint64_t(0);
  uint64_t held = std::max<uint64_t>(1, std::llround(share * static_cast<double>(total)));
  if (held >= total)
    return inputError("holding out ", share, " of ", total, " ", what, " leaves none to train on");
  return held;
}

class NamedBatches final : public DataSource {
public:
  static Expected<std::unique_ptr<DataSource>> open(const DataRequest &request) {
    Expected<SafetensorsReader> reader = SafetensorsReader::open(request.path);
    if (!reader.ok())
      return reader.status();
    auto source =
        std::unique_ptr<NamedBatches>(new NamedBatches(std::move(reader.value()), request));
    if (Status failure = source->check(request.heldOut); !failure.ok())
      return std::move(failure).withContext(request.path);
    return std::unique_ptr<DataSource>(std::move(source));
  }

  std::string describe() const override {
    std::string line = text(counted(trained + held, "batch"), " of named inputs, used in their order");
    for (const TensorInfo &tensor : file.tensors())
      if (std::none_of(inputs.begin(), inputs.end(),
                       [&](const DataInput &input) { return input.name == tensor.name; }))
        line += text("; '", tensor.name, "' is not an input of the plan and is not read");
    return line;
  }
  uint64_t memoryBytes() const override { return file.tensors().size() * sizeof(TensorInfo); }

protected:
  Status read(uint64_t, uint64_t entry, bool heldOut,
              std::span<std::vector<std::byte>> buffers) override {
    uint64_t index = heldOut ? trained + entry : entry;
    for (size_t i = 0; i < inputs.size(); ++i) {
      uint64_t elements = inputs[i].elements();
      if (Status failure = file.read(*tensors[i], index * elements, elements, inputs[i].dtype,
                                     buffers[i].data());
          !failure.ok())
        return std::move(failure).withContext(text("batch ", index));
    }
    return {};
  }

private:
  NamedBatches(SafetensorsReader file, const DataRequest &request)
      : file(std::move(file)), inputs(request.inputs) {}

  // Every input has to be there with the plan's shape behind the same number of entries; all faults
  // in one message.
  Status check(double share) {
    std::string faults;
    uint64_t entries = 0;
    for (const DataInput &input : inputs) {
      const TensorInfo *tensor = file.find(input.name);
      tensors.push_back(tensor);
      std::string_view separator = faults.empty() ? "" : "; ";
      if (!tensor) {
        faults += text(separator, "tensor '", input.name, "' is missing");
        continue;
      }
      if (tensor->shape.size() != input.shape.size() + 1 ||
          !std::equal(input.shape.begin(), input.shape.end(), tensor->shape.begin() + 1)) {
        Shape wanted = input.shape;
        faults += text(separator, "tensor '", input.name, "' is ", shapeText(tensor->shape),
                       " and should be a stack of ", shapeText(wanted));
        continue;
      }
      if (!convertible(tensor->dtype, input.dtype)) {
        faults += text(separator, "tensor '", input.name, "' is ", dtypeName(tensor->dtype),
                       " and the plan's input is ", dtypeName(input.dtype));
        continue;
      }
      if (entries == 0)
        entries = tensor->shape[0];
      if (tensor->shape[0] == 0)
        faults += text(separator, "tensor '", input.name, "' holds no batch");
      else if (tensor->shape[0] != entries)
        faults += text(separator, "tensor '", input.name, "' holds ", tensor->shape[0],
                       " batches, others ", entries);
    }
    if (!faults.empty())
      return inputError(faults);
    Expected<uint64_t> heldOut = heldOutOf(entries, share, "batches");
    if (!heldOut.ok())
      return heldOut.status();
    held = *heldOut;
    trained = entries - held;
    return {};
  }

  SafetensorsReader file;
  std::vector<DataInput> inputs;
  std::vector<const TensorInfo *>
      tensors; // of each input; points into `file`'s vector, which moves with it
};

} // namespace

bool sameUseButCount(std::string_view a, std::string_view b) {
  auto rest = [](std::string_view words) {
    return words.substr(std::min(words.find(','), words.size()));
  };
  return rest(a) == rest(b);
}

std::string describeUse(const DataRequest &request, uint64_t entriesPerStep) {
  std::string words =
      text(entriesPerStep, entriesPerStep == 1 ? " micro-batch a step" : " micro-batches a step");
  for (const DataInput &input : request.inputs)
    words += text(", ", input.name, " ", shapeText(input.shape));
  if (request.separator)
    words += text(", document separator ", *request.separator);
  if (request.tokenDType == plan::U32)
    words += ", u32 tokens";
  if (request.heldOut > 0)
    words += text(", held out ", request.heldOut);
  return words;
}

Expected<std::unique_ptr<DataSource>> openData(const DataRequest &request) {
  if (request.inputs.empty())
    return inputError("the plan takes no input from data");
  Expected<DataContent> content = recognizeData(request.path);
  if (!content.ok())
    return content.status();
  bool binary = request.path.ends_with(".bin");
  const bool named = request.path.ends_with(".safetensors");
  // A few tokens may look like the beginning of a header; they are none to its end.
  const bool batches =
      named || (content->safetensors && (!binary || SafetensorsReader::open(request.path).ok()));
  binary = binary && !batches;
  const std::string_view why = named || !batches ? "" : "is a safetensors file by its content: ";
  if (batches && request.separator)
    return inputError(request.path, ": ", why,
                      "named batches mark what the loss ignores in their labels, so "
                      "--document-separator does not apply");
  if (!binary && request.tokenDType)
    return inputError(request.path, ": ", why, "--token-dtype is for token files (*.bin)");
  if (!batches && !binary && !content->other.empty())
    return inputError(request.path, ": is ", content->other,
                      ", not text; --data takes a text, tokens (*.bin) or named batches (safetensors)");
  Expected<std::unique_ptr<DataSource>> source =
      batches ? NamedBatches::open(request)
              : openTokens(request, binary ? request.tokenDType.value_or(plan::U16) : plan::U8);
  if (source.ok() && batches && !named)
    (*source)->remark = "; it is a safetensors file by its content";
  if (source.ok() && !batches && !binary && content->zeros)
    (*source)->remark = "; it holds bytes 0, which text does not: a file of tokens has to be called *.bin";
  return source;
}

} // namespace amc::rt
