// Random groups of operations: steps that hold them, compiled with and without fusion for any target, and values that
// their tensors are filled with.
#ifndef AMC_TEST_UNIT_RANDOM_GROUPS_H
#define AMC_TEST_UNIT_RANDOM_GROUPS_H

#include "compiler/emit/EmitPlan.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "passes/Passes.h"
#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <set>

namespace amc::test {

using Shape = std::vector<int64_t>;

inline std::string typeText(const Shape &shape, const std::string &element) {
  std::string text = "tensor<";
  for (int64_t size : shape)
    text += std::to_string(size) + "x";
  return text + element + ">";
}

struct Made {
  std::string text;
  bool rows = false; // whether a statistic of rows is in it
};

// A step of operations on one domain, each on random values made before; every value that nothing reads leaves it.
inline Made randomStep(uint32_t seed) {
  std::mt19937 random(seed);
  auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  static const Shape domains[] = {{3, 5, 7}, {2, 33}, {64}, {4, 16, 48}, {130, 20}, {1, 1}, {7, 1}, {2, 3, 2, 160}, {5, 100},
                                  {1, 2, 3, 64}, {2, 2, 3, 24}, {1, 3, 2, 6}, {2, 1, 5, 2}};
  const Shape domain = domains[pick(std::size(domains))];
  const std::string element = pick(3) == 0 ? "bf16" : pick(8) == 0 ? "f16" : "f32";
  Made made;
  std::vector<std::string> names, types;
  auto line = [&](const std::string &text) { made.text += "  " + text + "\n"; };
  auto input = [&](const Shape &shape) {
    std::string name = "%i" + std::to_string(names.size()), type = typeText(shape, element);
    line(name + " = train.input {name = \"" + name.substr(1) + "\"} : " + type);
    names.push_back(name);
    types.push_back(type);
  };
  const std::string full = typeText(domain, element);
  for (int i = 0; i < 3; ++i)
    input(domain);
  Shape column = {domain.back()}, row = domain, outer = domain;
  row.back() = 1;
  outer.front() = 1;
  for (const Shape &shape : {column, row, outer, Shape()})
    input(shape);
  std::set<std::string> unread;
  auto any = [&] { return static_cast<size_t>(pick(static_cast<int>(names.size()))); };
  auto whole = [&] {
    for (;;)
      if (size_t at = any(); types[at] == full)
        return at;
  };
  auto add = [&](const std::string &op, std::vector<size_t> operands, const std::string &attributes, unsigned results,
                 const std::string &resultTypes) {
    std::string name = "%v" + std::to_string(names.size()), text, of;
    for (size_t at : operands) {
      text += (text.empty() ? "" : ", ") + names[at];
      of += (of.empty() ? "" : ", ") + types[at];
      unread.erase(names[at]);
    }
    line(name + (results > 1 ? ":" + std::to_string(results) : "") + " = train." + op + " " + text + " " + attributes + " : (" +
         of + ") -> " + resultTypes);
    names.push_back(results > 1 ? name + "#0" : name);
    types.push_back(full);
    unread.insert(names.back());
  };
  const int operations = 1 + pick(9);
  for (int i = 0; i < operations; ++i) {
    static const char *unary[] = {"abs", "neg", "exp", "tanh", "sigmoid", "erf", "relu", "silu", "gelu", "ceil", "floor", "round"};
    static const char *binary[] = {"add", "sub", "mul", "max", "min", "div"};
    static const char *gates[] = {"silu", "gelu", "gelu_tanh", "relu"};
    if (pick(6) == 0) {
      static const char *numbers[] = {"0.5", "-2.0", "0.1", "3.0"};
      const Shape shape = pick(2) ? Shape() : column;
      std::string name = "%c" + std::to_string(names.size()), list;
      for (int64_t size : shape)
        list += (list.empty() ? ": " : ", ") + std::to_string(size);
      line(name + " = train.full {value = " + numbers[pick(std::size(numbers))] + " : f64, shape = array<i64" + list +
           ">, element = " + element + "} : () -> " + typeText(shape, element));
      names.push_back(name);
      types.push_back(typeText(shape, element));
    }
    if (domain.size() == 4 && element != "f16" && pick(3) == 0) {
      add(pick(2) ? "rotary" : "rotary_backward", {whole(), any(), any()}, pick(2) ? "{interleaved}" : "", 1, full);
      continue;
    }
    switch (int kind = pick(8); kind == 6 && element == "f16" ? 7 : kind) { // of f16 these are fused only
    case 0: case 1: add(unary[pick(std::size(unary))], {whole()}, "", 1, full); break;
    case 2: case 3: case 4: add(binary[pick(std::size(binary))], {whole(), any()}, "", 1, full); break;
    case 5: {
      std::string gate = gates[pick(std::size(gates))];
      if (pick(2))
        add("gated_activation", {whole(), whole()}, "{activation = \"" + gate + "\"}", 1, full);
      else
        add("gated_activation_backward", {whole(), whole(), whole()}, "{activation = \"" + gate + "\"}", 2,
            "(" + full + ", " + full + ")");
      break;
    }
    case 6: {
      Shape statistics(domain.begin(), domain.end() - 1);
      made.rows = true;
      const std::string axis = "{axis = " + std::to_string(domain.size() - 1) + " : i64}";
      if (pick(2))
        add(pick(2) ? "softmax" : "log_softmax", {whole()}, axis, 1, full);
      else if (pick(2))
        add(pick(2) ? "softmax_backward" : "log_softmax_backward", {whole(), whole()}, axis, 1, full);
      else if (pick(2))
        add("rms_norm", {whole(), 3}, "{epsilon = 1.0e-3 : f64}", 2, "(" + full + ", " + typeText(statistics, "f32") + ")");
      else
        add("layer_norm", {whole(), 3, 3},
            "{epsilon = 1.0e-3 : f64, operandSegmentSizes = array<i32: 1, 1, 1>}", 3,
            "(" + full + ", " + typeText(statistics, "f32") + ", " + typeText(statistics, "f32") + ")");
      break;
    }
    case 7: add("neg", {whole()}, "", 1, full); break;
    }
    if (pick(5) == 0) // a value that is used inside and outside
      line("train.output " + names.back() + " {name = \"kept" + std::to_string(i) + "\"} : " + full);
  }
  for (const std::string &name : unread)
    line("train.output " + name + " {name = \"" + name + "\"} : " + full);
  made.text = "train.step @step attributes {train.loss = \"none\"} {\n" + made.text + "}\n";
  return made;
}

// Both norms and their gradients, with statistics and sums over columns that leave the step, between additions.
inline std::string normStep(const Shape &domain, const std::string &element) {
  std::string full = typeText(domain, element), column = typeText({domain.back()}, element);
  std::string row = typeText(Shape(domain.begin(), domain.end() - 1), "f32");
  std::string text =
      "train.step @step attributes {train.loss = \"none\"} {\n"
      "%x = train.input {name = \"x\"} : " + full + "\n%d = train.input {name = \"d\"} : " + full +
      "\n%w = train.input {name = \"w\"} : " + column + "\n%b = train.input {name = \"b\"} : " + column +
      "\n%h = train.add %x, %d : (" + full + ", " + full + ") -> " + full +
      "\n%y, %r = train.rms_norm %h, %w {epsilon = 1.0e-3 : f64} : (" + full + ", " + column + ") -> (" + full + ", " + row +
      ")\n%g, %gw = train.rms_norm_backward %d, %h, %r, %w : (" + full + ", " + full + ", " + row + ", " + column + ") -> (" +
      full + ", " + column + ")\n%s = train.add %g, %x : (" + full + ", " + full + ") -> " + full +
      "\n%l, %m, %q = train.layer_norm %h, %w, %b {epsilon = 1.0e-3 : f64, operandSegmentSizes = array<i32: 1, 1, 1>} : (" + full +
      ", " + column + ", " + column + ") -> (" + full + ", " + row + ", " + row +
      ")\n%k, %kw, %kb = train.layer_norm_backward %d, %h, %m, %q, %w {resultSegmentSizes = array<i32: 1, 1, 1>} : (" + full + ", " +
      full + ", " + row + ", " + row + ", " + column + ") -> (" + full + ", " + column + ", " + column + ")\n";
  for (auto [name, type] : {std::pair("y", full), {"r", row}, {"s", full}, {"gw", column}, {"l", full}, {"m", row}, {"q", row}, {"k", full}, {"kw", column}, {"kb", column}})
    text += std::string("train.output %") + name + " {name = \"" + name + "\"} : " + type + "\n";
  text += "}\n";
  return text;
}

// Both softmaxes of scaled and masked scores, and their gradients, all of which leave the step.
inline std::string softmaxStep(const Shape &domain, const std::string &element) {
  std::string full = typeText(domain, element), column = typeText({domain.back()}, element), one = typeText({}, element), text;
  const std::string axis = " {axis = " + std::to_string(domain.size() - 1) + " : i64} : ";
  for (auto [name, type] : {std::pair("x", full), {"d", full}, {"m", column}, {"c", one}})
    text += std::string("%") + name + " = train.input {name = \"" + name + "\"} : " + type + "\n";
  text += "%s = train.mul %x, %c : (" + full + ", " + one + ") -> " + full + "\n%h = train.add %s, %m : (" + full + ", " + column +
          ") -> " + full + "\n%y = train.softmax %h" + axis + "(" + full + ") -> " + full +
          "\n%g = train.softmax_backward %d, %y" + axis + "(" + full + ", " + full + ") -> " + full + "\n%t = train.mul %g, %c : (" +
          full + ", " + one + ") -> " + full + "\n%l = train.log_softmax %h" + axis + "(" + full + ") -> " + full +
          "\n%k = train.log_softmax_backward %d, %l" + axis + "(" + full + ", " + full + ") -> " + full + "\n";
  for (const char *name : {"y", "t", "l", "k"})
    text += std::string("train.output %") + name + " {name = \"" + name + "\"} : " + full + "\n";
  return "train.step @step attributes {train.loss = \"none\"} {\n" + text + "}\n";
}

// A comparison chooses between bf16, fp32 and what both make; all of it leaves the step.
inline std::string mixedStep(const Shape &domain) {
  std::string wide = typeText(domain, "f32"), truth = typeText(domain, "i1"), text;
  auto input = [&](const std::string &name, const std::string &type) {
    text += "%" + name + " = train.input {name = \"" + name + "\"} : " + type + "\n";
  };
  auto cast = [&](const std::string &name, const std::string &of, const char *from, const char *to) {
    text += "%" + name + " = train.cast %" + of + " {to = " + to + "} : (" + typeText(domain, from) + ") -> " +
            typeText(domain, to) + "\n";
  };
  input("x", wide);
  input("n", typeText(domain, "bf16"));
  input("t", truth);
  cast("w", "n", "bf16", "f32");
  text += "%c = train.less %x, %w : (" + wide + ", " + wide + ") -> " + truth + "\n%s = train.select %t, %x, %w : (" + truth +
          ", " + wide + ", " + wide + ") -> " + wide + "\n";
  cast("f", "c", "i1", "f16");
  cast("b", "s", "f32", "i1");
  cast("d", "s", "f32", "bf16");
  for (auto [name, type] : {std::pair("c", "i1"), {"s", "f32"}, {"f", "f16"}, {"b", "i1"}, {"d", "bf16"}})
    text += std::string("train.output %") + name + " {name = \"" + name + "\"} : " + typeText(domain, type) + "\n";
  return "train.step @step attributes {train.loss = \"none\"} {\n" + text + "}\n";
}

inline plan::Plan compileStep(const std::string &text, bool fuse, const std::string &target = "cpu") {
  mlir::MLIRContext context;
  context.loadDialect<train::TrainDialect, plan::PlanDialect>();
  context.disableMultithreading();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  if (!module) {
    ADD_FAILURE() << "does not parse:\n" << text;
    return {};
  }
  mlir::PassManager passes(&context);
  passes.addPass(createAssignOffsets());
  passes.addPass(createVerifyPlan());
  if (fuse)
    passes.addPass(createFuseElementwise());
  passes.addPass(createLowerToPlan());
  if (failed(passes.run(*module))) {
    ADD_FAILURE() << "does not compile:\n" << text;
    return {};
  }
  EmitOptions options;
  options.target = target;
  mlir::FailureOr<plan::Plan> plan = emitPlan(*module, options);
  if (failed(plan)) {
    ADD_FAILURE() << "does not emit:\n" << text;
    return {};
  }
  return *plan;
}

// Values that are stored exactly in every type, some of them large or zero.
inline float valueAt(uint64_t i) {
  uint64_t mixed = (i + 1) * 0x9e3779b97f4a7c15u;
  return static_cast<float>(static_cast<int64_t>(mixed >> 57) - 64) / 32.0f;
}
inline void fill(plan::DType dtype, void *data, uint64_t elements, uint64_t seed) {
  for (uint64_t i = 0; i < elements; ++i) {
    float value = valueAt(i + seed * 7919);
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (dtype == plan::F32)
      static_cast<float *>(data)[i] = value;
    else if (dtype == plan::BF16)
      static_cast<uint16_t *>(data)[i] = static_cast<uint16_t>(bits >> 16);
    else if (dtype == plan::F16)
      static_cast<_Float16 *>(data)[i] = static_cast<_Float16>(value);
    else
      static_cast<uint8_t *>(data)[i] = value > 0;
  }
}
inline double readAt(plan::DType dtype, const void *data, uint64_t i) {
  if (dtype == plan::F32)
    return static_cast<const float *>(data)[i];
  if (dtype == plan::F16)
    return static_cast<double>(static_cast<const _Float16 *>(data)[i]);
  uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t *>(data)[i]) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

} // namespace amc::test

#endif
