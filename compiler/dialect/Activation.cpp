// Activation functions in double precision, for the oracle.
#include "compiler/dialect/Activation.h"
#include <algorithm>
#include <cmath>

using llvm::StringRef;

namespace amc::train {

bool isActivation(StringRef kind) {
  return kind == "silu" || kind == "gelu" || kind == "gelu_tanh" || kind == "relu";
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu(double x, bool tanhForm) {
  if (tanhForm)
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  return 0.5 * x * (1 + std::erf(x * M_SQRT1_2));
}
double geluDerivative(double x, bool tanhForm) {
  if (!tanhForm)
    return 0.5 * (1 + std::erf(x * M_SQRT1_2)) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI);
  double c = std::sqrt(2 / M_PI), t = std::tanh(c * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
}
double siluDerivative(double x) {
  double s = sigmoid(x);
  return s * (1 + x * (1 - s));
}
double activate(StringRef kind, double x) {
  if (kind == "silu")
    return x * sigmoid(x);
  if (kind == "relu")
    return std::max(x, 0.0);
  return gelu(x, kind == "gelu_tanh");
}
double activateDerivative(StringRef kind, double x) {
  if (kind == "silu")
    return siluDerivative(x);
  if (kind == "relu")
    return x > 0;
  return geluDerivative(x, kind == "gelu_tanh");
}

} // namespace amc::train
