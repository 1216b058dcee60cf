// Techniques are sets of flags, so that a row is what a user gets with them. What a user has fixed
// (--loss-impl, --optimizer-in-backward, --tile-mlp) is the same in every row. Updating in backward needs clipping to be off,
// so those rows turn it off and say so. Order: what is kept for backward varies fastest, so that the driver derives backward
// once for the rows between two changes of anything else. Of several ranks' plans the first row is one rank's, for
// comparison; with megatron_fsdp rows of ZeRO 0 to 2 follow, unless one of them is asked for. Within a budget the
// driver chooses what the flags leave open, and the row names it.
#include "tools/amc/Table.h"
#include "compiler/analysis/BytesText.h"
#include "compiler/driver/Compile.h"
#include "compiler/driver/DeviceMemory.h"
#include "compiler/driver/MeshRules.h"
#include "compiler/report/Table.h"
#include "runtime/plan/Splits.h"
#include <algorithm>
#include <iostream>
#include <set>
#include <unistd.h>

namespace amc {
namespace {

using Flags = std::vector<std::pair<std::string, std::string>>;

struct Choice {
  std::string name; // "" for what is not worth naming
  Flags flags;
};

const OptionSpec *specOf(std::string_view flag) {
  for (const OptionSpec &spec : optionTable())
    if (spec.flag == flag)
      return &spec;
  return nullptr;
}

// What only selective takes, and what only linear cross-entropy takes, is another row's elsewhere.
void dropWhatOthersTake(CompileOptions &options) {
  const CompileOptions defaults;
  if (options.activationCheckpointing != "selective") {
    options.acMatmuls = defaults.acMatmuls;
    options.acPolicy = defaults.acPolicy;
  }
  if (options.activationCheckpointing != "selective" && options.activationCheckpointing != "full") {
    options.acKvSharing = defaults.acKvSharing;
    options.acTrace = false;
  }
  if (options.lossImplementation != "linear-cross-entropy")
    options.lossTilesInFlight = defaults.lossTilesInFlight;
}

class Table {
public:
  Table(const CompileOptions &options, const TableOptions &table) : asked(options), table(table) {}

  int print() {
    report::TableRequest request;
    request.model = asked.model;
    for (const std::string &shape : asked.shape)
      request.shapes += (request.shapes.empty() ? "" : " ") + shape;
    request.precision = asked.precision;
    if (!asked.deviceMemory.empty()) {
      DeviceMemory memory = deviceMemory(asked);
      request.deviceMemory = memory.capacity;
      request.reserve = memory.reserve;
    }
    Techniques techniques(asked, quiet());
    if (!techniques.ready())
      return BadInput;
    expected = expectedRows();
    if (mesh().ranks() > 1)
      addRow(techniques, {"", alone()}, {"", {{"--ac", "none"}}}, "one rank");
    addZeroRows(techniques);
    bool tiles = true;
    for (const Choice &step : steps()) {
      bool tiled = std::find(step.flags.begin(), step.flags.end(), tileOn) != step.flags.end();
      for (const char *policy : policies())
        if (tiled && !tiles) {
          ++skipped;
        } else {
          addRow(techniques, step, {policy == std::string("none") ? "" : policy, {{"--ac", policy}}});
          if (tiled && rows.back().plan && !hasTiles(*rows.back().plan)) {
            tiles = false;
            rows.pop_back();
            ++skipped;
          }
        }
    }
    if (!tiles)
      request.notes.push_back("tiled MLP: no row, for there is nothing to tile in this model");
    addBudgets(techniques);
    std::cout << (table.json ? report::tableJson(request, rows) : report::tableText(request, rows));
    bool none = std::none_of(rows.begin(), rows.end(),
                             [](const report::TableRow &row) { return row.plan.has_value(); });
    return none ? BadInput : Done;
  }

private:
  rt::MeshShape mesh() const { return decideMesh(asked).shape; }
  // "fsdp2, dp_shard 8", "megatron_fsdp, ZeRO 3, dp_shard 8"; nothing for one rank.
  std::string meshName(std::string zero = "") const {
    if (mesh().ranks() == 1)
      return "";
    if (zero.empty())
      zero = std::to_string(asked.zeroDpStrategy);
    return asked.strategy + (asked.strategy == "megatron_fsdp" ? ", ZeRO " + zero : "") + ", " + rt::meshText(mesh());
  }
  // Whether rows may differ in what is spread.
  bool zeroIsOpen() const {
    return asked.strategy == "megatron_fsdp" && mesh().size[1] > 1 && !given("--zero-dp-strategy") &&
           asked.zeroDpStrategy == CompileOptions().zeroDpStrategy;
  }
  // What makes one rank of them.
  Flags alone() const {
    Flags flags = {{"--strategy", "fsdp2"}, {"--dp-size", "1"}, {"--dp-replicate-size", "1"}, {"--tp-size", "1"},
                   {"--cp-size", "1"},      {"--ep-size", "1"}};
    if (asked.ranks)
      flags.emplace_back("--ranks", "1");
    if (open("--loss-impl"))
      flags.emplace_back("--loss-impl", "unfused");
    if (asked.cpAttention != "auto")
      flags.emplace_back("--cp-attention", "auto");
    if (asked.sequenceParallel)
      flags.emplace_back("--sequence-parallel", "false");
    if (asked.epCapacityFactor > 0)
      flags.emplace_back("--ep-capacity-factor", "0");
    if (asked.zeroDpStrategy != CompileOptions().zeroDpStrategy) // fsdp2 has none
      flags.emplace_back("--zero-dp-strategy", "3");
    return flags;
  }

  static inline const std::pair<std::string, std::string> tileOn = {"--tile-mlp", "on"};
  static bool hasTiles(const plan::Plan &plan) {
    return std::any_of(plan.instructions().begin(), plan.instructions().end(),
                       [](const plan::Instruction &call) { return call.kernel() == "gated_mlp"; });
  }
  bool given(std::string_view flag) const {
    return std::find(table.given.begin(), table.given.end(), flag) != table.given.end();
  }
  // Whether rows may differ in this flag.
  bool open(std::string_view flag) const {
    const OptionSpec *spec = specOf(flag);
    if (!spec || given(flag))
      return false;
    const CompileOptions defaults;
    auto *member = std::get_if<std::string CompileOptions::*>(&spec->member);
    return member && asked.**member == defaults.**member;
  }
  // With `flag` as it was asked for, or with each of `choices` if it is open.
  static std::vector<Choice> combine(const std::vector<Choice> &list,
                                     const std::vector<Choice> &choices) {
    std::vector<Choice> result;
    for (const Choice &choice : choices)
      for (const Choice &before : list) {
        Choice both = before;
        if (!choice.name.empty())
          both.name += (both.name.empty() ? "" : " + ") + choice.name;
        both.flags.insert(both.flags.end(), choice.flags.begin(), choice.flags.end());
        result.push_back(std::move(both));
      }
    return result;
  }

  // What is kept for backward; selective is fsdp2's.
  std::vector<const char *> policies() const {
    if (asked.strategy == "fsdp2")
      return {"none", "selective", "full"};
    return {"none", "full"};
  }
  // Those of tiles count, which may come to nothing.
  size_t expectedRows() const {
    size_t count = (mesh().ranks() > 1) + steps().size() * policies().size() + !asked.deviceMemory.empty();
    if (zeroIsOpen())
      count += zeroLosses().size() * 6;
    return count + (table.budgets.empty() ? table.budgetPoints : table.budgets.size());
  }

  // Everything but what is kept for backward.
  std::vector<Choice> steps() const {
    std::vector<Choice> list = {{"", {}}};
    if (open("--loss-impl"))
      list = combine(list, {{"", {{"--loss-impl", "unfused"}}},
                            {"linear CE", {{"--loss-impl", "linear-cross-entropy"}}}});
    if (open("--optimizer-in-backward") && asked.gradAccumulation == 1 && !given("--max-grad-norm"))
      list = combine(list, {{"", {}},
                            {"update in backward",
                             {{"--optimizer-in-backward", "on"}, {"--max-grad-norm", "0"}}}});
    if (open("--tile-mlp"))
      list = combine(list, {{"", {{"--tile-mlp", "off"}}}, {"tiled MLP", {tileOn}}});
    return list;
  }
  std::vector<Choice> zeroLosses() const {
    if (!open("--loss-impl"))
      return {{"", {}}};
    return {{"", {{"--loss-impl", "unfused"}}}, {"linear CE", {{"--loss-impl", "linear-cross-entropy"}}}};
  }
  // Below ZeRO 3: less is spread over the ranks; with the techniques that change most. ZeRO 3 has the rest of the
  // table.
  void addZeroRows(Techniques &techniques) {
    if (!zeroIsOpen())
      return;
    for (const char *zero : {"0", "1", "2"})
      for (Choice step : zeroLosses()) {
        step.flags.insert(step.flags.begin(), {"--zero-dp-strategy", zero});
        if (asked.reshardAfterForward != "auto") // nothing is gathered anew
          step.flags.emplace_back("--reshard-after-forward", "auto");
        for (const char *policy : {"none", "full"})
          addRow(techniques, step, {policy == std::string("none") ? "" : policy, {{"--ac", policy}}}, meshName(zero));
      }
  }
  // Budgets are planned with the loss that needs less memory, unless it cannot be had here.
  void addBudgets(Techniques &techniques) {
    Choice step;
    bool fused = std::any_of(rows.begin(), rows.end(), [](const report::TableRow &row) {
      return row.plan && row.flags.find("linear-cross-entropy") != row.flags.npos;
    });
    if (fused && open("--loss-impl"))
      step = {"linear CE", {{"--loss-impl", "linear-cross-entropy"}}};
    std::vector<std::string> budgets = table.budgets;
    if (budgets.empty() && table.budgetPoints > 0) {
      CompileOptions options = asked;
      options.deviceMemory.clear();
      for (const auto &[flag, value] : step.flags)
        setOption(options, *specOf(flag), value);
      std::vector<uint64_t> arenas = techniques.arenas(options, table.budgetPoints + 1, quiet());
      if (!arenas.empty())
        arenas.pop_back(); // keeps everything: a row already
      for (uint64_t bytes : arenas)
        budgets.push_back(std::to_string(bytes));
    }
    for (const std::string &budget : budgets)
      addRow(techniques, step,
             {"budget " + bytesText(*parseBytes(budget)),
              {{"--ac", "budget"}, {"--memory-budget", budget}}});
    if (!asked.deviceMemory.empty())
      addRow(techniques, step,
             {"auto", {{"--ac", "auto"}, {"--device-memory", asked.deviceMemory}}});
  }

  // Remarks are the same in every row.
  MessageSink quiet() {
    return [this](const Message &message) {
      if (message.severity != Message::Remark && warned.insert(message.describe()).second)
        printMessage(message);
    };
  }

  void addRow(Techniques &techniques, const Choice &step, const Choice &keep) {
    addRow(techniques, step, keep, meshName());
  }
  void addRow(Techniques &techniques, const Choice &step, const Choice &keep, const std::string &ranks) {
    Flags flags = keep.flags;
    flags.insert(flags.end(), step.flags.begin(), step.flags.end());
    report::TableRow row;
    for (const std::string &name : {ranks, keep.name, step.name})
      if (!name.empty())
        row.technique += (row.technique.empty() ? "" : " + ") + name;
    if (row.technique.empty())
      row.technique = "baseline";
    if (isatty(STDERR_FILENO)) // a table of a big model takes its time
      std::cerr << "row " << rows.size() + 1 << " of " << std::max(rows.size() + 1, expected - skipped) << ": "
                << row.technique << "\n";
    CompileOptions options = asked;
    options.output = "-"; // nothing is written
    options.deviceMemory.clear();
    for (const auto &[flag, value] : flags) {
      row.flags += (row.flags.empty() ? "" : " ") + flag + "=" + value;
      if (std::optional<std::string> wrong = setOption(options, *specOf(flag), value))
        row.errors.push_back(flag + " " + *wrong);
    }
    dropWhatOthersTake(options);
    if (row.errors.empty()) {
      CompileResult result = techniques.compile(options, [&](const Message &message) {
        if (message.severity == Message::Error)
          row.errors.push_back(message.describe());
        else if (message.severity == Message::Warning && warned.insert(message.describe()).second)
          printMessage(message);
      });
      row.plan = std::move(result.plan);
      for (const std::string &name : result.chosen)
        row.technique += " + " + name;
    }
    rows.push_back(std::move(row));
  }

  const CompileOptions &asked;
  const TableOptions &table;
  std::vector<report::TableRow> rows;
  size_t expected = 0, skipped = 0; // rows
  std::set<std::string> warned;
};

} // namespace

int printTable(const CompileOptions &options, const TableOptions &table) {
  for (const std::string &budget : table.budgets)
    if (!parseBytes(budget)) {
      std::cerr << "amc: error: --budget is '" << budget
                << "', should be a number of bytes that is not negative, as 7.3GiB, 512MiB or 80GB\n";
      return BadUsage;
    }
  if (!options.memoryBudget.empty()) {
    std::cerr << "amc: error: --memory-budget is for one plan; rows within budgets are asked for with --budget\n";
    return BadUsage;
  }
  if (table.budgetPoints > 1000) {
    std::cerr << "amc: error: --budget-points is " << table.budgetPoints << ", should be at most 1000\n";
    return BadUsage;
  }
  // What contradicts itself does so in every row.
  CompileOptions asked = options;
  asked.output = "-";
  asked.deviceMemory.clear();
  dropWhatOthersTake(asked);
  std::vector<std::string> wrong = checkTogether(asked);
  for (const std::string &message : wrong)
    std::cerr << "amc: error: " << message << "\n";
  return wrong.empty() ? Table(options, table).print() : BadUsage;
}

} // namespace amc
