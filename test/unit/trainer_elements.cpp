// Conversion between element types keeps values or says where it cannot; transposed layouts; the
// random streams.
#include "runtime/trainer/Random.h"
#include "runtime/trainer/Transpose.h"
#include "test/unit/trainer_support.h"

#include <cmath>
#include <limits>

using namespace amc::rt;
using namespace amc::rt::test;

namespace {

template <typename To, typename From>
std::vector<To> convert(DType from, const std::vector<From> &values, DType to, uint64_t good) {
  std::vector<To> result(values.size());
  EXPECT_EQ(convertElements(from, reinterpret_cast<const std::byte *>(values.data()), to,
                            reinterpret_cast<std::byte *>(result.data()), values.size()),
            good);
  return result;
}

} // namespace

TEST(Elements, IntegersKeepTheirValue) {
  EXPECT_EQ(convert<int32_t>(amc::plan::I64, std::vector<int64_t>{-1, 7}, amc::plan::I32, 2),
            (std::vector<int32_t>{-1, 7}));
  convert<int32_t>(amc::plan::I64, std::vector<int64_t>{1, int64_t(1) << 31}, amc::plan::I32, 1);
  convert<uint16_t>(amc::plan::I32, std::vector<int32_t>{-1}, amc::plan::U16, 0);
  EXPECT_EQ(convert<int64_t>(amc::plan::U16, std::vector<uint16_t>{65535}, amc::plan::I64, 1)[0],
            65535);
  // 2^24 + 1 is the first integer f32 does not have.
  convert<float>(amc::plan::I64, std::vector<int64_t>{1 << 24, (1 << 24) + 1}, amc::plan::F32, 1);
  convert<double>(amc::plan::I64, std::vector<int64_t>{std::numeric_limits<int64_t>::max()},
                  amc::plan::F64, 0);
}

TEST(Elements, Booleans) {
  EXPECT_EQ(convert<uint8_t>(amc::plan::I64, std::vector<int64_t>{0, 1}, amc::plan::BOOL, 2),
            (std::vector<uint8_t>{0, 1}));
  convert<uint8_t>(amc::plan::I64, std::vector<int64_t>{2}, amc::plan::BOOL, 0);
  EXPECT_EQ(convert<float>(amc::plan::BOOL, std::vector<uint8_t>{1, 0}, amc::plan::F32, 2),
            (std::vector<float>{1, 0}));
}

TEST(Elements, FloatNeverBecomesInteger) {
  EXPECT_FALSE(convertible(amc::plan::F32, amc::plan::I64));
  EXPECT_FALSE(convertible(amc::plan::DTYPE_UNSPECIFIED, amc::plan::F32));
  EXPECT_TRUE(convertible(amc::plan::BOOL, amc::plan::F32));
}

// Ties to even, overflow to infinity, NaN stays NaN: bf16 1 + 2^-8 lies between 1 and 1 + 2^-7.
TEST(Elements, HalfPrecisionRounds) {
  float inf = std::numeric_limits<float>::infinity();
  std::vector<float> values = {1.0f, 1.0f + 0x1p-8f, 1.0f + 3 * 0x1p-8f, -2.5f, inf};
  EXPECT_EQ(convert<uint16_t>(amc::plan::F32, values, amc::plan::BF16, 5),
            (std::vector<uint16_t>{0x3f80, 0x3f80, 0x3f82, 0xc020, 0x7f80}));
  // f16: the largest is 65504, 65520 rounds up and out; 2^-24 is the smallest, half of it ties to
  // zero.
  std::vector<float> small = {1.0f,     65504.0f,  65520.0f,       0x1p-24f,
                              0x1p-25f, -0x1p-14f, 1.0f + 0x1p-11f};
  EXPECT_EQ(convert<uint16_t>(amc::plan::F32, small, amc::plan::F16, 7),
            (std::vector<uint16_t>{0x3c00, 0x7bff, 0x7c00, 1, 0, 0x8400, 0x3c00}));
  // Back to f32 every f16 is exact: all of them, NaNs apart, survive the round trip.
  std::vector<uint16_t> all;
  for (uint32_t bits = 0; bits < 65536; ++bits)
    if ((bits & 0x7fff) <= 0x7c00)
      all.push_back(static_cast<uint16_t>(bits));
  auto wide = convert<float>(amc::plan::F16, all, amc::plan::F32, all.size());
  EXPECT_EQ(convert<uint16_t>(amc::plan::F32, wide, amc::plan::F16, all.size()), all);
  auto nan =
      convert<uint16_t>(amc::plan::F32, std::vector<float>{std::nanf("")}, amc::plan::F16, 1);
  EXPECT_GT(nan[0] & 0x7fff, 0x7c00);
}

// A double is rounded once. 1 + 2^-8 + 2^-40 lies above the middle of two bf16 numbers, but rounded
// to f32 first it is that middle, which goes to the even one below; likewise on the other side, and
// for f16.
TEST(Elements, DoublesRoundOnce) {
  std::vector<double> values = {1 + 0x1p-8 + 0x1p-40, 1 + 3 * 0x1p-8 - 0x1p-40,
                                -1 - 0x1p-8 - 0x1p-40};
  EXPECT_EQ(convert<uint16_t>(amc::plan::F64, values, amc::plan::BF16, 3),
            (std::vector<uint16_t>{0x3f81, 0x3f81, 0xbf81}));
  EXPECT_EQ(convert<uint16_t>(amc::plan::F64, std::vector<double>{1 + 0x1p-11 + 0x1p-40},
                              amc::plan::F16, 1)[0],
            0x3c01);
}

TEST(Elements, CountsDoNotOverflow) {
  EXPECT_EQ(elementCount(Shape{}), 1u);
  EXPECT_EQ(elementCount(Shape{2, 3}), 6u);
  EXPECT_FALSE(elementCount(Shape{uint64_t(1) << 40, uint64_t(1) << 40}));
  EXPECT_EQ(shapeText(Shape{2, 48}), "[2, 48]");
}

// stored = transpose(w, [1, 0]) of w [2, 3]: stored [3, 2], stored[i, j] = w[j, i].
TEST(Elements, TransposedLayout) {
  TransposedLayout layout({2, 3}, {1, 0});
  EXPECT_EQ(layout.storedShape(), (Shape{3, 2}));
  EXPECT_FALSE(layout.identical());
  std::vector<uint64_t> order;
  for (uint64_t i = 0; i < 6; ++i)
    order.push_back(layout.weightIndex(i));
  EXPECT_EQ(order, (std::vector<uint64_t>{0, 3, 1, 4, 2, 5}));
  // numpy: w of shape [2, 3, 4] with axes [2, 0, 1] is [4, 2, 3]; its element 1 is w[0, 1, 0].
  TransposedLayout cube({2, 3, 4}, {2, 0, 1});
  EXPECT_EQ(cube.storedShape(), (Shape{4, 2, 3}));
  EXPECT_EQ(cube.weightIndex(1), 4u);
  EXPECT_TRUE(TransposedLayout({2, 3}, {}).identical());
  EXPECT_FALSE(TransposedLayout::valid({2, 3}, {0, 0}));
  EXPECT_FALSE(TransposedLayout::valid({2, 3}, {0}));
  EXPECT_FALSE(TransposedLayout::valid({2, 3}, {0, 2}));
}

// Mean 0 and variance 1 over 20,000 numbers: four standard errors are 0.028 and 0.04.
TEST(Elements, NormalNumbers) {
  double sum = 0, squares = 0;
  for (uint64_t i = 0; i < 20000; ++i) {
    double value = randomNormal(1, streamOf("w"), i);
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / 20000, 0, 0.03);
  EXPECT_NEAR(squares / 20000, 1, 0.045);
  EXPECT_NE(randomNormal(1, streamOf("w"), 0), randomNormal(2, streamOf("w"), 0));
  EXPECT_NE(randomNormal(1, streamOf("w"), 0), randomNormal(1, streamOf("v"), 0));
}
