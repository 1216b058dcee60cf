// Comparisons of the parity table. A comparison that involves a NaN never holds: bounds are asked
// as `value <= bound`.
#ifndef AMC_TEST_PARITY_COMPARE_H
#define AMC_TEST_PARITY_COMPARE_H

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace amc::parity {

// The bounds, for fp32.
inline constexpr double lossBound = 1e-5;     // relative, first loss
inline constexpr double lossesBound = 1e-4;   // relative, each of the ten
inline constexpr double gradientBound = 1e-4; // of the tensor's largest element
inline constexpr double weightBound = 1e-2;   // of the distance the weight has gone
inline constexpr double vanishingGradient =
    1e-7; // of the global norm: mathematically zero, numerically noise
inline constexpr double vanishingBound = 1e-6; // of the global norm: what is asked of such a tensor

// The bounds, for bf16 against PyTorch in fp32. A bf16 number is exact to 2^-9, and no weight moves
// by less than that of itself, so weights are only compared where fp32 masters keep what rounding
// would lose. Adam goes full steps by the sign of gradients that are nothing but rounding: elements of
// which PyTorch's is that small (the key part of GPT-2's bias) are left out.
inline constexpr double narrowLossBound = 3e-3;     // relative, each loss
inline constexpr double narrowGradientBound = 0.1;  // of the tensor's norm …
inline constexpr double narrowGradientFloor = 0.01; // … plus this much of the global norm
inline constexpr double narrowWeightBound = 0.5;    // of the distance the weight has gone …
inline constexpr double narrowRounding = 0x1p-9;    // … plus this much of the weight

inline double norm(const std::vector<double> &a) {
  double sum = 0;
  for (double x : a)
    sum += x * x;
  return std::sqrt(sum);
}

// NaN if there is one.
inline double maxAbs(const std::vector<double> &a) {
  double largest = 0;
  for (double x : a) {
    if (std::isnan(x))
      return x;
    largest = std::fmax(largest, std::fabs(x));
  }
  return largest;
}

inline std::vector<double> minus(const std::vector<double> &a, const std::vector<double> &b) {
  if (a.size() != b.size())
    return {std::numeric_limits<double>::quiet_NaN()};
  std::vector<double> difference(a.size());
  for (size_t i = 0; i < a.size(); ++i)
    difference[i] = a[i] - b[i];
  return difference;
}

inline double relative(double ours, double theirs) {
  double difference = std::fabs(ours - theirs);
  return difference == 0 ? 0 : difference / std::fabs(theirs);
}

// A measured value as a share of its bound: it holds when `share <= 1`.
struct Share {
  double share = 0;
  bool vanishing = false; // judged by vanishingBound
};

inline Share gradientShare(const std::vector<double> &ours, const std::vector<double> &theirs,
                           double globalNorm) {
  if (ours.size() != theirs.size())
    return {std::numeric_limits<double>::quiet_NaN()};
  if (norm(theirs) < vanishingGradient * globalNorm)
    return {maxAbs(ours) / (vanishingBound * globalNorm), true};
  double difference = maxAbs(minus(ours, theirs));
  return {difference == 0 ? 0 : difference / (gradientBound * maxAbs(theirs))};
}

inline Share narrowGradientShare(const std::vector<double> &ours, const std::vector<double> &theirs,
                                 double globalNorm) {
  return {norm(minus(ours, theirs)) /
              (narrowGradientBound * norm(theirs) + narrowGradientFloor * globalNorm),
          norm(theirs) < vanishingGradient * globalNorm};
}

inline double weightShare(const std::vector<double> &ours, const std::vector<double> &theirs,
                          const std::vector<double> &initial) {
  double difference = norm(minus(ours, theirs));
  return difference == 0 ? 0 : difference / (weightBound * norm(minus(theirs, initial)));
}

// `gradient`: PyTorch's, of the first step.
inline double narrowWeightShare(const std::vector<double> &ours, const std::vector<double> &theirs,
                                const std::vector<double> &initial, const std::vector<double> &gradient,
                                double globalNorm) {
  std::vector<double> off = minus(ours, theirs), gone = minus(theirs, initial), kept = theirs;
  for (size_t i = 0; i < gradient.size() && off.size() == gradient.size(); ++i)
    if (gradient[i] != 0 && std::fabs(gradient[i]) < vanishingGradient * globalNorm)
      off[i] = gone[i] = kept[i] = 0;
  return norm(off) / (narrowWeightBound * norm(gone) + narrowRounding * norm(kept));
}

// Keeps the larger share and whose it is; NaN is larger than everything and stays.
struct Worst {
  double share = 0;
  std::string name;
  void add(double candidate, const std::string &whose) {
    if (std::isnan(share) || !(candidate > share || std::isnan(candidate)))
      return;
    share = candidate;
    name = whose;
  }
  bool holds() const { return share <= 1; }
};

} // namespace amc::parity

#endif
