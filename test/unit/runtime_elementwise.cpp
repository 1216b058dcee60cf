// Elementwise kernels and activations against libm in double.
#include "runtime_support.h"

namespace amc::rt::test {

namespace {

struct UnaryCase {
  const char *name;
  double low, high;
  double (*f)(double);
  double ulps; // of fp32, relative to max(1, |expected|)
};

double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }
double geluTanh(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double silu(double x) { return x * sigmoid(x); }
double slope(double (*f)(double), double x) { return (f(x + 1e-5) - f(x - 1e-5)) / 2e-5; }

const UnaryCase unaries[] = {
    {"abs", -3, 3, [](double x) { return std::fabs(x); }, 0},
    {"neg", -3, 3, [](double x) { return -x; }, 0},
    {"exp", -20, 20, [](double x) { return std::exp(x); }, 2},
    {"log", 0.01, 9, [](double x) { return std::log(x); }, 1},
    {"sqrt", 0, 9, [](double x) { return std::sqrt(x); }, 1},
    {"rsqrt", 0.5, 9, [](double x) { return 1 / std::sqrt(x); }, 2},
    {"reciprocal", 0.5, 9, [](double x) { return 1 / x; }, 1},
    {"sin", -9, 9, [](double x) { return std::sin(x); }, 1},
    {"cos", -9, 9, [](double x) { return std::cos(x); }, 1},
    {"tan", -1, 1, [](double x) { return std::tan(x); }, 1},
    {"asin", -1, 1, [](double x) { return std::asin(x); }, 1},
    {"acos", -1, 1, [](double x) { return std::acos(x); }, 1},
    {"atan", -9, 9, [](double x) { return std::atan(x); }, 1},
    {"sinh", -3, 3, [](double x) { return std::sinh(x); }, 1},
    {"cosh", -3, 3, [](double x) { return std::cosh(x); }, 1},
    {"asinh", -3, 3, [](double x) { return std::asinh(x); }, 1},
    {"acosh", 1, 9, [](double x) { return std::acosh(x); }, 1},
    {"atanh", -0.9, 0.9, [](double x) { return std::atanh(x); }, 1},
    {"tanh", -9, 9, [](double x) { return std::tanh(x); }, 2},
    {"sigmoid", -20, 20, sigmoid, 2},
    {"erf", -5, 5, [](double x) { return std::erf(x); }, 2},
    {"relu", -3, 3, [](double x) { return std::max(x, 0.0); }, 0},
    {"silu", -20, 20, silu, 3},
    {"softplus", -30, 30, [](double x) { return std::log1p(std::exp(x)); }, 1},
    {"ceil", -3, 3, [](double x) { return std::ceil(x); }, 0},
    {"floor", -3, 3, [](double x) { return std::floor(x); }, 0},
    {"round", -3, 3, [](double x) { return std::nearbyint(x); }, 0},
    {"sign", -3, 3, [](double x) { return double(x > 0) - double(x < 0); }, 0},
};

std::vector<double> mapped(const Array &x, const std::function<double(double)> &f) {
  std::vector<double> y;
  for (double v : x.values)
    y.push_back(f(v));
  return y;
}

constexpr double ulp = 1.2e-7;

TEST(RuntimeElementwise, UnaryMatchesDouble) {
  for (const UnaryCase &c : unaries)
    for (plan::DType dtype : {plan::F32, plan::F64, plan::F16, plan::BF16})
      for (uint64_t n : {uint64_t(1), uint64_t(19), uint64_t(onCuda() ? 4003 : 40003)}) {
        Array x = random(dtype, {n}, n, c.low, c.high);
        Call call{c.name, {x}, {{dtype, {n}}}, {}, 0, {}};
        // Functions of CUDA are off by 4 ulps at worst.
        double allowed = dtype == plan::F32 ? (onCuda() ? 4 * c.ulps : c.ulps) * ulp : tolerance(dtype);
        std::vector<double> y = mapped(x, c.f);
        for (double &v : y)
          v = std::isinf(rounded(dtype, v)) ? rounded(dtype, v) : v; // e^20 is one in f16
        expectCall(call, {y}, allowed);
      }
}

// Results stand in the operand's bytes and are the same bits.
TEST(RuntimeElementwise, InPlaceIsTheSame) {
  Array x = random(plan::F32, {5, 1003}, 1, -4, 4), b = random(plan::F32, {5, 1003}, 2, -4, 4);
  for (const char *name : {"exp", "tanh", "silu", "sin"}) {
    Call call{name, {x}, {{plan::F32, {5, 1003}}}, {}, 0, {}};
    Outcome apart = run(call);
    call.replaces = {0};
    EXPECT_EQ(apart.bytes, run(call).bytes) << name;
  }
  for (int replaced : {0, 1}) {
    Call call{"sub", {x, b}, {{plan::F32, {5, 1003}}}, {}, 0, {}};
    Outcome apart = run(call);
    call.replaces = {replaced};
    EXPECT_EQ(apart.bytes, run(call).bytes);
  }
}

TEST(RuntimeElementwise, SpecialValues) {
  Array x = array(plan::F32, {6}, {0, -0.0, infinity, -infinity, nan, 200});
  auto expect = [&](const char *name, std::vector<double> y, Attributes attributes = {}) {
    expectCall({name, {x}, {{plan::F32, {6}}}, attributes, 0, {}}, {y}, 2e-7);
  };
  expect("exp", {1, 1, infinity, 0, nan, infinity});
  expect("tanh", {0, 0, 1, -1, nan, 1});
  expect("sigmoid", {0.5, 0.5, 1, 0, nan, 1});
  expect("erf", {0, 0, 1, -1, nan, 1});
  expect("relu", {0, 0, infinity, 0, nan, 200});
  expect("sqrt", {0, 0, infinity, nan, nan, std::sqrt(200.0)});
  expect("softplus", {std::log(2), std::log(2), infinity, 0, nan, 200});
  expect("elu", {0, 0, infinity, -2, nan, 200}, {attribute("alpha", 2.0)});
  Array small = array(plan::F32, {3}, {-100, -103.9, -110}); // denormal results, then none
  Outcome tiny = run({"exp", {small}, {{plan::F32, {3}}}, {}, 0, {}});
  ASSERT_TRUE(tiny.status.ok());
  EXPECT_NEAR(tiny.outputs[0].values[0], std::exp(-100.0), 2e-45);
  EXPECT_EQ(tiny.outputs[0].values[2], 0);
  auto test = [&](const char *name, std::vector<double> y, Attributes attributes = {}) {
    expectCall({name, {x}, {{plan::BOOL, {6}}}, attributes, 0, {}}, {y}, 0);
  };
  test("is_nan", {0, 0, 0, 0, 1, 0});
  test("is_inf", {0, 0, 1, 1, 0, 0}, {attribute("positive", true), attribute("negative", true)});
  test("is_inf", {0, 0, 0, 1, 0, 0}, {attribute("positive", false), attribute("negative", true)});
}

TEST(RuntimeElementwise, BinaryBroadcasts) {
  struct Case {
    Shape a, b, y;
  };
  for (const Case &c : {Case{{2, 3, 37}, {2, 3, 37}, {2, 3, 37}}, Case{{2, 3, 37}, {37}, {2, 3, 37}},
                        Case{{2, 3, 1}, {1, 3, 37}, {2, 3, 37}}, Case{{}, {2, 3}, {2, 3}}, Case{{4, 1, 5}, {6, 1}, {4, 6, 5}},
                        Case{{1, 40000}, {3, 1}, {3, 40000}}, Case{{0, 3}, {1, 3}, {0, 3}}})
    for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16, plan::I32}) {
      Array a = random(dtype, c.a, 1, -9, 9), b = random(dtype, c.b, 2, 1, 9);
      auto at = [&](const Array &x, uint64_t flat) {
        uint64_t offset = 0, stride = 1;
        for (size_t i = 0; i < c.y.size(); ++i) {
          uint64_t dim = c.y[c.y.size() - 1 - i], index = flat % dim;
          flat /= dim;
          if (i < x.shape.size()) {
            uint64_t own = x.shape[x.shape.size() - 1 - i];
            offset += own == 1 ? 0 : index * stride;
            stride *= own;
          }
        }
        return x.values[offset];
      };
      auto expect = [&](const char *name, auto f) {
        std::vector<double> y;
        for (uint64_t i = 0; i < elements(c.y); ++i)
          y.push_back(rounded(dtype, f(at(a, i), at(b, i))));
        expectCall({name, {a, b}, {{dtype, c.y}}, {}, 0, {}}, {y}, dtype == plan::F32 ? ulp : tolerance(dtype));
      };
      expect("add", [](double x, double y) { return x + y; });
      expect("sub", [](double x, double y) { return x - y; });
      expect("mul", [](double x, double y) { return x * y; });
      expect("div", [&](double x, double y) { return dtype == plan::I32 ? std::trunc(x / y) : x / y; });
      expect("max", [](double x, double y) { return std::max(x, y); });
      expect("min", [](double x, double y) { return std::min(x, y); });
      std::vector<double> less;
      for (uint64_t i = 0; i < elements(c.y); ++i)
        less.push_back(at(a, i) < at(b, i));
      expectCall({"less", {a, b}, {{plan::BOOL, c.y}}, {}, 0, {}}, {less}, 0);
    }
}

TEST(RuntimeElementwise, IntegersAndRemainders) {
  Array a = array(plan::I64, {6}, {7, -7, 7, -7, 5, 9}), b = array(plan::I64, {6}, {3, 3, -3, -3, 0, -1});
  auto expect = [&](const char *name, std::vector<double> y, Attributes attributes = {}) {
    expectCall({name, {a, b}, {{plan::I64, {6}}}, attributes, 0, {}}, {y}, 0);
  };
  expect("div", {2, -2, -2, 2, 0, -9});
  expect("mod", {1, 2, -2, -1, 0, 0});
  expect("mod", {1, -1, 1, -1, 0, 0}, {attribute("fmod", true)});
  expect("bitwise_and", {7 & 3, -7 & 3, 7 & -3, -7 & -3, 0, 9});
  Array base = array(plan::I64, {4}, {2, -2, 3, 1}), exponent = array(plan::I64, {4}, {10, 3, -1, -5});
  expectCall({"pow", {base, exponent}, {{plan::I64, {4}}}, {}, 0, {}}, {{1024, -8, 0, 1}}, 0);
  Array byte = array(plan::U8, {3}, {250, 3, 255}), other = array(plan::U8, {3}, {10, 5, 1});
  expectCall({"add", {byte, other}, {{plan::U8, {3}}}, {}, 0, {}}, {{4, 8, 0}}, 0); // wraps around
  Array x = array(plan::F32, {4}, {7.5, -7.5, 7.5, -7.5}), y = array(plan::F32, {4}, {2, 2, -2, -2});
  expectCall({"mod", {x, y}, {{plan::F32, {4}}}, {}, 0, {}}, {{1.5, 0.5, -0.5, -1.5}}, 0);
}

TEST(RuntimeElementwise, SelectAndCast) {
  Array c = array(plan::BOOL, {2, 1}, {1, 0}), a = random(plan::I16, {2, 5}, 1, -99, 99), b = array(plan::I16, {}, {7});
  std::vector<double> y(a.values.begin(), a.values.begin() + 5);
  y.resize(10, 7);
  expectCall({"select", {c, a, b}, {{plan::I16, {2, 5}}}, {}, 0, {}}, {y}, 0);
  Array x = array(plan::F32, {6}, {1.9, -1.9, 0, 65519, 3e38, nan});
  auto cast = [&](const Array &from, plan::DType to, std::vector<double> result) {
    expectCall({"cast", {from}, {{to, from.shape}}, {attribute("to", std::string(dtypeName(to)).c_str())}, 0, {}},
               {result}, 0);
  };
  cast(x, plan::I32, {1, -1, 0, 65519, -1, 0}); // out of range saturates in 64 bits, then wraps
  cast(x, plan::BOOL, {1, 1, 0, 1, 1, 1});
  cast(x, plan::F16, {rounded(plan::F16, x.values[0]), rounded(plan::F16, x.values[1]), 0, 65504, infinity, nan});
  Array wide = random(plan::F32, {70001}, 3, -1000, 1000);
  for (plan::DType to : {plan::BF16, plan::F16, plan::F64}) {
    std::vector<double> expected;
    for (double v : wide.values)
      expected.push_back(rounded(to, v));
    cast(wide, to, expected);
  }
  cast(array(plan::I64, {3}, {-5, 300, 0}), plan::F32, {-5, 300, 0});
  cast(array(plan::I64, {3}, {-5, 300, 0}), plan::U8, {251, 44, 0});
}

TEST(RuntimeElementwise, Activations) {
  for (plan::DType dtype : {plan::F32, plan::F64, plan::BF16}) {
    double allowed = dtype == plan::F64 ? 1e-9 : dtype == plan::F32 ? 2e-6 : 3e-2; // slopes by differences
    Shape shape = {3, 701};
    Array dy = random(dtype, shape, 1, -2, 2), gate = random(dtype, shape, 2, -6, 6), up = random(dtype, shape, 3, -2, 2);
    struct Case {
      const char *name;
      double (*f)(double);
    };
    for (const Case &c : {Case{"silu", silu}, Case{"gelu", gelu}, Case{"gelu_tanh", geluTanh},
                          Case{"relu", [](double x) { return std::max(x, 0.0); }}}) {
      std::vector<double> y, dgate, dup, dx;
      for (size_t i = 0; i < gate.values.size(); ++i) {
        double d = dy.values[i], g = gate.values[i], u = up.values[i];
        y.push_back(c.f(g) * u);
        dgate.push_back(d * u * slope(c.f, g));
        dup.push_back(d * c.f(g));
        dx.push_back(d * slope(c.f, g));
      }
      Attributes act = {attribute("activation", c.name)};
      expectCall({"gated_activation", {gate, up}, {{dtype, shape}}, act, 0, {}}, {y}, allowed);
      Call backward{"gated_activation_backward", {dy, gate, up}, {{dtype, shape}, {dtype, shape}}, act, 0, {}};
      expectCall(backward, {dgate, dup}, allowed);
      Outcome apart = run(backward);
      backward.replaces = {2, 1}; // crosswise in place
      EXPECT_EQ(apart.bytes, run(backward).bytes);
      std::string name = c.name;
      if (name == "silu")
        expectCall({"silu_backward", {dy, gate}, {{dtype, shape}}, {}, 0, {}}, {dx}, allowed);
      else if (name != "relu")
        expectCall({"gelu_backward", {dy, gate}, {{dtype, shape}},
                    {attribute("approximate", name == "gelu" ? "none" : "tanh")}, 0, {}}, {dx}, allowed);
    }
    expectCall({"gelu", {gate}, {{dtype, shape}}, {attribute("approximate", "none")}, 0, {}}, {mapped(gate, gelu)},
               std::max(5e-7, tolerance(dtype)));
    expectCall({"gelu", {gate}, {{dtype, shape}}, {attribute("approximate", "tanh")}, 0, {}}, {mapped(gate, geluTanh)},
               std::max(5e-7, tolerance(dtype)));
  }
}

} // namespace
} // namespace amc::rt::test
