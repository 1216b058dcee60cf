// amc-fused-loss TOOLS WORK FIXTURE…: compiles every fixture with the loss unfused and as linear cross-entropy, in fp32
// and in bf16, with default options and with label smoothing and z-loss, and compares the loss, what --eval prints and
// every gradient of the first batch. With --perturb the fused one gets another smoothing, and success is that loss and
// gradients then disagree: that the comparison can fail.
#include "runtime/trainer/Safetensors.h"
#include "test/parity/Compare.h"
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

namespace fs = std::filesystem;
using namespace amc;
using namespace amc::parity;

namespace {

// What the two formulas may differ by: of the loss, and of a gradient's norm.
struct Bounds {
  double loss, gradient;
};
constexpr Bounds wide{1e-5, 5e-4}, narrow{1e-2, 1e-2};

[[noreturn]] void fail(const std::string &message) { throw std::runtime_error(message); }

template <class T> T take(rt::Expected<T> expected) {
  if (!expected.ok())
    fail(expected.status().message());
  return std::move(expected).value();
}

std::string readText(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  if (!in)
    fail(path.string() + " cannot be read");
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// Runs a command and returns what it printed. Words hold no quotes.
std::string runTool(const std::vector<std::string> &command, const fs::path &log) {
  std::string line;
  for (const std::string &word : command)
    line += "'" + word + "' ";
  int status = std::system((line + ">'" + log.string() + "' 2>&1").c_str());
  std::string text = readText(log);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    fail(line + "failed:\n" + text);
  return text;
}

struct Outcome {
  double evaluated = 0;
  std::map<std::string, std::vector<double>> tensors; // "loss" and "grad.NAME"
};

class Fixture {
public:
  Fixture(fs::path tools, fs::path folder, const fs::path &root)
      : tools(std::move(tools)), folder(std::move(folder)), work(root / this->folder.filename()),
        meta(nlohmann::json::parse(readText(this->folder / "meta.json"))) {
    fs::create_directories(work);
  }

  Outcome run(const std::string &name, const std::vector<std::string> &options) {
    fs::path plan = work / (name + ".amplan"), log = work / (name + ".log"),
             gradients = work / (name + ".safetensors");
    std::vector<std::string> command = {
        (tools / "amc").string(), "compile", (folder / "model.onnx").string(), "-o", plan.string(),
        meta["loss"] == "causal-lm" ? "--loss=causal-lm" : "--loss=cross-entropy", "--ignore-index",
        std::to_string(meta["ignore_index"].get<int64_t>()), "--shape",
        "input_ids=" + std::to_string(meta["batch"].get<int>()) + "x" +
            std::to_string(meta["sequence"].get<int>())};
    command.insert(command.end(), options.begin(), options.end());
    runTool(command, log);
    std::string amrun = (tools / "amrun").string(), data = (folder / "batches.safetensors").string();
    Outcome outcome;
    std::string printed = runTool({amrun, plan.string(), "--data", data, "--eval"}, log);
    size_t at = printed.find("\nloss ");
    if (at == printed.npos)
      fail("amrun --eval printed no loss: " + printed);
    outcome.evaluated = std::stod(printed.substr(at + 6));
    runTool({amrun, plan.string(), "--data", data, "--dump-gradients", gradients.string()}, log);
    rt::SafetensorsReader file = take(rt::SafetensorsReader::open(gradients.string()));
    for (const rt::TensorInfo &info : file.tensors()) {
      std::vector<double> &values = outcome.tensors[info.name];
      values.resize(info.elements);
      rt::Status read = file.read(info, 0, info.elements, plan::F64, reinterpret_cast<std::byte *>(values.data()));
      if (!read.ok())
        fail(read.message());
    }
    return outcome;
  }

private:
  fs::path tools, folder, work;
  nlohmann::json meta;
};

// Prints one row; whether loss and gradients agree.
std::pair<bool, bool> compare(const std::string &name, const Outcome &fused, const Outcome &unfused, Bounds bounds) {
  if (fused.tensors.size() != unfused.tensors.size())
    fail(name + ": there are " + std::to_string(fused.tensors.size()) + " gradients fused and " +
         std::to_string(unfused.tensors.size()) + " unfused");
  double global = 0;
  for (const auto &[tensor, values] : unfused.tensors)
    global = std::hypot(global, tensor == "loss" ? 0 : norm(values));
  Worst loss, gradients;
  for (const auto &[tensor, values] : unfused.tensors) {
    auto found = fused.tensors.find(tensor);
    if (found == fused.tensors.end())
      fail(name + ": there is no " + tensor + " with the fused loss");
    if (tensor == "loss")
      loss.add(relative(found->second.at(0), values.at(0)) / bounds.loss, "loss");
    else if (norm(values) < vanishingGradient * global || bounds.gradient == narrow.gradient) // bf16: of the whole
      gradients.add(norm(minus(found->second, values)) / (bounds.gradient * global), tensor);
    else
      gradients.add(norm(minus(found->second, values)) / (bounds.gradient * norm(values)), tensor);
  }
  loss.add(relative(fused.evaluated, unfused.evaluated) / bounds.loss, "--eval");
  std::printf("%-32s %8.4f %9.4f  %4zu  %s\n", name.c_str(), loss.share, gradients.share, unfused.tensors.size() - 1,
              loss.holds() && gradients.holds() ? "ok" : ("differs: " + gradients.name).c_str());
  return {loss.holds(), gradients.holds()};
}

} // namespace

int main(int argc, char **argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  bool perturb = !arguments.empty() && arguments[0] == "--perturb";
  if (perturb)
    arguments.erase(arguments.begin());
  if (arguments.size() < 3) {
    std::cerr << "usage: amc-fused-loss [--perturb] TOOLS WORK FIXTURE…\n";
    return 2;
  }
  std::printf("Difference / bound: 1 is the bound.\n%-32s %8s %9s  gradients\n", "fixture", "loss", "gradients");
  bool good = true;
  for (size_t i = 2; i < arguments.size(); ++i) {
    std::string name = fs::path(arguments[i]).filename();
    try {
      Fixture fixture(arguments[0], arguments[i], arguments[1]);
      auto check = [&](const std::string &what, const std::vector<std::string> &options, Bounds bounds) {
        std::vector<std::string> fused = options;
        fused.push_back("--loss-impl=linear-cross-entropy");
        if (perturb)
          fused.push_back("--label-smoothing=0.2");
        auto [loss, gradients] =
            compare(name + " " + what, fixture.run("fused", fused), fixture.run("unfused", options), bounds);
        good &= perturb ? !loss && !gradients : loss && gradients;
      };
      check("fp32", {}, wide);
      if (perturb)
        continue;
      check("fp32 smoothing, z-loss, sum",
            {"--label-smoothing=0.1", "--z-loss=0.001", "--loss-reduction=sum", "--ac=full"}, wide);
      check("bf16", {"--precision=bf16"}, narrow);
    } catch (const std::exception &error) {
      std::printf("%-32s FAILED: %s\n", name.c_str(), error.what());
      good = false;
    }
    std::fflush(stdout);
  }
  return good ? 0 : 1;
}
