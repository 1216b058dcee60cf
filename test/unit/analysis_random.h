// Random joint graphs, small enough for enumeration and for solvers; test/oracle has the same ones.
#ifndef AMC_TEST_UNIT_ANALYSIS_RANDOM_H
#define AMC_TEST_UNIT_ANALYSIS_RANDOM_H

#include "analysis_graphs.h"
#include "compiler/analysis/CostModel.h"
#include <random>

namespace amc::test {

// One second per FLOP, so that costs are what the test says.
inline const DeviceModel unitDevice{"unit", 1, 1e18, 0};

// Forward operations with one or two results of random sizes, their gradients in reverse order:
// each reads the incoming gradients, some of its operation's operands and some of its results.
struct RandomModel : GraphBuilder {
  std::vector<uint32_t> forward; // operations

  explicit RandomModel(uint32_t seed) {
    std::mt19937 random(seed);
    auto pick = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    std::vector<uint32_t> values{input(8)};
    struct Node {
      std::vector<uint32_t> operands;
      uint32_t result;
    };
    std::vector<Node> nodes;
    const uint32_t count = 4 + pick(6);
    for (uint32_t i = 0; i < count; ++i) {
      Node node;
      node.operands.push_back(i == 0 ? values[0]
                                     : values[values.size() - 1 - pick(2) % values.size()]);
      if (i > 1 && pick(2))
        node.operands.push_back(values[1 + pick(static_cast<uint32_t>(values.size()) - 1)]);
      std::vector<uint32_t> operands = node.operands;
      operands.push_back(parameter(pick(30)));
      node.result = op("f" + std::to_string(i), operands, 20 + pick(400));
      last().flops = 1 + pick(50);
      if (pick(3) == 0)
        last().workspaceBytes = pick(100);
      forward.push_back(static_cast<uint32_t>(graph.ops.size() - 1));
      values.push_back(node.result);
      nodes.push_back(node);
    }
    output(values.back());
    phase = OpPhase::Backward;
    std::map<uint32_t, uint32_t> gradient;
    gradient[values.back()] = op("start", {values.back()}, 20);
    for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
      if (!gradient.count(node->result))
        continue;
      std::vector<uint32_t> reads{gradient[node->result]};
      for (uint32_t operand : node->operands)
        if (pick(3))
          reads.push_back(operand);
      if (pick(3) == 0)
        reads.push_back(node->result);
      for (uint32_t operand : node->operands) {
        uint32_t g = op("b", reads, graph.values[operand].bytes);
        last().flops = 30 + pick(30);
        last().reusable = {0};
        gradient[operand] = gradient.count(operand)
                                ? op("add", {gradient[operand], g}, graph.values[operand].bytes)
                                : g;
      }
    }
  }
};

} // namespace amc::test

#endif
