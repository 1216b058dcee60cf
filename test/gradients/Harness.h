// Builds one operation from a line of a table, runs it with the interpreter, and compares the gradients that its
// buildVjp gives with central differences.
//
// An operand is written as
//   "2x3"                      random f64 numbers of that shape, in the case's range; its gradient is checked
//   "2x3 in 0.5:2"             the same in a range of its own
//   "dense<[0, 2]> : tensor<2xi64>"   this constant, no gradient
//   "state dense<0.5> : tensor<1xf64>"   the same as a train.state, which updates ask for
//   "-"                        an absent optional operand
// Random numbers of an operand are distinct by more than the finite differences' steps, so that no comparison of two
// elements, and none with zero, changes under them. (A range of one number, "1 in 0:0", gives just that number.)
#ifndef AMC_TEST_GRADIENTS_HARNESS_H
#define AMC_TEST_GRADIENTS_HARNESS_H

#include "compiler/analysis/Interpreter.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include <set>
#include <string>
#include <vector>

namespace amc::test {

struct Case {
  const char *op; // mnemonic
  std::vector<const char *> operands;
  const char *attributes = "{}";
  double low = -2, high = 2; // of random operands
};

/// What results an operation without gradient has for constant operands.
struct ValueCase {
  const char *op;
  std::vector<const char *> operands;
  const char *attributes;
  std::vector<const char *> results; // dense constants; of an update the new values of the updated operands
};

std::vector<Case> elementwiseCases();
std::vector<Case> tensorCases();
std::vector<Case> modelCases();
std::vector<ValueCase> valueCases();

/// Whether a gradient agrees with its finite difference, whose truncation is of order h^2 and rounding of 1e-16 / h.
/// NaN agrees with nothing.
bool agrees(double gradient, double difference);

/// A step that holds one operation and its operands.
class Harness {
public:
  /// Null operation if the case does not describe a valid operation; `error` says why.
  Harness(mlir::MLIRContext &context, const char *op, const std::vector<const char *> &operands,
          const char *attributes, double low, double high);

  mlir::Operation *op = nullptr;
  std::string error;

  /// Compares all gradients; returns what is wrong, nothing if all is well.
  std::string checkGradients();
  /// Builds the gradients of all random operands and verifies what came out, without looking at numbers. Operations that
  /// refuse to have a gradient, or values that make one undefined, are no fault.
  std::string checkGradientGraph();
  /// Compares the results with constants.
  std::string checkValues(const std::vector<const char *> &expected);

  /// Slots of the operation's floating-point operands, and those among them whose gradient was compared.
  std::set<unsigned> floatSlots, checkedSlots;
  /// Mnemonics of all operations that ran.
  std::set<std::string> evaluated;
  /// How many numbers were compared with finite differences.
  int64_t compared = 0;

private:
  llvm::SmallVector<bool> randomOperands();
  void build(const char *op, const std::vector<const char *> &operands, const char *attributes, double low,
             double high);
  mlir::Value buildOperand(llvm::StringRef text, double low, double high);
  HostTensor random(mlir::RankedTensorType type, double low, double high);
  bool run(Interpreter &interpreter);
  double objective(const HostTensor &cotangent);
  /// The gradient that buildVjp gives for each operand; empty optional and `error` if something is wrong.
  std::optional<std::vector<HostTensor>> derive(const HostTensor &cotangent, llvm::ArrayRef<bool> needed);
  bool refused = false; // whether what derive found wrong is a refusal

  mlir::OwningOpRef<mlir::ModuleOp> module;
  mlir::OpBuilder builder;
  train::StepOp step;
  llvm::DenseMap<mlir::Operation *, HostTensor> inputs; // looked up only
  uint64_t seed = 1;
};

} // namespace amc::test

#endif
