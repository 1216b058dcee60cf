// amc-oracle-problems: rematerialization problems as numbers, each with what the budget planner made of it, for a solver
// that shares no code with it (solve.py, which says what the fields mean).
//
//   amc-oracle-problems random FIRST LAST            the random graphs of those seeds (test/unit/analysis_random.h)
//   amc-oracle-problems model MODEL.onnx [KEY=VALUE] a model's training step; options of `amc compile`, by recipe key
//
// One JSON object a line: the operations in the order of the planner's own plan, without its copies; the budget; and
// the plan, as the sequence of those operations with copies in their places. Budgets go from the smallest arena that
// the planner finds to the one that keeps everything, in `budgets` equal steps, the last left out.
#include "compiler/analysis/BudgetPlanner.h"
#include "compiler/analysis/GatherStep.h"
#include "compiler/dialect/Train.h"
#include "compiler/driver/Compile.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "test/unit/analysis_random.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

using namespace amc;
using Json = nlohmann::json;

namespace {

constexpr uint64_t budgets = 8;

Json describe(const StepGraph &graph, const CostModel &costs) {
  Json ops = Json::array(), values = Json::array();
  static const char *kinds[] = {"source", "compute", "view", "output", "micro_batch_end"};
  static const char *phases[] = {"forward", "backward", "recompute", "optimizer"};
  for (const GraphOp &op : graph.ops)
    ops.push_back({{"kind", kinds[static_cast<int>(op.kind)]},
                   {"phase", phases[static_cast<int>(op.phase)]},
                   {"name", op.name < graph.names.size() ? graph.names[op.name] : ""},
                   {"cost", costs.of(op) / costs.quantum},
                   {"workspace", op.workspaceBytes},
                   {"operands", op.operands},
                   {"results", op.results},
                   {"updated", op.updated},
                   {"reusable", op.reusable}});
  for (const GraphValue &value : graph.values)
    values.push_back({{"bytes", value.bytes},
                      {"root", value.root},
                      {"source", value.source},
                      {"persistent", value.persistent}});
  return {{"ops", ops}, {"values", values}};
}

// Problem and answer of one budget.
void print(const std::string &name, const StepGraph &step, const PlannerSettings &settings, uint64_t budget,
           const BudgetPlan &plan) {
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

void printAll(const std::string &name, const StepGraph &step, PlannerSettings settings) {
  BudgetPlanner planner(step, findBlocks(step), settings);
  uint64_t least = planner.plan(0).result.arenaBytes, most = planner.plan(~uint64_t(0) >> 1).result.arenaBytes;
  for (uint64_t i = 0; i < budgets && least < most; ++i) {
    uint64_t budget = least + (most - least) * i / budgets;
    print(name + "@" + std::to_string(i), step, settings, budget, planner.plan(budget));
  }
}

int random(uint32_t first, uint32_t last) {
  for (uint32_t seed = first; seed <= last; ++seed) {
    test::RandomModel model(seed);
    PlannerSettings settings{test::unitDevice, 1, {}};
    settings.packing.exactSteps = 100'000;
    printAll("random-" + std::to_string(seed), model.graph, settings);
  }
  return 0;
}

int trainModel(const char *path, int count, char **given) {
  CompileOptions options;
  options.model = path;
  options.emit = "optimizer";
  options.output = "-";
  for (int i = 0; i < count; ++i) {
    const char *equals = std::strchr(given[i], '=');
    std::string key(given[i], equals ? static_cast<size_t>(equals - given[i]) : std::strlen(given[i]));
    if (key == "shape")
      options.shape.push_back(equals + 1);
    else if (key == "loss-impl")
      options.lossImplementation = equals + 1;
    else if (key == "optimizer-in-backward")
      options.optimizerInBackward = equals + 1;
    else {
      std::fprintf(stderr, "amc-oracle-problems: %s: should be shape=, loss-impl= or optimizer-in-backward=\n", given[i]);
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
  mlir::OwningOpRef<mlir::ModuleOp> module = mlir::parseSourceString<mlir::ModuleOp>(result.text, &context);
  if (!module)
    return 1;
  for (auto step : module->getOps<train::StepOp>()) {
    mlir::FailureOr<GatheredStep> gathered = gatherStep(step);
    if (mlir::failed(gathered))
      return 1;
    printAll(path, gathered->graph, {*deviceModel("cpu", "fp32"), 256, {}});
  }
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  if (argc == 4 && !std::strcmp(argv[1], "random"))
    return random(static_cast<uint32_t>(std::atoi(argv[2])), static_cast<uint32_t>(std::atoi(argv[3])));
  if (argc >= 3 && !std::strcmp(argv[1], "model"))
    return trainModel(argv[2], argc - 3, argv + 3);
  std::fprintf(stderr, "usage: amc-oracle-problems random FIRST LAST | model MODEL.onnx [KEY=VALUE…]\n");
  return 2;
}
