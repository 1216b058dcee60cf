// Small step graphs for tests of the memory decisions.
#ifndef AMC_TEST_UNIT_ANALYSIS_GRAPHS_H
#define AMC_TEST_UNIT_ANALYSIS_GRAPHS_H

#include "compiler/analysis/StepGraph.h"
#include <map>
#include <string>

namespace amc::test {

// Builds graphs by name: `op("exp", {x})` adds an operation with one result of 100 bytes and
// returns the result.
class GraphBuilder {
public:
  StepGraph graph;

  uint32_t source(BufferCategory category, uint64_t bytes = 100) {
    GraphOp op;
    op.kind = OpKind::Source;
    op.name = name("source");
    uint32_t value = graph.ops[graph.addOp(op, {bytes})].results[0];
    graph.values[value].category = category;
    graph.values[value].persistent = category != BufferCategory::Input;
    return value;
  }
  uint32_t parameter(uint64_t bytes = 100) { return source(BufferCategory::Parameter, bytes); }
  uint32_t input(uint64_t bytes = 100) { return source(BufferCategory::Input, bytes); }

  // The operation just added may be changed through last().
  uint32_t op(const std::string &what, std::vector<uint32_t> operands, uint64_t bytes = 100,
              KeepClass keep = KeepClass::Recompute) {
    GraphOp op;
    op.name = name(what);
    op.signature = op.name + 1;
    op.phase = phase;
    op.keep = keep;
    op.flops = 10;
    op.operands = std::move(operands);
    return graph.ops[graph.addOp(op, {bytes})].results[0];
  }
  uint32_t matmul(uint32_t x, uint32_t w, uint64_t bytes = 100) {
    return op("matmul", {x, w}, bytes, KeepClass::Alternate);
  }
  uint32_t view(uint32_t x) {
    GraphOp op;
    op.kind = OpKind::View;
    op.name = name("view");
    op.phase = phase;
    op.operands = {x};
    return graph.ops[graph.addOp(op, {graph.values[x].bytes})].results[0];
  }
  void output(uint32_t x) {
    GraphOp op;
    op.kind = OpKind::Output;
    op.phase = phase;
    op.operands = {x};
    graph.addOp(op, {});
  }
  void update(uint32_t target, uint32_t with) {
    GraphOp op;
    op.name = name("update");
    op.phase = phase;
    op.operands = {target, with};
    op.updated = {0};
    graph.addOp(op, {});
  }
  void microBatchEnd() {
    GraphOp op;
    op.kind = OpKind::MicroBatchEnd;
    graph.addOp(op, {});
  }
  GraphOp &last() { return graph.ops.back(); }
  std::vector<uint32_t> programOrder() const {
    std::vector<uint32_t> order;
    for (uint32_t i = 0; i < graph.ops.size(); ++i)
      order.push_back(i);
    return order;
  }

  OpPhase phase = OpPhase::Forward;

private:
  uint32_t name(const std::string &what) {
    auto [at, fresh] = names.try_emplace(what, static_cast<uint32_t>(names.size()));
    if (fresh)
      graph.names.push_back(what);
    return at->second;
  }
  std::map<std::string, uint32_t> names;
};

} // namespace amc::test

#endif
