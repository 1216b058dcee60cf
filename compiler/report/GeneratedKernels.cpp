#include "compiler/report/GeneratedKernels.h"
#include "compiler/report/Peak.h"
#include "compiler/report/Report.h"
#include "runtime/plan/FusedKernels.h"

namespace amc::report {
namespace {

struct GeneratedKernel {
  std::string function, operations;
  uint64_t calls = 0, blocks = 0, threads = 0; // calls: instructions that launch it
  const plan::Code::Resources *resources = nullptr;
};

std::vector<GeneratedKernel> gatherKernels(const plan::Plan &plan) {
  std::vector<GeneratedKernel> kernels;
  if (!rt::architectureOf(plan.target()))
    return kernels;
  for (const plan::Code &code : plan.code()) {
    kernels.resize(std::max(kernels.size(), static_cast<size_t>(code.names_size())));
    for (int i = 0; i < code.names_size(); ++i) {
      GeneratedKernel &kernel = kernels[static_cast<size_t>(i)];
      kernel.function = code.names(i);
      if (i < code.resources_size())
        kernel.resources = &code.resources(i);
    }
  }
  for (const plan::FusedKernel &fused : plan.fused_kernels())
    for (const plan::FusedKernel::Launch &launch : fused.launches())
      if (launch.function() < kernels.size() && launch.grain() > 0) {
        GeneratedKernel &kernel = kernels[launch.function()];
        kernel.operations = fused.name();
        kernel.blocks = launch.extent() / launch.grain() + (launch.extent() % launch.grain() != 0);
        kernel.threads = launch.threads();
      }
  for (const plan::Instruction &instruction : plan.instructions())
    if (const plan::FusedKernel *fused = rt::fusedKernelOf(plan, instruction))
      for (const plan::FusedKernel::Launch &launch : fused->launches())
        if (launch.function() < kernels.size())
          ++kernels[launch.function()].calls;
  return kernels;
}

} // namespace

std::string generatedKernelsText(const plan::Plan &plan) {
  std::vector<GeneratedKernel> kernels = gatherKernels(plan);
  if (kernels.empty())
    return "";
  auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
  std::string out = "\ngenerated kernels, ";
  if (kernels.front().resources)
    out += "as ptxas reports them for " + *rt::architectureOf(plan.target()) + "\n";
  else
    out += "PTX alone: ptxas was not there to report more\n";
  out += format("  %6s %9s %8s %10s %10s %8s  %s\n", "calls", "blocks", "threads", "registers", "shared", "spilled",
                "function");
  for (const GeneratedKernel &kernel : kernels) {
    out += format("  %6llu %9llu %8llu", number(kernel.calls), number(kernel.blocks), number(kernel.threads));
    if (const plan::Code::Resources *of = kernel.resources)
      out += format(" %10llu %10s %8s", number(of->registers()), bytesText(of->shared_bytes()).c_str(),
                    bytesText(of->spill_bytes()).c_str());
    else
      out += format(" %10s %10s %8s", "-", "-", "-");
    out += "  " + kernel.function + "\n";
  }
  return out;
}

nlohmann::ordered_json generatedKernelsJson(const plan::Plan &plan) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const GeneratedKernel &kernel : gatherKernels(plan)) {
    list.push_back({{"function", kernel.function},
                    {"operations", kernel.operations},
                    {"calls", kernel.calls},
                    {"blocks", kernel.blocks},
                    {"threads", kernel.threads}});
    if (const plan::Code::Resources *of = kernel.resources)
      list.back().update({{"registers", of->registers()},
                          {"shared_bytes", of->shared_bytes()},
                          {"spill_bytes", of->spill_bytes()}});
  }
  return list;
}

} // namespace amc::report
