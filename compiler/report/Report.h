// What a plan says about itself, for people (text, HTML) and programs (JSON). Everything is read
// off the plan alone.
#ifndef AMC_COMPILER_REPORT_REPORT_H
#define AMC_COMPILER_REPORT_REPORT_H

#include "runtime/plan/plan.pb.h"
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace amc::report {

// Values of one kind, added up.
struct Group {
  std::string name;
  uint64_t count = 0, bytes = 0, flops = 0;
};

struct Alive {
  std::string name, category, role, operation, dtype, shape, why; // see Values.h
  uint64_t bytes = 0, first = 0, last = 0;
};

struct Facts {
  std::vector<std::pair<std::string, uint64_t>>
      categories;                 // bytes at the peak, in the promise's order
  std::vector<Alive> aliveAtPeak; // largest first; ties: by name
  std::vector<Group> saved; // forward values that live into backward, by the kernel that makes them
  std::vector<Group> recomputed; // instructions that compute something again, by kernel, with the FLOPs of that
  std::vector<uint64_t> live;    // live bytes at every instruction
};
Facts gather(const plan::Plan &plan);

// Runs of blocks as rematerialize notes them.
struct BlockRun {
  uint64_t first, count, kinds, operations, inputBytes;
};
std::vector<BlockRun> blockRuns(const plan::Plan &plan);

// One line: the peak, added up.
std::string promiseText(const plan::Plan &plan);
std::string inspectText(const plan::Plan &plan);
std::string inspectJson(const plan::Plan &plan);
std::string html(const plan::Plan &plan);
// How often the plan's forward pass has which operation in which class of selective checkpointing.
std::string acPolicyText(const plan::Plan &plan);
std::string acPolicyJson(const plan::Plan &plan);

} // namespace amc::report

#endif
