// The table of operations: one entry for each change of an operation's meaning, found by domain,
// name and opset.
#include "compiler/import/Node.h"

namespace amc::importer {

std::vector<ArrayRef<OpEntry>> allOps() {
  return {elementwiseOps(), shapeOps(), layoutOps(),    indexOps(),   reductionOps(), normOps(),
          productOps(),     convOps(),  attentionOps(), controlOps(), lossOps()};
}

const OpEntry *findOp(StringRef domain, StringRef op, int64_t opset) {
  static const llvm::StringMap<std::vector<const OpEntry *>> table = [] {
    llvm::StringMap<std::vector<const OpEntry *>> map;
    for (ArrayRef<OpEntry> family : allOps())
      for (const OpEntry &entry : family)
        map[qualifiedName(entry.domain, entry.op)].push_back(&entry);
    return map;
  }();
  auto found = table.find(qualifiedName(domain, op));
  const OpEntry *best = nullptr;
  if (found != table.end())
    for (const OpEntry *entry : found->second)
      if (entry->since <= opset && (!best || entry->since > best->since))
        best = entry;
  return best;
}

} // namespace amc::importer
