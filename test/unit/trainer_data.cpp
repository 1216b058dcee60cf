// How data is cut, shuffled, labelled and counted.
#include "runtime/trainer/Data.h"
#include "test/unit/trainer_support.h"

#include <numeric>
#include <set>

using namespace amc::rt;
using namespace amc::rt::test;

namespace {

using Buffers = std::vector<std::vector<std::byte>>;

DataInput input(const std::string &name, Shape shape, DType dtype = amc::plan::I64) {
  DataInput made;
  made.name = name;
  made.labels = name == "labels";
  made.dtype = dtype;
  made.shape = std::move(shape);
  return made;
}

// input_ids and labels of `batch` rows of `length`.
DataRequest tokens(const std::string &path, uint64_t batch, uint64_t length) {
  DataRequest request;
  request.inputs = {input("input_ids", {batch, length}), input("labels", {batch, length})};
  request.path = path;
  return request;
}

Buffers buffersFor(const DataRequest &request) {
  Buffers buffers;
  for (const DataInput &wanted : request.inputs)
    buffers.emplace_back(wanted.bytes());
  return buffers;
}

std::vector<int64_t> values(const DataInput &wanted, const std::vector<std::byte> &buffer) {
  std::vector<int64_t> result;
  for (uint64_t i = 0; i < wanted.elements(); ++i)
    result.push_back(elementAsInt(wanted.dtype, buffer.data(), i));
  return result;
}

void expectOpenError(const DataRequest &request, const std::string &part) {
  Expected<std::unique_ptr<DataSource>> source = openData(request);
  ASSERT_FALSE(source.ok());
  expectError(source.status(), ErrorKind::Input, part);
}

std::string letters(uint64_t count) {
  std::string text;
  for (uint64_t i = 0; i < count; ++i)
    text += static_cast<char>(i);
  return text;
}

} // namespace

// 26 bytes in rows of 4 are 6 rows and a rest; 3 micro-batches of 2 rows see every row once an
// epoch.
TEST(TokenData, PacksRowsAndCoversAnEpoch) {
  TempDir dir;
  DataRequest request = tokens(dir.write("corpus.txt", letters(26)), 2, 4);
  auto source = take(openData(request));
  EXPECT_EQ(source->entriesPerEpoch(), 3u);
  EXPECT_EQ(source->heldOutEntries(), 0u);
  Buffers buffers = buffersFor(request);
  std::set<int64_t> firsts;
  for (uint64_t position = 0; position < 3; ++position) {
    expectOk(source->readEntry(position, buffers));
    std::vector<int64_t> ids = values(request.inputs[0], buffers[0]);
    EXPECT_EQ(ids, values(request.inputs[1], buffers[1]));
    for (uint64_t row = 0; row < 2; ++row) {
      EXPECT_EQ(ids[row * 4] % 4, 0);
      EXPECT_EQ(ids[row * 4 + 3], ids[row * 4] + 3);
      firsts.insert(ids[row * 4]);
    }
  }
  EXPECT_EQ(firsts, (std::set<int64_t>{0, 4, 8, 12, 16, 20}));
}

// The order is a function of seed and epoch: read in any sequence of positions, the same entry
// comes back.
TEST(TokenData, ShufflesBySeedAndEpoch) {
  TempDir dir;
  DataRequest request = tokens(dir.write("corpus.txt", letters(256)), 1, 4);
  auto read = [&](uint64_t seed, const std::vector<uint64_t> &positions) {
    request.seed = seed;
    auto source = take(openData(request));
    std::vector<int64_t> firsts;
    Buffers buffers = buffersFor(request);
    for (uint64_t position : positions) {
      expectOk(source->readEntry(position, buffers));
      firsts.push_back(values(request.inputs[0], buffers[0])[0]);
    }
    return firsts;
  };
  std::vector<uint64_t> epoch0(64), epoch1(64);
  std::iota(epoch0.begin(), epoch0.end(), 0);
  std::iota(epoch1.begin(), epoch1.end(), 64);
  EXPECT_EQ(read(1, epoch0), read(1, epoch0));
  EXPECT_NE(read(1, epoch0), read(2, epoch0));
  EXPECT_NE(read(1, epoch0), read(1, epoch1));
  // As after a resume: position 70 straight away, and back in epoch 0.
  EXPECT_EQ(read(1, {70, 3}), (std::vector<int64_t>{read(1, epoch1)[6], read(1, epoch0)[3]}));
}

TEST(TokenData, ShuffledOrderIsAPermutation) {
  std::vector<uint64_t> order(100), sorted;
  shuffledOrder(7, 0, order);
  sorted = order;
  std::sort(sorted.begin(), sorted.end());
  std::vector<uint64_t> identity(100);
  std::iota(identity.begin(), identity.end(), 0);
  EXPECT_EQ(sorted, identity);
  EXPECT_NE(order, identity);
}

// Tokens 5 9 6 7 | 9 8 9 1, separator 9: the labels after each 9 are ignored, across the row's
// border too.
TEST(TokenData, DocumentBoundariesAreIgnored) {
  TempDir dir;
  std::string data = rawBytes<uint16_t>({5, 9, 6, 9, 7, 8, 9, 1});
  DataRequest request = tokens(dir.write("tokens.bin", data), 2, 4);
  request.separator = 9;
  auto source = take(openData(request));
  Buffers buffers = buffersFor(request);
  expectOk(source->readEntry(0, buffers));
  std::vector<int64_t> labels = values(request.inputs[1], buffers[1]);
  std::vector<int64_t> first = {5, 9, -100, 9}, second = {-100, 8, 9, -100};
  if (labels[0] != 5) // the rows' order is the shuffle's
    std::swap(first, second);
  first.insert(first.end(), second.begin(), second.end());
  EXPECT_EQ(labels, first);
  // Counted from position 1 of each row on: 9 _ 9 and 8 9 _ are 4 labels.
  EXPECT_EQ(countLabels(request, buffers).tokens, 4u);
  // Another loss counts every position that is not ignored: 3 + 2.
  request.loss = amc::plan::LOSS_CROSS_ENTROPY;
  EXPECT_EQ(countLabels(request, buffers).tokens, 5u);
  EXPECT_EQ(countLabels(request, buffers).weight, 5);
  // Labels 5 9 9 8 9 with class weights: 3 for 8, 0.5 for 9, 1 for the others.
  request.classWeights = {1, 1, 1, 1, 1, 1, 1, 1, 3, 0.5};
  EXPECT_EQ(countLabels(request, buffers).tokens, 5u);
  EXPECT_EQ(countLabels(request, buffers).weight, 1 + 0.5 + 0.5 + 3 + 0.5);
  // A model's own loss is a mean already: each micro-batch counts once, however many labels it has.
  request.loss = amc::plan::LOSS_MODEL;
  EXPECT_EQ(countLabels(request, buffers).tokens, 5u);
  EXPECT_EQ(countLabels(request, buffers).weight, 1);
}

TEST(TokenData, TokenTypes) {
  TempDir dir;
  std::string path = dir.write("tokens.bin", rawBytes<uint32_t>({70000, 1, 2, 3}));
  DataRequest request = tokens(path, 1, 4);
  request.tokenDType = amc::plan::U32;
  auto source = take(openData(request));
  Buffers buffers = buffersFor(request);
  expectOk(source->readEntry(0, buffers));
  EXPECT_EQ(values(request.inputs[0], buffers[0]), (std::vector<int64_t>{70000, 1, 2, 3}));
  request.path = dir.write("odd.bin", "abcdefg");
  expectOpenError(request, "7 bytes should be a multiple of 4");
  request.path = dir.write("text.txt", "abcdefgh");
  expectOpenError(request, "--token-dtype is for token files");
}

// What text can supply besides tokens, in the plan's types; what it cannot is named.
TEST(TokenData, OtherInputs) {
  TempDir dir;
  DataRequest request = tokens(dir.write("corpus.txt", letters(8)), 2, 4);
  request.inputs.push_back(input("attention_mask", {2, 4}, amc::plan::F32));
  request.inputs.push_back(input("position_ids", {2, 4}, amc::plan::I32));
  request.inputs.push_back(input("token_type_ids", {2, 4}));
  auto source = take(openData(request));
  Buffers buffers = buffersFor(request);
  expectOk(source->readEntry(0, buffers));
  EXPECT_EQ(elementAsDouble(amc::plan::F32, buffers[2].data(), 7), 1.0);
  EXPECT_EQ(values(request.inputs[3], buffers[3]), (std::vector<int64_t>{0, 1, 2, 3, 0, 1, 2, 3}));
  EXPECT_EQ(values(request.inputs[4], buffers[4]), std::vector<int64_t>(8, 0));
  request.inputs.push_back(input("pixel_values", {3}));
  expectOpenError(request, "cannot supply the input 'pixel_values'");
}

TEST(TokenData, HoldsOutTheEnd) {
  TempDir dir;
  DataRequest request = tokens(dir.write("corpus.txt", letters(40)), 1, 4);
  request.heldOut = 0.2; // 2 of 10 rows
  auto source = take(openData(request));
  EXPECT_EQ(source->entriesPerEpoch(), 8u);
  ASSERT_EQ(source->heldOutEntries(), 2u);
  Buffers buffers = buffersFor(request);
  expectOk(source->readHeldOut(1, buffers));
  EXPECT_EQ(values(request.inputs[0], buffers[0])[0], 36);
  for (uint64_t position = 0; position < 8; ++position) {
    expectOk(source->readEntry(position, buffers));
    EXPECT_LT(values(request.inputs[0], buffers[0])[0], 32);
  }
}

TEST(TokenData, TooShort) {
  TempDir dir;
  expectOpenError(tokens(dir.write("corpus.txt", "abc"), 2, 4),
                  "too short: it has 3 tokens, and one micro-batch needs 2 rows of 4");
  expectOpenError(tokens(dir.write("empty.txt", ""), 1, 4), "it has 0 tokens");
  expectOpenError(tokens(dir.path("missing.txt"), 1, 4), "cannot be opened");
  expectOpenError(tokens("/tmp", 1, 4), "is no regular file");
}

TEST(TokenData, CrossEntropyNeedsLabels) {
  TempDir dir;
  DataRequest request = tokens(dir.write("corpus.txt", letters(16)), 1, 4);
  request.loss = amc::plan::LOSS_CROSS_ENTROPY;
  expectOpenError(request, "loss is cross-entropy");
}

namespace {

std::string stack(const TempDir &dir, const std::string &name, uint64_t entries) {
  std::vector<int64_t> ids(entries * 4), labels(entries * 4);
  std::iota(ids.begin(), ids.end(), 0);
  for (uint64_t i = 0; i < labels.size(); ++i)
    labels[i] = i % 4 == 2 ? -100 : int64_t(i);
  std::string dims = "[" + std::to_string(entries) + ",2,2]", size = std::to_string(entries * 32);
  std::string header = "{\"input_ids\":{\"dtype\":\"I64\",\"shape\":" + dims +
                       ",\"data_offsets\":[0," + size +
                       "]},\"labels\":{\"dtype\":\"I64\",\"shape\":" + dims +
                       ",\"data_offsets\":[" + size + "," + std::to_string(entries * 64) + "]}}";
  return dir.write(name, safetensors(header, rawBytes(ids) + rawBytes(labels)));
}

} // namespace

// In their order, around and around; an epoch is once through.
TEST(NamedBatches, InOrder) {
  TempDir dir;
  DataRequest request = tokens(stack(dir, "b.safetensors", 3), 2, 2);
  auto source = take(openData(request));
  EXPECT_EQ(source->entriesPerEpoch(), 3u);
  Buffers buffers = buffersFor(request);
  for (uint64_t position : {0, 1, 2, 3, 7}) {
    expectOk(source->readEntry(position, buffers));
    EXPECT_EQ(values(request.inputs[0], buffers[0])[0], int64_t(position % 3 * 4));
  }
  // Rows [a b] [-100 d]: causal-lm counts b and d.
  EXPECT_EQ(countLabels(request, buffers).tokens, 2u);
}

TEST(NamedBatches, ConvertsAndHoldsOut) {
  TempDir dir;
  DataRequest request = tokens(stack(dir, "b.safetensors", 4), 2, 2);
  request.inputs[0].dtype = amc::plan::I32;
  request.heldOut = 0.25;
  auto source = take(openData(request));
  EXPECT_EQ(source->entriesPerEpoch(), 3u);
  ASSERT_EQ(source->heldOutEntries(), 1u);
  Buffers buffers = buffersFor(request);
  expectOk(source->readHeldOut(0, buffers));
  EXPECT_EQ(values(request.inputs[0], buffers[0]), (std::vector<int64_t>{12, 13, 14, 15}));
  request.heldOut = 0.95;
  expectOpenError(request, "leaves none to train on");
}

// Whatever it is called: a text does not begin with the length of a header.
TEST(NamedBatches, AreKnownByTheirContent) {
  TempDir dir;
  for (const char *name : {"batches", "batches.txt", "batches.bin"}) {
    DataRequest request = tokens(stack(dir, name, 3), 2, 2);
    auto source = take(openData(request));
    EXPECT_EQ(source->describe(), "3 batches of named inputs, used in their order");
    EXPECT_EQ(source->remark, "; it is a safetensors file by its content");
    request.tokenDType = amc::plan::U32;
    expectOpenError(request, "is a safetensors file by its content: --token-dtype is for token files");
  }
  auto named = take(openData(tokens(stack(dir, "b.safetensors", 3), 2, 2)));
  EXPECT_EQ(named->remark, "");
  // Half of one: its header is all there is.
  std::string half = dir.write("half", safetensors("{\"input_ids\":{\"dtype\":\"I64\",\"shape\":[1,2,2],"
                                                   "\"data_offsets\":[0,32]}}", ""));
  expectOpenError(tokens(half, 2, 2), "is no valid safetensors file");
}

// Tokens 5 0 0 0 123 … look like the beginning of a header, and are tokens where they are called that.
TEST(TokenData, ThatLookLikeAHeader) {
  TempDir dir;
  std::string data = rawBytes<uint16_t>({5, 0, 0, 0, 123, 1, 2, 3});
  DataRequest request = tokens(dir.write("tokens.bin", data), 2, 4);
  auto source = take(openData(request));
  EXPECT_EQ(source->describe(), "8 tokens, 2 rows of 4, 1 micro-batch an epoch");
  EXPECT_EQ(source->remark, "");
  request.path = dir.write("tokens", data);
  expectOpenError(request, "is no valid safetensors file");
}

// What is neither text nor tokens is not read as text; bytes that may be tokens are, with a remark.
TEST(TokenData, OtherFormatsAreNoText) {
  TempDir dir;
  const std::string rest(64, 'x');
  for (auto [bytes, name] : {std::pair<std::string, const char *>{"\x1f\x8b\x08", "is a gzip file, not text"},
                             {"PK\x03\x04", "is a zip archive"},
                             {"\x93NUMPY", "is a NumPy array"},
                             {std::string("PAR1\0", 5), "is a Parquet file"}}) {
    expectOpenError(tokens(dir.write("corpus", bytes + rest), 2, 4), name);
    take(openData(tokens(dir.write("corpus.bin", bytes.substr(0, bytes.size() / 2 * 2) + rest), 2, 4)));
  }
  auto letters = take(openData(tokens(dir.write("corpus", "PAR1S" + rest), 2, 4)));
  EXPECT_EQ(letters->describe(), "read as text: 69 bytes, each a token, 17 rows of 4, 8 micro-batches an epoch");
  EXPECT_EQ(letters->remark, "");
  auto zeros = take(openData(tokens(dir.write("corpus", rawBytes<uint16_t>({70, 71, 72, 73, 74, 75, 76, 77})), 2, 4)));
  EXPECT_EQ(zeros->remark, "; it holds bytes 0, which text does not: a file of tokens has to be called *.bin");
}

// Every fault of the file in one message.
TEST(NamedBatches, NamesAllFaults) {
  TempDir dir;
  DataRequest request = tokens(stack(dir, "b.safetensors", 2), 2, 3);
  request.inputs.push_back(input("attention_mask", {2, 2}));
  expectOpenError(
      request, "tensor 'input_ids' is [2, 2, 2] and should be a stack of [2, 3]; tensor 'labels'");
  expectOpenError(request, "tensor 'attention_mask' is missing");
  request = tokens(stack(dir, "none.safetensors", 0), 2, 2);
  expectOpenError(request, "holds no batch");
  std::string floats = slurp(stack(dir, "i.safetensors", 2));
  for (size_t at; (at = floats.find("I64")) != std::string::npos;)
    floats[at] = 'F';
  request = tokens(dir.write("f.safetensors", floats), 2, 2);
  expectOpenError(request, "tensor 'input_ids' is f64 and the plan's input is i64; tensor 'labels' is f64 and the plan's input is i64");
  request.separator = 1;
  expectOpenError(request, "--document-separator does not apply");
}
