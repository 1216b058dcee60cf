// amc-oracle-problems: rematerialization problems as numbers, each with what the budget planner
// made of it, for a solver that shares no code with it (solve.py, which says what the fields mean).
//
//   amc-oracle-problems BUDGETS random FIRST LAST
//       the random graphs of those seeds (test/unit/analysis_random.h)
//   amc-oracle-problems BUDGETS model MODEL.onnx [KEY=VALUE…]
//       a model's training step; shape= and loss-impl= are those of amc
//
// One JSON object a line: the operations in the order of the planner's own plan, without its
// copies; the budget; and the plan, as the sequence of those operations with copies in their
// places. Budgets go from the smallest arena that the planner finds to the one that keeps
// everything, in equal steps, the last left out.
#include "compiler/analysis/BudgetPlanner.h"
#include "compiler/analysis/GatherStep.h"
#include "compiler/dialect/Train.h"
#include "compiler/driver/Compile.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "test/unit/analysis_random.h"
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

using namespace amc;
using Json = nlohmann::json;

namespace {

struct Arguments {
  uint64_t budgets;
  int count;
  char **words;
};

const char *nameOf(OpKind kind) {
  switch (kind) {
  case OpKind::Source: return "source";
  case OpKind::Compute: return "compute";
  case OpKind::View: return "view";
  case OpKind::Wait: return "wait"; // behind the planner: in no problem
  case OpKind::Output: return "output";
  case OpKind::MicroBatchEnd: return "micro_batch_end";
  }
  return "";
}

Json describe(const StepGraph &graph, const CostModel &costs) {
  Json ops = Json::array(), values = Json::array();
  static const char *phases[] = {"forward", "backward", "recompute", "optimizer"};
  for (const GraphOp &op : graph.ops)
    ops.push_back({{"kind", nameOf(op.kind)},
                   {"phase", phases[static_cast<int>(op.phase)]},
                   {"name", op.name < graph.names.size() ? graph.names[op.name] : ""},
                   {"cost", costs.of(op) / costs.quantum},
                   {"workspace", op.workspaceBytes},
                   {"operands", op.operands},
                   {"results", op.results},
                   {"reusable", op.reusable}});
  for (const GraphValue &value : graph.values)
    values.push_back({{"bytes", value.bytes},
                      {"root", value.root},
                      {"source", value.source},
                      {"persistent", value.persistent}});
  return {{"ops", ops}, {"values", values}};
}

// Problem and answer of one budget.
void print(const std::string &name, const StepGraph &step, const PlannerSettings &settings,
           uint64_t budget, const BudgetPlan &plan) {
  const CarriedOut &result = plan.result;
  std::vector<uint32_t> order, placeOf(step.ops.size());
  for (uint32_t op : result.order)
    if (result.applied.graph.ops[op].phase != OpPhase::Recompute) {
      placeOf[result.applied.originOf[op]] = static_cast<uint32_t>(order.size());
      order.push_back(result.applied.originOf[op]);
    }
  CostModel costs(step, settings.device);
  AppliedStep given = reorderStep(step, order);
  Json problem = describe(given.graph, costs);
  std::vector<uint32_t> sequence;
  for (uint32_t op : result.order)
    sequence.push_back(placeOf[result.applied.originOf[op]]);
  problem["name"] = name;
  problem["budget"] = budget;
  problem["alignment"] = settings.alignment;
  problem["plan"] = {{"sequence", sequence},
                     {"cost", result.cost / costs.quantum},
                     {"bound", plan.costBound / costs.quantum},
                     {"step_cost", plan.stepCost / costs.quantum},
                     {"live_bytes", result.maxLiveBytes},
                     {"arena_bytes", result.arenaBytes}};
  std::printf("%s\n", problem.dump().c_str());
}

void printAll(const std::string &name, const StepGraph &step, const PlannerSettings &settings,
              uint64_t budgets) {
  BudgetPlanner planner(step, findBlocks(step), settings);
  uint64_t least = planner.plan(0).result.arenaBytes,
           most = planner.plan(~uint64_t(0) >> 1).result.arenaBytes;
  for (uint64_t i = 0; i < budgets && least < most; ++i) {
    uint64_t budget = least + (most - least) * i / budgets;
    print(name + "@" + std::to_string(i), step, settings, budget, planner.plan(budget));
  }
}

int randomGraphs(const Arguments &arguments) {
  const auto first = static_cast<uint32_t>(std::atoi(arguments.words[0])),
             last = static_cast<uint32_t>(std::atoi(arguments.words[1]));
  for (uint32_t seed = first; seed <= last; ++seed) {
    test::RandomModel model(seed);
    PlannerSettings settings{test::unitDevice, 1, {}};
    settings.packing.exactSteps = 100'000;
    printAll("random-" + std::to_string(seed), model.graph, settings, arguments.budgets);
  }
  return 0;
}

int trainingStep(const Arguments &arguments) {
  CompileOptions options;
  options.model = arguments.words[0];
  options.emit = "optimizer";
  options.output = "-";
  for (int i = 1; i < arguments.count; ++i) {
    const std::string word = arguments.words[i];
    const size_t equals = word.find('=');
    const std::string key = word.substr(0, equals),
                      value = equals == word.npos ? "" : word.substr(equals + 1);
    if (key == "shape")
      options.shape.push_back(value);
    else if (key == "loss-impl")
      options.lossImplementation = value;
    else {
      std::fprintf(stderr, "amc-oracle-problems: %s: should be shape= or loss-impl=\n",
                   word.c_str());
      return 2;
    }
  }
  CompileResult result = compile(options, [](const Message &message) {
    if (message.severity == Message::Error)
      std::fprintf(stderr, "%s: %s\n", message.where.c_str(), message.text.c_str());
  });
  if (result.code != Done)
    return result.code;
  mlir::MLIRContext context;
  context.loadDialect<train::TrainDialect>();
  mlir::OwningOpRef<mlir::ModuleOp> module =
      mlir::parseSourceString<mlir::ModuleOp>(result.text, &context);
  if (!module)
    return 1;
  std::string name = options.model;
  if (size_t slash = name.rfind("/model.onnx"); slash != name.npos)
    name = name.substr(0, slash).substr(name.rfind('/', slash - 1) + 1);
  for (auto step : module->getOps<train::StepOp>()) {
    mlir::FailureOr<GatheredStep> gathered = gatherStep(step);
    if (mlir::failed(gathered))
      return 1;
    printAll(name, gathered->graph, {*deviceModel("cpu", "fp32"), 256, {}}, arguments.budgets);
  }
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  const std::string what = argc > 2 ? argv[2] : "";
  const Arguments arguments{argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 0, argc - 3, argv + 3};
  if (what == "random" && argc == 5 && arguments.budgets > 0)
    return randomGraphs(arguments);
  if (what == "model" && argc > 3 && arguments.budgets > 0)
    return trainingStep(arguments);
  std::fprintf(stderr, "usage: amc-oracle-problems BUDGETS random FIRST LAST | BUDGETS model "
                       "MODEL.onnx [KEY=VALUE…]\n");
  return 2;
}
