// See BlockReport.h; emit/ puts it into the plan's notes.
#include "passes/BlockReport.h"
#include "compiler/dialect/SaveClasses.h"
#include <map>

using namespace mlir;
using namespace amc::train;

namespace amc {

static DictionaryAttr describeClasses(MLIRContext *context, const StepGraph &graph) {
  std::map<std::string, std::map<KeepClass, int64_t>> counts;
  for (const GraphOp &op : graph.ops)
    if (op.kind == OpKind::Compute && op.phase == OpPhase::Forward)
      ++counts[graph.names[op.name]][op.keep];
  Builder b(context);
  NamedAttrList list;
  for (const auto &[name, classes] : counts) {
    std::string text;
    for (auto [keep, count] : classes)
      text += (text.empty() ? "" : ", ") + std::to_string(count) + " " +
              saveClassName(keep == KeepClass::Save        ? SaveClass::Save
                            : keep == KeepClass::Alternate ? SaveClass::Alternate
                                                           : SaveClass::Recompute)
                  .str();
    list.append(name, b.getStringAttr(text));
  }
  return list.getDictionary(context);
}

static DenseI64ArrayAttr describeRuns(MLIRContext *context, const BlockAnalysis &blocks,
                                      const BlockFacts &facts) {
  SmallVector<int64_t> numbers;
  for (const BlockRun &run : blocks.runs) {
    uint64_t bytes = 0;
    for (uint32_t block = run.first; block < run.first + run.count; ++block)
      bytes = std::max(bytes, facts.inputBytes[block]);
    numbers.append({run.first, run.count, run.kinds, run.opsPerBlock, static_cast<int64_t>(bytes)});
  }
  return DenseI64ArrayAttr::get(context, numbers);
}

void describeBlocks(StepOp step, const StepGraph &graph, const BlockAnalysis &blocks,
                    const BlockFacts &facts) {
  step->setAttr("train.block_runs", describeRuns(step.getContext(), blocks, facts));
  step->setAttr("train.save_classes", describeClasses(step.getContext(), graph));
}

} // namespace amc
