// The safetensors reader trusts nothing, the writer is deterministic and leaves nothing
// half-written.
#include "test/unit/trainer_support.h"

#include <cstring>

using namespace amc::rt;
using namespace amc::rt::test;

namespace {

Status openStatus(const TempDir &dir, const std::string &bytes) {
  Expected<SafetensorsReader> reader = SafetensorsReader::open(dir.write("x.safetensors", bytes));
  return reader.ok() ? Status() : reader.status();
}

std::string entry(const std::string &dtype, const std::string &shape, const std::string &offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

void expectInvalid(const std::string &bytes, const std::string &part) {
  TempDir dir;
  expectError(openStatus(dir, bytes), ErrorKind::Input, part);
}

} // namespace

// What was written is read back, whatever the order of writing; pieces of a tensor may come one by
// one.
TEST(Safetensors, RoundTrip) {
  TempDir dir;
  std::string path = dir.path("w.safetensors");
  auto writer = take(SafetensorsWriter::create(
      path, {{"b", amc::plan::F32, {2, 2}}, {"a", amc::plan::U8, {3}}, {"s", amc::plan::I64, {}}},
      {{"format", "pt"}}));
  std::vector<float> b = {1, 2, 3, 4};
  std::vector<uint8_t> a = {7, 8, 9};
  int64_t s = -5;
  expectOk(writer.write("s", 0, std::as_bytes(std::span(&s, 1))));
  expectOk(writer.write("b", 8, std::as_bytes(std::span(b).subspan(2))));
  expectOk(writer.write("a", 0, std::as_bytes(std::span(a))));
  expectOk(writer.write("b", 0, std::as_bytes(std::span(b).first(2))));
  expectOk(writer.finish());
  auto reader = take(SafetensorsReader::open(path));
  ASSERT_EQ(reader.tensors().size(), 3u);
  EXPECT_EQ(reader.tensors()[0].name, "a");
  EXPECT_EQ(reader.metadata().at("format"), "pt");
  const TensorInfo *info = reader.find("b");
  ASSERT_NE(info, nullptr);
  EXPECT_EQ(info->shape, (Shape{2, 2}));
  std::vector<float> back(4);
  expectOk(reader.read(*info, 0, 4, amc::plan::F32, reinterpret_cast<std::byte *>(back.data())));
  EXPECT_EQ(back, b);
  // Elements 1 and 2, widened on the way.
  std::vector<double> wide(2);
  expectOk(reader.read(*info, 1, 2, amc::plan::F64, reinterpret_cast<std::byte *>(wide.data())));
  EXPECT_EQ(wide, (std::vector<double>{2, 3}));
  EXPECT_EQ(reader.find("c"), nullptr);
}

// Width first, then name, data aligned to 8 bytes: the layout of the format's own library.
TEST(Safetensors, LayoutIsFixed) {
  TempDir dir;
  std::string path = dir.path("w.safetensors");
  auto writer = take(SafetensorsWriter::create(
      path, {{"z", amc::plan::F32, {1}}, {"a", amc::plan::BF16, {1}}, {"y", amc::plan::F32, {1}}},
      {}));
  for (auto [name, size] : {std::pair("z", 4), {"a", 2}, {"y", 4}})
    expectOk(writer.write(name, 0, std::vector<std::byte>(size)));
  expectOk(writer.finish());
  std::string bytes = slurp(path);
  uint64_t length;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  std::string header = bytes.substr(8, length);
  EXPECT_EQ(header.substr(0, header.find_last_not_of(' ') + 1),
            R"({"y":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
            R"("z":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},)"
            R"("a":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]}})");
  EXPECT_EQ(bytes.size(), 8 + length + 10);
}

// A file that was not finished is not there, and neither is what it was written as.
TEST(Safetensors, NothingHalfWritten) {
  TempDir dir;
  {
    auto writer = take(
        SafetensorsWriter::create(dir.path("w.safetensors"), {{"x", amc::plan::F32, {2}}}, {}));
    expectOk(writer.write("x", 0, std::vector<std::byte>(4)));
    expectError(writer.finish(), ErrorKind::Input, "has 4 bytes written and should have 8");
  }
  EXPECT_TRUE(dir.list().empty());
}

TEST(Safetensors, WriterRefusesWhatIsNotThere) {
  TempDir dir;
  auto writer =
      take(SafetensorsWriter::create(dir.path("w.safetensors"), {{"x", amc::plan::F32, {2}}}, {}));
  expectError(writer.write("y", 0, std::vector<std::byte>(4)), ErrorKind::Input, "'y'");
  expectError(writer.write("x", 8, std::vector<std::byte>(1)), ErrorKind::Input, "not part");
  expectError(writer.write("x", ~uint64_t(0), std::vector<std::byte>(2)), ErrorKind::Input,
              "not part");
  EXPECT_FALSE(SafetensorsWriter::create(dir.path("v.safetensors"),
                                         {{"x", amc::plan::F32, {}}, {"x", amc::plan::F32, {}}}, {})
                   .ok());
}

TEST(Safetensors, UnwritablePath) {
  TempDir dir;
  Expected<SafetensorsWriter> writer =
      SafetensorsWriter::create(dir.path("missing/w.safetensors"), {}, {});
  ASSERT_FALSE(writer.ok());
  expectError(writer.status(), ErrorKind::Input, "cannot be written: No such file or directory");
}

// Each from a valid file by one change.
TEST(Safetensors, RejectsBrokenFiles) {
  std::string data(8, '\1');
  std::string good = "{\"x\":" + entry("F32", "[2]", "[0,8]") + "}";
  TempDir dir;
  expectOk(openStatus(dir, safetensors(good, data)));
  expectInvalid("", "0 bytes and should have at least 8");
  expectInvalid(safetensors(good, data).substr(0, 20), "said to have");
  expectInvalid(std::string(8, '\xff') + good, "said to have 18446744073709551615 bytes");
  expectInvalid(safetensors("[1]", data), "JSON object");
  expectInvalid(safetensors("{\"x\":", data), "JSON object");
  expectInvalid(safetensors(good, data + "x"), "9 follow the header");
  expectInvalid(safetensors(good, data.substr(1)), "within the 7 bytes");
  expectInvalid(safetensors("{\"x\":" + entry("F32", "[3]", "[0,8]") + "}", data),
                "is not 8 bytes");
  expectInvalid(safetensors("{\"x\":" + entry("F32", "[-2]", "[0,8]") + "}", data),
                "a dimension is -2");
  expectInvalid(safetensors("{\"x\":" + entry("F32", "[2]", "[8,0]") + "}", data),
                "data_offsets [8, 0)");
  expectInvalid(safetensors("{\"x\":" + entry("F32", "[2]", "[0]") + "}", data),
                "two data_offsets");
  expectInvalid(safetensors("{\"x\":" + entry("F32", "[1]", "[4,8]") + "}", data),
                "should begin at 0");
  expectInvalid(
      safetensors("{\"x\":" + entry("F32", "[4294967296,4294967296]", "[0,8]") + "}", data),
      "too large");
  // 2^62 elements of 4 bytes are 2^64 bytes: zero, if nobody looks.
  expectInvalid(safetensors("{\"x\":" + entry("F32", "[4611686018427387904]", "[0,0]") + "}", ""),
                "is not 0 bytes");
  expectInvalid(safetensors("{\"x\":" + entry("U8", "[8]", "[0,8]") +
                                ",\"y\":" + entry("U8", "[8]", "[0,8]") + "}",
                            data),
                "begins at byte 0");
  expectInvalid(safetensors("{\"x\":" + entry("U8", "[4]", "[0,4]") +
                                ",\"x\":" + entry("U8", "[4]", "[4,8]") + "}",
                            data),
                "without repeated names");
  expectInvalid(safetensors("{\"__metadata__\":{\"a\":1}}", ""), "strings only");
}

// A type AMC does not have is no reason to refuse the other tensors.
TEST(Safetensors, UnknownTypeFailsOnlyWhenRead) {
  TempDir dir;
  auto reader = take(SafetensorsReader::open(dir.write(
      "x.safetensors", safetensors("{\"x\":" + entry("F8_E4M3", "[2]", "[0,2]") + "}", "ab"))));
  std::byte target[8];
  expectError(reader.read(*reader.find("x"), 0, 1, amc::plan::F32, target), ErrorKind::Input,
              "does not convert");
}

TEST(Safetensors, ReadChecksRangeAndValues) {
  TempDir dir;
  std::string data = rawBytes<int64_t>({1, 300});
  auto reader = take(SafetensorsReader::open(dir.write(
      "x.safetensors", safetensors("{\"x\":" + entry("I64", "[2]", "[0,16]") + "}", data))));
  std::byte target[16];
  const TensorInfo &x = *reader.find("x");
  expectOk(reader.read(x, 0, 1, amc::plan::U8, target));
  expectError(reader.read(x, 0, 2, amc::plan::U8, target), ErrorKind::Input,
              "element 1 of tensor 'x'");
  expectError(reader.read(x, 1, 2, amc::plan::I64, target), ErrorKind::Input,
              "exceed its 2 elements");
  expectError(reader.read(x, ~uint64_t(0), 1, amc::plan::I64, target), ErrorKind::Input, "exceed");
}

// Whatever single bit is flipped, and wherever the file is cut, opening and reading every tensor ends without a crash
// (under the sanitizers: without a stray byte), and no cut is taken for whole.
TEST(Safetensors, DamagedFilesNeverCrash) {
  TempDir dir;
  std::string good = safetensors("{\"__metadata__\":{\"a\":\"b\"},\"x\":" + entry("F32", "[2]", "[0,8]") +
                                     ",\"y\":" + entry("I64", "[1,1]", "[8,16]") + "}",
                                 std::string(16, '\2'));
  auto survives = [&](const std::string &bytes) {
    Expected<SafetensorsReader> reader = SafetensorsReader::open(dir.write("d.safetensors", bytes));
    if (!reader.ok())
      return false;
    for (const TensorInfo &info : reader->tensors()) {
      EXPECT_LE(info.offset + info.bytes, bytes.size());
      std::vector<std::byte> target(info.elements * 8);
      Status ignored = reader->read(info, 0, info.elements, amc::plan::F64, target.data());
      (void)ignored; // either is fine; that it returns is the point
    }
    return true;
  };
  ASSERT_TRUE(survives(good));
  for (size_t length = 0; length < good.size(); ++length)
    EXPECT_FALSE(survives(good.substr(0, length))) << "cut at " << length;
  uint64_t accepted = 0;
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    accepted += survives(bytes);
  }
  // Names, metadata and data may change into others; lengths, offsets and structure may not: 16 * 8 bits of data and
  // at most the 8 bits of each of the few letters.
  EXPECT_GE(accepted, 16u * 8);
  EXPECT_LT(accepted, 16u * 8 + 80);
}
