// What a row of logits adds to the loss and what the loss gives back to it: label smoothing, z-loss and class weights,
// shared by cross_entropy and linear_cross_entropy. Formulas: compiler/dialect/LossOps.td.
//
// A row may come in pieces, in ascending order of the classes: LogitSums holds what has been seen of it.
#ifndef AMC_RUNTIME_DEVICE_CPU_ROWLOSS_H
#define AMC_RUNTIME_DEVICE_CPU_ROWLOSS_H

#include "runtime/device/cpu/Compute.h"
#include "runtime/device/cpu/Registry.h"
#include <algorithm>
#include <cmath>
#include <limits>

namespace amc::rt::cpu {

// `next`: as many elements that are looked at after these, or null.
inline float logSumExp(const float *x, int64_t n, const float *next = nullptr) { return hot().logSumExp(x, n, next); }
inline double logSumExp(const double *x, int64_t n, const double * = nullptr) {
  double top = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t i = 0; i < n; ++i)
    top = x[i] == x[i] && top == top ? std::max(top, x[i]) : x[i] + top;
  if (top == -std::numeric_limits<double>::infinity())
    return top;
  for (int64_t i = 0; i < n; ++i)
    sum += std::exp(x[i] - top);
  return top + std::log(sum);
}

// y = factor * e^(x - lse)
inline void expScaled(const float *x, float lse, float factor, float *y, int64_t n) {
  hot().crossEntropyBackward(x, lse, factor, y, n);
}
inline void expScaled(const double *x, double lse, double factor, double *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] = factor * std::exp(x[i] - lse);
}

// The sum of weights[i] * x[i], or of x[i] without weights.
inline double weightedSum(const float *x, const float *weights, int64_t n) {
  return static_cast<double>(weights ? hot().dot(x, weights, n) : hot().sum(x, n));
}
inline double weightedSum(const double *x, const double *weights, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum += weights ? weights[i] * x[i] : x[i];
  return sum;
}

// What the attributes say; from an instruction whose signature has been checked. Plans may leave out label_smoothing
// and z_loss: then they are 0.
struct LossOptions {
  int64_t ignored;
  double smoothing, zLoss;
  bool weighted; // has class weights
  static LossOptions create(const InstructionSpec &spec, size_t weights) {
    auto real = [&](const char *name) { return spec.find(name) ? spec.real(name) : 0.0; };
    return {spec.integer("ignore_index"), real("label_smoothing"), real("z_loss"), spec.inputs[weights].present()};
  }
  // `statistic` is the type of losses; class weights are inputs[weights].
  static Status check(const InstructionSpec &spec, size_t weights, int64_t classes, plan::DType statistic) {
    auto real = [&](const char *name) { return spec.find(name) ? spec.real(name) : 0.0; };
    AMC_EXPECT(real("label_smoothing") >= 0 && real("label_smoothing") <= 1,
               "attributes.label_smoothing: should be in [0, 1]");
    AMC_EXPECT(std::isfinite(real("z_loss")) && real("z_loss") >= 0,
               "attributes.z_loss: should be finite and at least 0");
    if (!spec.inputs[weights].present())
      return Status();
    AMC_TRY(expectDType("class_weights", spec.inputs[weights], statistic));
    return expectShape("class_weights", spec.inputs[weights], {classes});
  }
};

// The options with the weights of one run.
template <class T> struct RowLoss {
  int64_t ignored, classes;
  T onLabel, onAll, zLoss; // target: onLabel * w[label] at the label, onAll * w[c] everywhere
  const T *weights;        // or null: all 1
  T total;                 // sum of w

  RowLoss(const LossOptions &options, const T *weights, int64_t classes)
      : ignored(options.ignored), classes(classes), onLabel(static_cast<T>(1 - options.smoothing)),
        onAll(static_cast<T>(options.smoothing / static_cast<double>(std::max<int64_t>(classes, 1)))),
        zLoss(static_cast<T>(options.zLoss)), weights(options.weighted ? weights : nullptr),
        total(static_cast<T>(classes)) {
    if (!this->weights || !onAll)
      return;
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c)
      sum += static_cast<double>(weights[c]);
    total = static_cast<T>(sum);
  }

  T labelTarget(int64_t label) const { return weights ? onLabel * weights[label] : onLabel; }
  // `weightedLogits`: sum of w[c] * logit[c], looked at with label smoothing only.
  T loss(int64_t label, T lse, T labelLogit, T weightedLogits) const {
    T sum = labelTarget(label) * (lse - labelLogit);
    if (onAll != 0)
      sum += onAll * (total * lse - weightedLogits);
    if (zLoss != 0)
      sum += zLoss * lse * lse;
    return sum;
  }
  // Gradient of classes [first, first + n) of a row, from its logits z; dz may be z.
  void gradient(int64_t label, T lse, T dloss, const T *z, int64_t first, int64_t n, T *dz) const {
    T sum = labelTarget(label);
    if (onAll != 0)
      sum += onAll * total;
    if (zLoss != 0)
      sum += 2 * zLoss * lse;
    expScaled(z, lse, dloss * sum, dz, n);
    if (onAll != 0) {
      T each = dloss * onAll;
      for (int64_t i = 0; i < n; ++i)
        dz[i] -= weights ? each * weights[first + i] : each;
    }
    if (label >= first && label < first + n)
      dz[label - first] -= dloss * labelTarget(label);
  }
};

// What has been seen of a row of logits; double, so that the number of pieces does not show.
struct LogitSums {
  double top = -std::numeric_limits<double>::infinity(), sum = 0; // log-sum-exp is top + log(sum)
  double label = 0, weighted = 0;

  // Classes [first, first + n).
  template <class T> void add(const RowLoss<T> &loss, int64_t labelClass, const T *z, int64_t first, int64_t n) {
    double part = static_cast<double>(logSumExp(z, n));
    if (part > top) {
      sum = sum * std::exp(top - part) + 1;
      top = part;
    } else if (part != -std::numeric_limits<double>::infinity()) {
      sum += std::exp(part - top);
    }
    if (labelClass >= first && labelClass < first + n)
      label = static_cast<double>(z[labelClass - first]);
    if (loss.onAll != 0)
      weighted += weightedSum(z, loss.weights ? loss.weights + first : nullptr, n);
  }
  // What is known of other classes.
  void add(const LogitSums &other) {
    if (other.top > top) {
      sum = sum * std::exp(top - other.top) + other.sum;
      top = other.top;
    } else if (other.top != -std::numeric_limits<double>::infinity() || std::isnan(other.sum)) {
      sum += other.sum * std::exp(other.top - top);
    }
    label += other.label;
    weighted += other.weighted;
  }
  template <class T> T lse() const { return static_cast<T>(sum > 0 || sum != sum ? top + std::log(sum) : top); }
};

// Adds the rows' losses in blocks of 64, ascending.
template <class T, class Row> T sumRows(int64_t rows, Row row) {
  T loss = 0;
  for (int64_t block = 0; block < rows; block += 64) {
    T sum = 0;
    for (int64_t r = block; r < std::min(block + 64, rows); ++r)
      sum += row(r);
    loss += sum;
  }
  return loss;
}

} // namespace amc::rt::cpu

#endif
