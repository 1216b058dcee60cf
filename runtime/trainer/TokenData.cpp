// See TokenData.h. The file stays on the disk: a row is read when it is due, the one token before
// it too, because a separator there decides whether the row's first label counts.
#include "runtime/trainer/TokenData.h"

#include "runtime/support/Counted.h"

#include <algorithm>
#include <cmath>

namespace amc::rt {
namespace {

// How the tokens of a row become one of the plan's inputs.
enum class Fill { Tokens, Labels, Ones, Positions, Zeros };

class TokenData final : public DataSource {
public:
  static Expected<std::unique_ptr<DataSource>> open(const DataRequest &request, DType stored) {
    Expected<InputFile> file = InputFile::open(request.path);
    if (!file.ok())
      return file.status();
    auto source =
        std::unique_ptr<TokenData>(new TokenData(std::move(file.value()), request, stored));
    if (Status failure = source->matchInputs(); !failure.ok())
      return failure;
    if (Status failure = source->cut(); !failure.ok())
      return std::move(failure).withContext(request.path);
    return std::unique_ptr<DataSource>(std::move(source));
  }

  std::string describe() const override {
    std::string line = text(stored == plan::U8 ? "read as text: " : "",
                            stored == plan::U8 ? counted(tokens, "byte") + ", each a token" : counted(tokens, "token"),
                            ", ", counted(trainedRows + heldRows, "row"), " of ", rowLength, ", ",
                            counted(trained, "micro-batch"), " an epoch");
    if (held)
      line += text(", ", counted(heldRows, "row"), " held out (", counted(held, "micro-batch"), ")");
    return line;
  }
  uint64_t memoryBytes() const override {
    return order.capacity() * sizeof(uint64_t) + raw.capacity() + row.capacity() * sizeof(int64_t);
  }

protected:
  Status read(uint64_t epoch, uint64_t entry, bool heldOut,
              std::span<std::vector<std::byte>> buffers) override {
    if (!heldOut && epoch != shuffledEpoch) {
      shuffledOrder(request.seed, epoch, order);
      shuffledEpoch = epoch;
    }
    for (uint64_t i = 0; i < batch; ++i) {
      uint64_t index = entry * batch + i;
      if (Status failure = readRow(heldOut ? trainedRows + index : order[index], i, buffers);
          !failure.ok())
        return failure;
    }
    return {};
  }

private:
  TokenData(InputFile file, const DataRequest &request, DType stored)
      : file(std::move(file)), request(request), stored(stored) {}

  // Decides what fills each input; all that tokens cannot fill are named at once.
  Status matchInputs() {
    std::string faults;
    auto fault = [&](const auto &...pieces) {
      faults += text(faults.empty() ? "" : "; ", pieces...);
    };
    const DataInput *ids = nullptr;
    for (const DataInput &input : request.inputs) {
      if (input.labels)
        fills.push_back(Fill::Labels);
      else if (input.name == "input_ids")
        fills.push_back(Fill::Tokens);
      else if (input.name == "attention_mask")
        fills.push_back(Fill::Ones);
      else if (input.name == "position_ids")
        fills.push_back(Fill::Positions);
      else if (input.name == "token_type_ids")
        fills.push_back(Fill::Zeros);
      else
        fault("text and token data cannot supply the input '", input.name, "'");
      if (input.name == "input_ids")
        ids = &input;
    }
    if (!ids)
      fault("the plan has no input 'input_ids' for the tokens");
    else if (ids->shape.empty() || !isIndex(ids->dtype) || ids->elements() == 0)
      fault("the input 'input_ids' is ", dtypeName(ids->dtype), " ", shapeText(ids->shape),
            " and should be i64 or i32 with rows of tokens");
    for (size_t i = 0; faults.empty() && i < request.inputs.size(); ++i)
      if (fills[i] == Fill::Labels && request.inputs[i].shape != ids->shape)
        fault("the labels are ", shapeText(request.inputs[i].shape),
              " and should have the shape of input_ids, ", shapeText(ids->shape));
    // Tokens are their own labels only where the loss predicts the next one.
    if (request.loss == plan::LOSS_CROSS_ENTROPY)
      fault("the plan's loss is cross-entropy, whose labels text and token data do not have");
    if (!faults.empty())
      return inputError(
          request.path, ": ", faults,
          "; named batches (--data FILE.safetensors) hold every input and its labels");
    rowLength = ids->shape.back();
    batch = ids->elements() / rowLength;
    return {};
  }

  Status cut() {
    uint64_t width = dtypeBytes(stored);
    if (file.size() % width != 0)
      return inputError("its ", file.size(), " bytes should be a multiple of ", width,
                        ", the size of a ", stored == plan::U16 ? "u16" : "u32", " token (--token-dtype)");
    tokens = file.size() / width;
    uint64_t rows = tokens / rowLength;
    if (request.heldOut > 0) {
      heldRows = std::llround(request.heldOut * static_cast<double>(rows));
      heldRows = std::max(heldRows, batch);
    }
    if (rows < batch + heldRows)
      return inputError("it is too short: it has ", tokens, " tokens, and ",
                        heldRows ? "one micro-batch to train and one to evaluate need "
                                 : "one micro-batch needs ",
                        (batch + heldRows), " rows of ", rowLength);
    trainedRows = rows - heldRows;
    trained = trainedRows / batch;
    held = heldRows / batch;
    order.resize(trainedRows);
    raw.resize((rowLength + 1) * width);
    row.resize(rowLength + 1);
    return {};
  }

  // Writes row `index` of the file into row `at` of every buffer.
  Status readRow(uint64_t index, uint64_t at, std::span<std::vector<std::byte>> buffers) {
    uint64_t width = dtypeBytes(stored);
    uint64_t before = index > 0 ? 1 : 0; // tokens read ahead of the row
    std::span<std::byte> bytes = std::span(raw).first((rowLength + before) * width);
    if (Status failure = file.readAt((index * rowLength - before) * width, bytes); !failure.ok())
      return failure;
    for (uint64_t i = 0; i < rowLength + before; ++i)
      row[i] = elementAsInt(stored, bytes.data(), i);
    const int64_t *ids = row.data() + before;
    for (size_t input = 0; input < fills.size(); ++input)
      if (Status failure =
              fill(request.inputs[input], fills[input], ids, before != 0, at, buffers[input]);
          !failure.ok())
        return failure;
    return {};
  }

  Status fill(const DataInput &input, Fill kind, const int64_t *ids, bool hasBefore, uint64_t at,
              std::vector<std::byte> &buffer) const {
    uint64_t elements = input.elements();
    bool perRow =
        elements == batch * rowLength && !input.shape.empty() && input.shape.back() == rowLength;
    // What does not depend on the tokens may have any shape; it is written once, with the first
    // row.
    if (!perRow && at != 0)
      return {};
    uint64_t first = perRow ? at * rowLength : 0;
    uint64_t count = perRow ? rowLength : elements;
    uint64_t last = input.shape.empty() ? 1 : input.shape.back();
    uint64_t width = dtypeBytes(input.dtype);
    for (uint64_t i = 0; i < count; ++i) {
      int64_t value = 0;
      switch (kind) {
      case Fill::Tokens:
        value = ids[i];
        break;
      case Fill::Labels:
        value = ids[i];
        if (request.separator && (i > 0 || hasBefore) && ids[int64_t(i) - 1] == *request.separator)
          value = request.ignoreIndex;
        break;
      case Fill::Ones:
        value = 1;
        break;
      case Fill::Positions:
        value = static_cast<int64_t>(i % last);
        break;
      case Fill::Zeros:
        break;
      }
      if (convertElements(plan::I64, reinterpret_cast<const std::byte *>(&value), input.dtype,
                          buffer.data() + (first + i) * width, 1) != 1)
        return inputError(request.path, ": the value ", value, " does not fit the plan's input '",
                          input.name, "' of ", dtypeName(input.dtype));
    }
    return {};
  }

  InputFile file;
  DataRequest request;
  DType stored;
  std::vector<Fill> fills;
  uint64_t rowLength = 0, batch = 0, tokens = 0, trainedRows = 0, heldRows = 0;
  std::vector<uint64_t> order; // of the trained rows, in epoch `shuffledEpoch`
  uint64_t shuffledEpoch = ~uint64_t(0);
  std::vector<std::byte> raw;
  std::vector<int64_t> row;
};

} // namespace

Expected<std::unique_ptr<DataSource>> openTokens(const DataRequest &request, DType stored) {
  return TokenData::open(request, stored);
}

} // namespace amc::rt
