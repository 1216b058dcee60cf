// Runs one case: ONNX model in, plan, executor, outputs compared.
#ifndef AMC_TEST_CONFORMANCE_RUNNER_H
#define AMC_TEST_CONFORMANCE_RUNNER_H

#include "test/conformance/Cases.h"
#include <set>

namespace amc::conformance {

struct Outcome {
  /// The model's operations, "com.microsoft.Gelu" outside the standard domain; empty if it cannot
  /// be read.
  std::set<std::string> operations;
  /// Those that the importer has no entry for at the model's opset. Such a case is not run.
  std::set<std::string> unsupported;
  /// Empty if every output of every data set was right, with and without `raise`.
  std::string failure;
};

/// What the case's model is made of; fills `operations` and `unsupported` only.
Outcome inspect(const Case &test);

Outcome run(const Case &test);

} // namespace amc::conformance

#endif
