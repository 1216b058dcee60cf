// See MeshRules.h. The rules, as NeMo AutoModel has them:
//   ranks = dp x cp x tp; dp left open is what the others leave of them, one rank a replica where their number is not
//   known either. dp_replicate divides dp and is for fsdp2 (HSDP). ddp: tp = cp = ep = 1. megatron_fsdp: ep = 1. ep
//   divides dp x cp x tp, whose ranks it regroups: of one replica, and with all of cp (runtime/plan/Mesh.h). Selective checkpointing is for fsdp2. Batch: global = local x dp x
//   accumulation.
// Options that a strategy would not read are refused, too: nothing that is asked for is dropped.
#include "compiler/driver/MeshRules.h"
#include "runtime/plan/Ranges.h"
#include <algorithm>
#include <tuple>

namespace amc {
namespace {

struct Sizes {
  int64_t dp, replicate, cp, tp, ep;
};

std::string is(std::string_view flag, int64_t value) { return std::string(flag) + " is " + std::to_string(value); }

// "1, 2, 3 or 6"
std::string alternatives(const std::vector<std::string> &list) {
  std::string text = list[0];
  for (size_t i = 1; i < list.size(); ++i)
    text += (i + 1 == list.size() ? " or " : ", ") + list[i];
  return text;
}

// "1, 2, 3 or 6": the divisors of a number, of many the small ones.
std::string divisors(int64_t number) {
  constexpr size_t shown = 6;
  std::vector<std::string> list;
  for (int64_t i = 1; i <= number && i < 4096 && list.size() < shown; ++i)
    if (number % i == 0)
      list.push_back(std::to_string(i));
  return alternatives(list);
}

// Products stay far below 2^63: no size is above mostRanks when they are formed, and each step is checked.
int64_t product(std::initializer_list<int64_t> sizes) {
  int64_t all = 1;
  for (int64_t size : sizes)
    all = std::min<int64_t>(all * size, int64_t(rt::mostRanks) + 1);
  return all;
}

void decideRanks(const CompileOptions &options, Sizes &sizes, std::vector<std::string> &errors) {
  const int64_t others = product({sizes.cp, sizes.tp});
  const std::string named = is("--cp-size", sizes.cp) + " and " + is("--tp-size", sizes.tp);
  if (options.ranks == 0) {
    if (sizes.dp == 0)
      sizes.dp = sizes.replicate;
  } else if (sizes.dp == 0) {
    if (options.ranks % others != 0)
      errors.push_back(is("--ranks", options.ranks) + ", " + named + ": their product " + std::to_string(others) +
                       " should divide the ranks, the rest is data-parallel; give sizes that do, or another "
                       "number of ranks");
    sizes.dp = std::max<int64_t>(1, options.ranks / others);
  } else if (int64_t made = product({sizes.dp, others}); made != options.ranks) {
    errors.push_back(is("--ranks", options.ranks) + " and " + is("--dp-size", sizes.dp) + ", " + named +
                     ", which make " + std::to_string(made) + " ranks, should make as many; " +
                     (options.ranks % others == 0 ? "give --dp-size " + std::to_string(options.ranks / others) +
                                                        " or none, or start " + std::to_string(made) + " ranks"
                                                  : "start " + std::to_string(made) + " ranks, or give other sizes"));
  }
  if (product({sizes.dp, others}) > static_cast<int64_t>(rt::mostRanks))
    errors.push_back(is("--dp-size", sizes.dp) + ", " + named + ", which make more than the " +
                     std::to_string(rt::mostRanks) + " ranks that a plan may be for; give smaller sizes");
}

void checkStrategy(const CompileOptions &options, const Sizes &sizes, std::vector<std::string> &errors) {
  const std::string strategy = "--strategy is " + options.strategy;
  const bool ddp = options.strategy == "ddp", megatron = options.strategy == "megatron_fsdp";
  if (sizes.replicate > 1 && (ddp || megatron))
    errors.push_back(strategy + " and " + is("--dp-replicate-size", sizes.replicate) +
                     ": replicas of a sharded group are fsdp2's (HSDP); give --dp-replicate-size 1, or "
                     "--strategy fsdp2");
  if (sizes.dp % sizes.replicate != 0)
    errors.push_back(is("--dp-replicate-size", sizes.replicate) + " and " + is("--dp-size", sizes.dp) +
                     ": the replicas should divide the data-parallel ranks; give --dp-replicate-size " +
                     divisors(sizes.dp));
  for (auto [flag, size] : {std::pair("--tp-size", sizes.tp), {"--cp-size", sizes.cp}, {"--ep-size", sizes.ep}})
    if (size > 1 && (ddp || (megatron && std::string_view(flag) == "--ep-size")))
      errors.push_back(strategy + " and " + is(flag, size) + ", should be 1 there; give " + flag +
                       " 1, or --strategy fsdp2");
  const int64_t regrouped = product({sizes.dp, sizes.cp, sizes.tp});
  if (regrouped % sizes.ep != 0)
    errors.push_back(
        is("--ep-size", sizes.ep) + " and " + is("--dp-size", sizes.dp) + ", " + is("--cp-size", sizes.cp) + ", " +
        is("--tp-size", sizes.tp) + ": it should divide their product " + std::to_string(regrouped) +
        ", whose ranks hold the experts; give --ep-size " + divisors(regrouped) +
        (options.dpSize == 0 && options.ranks == 0 ? ", or --ranks, whose rest --dp-size none takes" : ""));
  if (options.activationCheckpointing == "selective" && options.strategy != "fsdp2")
    errors.push_back(strategy + " and --ac is selective, which is fsdp2's; give --ac full or none, or "
                                "--strategy fsdp2");
  if (options.zeroDpStrategy != 3 && !megatron)
    errors.push_back(is("--zero-dp-strategy", options.zeroDpStrategy) + " and " + strategy +
                     ": it is megatron_fsdp's; leave it out, or give --strategy megatron_fsdp");
  if (options.reshardAfterForward != "auto" && ddp)
    errors.push_back("--reshard-after-forward is " + options.reshardAfterForward + " and " + strategy +
                     ", which keeps all parameters on every rank; leave it out, or give --strategy fsdp2");
  if (options.reshardAfterForward != "auto" && megatron && options.zeroDpStrategy < 3)
    errors.push_back("--reshard-after-forward is " + options.reshardAfterForward + " and " +
                     is("--zero-dp-strategy", options.zeroDpStrategy) +
                     ", which keeps all parameters on every rank; leave it out, or give --zero-dp-strategy 3");
  if (options.epCapacityFactor > 0 && sizes.ep == 1)
    errors.push_back("--ep-capacity-factor is given and --ep-size is 1: no row goes to another rank; leave it out, or give "
                     "--ep-size 2 or more");
  if (options.cpAttention != "auto" && sizes.cp == 1)
    errors.push_back("--cp-attention is " + options.cpAttention + " and --cp-size is 1: it says how context-parallel "
                     "ranks get at each other's keys; leave it out, or give --cp-size 2 or more");
  if (options.sequenceParallel && sizes.tp == 1)
    errors.push_back("--sequence-parallel is given and --tp-size is 1: it divides work among tensor-parallel ranks; "
                     "leave it out, or give --tp-size 2 or more");
}

int64_t decideAccumulation(const CompileOptions &options, int64_t dp, std::vector<std::string> &errors) {
  const int64_t global = options.globalBatchSize, local = options.localBatchSize;
  if (global == 0)
    return options.gradAccumulation;
  if (local == 0) {
    errors.push_back(is("--global-batch-size", global) + " and --local-batch-size is not given: accumulation follows "
                                                         "from both; give it, or --grad-accumulation instead");
    return 1;
  }
  const std::string named = is("--global-batch-size", global) + ", " + is("--local-batch-size", local) +
                            " and --dp-size " + std::to_string(dp);
  // local x dp may not fit 64 bits; global / local rounds down, so this asks the same.
  if (global % local != 0 || global / local % dp != 0) {
    const bool fits = local <= global / dp;
    const int64_t step = fits ? local * dp : 0;
    errors.push_back(named + ": a step should be a whole number of micro-batches on every rank; " +
                     (fits ? "give --global-batch-size " + std::to_string(global / step * step) + " or " +
                                 std::to_string(global / step * step + step) + ", or another --local-batch-size"
                           : "give a --global-batch-size of at least local batch x data-parallel ranks" +
                                 (local <= (int64_t(1) << 32) ? ", " + std::to_string(local * dp) : std::string()) +
                                 ", or a smaller local batch"));
    return 1;
  }
  const int64_t accumulation = global / local / dp;
  if (options.gradAccumulation != 1 && options.gradAccumulation != accumulation)
    errors.push_back(named + " make " + std::to_string(accumulation) + " micro-batches a step, " +
                     is("--grad-accumulation", options.gradAccumulation) + "; leave one of them out");
  if (accumulation > static_cast<int64_t>(rt::mostMicroBatches)) {
    errors.push_back(named + " make " + std::to_string(accumulation) + " micro-batches a step, should be at most " +
                     std::to_string(rt::mostMicroBatches) + "; give a larger --local-batch-size");
    return 1;
  }
  return accumulation;
}

// "2, 4 or 8": the sizes that ep may have on a mesh, of many the small ones.
std::string expertSizes(rt::MeshShape mesh) {
  constexpr size_t shown = 6;
  std::vector<std::string> list;
  const uint64_t most = mesh.size[1] * mesh.size[2] * mesh.size[3];
  for (mesh.ep = 1; mesh.ep <= std::min<uint64_t>(most, 4096) && list.size() < shown; ++mesh.ep)
    if (rt::isRegrouped(mesh))
      list.push_back(std::to_string(mesh.ep));
  return alternatives(list);
}

} // namespace

MeshDecision decideMesh(const CompileOptions &options) {
  MeshDecision decision;
  Sizes sizes{options.dpSize, options.dpReplicateSize, options.cpSize, options.tpSize, options.epSize};
  for (auto [flag, size, least] : {std::tuple("--dp-size", sizes.dp, 0),
                                   {"--dp-replicate-size", sizes.replicate, 1},
                                   {"--cp-size", sizes.cp, 1},
                                   {"--tp-size", sizes.tp, 1},
                                   {"--ep-size", sizes.ep, 1},
                                   {"--ranks", options.ranks, 0}})
    if (size < least || size > static_cast<int64_t>(rt::mostRanks))
      decision.errors.push_back(is(flag, size) + ", should be an integer in [1, " + std::to_string(rt::mostRanks) +
                                "]");
  if (!decision.errors.empty())
    return decision; // nothing can be said about products of such sizes
  decideRanks(options, sizes, decision.errors);
  checkStrategy(options, sizes, decision.errors);
  decision.gradAccumulation = decideAccumulation(options, sizes.dp, decision.errors);
  decision.dataParallel = sizes.dp;
  if (decision.errors.empty())
    decision.shape.size = {static_cast<uint64_t>(sizes.replicate), static_cast<uint64_t>(sizes.dp / sizes.replicate),
                           static_cast<uint64_t>(sizes.cp), static_cast<uint64_t>(sizes.tp)};
  decision.shape.ep = static_cast<uint64_t>(sizes.ep);
  if (decision.errors.empty() && !rt::isRegrouped(decision.shape)) {
    std::string possible = expertSizes(decision.shape);
    decision.errors.push_back(
        is("--ep-size", sizes.ep) + " and " + is("--dp-size", sizes.dp) + ", " +
        is("--dp-replicate-size", sizes.replicate) + ", " + is("--cp-size", sizes.cp) + ", " +
        is("--tp-size", sizes.tp) +
        ": ranks that share experts should be of one replica, with all of cp, and all of tp or one of it; give --ep-size " +
        possible);
  }
  return decision;
}

} // namespace amc
