// See Variants.h.
#include "compiler/driver/Variants.h"
#include "compiler/analysis/BytesText.h"
#include "compiler/analysis/VariantChoice.h"
#include "compiler/driver/Pipeline.h"
#include "runtime/plan/Workspace.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"
#include <algorithm>

using namespace mlir;

namespace amc {
namespace {

std::string secondsText(uint64_t picoseconds) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%.4g s", seconds(picoseconds));
  return text;
}

// A step with its optimizer, one way to write it.
struct Variant {
  CompileOptions options; // nothing open
  std::string name;       // "tiled MLP, 8 loss tiles in flight"
  StepVariant facts;
  std::vector<Message> messages; // of deriving it
  OwningOpRef<ModuleOp> module;
  std::shared_ptr<PlannedStep> planned;
};

class Search {
public:
  Search(Compilation &compilation, ModuleOp model, const CompileOptions &options,
         const MessageSink &sink)
      : compilation(compilation), model(model), options(options), sink(sink),
        budget(budgetOptions(options)) {}

  CompileResult compile(bool curve) {
    if (!derive())
      return {BadInput, {}, {}};
    choice = choose(/*any=*/false);
    const Variant &taken = variants[choice.taken];
    tell(taken);
    if (choice.fits && variants.size() > 1)
      remark();
    compilation.sayTo(sink);
    taken.planned->curve = curve;
    if (succeeded(compilation.run(*taken.module, taken.options, options.emit, "optimizer",
                                  taken.planned))) {
      CompileResult result = finish(*taken.module, taken.options);
      if (taken.facts.family != variants.front().facts.family)
        result.chosen.push_back(mlpName(taken));
      if (taken.facts.workspace != variants.front().facts.workspace)
        result.chosen.push_back(lossName(taken));
      return result;
    }
    if (!choice.fits)
      hint();
    return {BadInput, {}, {}};
  }

  /// Whether any variant fits; says nothing.
  bool fits() { return derive(/*quiet=*/true) && choose(/*any=*/true).fits; }

private:
  /// Every variant up to its optimizer, the default first. False, with messages unless `quiet`, if
  /// that fails.
  bool derive(bool quiet = false) {
    // What is open is known once the default has been derived: what there is to tile, how many
    // tiles there are.
    const bool openMlp = options.tileMlp == "auto", openLoss = options.lossTilesInFlight == "auto";
    for (const char *tile : {"off", "on"}) {
      if (!openMlp && tile == std::string("on"))
        break;
      CompileOptions one = options;
      if (openMlp)
        one.tileMlp = tile;
      if (!add(one, quiet))
        return false;
      train::StepOp step = variants.back().planned->step;
      if (auto tiled = step->getAttrOfType<IntegerAttr>("train.tiled_mlps");
          openMlp && tiled && tiled.getInt() == 0) {
        variants.pop_back(); // the same step
        break;
      }
      auto tiles = step->getAttrOfType<IntegerAttr>("train.token_tiles");
      if (!openLoss || !tiles)
        continue;
      for (int64_t inFlight : otherTilesInFlight(tiles.getInt())) {
        one.lossTilesInFlight = std::to_string(inFlight);
        if (!add(one, quiet))
          return false;
      }
    }
    nameVariants();
    return true;
  }

  // Those that differ: powers of two below the number of tiles, and one for all of them; without
  // the default. Fewer come first, the nearest to the default before the others.
  static std::vector<int64_t> otherTilesInFlight(int64_t tiles) {
    const int64_t preset = FuseLinearCrossEntropyOptions().tokensInFlight;
    std::vector<int64_t> fewer, more;
    for (int64_t n = 1; n <= static_cast<int64_t>(rt::workspace::lceMostInFlight); n *= 2) {
      if (n < std::min(tiles, preset))
        fewer.insert(fewer.begin(), n);
      else if (n > preset && n / 2 < tiles)
        more.push_back(n);
    }
    fewer.insert(fewer.end(), more.begin(), more.end());
    return fewer;
  }

  bool add(const CompileOptions &wanted, bool quiet) {
    Variant variant;
    variant.options = wanted;
    variant.module = OwningOpRef<ModuleOp>(model.clone());
    MessageSink keep = [&](const Message &message) { variant.messages.push_back(message); };
    compilation.sayTo(keep);
    bool derived = succeeded(compilation.run(*variant.module, wanted, "optimizer", "raise"));
    for (auto step : variant.module->getOps<train::StepOp>())
      if (derived && !variant.planned) {
        FailureOr<std::shared_ptr<PlannedStep>> gathered = PlannedStep::gather(step, budget);
        if (succeeded(gathered))
          variant.planned = *gathered;
      }
    compilation.sayTo(sink);
    if (!variant.planned) {
      if (!quiet)
        tell(variant);
      return false;
    }
    variant.facts.family = wanted.tileMlp == "on";
    variant.facts.workspace = static_cast<uint64_t>(tilesInFlight(wanted));
    variant.facts.stepCost = variant.planned->stepCost;
    variants.push_back(std::move(variant));
    return true;
  }

  static int64_t tilesInFlight(const CompileOptions &options) {
    return options.lossTilesInFlight == "auto" ? FuseLinearCrossEntropyOptions().tokensInFlight
                                               : std::stoll(options.lossTilesInFlight);
  }

  static std::string mlpName(const Variant &variant) {
    return variant.facts.family ? "tiled MLP" : "untiled MLP";
  }
  static std::string lossName(const Variant &variant) {
    return std::to_string(variant.facts.workspace) +
           (variant.facts.workspace == 1 ? " loss tile" : " loss tiles") + " in flight";
  }

  void nameVariants() {
    auto differ = [&](auto of) {
      return llvm::any_of(
          variants, [&](const Variant &variant) { return of(variant) != of(variants.front()); });
    };
    const bool mlp = differ([](const Variant &variant) { return variant.facts.family; }),
               loss = differ([](const Variant &variant) { return variant.facts.workspace; });
    for (Variant &variant : variants) {
      if (mlp)
        variant.name = mlpName(variant);
      if (loss)
        variant.name += (mlp ? ", " : "") + lossName(variant);
      variant.planned->variant = variant.name;
    }
  }

  VariantChoice choose(bool any) {
    std::vector<StepVariant> facts;
    for (const Variant &variant : variants)
      facts.push_back(variant.facts);
    auto plan = [&](size_t i) {
      const BudgetPlan &made =
          variants[i].planned->makePlan(static_cast<uint64_t>(budget.memoryBudget));
      return VariantPlan{made.feasible, made.result.cost, made.result.arenaBytes};
    };
    return chooseVariant(facts, plan, any);
  }

  // What was chosen, and what each would have cost.
  void remark() {
    const Variant &taken = variants[choice.taken];
    Message message{Message::Remark, options.model, "", {}};
    message.text =
        taken.name + ": of " + std::to_string(variants.size()) +
        " variants of this step, which give the same bits, the one with the least modelled time, " +
        secondsText(taken.facts.stepCost + choice.plans[choice.taken]->recompute);
    size_t others = 0;
    for (size_t i = 0; i < variants.size(); ++i) {
      const uint64_t cost = variants[i].facts.stepCost;
      if (!choice.plans[i]) {
        ++others;
      } else if (!choice.plans[i]->fits) {
        message.notes.push_back(variants[i].name + ": does not fit, the smallest arena found is " +
                                bytesText(choice.plans[i]->arena));
      } else {
        message.notes.push_back(
            variants[i].name + ": " + secondsText(cost + choice.plans[i]->recompute) +
            ", recomputation " + secondsText(choice.plans[i]->recompute) + " of it");
      }
    }
    if (others)
      message.notes.push_back(std::to_string(others) + (others == 1 ? " other" : " others") +
                              " not planned: none would fit and take less time");
    sink(message);
  }

  void hint() {
    if (options.lossImplementation != "unfused")
      return;
    CompileOptions other = options;
    other.lossImplementation = "linear-cross-entropy";
    if (Search(compilation, model, other, sink).fits())
      sink(
          {Message::Remark,
           options.model,
           "the budget is met with --loss-impl=linear-cross-entropy, which never has all logits in "
           "memory",
           {}});
  }

  void tell(const Variant &variant) {
    for (const Message &message : variant.messages)
      sink(message);
  }

  Compilation &compilation;
  ModuleOp model;
  const CompileOptions &options;
  const MessageSink &sink;
  const PlanBudgetOptions budget;
  std::vector<Variant> variants;
  VariantChoice choice;
};

} // namespace

CompileResult compileWithinBudget(Compilation &compilation, ModuleOp model,
                                  const CompileOptions &options, const MessageSink &sink,
                                  bool curve) {
  return Search(compilation, model, options, sink).compile(curve);
}

} // namespace amc
