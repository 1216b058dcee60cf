// Where training data comes from. A source serves *entries*: the inputs of one micro-batch each, in
// an order that depends on the seed and the epoch only. A position counts entries since the start
// of training: entry position % entriesPerEpoch of epoch position / entriesPerEpoch. So one number
// is the whole state of a source.
//
// Token sources (bytes of a text, u16 or u32 files): the tokens are cut into rows of the plan's
// sequence length, the rest of less than a row is left out; rows are shuffled by (seed, epoch); an
// entry is the next `batch` rows. `input_ids` and `labels` are the row itself (labels unshifted).
// With a document separator, the label of the token that follows a separator is ignored: nothing in
// the document before it predicts it. attention_mask is ones, position_ids counts along the row,
// token_type_ids is zeros.
//
// Named batches (safetensors): every model input and `labels`, stacked on axis 0 and used in that
// order.
//
// The held-out share lies at the end of the data (rows of a text, entries of a batch file) and is
// never trained on.
#ifndef AMC_RUNTIME_TRAINER_DATA_H
#define AMC_RUNTIME_TRAINER_DATA_H

#include "runtime/trainer/Elements.h"
#include "runtime/trainer/Files.h"

#include <memory>
#include <string>
#include <vector>

namespace amc::rt {

// What the plan wants from the data: its inputs of role DATA and LABELS, in plan order.
struct DataInput {
  std::string name;
  bool labels = false; // fed labels, or the input of a model's own loss that is named so
  DType dtype = plan::I64;
  Shape shape;
  uint64_t elements() const { return *elementCount(shape); } // the plan's verifier bounds it
  uint64_t bytes() const { return elements() * dtypeBytes(dtype); }
};

struct DataRequest {
  std::vector<DataInput> inputs;
  plan::LossKind loss = plan::LOSS_CAUSAL_LM;
  int64_t ignoreIndex = -100;
  std::vector<double> classWeights; // that a mean divides by; none: all 1
  std::string path;
  uint64_t seed = 0;
  std::optional<DType> tokenDType;  // of .bin files: U16 (the default) or U32
  std::optional<int64_t> separator; // token that ends a document
  double heldOut = 0;               // share in [0, 1)
};

// What the request says about one plan.
DataRequest requestFor(const plan::Plan &plan);

// What else than file and seed decides which data a step gets, in words: "2 micro-batches a step,
// input_ids [2, 48] …", those of all ranks. A run that goes on with other words would not be the
// run that was interrupted.
std::string describeUse(const DataRequest &request, uint64_t entriesPerStep);
// True if they differ in nothing but the number of micro-batches.
bool sameUseButCount(std::string_view a, std::string_view b);

class DataSource {
public:
  virtual ~DataSource() = default;
  // At least 1 each, but for heldOutEntries, which is 0 when nothing is held out.
  uint64_t entriesPerEpoch() const { return trained; }
  uint64_t heldOutEntries() const { return held; }
  // One line for people: what was found and how it is cut.
  virtual std::string describe() const = 0;
  // What goes behind it where the file's name and what is in it do not say the same.
  std::string remark;
  // Bytes held in memory.
  virtual uint64_t memoryBytes() const = 0;

  // Fills one buffer per input of the request, each of the input's size.
  Status readEntry(uint64_t position, std::span<std::vector<std::byte>> buffers) {
    return read(position / trained, position % trained, false, buffers);
  }
  Status readHeldOut(uint64_t entry, std::span<std::vector<std::byte>> buffers) {
    return read(0, entry, true, buffers);
  }

protected:
  virtual Status read(uint64_t epoch, uint64_t entry, bool heldOut,
                      std::span<std::vector<std::byte>> buffers) = 0;
  uint64_t trained = 0;
  uint64_t held = 0;
};

// Opens what the file is: named batches by its content or as *.safetensors, tokens as *.bin, else text. What is known
// to be something else than text is an error.
Expected<std::unique_ptr<DataSource>> openData(const DataRequest &request);

// Labelled tokens and the sum of their classes' weights.
struct LabelCount {
  uint64_t tokens = 0;
  double weight = 0;
  // What a mean divides by: a step whose labels are all ignored has the loss 0 and no gradient, not 0 / 0.
  double divisor() const { return weight > 0 ? weight : 1; }
};

// Those of one micro-batch, as the loss kind counts them: causal-lm labels[…, 1:], otherwise all,
// without those that are ignore_index. 0 if there are no labels among the inputs.
LabelCount countLabels(const DataRequest &request, std::span<const std::vector<std::byte>> buffers);

// The i-th of `count` numbers in an order drawn from (seed, epoch): fills `order` with a
// permutation of [0, count). Fisher and Yates with splitmix64, so it is the same on every machine.
void shuffledOrder(uint64_t seed, uint64_t epoch, std::span<uint64_t> order);

} // namespace amc::rt

#endif
