// Activation functions in double precision, for the oracle (ComputeOpInterface::evaluate).
#ifndef AMC_COMPILER_DIALECT_ACTIVATION_H
#define AMC_COMPILER_DIALECT_ACTIVATION_H

#include "llvm/ADT/StringRef.h"

namespace amc::train {

double sigmoid(double x);
/// x * Phi(x), or its approximation by tanh.
double gelu(double x, bool tanhForm);
double geluDerivative(double x, bool tanhForm);
double siluDerivative(double x);

/// Whether gated operations have an activation of this name: silu, gelu, gelu_tanh, relu.
bool isActivation(llvm::StringRef kind);
double activate(llvm::StringRef kind, double x);
double activateDerivative(llvm::StringRef kind, double x);

} // namespace amc::train

#endif
