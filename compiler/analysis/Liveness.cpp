// Lifetimes and buffer sharing; see Liveness.h. Linear in the number of operands.
#include "compiler/analysis/Liveness.h"
#include <algorithm>

namespace amc {
namespace {

// Whether `op` reads the buffer of `root` through operands that a result may overwrite and through
// no other.
bool readsOnlyReusably(const StepGraph &graph, const GraphOp &op, uint32_t root) {
  for (uint32_t position = 0; position < op.operands.size(); ++position)
    if (graph.rootOf(op.operands[position]) == root &&
        std::find(op.reusable.begin(), op.reusable.end(), position) == op.reusable.end())
      return false;
  return true;
}

} // namespace

Liveness computeLiveness(const StepGraph &graph, const std::vector<uint32_t> &order) {
  Liveness live;
  live.bufferOfValue.assign(graph.values.size(), noIndex);
  live.workspaceOfOp.assign(graph.ops.size(), noIndex);
  live.instructionOfOp.assign(graph.ops.size(), noIndex);
  for (uint32_t op : order) {
    if (graph.isInstruction(op)) {
      live.instructionOfOp[op] = static_cast<uint32_t>(live.instructions.size());
      live.instructions.push_back(op);
    }
  }
  const uint64_t n = live.instructions.size();
  live.microBatchEnd = n;
  uint64_t time = 0;
  for (uint32_t op : order) {
    if (graph.ops[op].kind == OpKind::MicroBatchEnd) {
      live.microBatchEnd = time;
      break;
    }
    time += graph.isInstruction(op);
  }

  // Birth and death of every root. `death` is one past the last reader; what an async collective reads is kept besides
  // until its wait, so that it may still work in place on an operand that nothing else reads.
  struct Kept {
    uint64_t until = 0;
    uint32_t by = noIndex; // the only collective, or noIndex
  };
  std::vector<uint64_t> death(graph.values.size(), 0);
  std::vector<bool> leaves(graph.values.size(), false); // the step, so that nobody takes over the buffer
  std::vector<Kept> kept(graph.values.size());
  time = 0;
  uint64_t sectionEnd = live.microBatchEnd;
  for (uint32_t index : order) {
    const GraphOp &op = graph.ops[index];
    bool instruction = graph.isInstruction(index);
    if (op.kind == OpKind::MicroBatchEnd)
      sectionEnd = n;
    for (uint32_t position = 0; position < op.operands.size(); ++position) {
      uint32_t root = graph.rootOf(op.operands[position]);
      if (op.kind == OpKind::Wait && position == 1) {
        uint32_t by = graph.values[graph.rootOf(op.operands[0])].producer;
        kept[root] = {std::max(kept[root].until, time + 1), kept[root].until == 0 ? by : noIndex};
        continue;
      }
      uint64_t &end = death[root];
      if (instruction)
        end = std::max(end, time + 1);
      else if (op.kind == OpKind::Output) {
        end = std::max(end, sectionEnd);
        leaves[root] = true;
      }
    }
    if (op.kind == OpKind::Compute)
      for (uint32_t result : op.results)
        death[result] = std::max(death[result], time + 1);
    time += instruction;
  }

  auto addBuffer = [&](uint32_t root, uint64_t first, uint64_t last) {
    const GraphValue &value = graph.values[root];
    LiveBuffer buffer;
    buffer.bytes = value.bytes;
    buffer.first = first;
    buffer.last = last;
    buffer.category = value.category;
    buffer.persistent = value.persistent;
    buffer.value = root;
    live.bufferOfValue[root] = static_cast<uint32_t>(live.buffers.size());
    live.buffers.push_back(buffer);
  };

  // Of a buffer that no other value takes over.
  auto lastOf = [&](uint32_t root) { return std::max(death[root], kept[root].until); };
  time = 0;
  for (uint32_t index : order) {
    const GraphOp &op = graph.ops[index];
    if (op.kind == OpKind::Source) {
      for (uint32_t result : op.results)
        addBuffer(result, 0,
                  graph.values[result].persistent
                      ? n
                      : std::max(lastOf(result), std::min<uint64_t>(n, 1)));
      continue;
    }
    if (op.kind == OpKind::View || op.kind == OpKind::Wait) {
      for (uint32_t result : op.results)
        live.bufferOfValue[result] = live.bufferOfValue[graph.rootOf(result)];
      time += op.kind == OpKind::Wait;
      continue;
    }
    if (op.kind != OpKind::Compute)
      continue;
    for (size_t number = 0; number < op.results.size(); ++number) {
      const uint32_t result = op.results[number];
      uint32_t taken = noIndex;
      for (uint32_t position : op.reusable) {
        if (!op.taken.empty() && op.taken[number] != position)
          continue;
        uint32_t root = graph.rootOf(op.operands[position]);
        uint32_t candidate = live.bufferOfValue[root];
        // `value` no longer being the root means that another result has taken the buffer already.
        if (graph.values[root].source || leaves[root] || death[root] != time + 1 ||
            graph.values[root].bytes != graph.values[result].bytes ||
            live.buffers[candidate].value != root || !readsOnlyReusably(graph, op, root) ||
            (kept[root].until > 0 && kept[root].by != index))
          continue;
        taken = candidate;
        break;
      }
      if (taken == noIndex) {
        addBuffer(result, time, lastOf(result));
        continue;
      }
      LiveBuffer &buffer = live.buffers[taken];
      live.bufferOfValue[result] = taken;
      buffer.value = result;
      buffer.last = lastOf(result);
      if (graph.values[result].category != BufferCategory::Activation)
        buffer.category = graph.values[result].category;
    }
    if (op.workspaceBytes > 0) {
      LiveBuffer scratch;
      scratch.bytes = op.workspaceBytes;
      scratch.first = time;
      scratch.last = time + 1;
      scratch.category = BufferCategory::Workspace;
      scratch.workspaceOf = index;
      live.workspaceOfOp[index] = static_cast<uint32_t>(live.buffers.size());
      live.buffers.push_back(scratch);
    }
    ++time;
  }

  std::vector<int64_t> change(n + 1, 0);
  for (const LiveBuffer &buffer : live.buffers) {
    if (buffer.first >= buffer.last)
      continue;
    change[buffer.first] += static_cast<int64_t>(buffer.bytes);
    change[buffer.last] -= static_cast<int64_t>(buffer.bytes);
  }
  int64_t sum = 0;
  for (uint64_t i = 0; i < n; ++i) {
    sum += change[i];
    if (static_cast<uint64_t>(sum) > live.maxLiveBytes) {
      live.maxLiveBytes = static_cast<uint64_t>(sum);
      live.peakInstruction = i;
    }
  }
  return live;
}

std::vector<PackingItem> packingItems(const Liveness &live) {
  std::vector<PackingItem> items;
  items.reserve(live.buffers.size());
  for (const LiveBuffer &buffer : live.buffers)
    items.push_back({buffer.bytes, buffer.first, std::max(buffer.last, buffer.first + 1)});
  return items;
}

uint64_t savedBytes(const StepGraph &graph) {
  std::vector<bool> saved(graph.values.size(), false);
  for (const GraphOp &op : graph.ops) {
    if (op.phase == OpPhase::Forward || op.kind != OpKind::Compute)
      continue;
    for (uint32_t operand : op.operands) {
      uint32_t root = graph.rootOf(operand);
      const GraphValue &value = graph.values[root];
      if (!value.source && graph.ops[value.producer].phase == OpPhase::Forward)
        saved[root] = true;
    }
  }
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < graph.values.size(); ++i)
    bytes += saved[i] ? graph.values[i].bytes : 0;
  return bytes;
}

} // namespace amc
