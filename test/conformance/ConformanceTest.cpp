// ONNX's backend node tests against AMC: one GoogleTest for each case whose operations the importer
// has.
//
//   amc_conformance [--gtest_filter=Debian.test_add*] [--update-table]
//
// A case that is expected to fail (expected-failures.txt, each with a reason) is run all the same;
// passing, or failing in another way, is then the failure. After a run of everything,
// supported-ops.md has to say what the run found; --update-table writes it.
#include "compiler/import/Node.h"
#include "test/conformance/Compare.h"
#include "test/conformance/Runner.h"
#include <algorithm>
#include <fnmatch.h>
#include <fstream>
#include <gtest/gtest.h>
#include <iostream>
#include <sstream>

using namespace amc;
using namespace amc::conformance;

namespace {

const std::string folder = AMC_TEST_DIR "/conformance/";

struct ExpectedFailure {
  std::string pattern; // of "debian/test_x", or of "test_x" in both sources
  std::string message; // a part of what the failure says
  std::string reason;
  int matches = 0;
};

/// Everything that the tests share; filled by main before they run.
struct Suite {
  std::vector<Case> cases;
  std::vector<ExpectedFailure> expected;
  struct Count {
    int passed = 0, expectedFailures = 0;
  };
  std::map<std::string, Count> operations; // of cases that were run
  std::map<std::string, int> unsupported;  // cases not run, by the first operation that is missing
  int ran = 0;
};
Suite suite;

/// Lines "pattern | message | reason"; '#' opens a comment line.
std::vector<ExpectedFailure> readExpectedFailures(const std::string &path) {
  std::vector<ExpectedFailure> expected;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#')
      continue;
    auto [pattern, rest] = llvm::StringRef(line).split('|');
    auto [message, reason] = rest.split('|');
    expected.push_back({pattern.trim().str(), message.trim().str(), reason.trim().str()});
  }
  return expected;
}

ExpectedFailure *expectedFailure(const Case &test) {
  for (ExpectedFailure &entry : suite.expected)
    if (!fnmatch(entry.pattern.c_str(), test.name.c_str(), 0) ||
        !fnmatch(entry.pattern.c_str(), (test.source + "/" + test.name).c_str(), 0))
      return &entry;
  return nullptr;
}

class CaseTest : public testing::Test {
public:
  explicit CaseTest(const Case &test) : test(test) {}
  void TestBody() override {
    Outcome outcome = run(test);
    ++suite.ran;
    ExpectedFailure *expected = expectedFailure(test);
    for (const std::string &op : outcome.operations) {
      suite.operations[op].passed += outcome.failure.empty();
      suite.operations[op].expectedFailures += !outcome.failure.empty() && expected;
    }
    if (!expected)
      EXPECT_EQ(outcome.failure, "");
    else if (outcome.failure.empty())
      ADD_FAILURE() << "passes, but is expected to fail: " << expected->reason;
    else
      EXPECT_NE(outcome.failure.find(expected->message), std::string::npos)
          << outcome.failure << "\nfails, but is expected to say: " << expected->message;
  }

private:
  const Case &test;
};

std::string tableText() {
  std::map<std::string, std::set<int64_t>> opsets;
  for (auto family : importer::allOps())
    for (const importer::OpEntry &entry : family)
      opsets[entry.domain[0] ? std::string(entry.domain) + "." + entry.op : entry.op].insert(
          entry.since);

  std::ostringstream text;
  text << "# Supported ONNX operations\n\n"
          "Written by `amc_conformance --update-table`; the test suite compares it with what it "
          "finds.\n\n"
          "*Since*: the opsets in which the importer's translation changes; from the first one on "
          "the operation is\n"
          "supported (from opset 13 on where it is older). *Passed*: cases of ONNX's backend "
          "tests, of Debian's\n"
          "libonnx-testdata and of `cases.pack`, that contain the operation and give the right "
          "result, as imported and\n"
          "after `raise`; there are none for operations outside ONNX's own domain. *Fail*: cases "
          "listed in `expected-failures.txt`, each with the reason.\n\n"
          "| operation | since | passed | fail |\n| --- | --- | ---: | ---: |\n";
  for (const auto &[op, since] : opsets) {
    text << "| " << op << " | ";
    bool first = true;
    for (int64_t opset : since)
      text << (first ? "" : ", ") << opset, first = false;
    Suite::Count count = suite.operations[op];
    text << " | " << count.passed << " | " << count.expectedFailures << " |\n";
  }
  text << "\nOperations of the node tests that AMC does not have, and the number of cases that are "
          "not run for want of them:\n\n";
  bool first = true;
  for (const auto &[op, count] : suite.unsupported)
    text << (first ? "" : ", ") << op << " (" << count << ")", first = false;
  text << ".\n";
  return text.str();
}

std::string readText(const std::string &path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

//===----------------------------------------------------------------------===//
// The comparison itself
//===----------------------------------------------------------------------===//

std::string compareFloats(std::vector<float> ours, std::vector<float> expected) {
  return compare(plan::F32, {ours.size()}, reinterpret_cast<const std::byte *>(ours.data()),
                 plan::F32, {expected.size()},
                 reinterpret_cast<const std::byte *>(expected.data()));
}

TEST(Comparison, ToleranceIsRelative) {
  EXPECT_EQ(compareFloats({1000.9f}, {1000}), "");
  EXPECT_NE(compareFloats({1001.1f}, {1000}), "");
  EXPECT_NE(compareFloats({1e-6f}, {0}), "");
}
TEST(Comparison, WhatIsNotFiniteHasToBeTheSame) {
  float infinity = INFINITY, nan = NAN;
  EXPECT_EQ(compareFloats({infinity, nan}, {infinity, nan}), "");
  EXPECT_NE(compareFloats({-infinity}, {infinity}), "");
  EXPECT_NE(compareFloats({nan}, {1}), "");
  EXPECT_NE(compareFloats({1}, {nan}), "");
  EXPECT_NE(compareFloats({3e38f}, {infinity}), "");
  EXPECT_NE(compareFloats({infinity}, {3e38f}), "");
}
TEST(Comparison, TypeAndShapeHaveToBeTheSame) {
  int32_t integers[] = {1, 2};
  float floats[] = {1, 2};
  auto bytes = [](const void *data) { return static_cast<const std::byte *>(data); };
  EXPECT_NE(compare(plan::I32, {2}, bytes(integers), plan::F32, {2}, bytes(floats)), "");
  EXPECT_NE(compare(plan::F32, {2}, bytes(floats), plan::F32, {1, 2}, bytes(floats)), "");
  EXPECT_NE(compare(plan::F64, {1}, bytes(floats), plan::F32, {1}, bytes(floats)), "");
  uint16_t halves[] = {0x3c00, 0x4000}; // 1 and 2
  EXPECT_EQ(compare(plan::F32, {2}, bytes(floats), plan::F16, {2}, bytes(halves)), "");
}
TEST(Comparison, IntegersHaveToBeEqual) {
  int64_t ours[] = {1000001}, expected[] = {1000000};
  EXPECT_NE(compare(plan::I64, {1}, reinterpret_cast<std::byte *>(ours), plan::I64, {1},
                    reinterpret_cast<std::byte *>(expected)),
            "");
}

} // namespace

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  bool update = argc > 1 && std::string(argv[1]) == "--update-table";

  std::string why;
  std::optional<std::vector<Case>> pack = readPack(folder + "cases.pack", "pack", why);
  if (!pack) {
    std::cerr << why << "\n";
    return 1;
  }
  suite.cases = std::move(*pack);
  const std::string data = "/usr/share/libonnx-testdata/data/";
  std::vector<Case> installed = readFolder(data + "node", "debian");
  std::vector<Case> models =
      readFolder(data + "simple", "debian"); // sequences: a node alone cannot show them
  std::move(models.begin(), models.end(), std::back_inserter(installed));
  bool haveInstalled = !installed.empty();
  if (!haveInstalled)
    std::cerr << "libonnx-testdata is not installed: its cases and the table are not checked\n";
  std::move(installed.begin(), installed.end(), std::back_inserter(suite.cases));
  suite.expected = readExpectedFailures(folder + "expected-failures.txt");

  int runnable = 0;
  for (const Case &test : suite.cases) {
    Outcome outcome = inspect(test);
    if (!outcome.unsupported.empty()) {
      ++suite.unsupported[*outcome.unsupported.begin()];
      continue;
    }
    ++runnable;
    if (ExpectedFailure *expected = expectedFailure(test))
      ++expected->matches;
    testing::RegisterTest(test.source == "pack" ? "Pack" : "Debian", test.name.c_str(), nullptr,
                          nullptr, __FILE__, __LINE__,
                          [&test]() -> testing::Test * { return new CaseTest(test); });
  }

  int result = RUN_ALL_TESTS();
  if (suite.ran != runnable || !haveInstalled)
    return result; // a filtered run says nothing about the lists
  for (const ExpectedFailure &entry : suite.expected)
    if (entry.matches == 0 || entry.message.empty() || entry.reason.empty()) {
      std::cerr << "expected-failures.txt: '" << entry.pattern << "' "
                << (entry.matches ? "has no message or no reason" : "is no case that is run")
                << "\n";
      result = 1;
    }
  std::string path = folder + "supported-ops.md", table = tableText();
  if (update)
    std::ofstream(path) << table;
  else if (readText(path) != table) {
    std::cerr << path << " is out of date: run amc_conformance --update-table\n";
    result = 1;
  }
  return result;
}
