// What the process really holds in memory, beside what the plan promised.
//
// Every mapping of /proc/self/smaps belongs to one line: the arena, files (program and libraries),
// thread stacks, heap and other anonymous memory. Of several ranks on a machine each maps the
// others' arenas and what they talk through; those pages are shared memory, counted apart and not
// as this rank's: each arena is counted where it belongs. So the growth of the resident set since
// the start is accounted for to the page; what the trainer knows of the heap (plan, staging, data,
// kernels' scratch) is listed under it.
#ifndef AMC_RUNTIME_TRAINER_MEMORYTABLE_H
#define AMC_RUNTIME_TRAINER_MEMORYTABLE_H

#include "runtime/executor/Executor.h"
#include "runtime/trainer/Ranks.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace amc::rt {

struct ResidentMemory {
  uint64_t arena = 0, files = 0, stacks = 0, heap = 0; // bytes resident now
  uint64_t shared = 0; // shared memory that is not this rank's arena; not in the total
  uint64_t total() const { return arena + files + stacks + heap; }
};

// Sums an smaps text. Mappings that overlap [arenaBegin, arenaEnd) are the arena; an empty range:
// none is.
ResidentMemory parseSmaps(std::string_view smaps, uint64_t arenaBegin, uint64_t arenaEnd);

// The process as it is now; zeros where /proc is not mounted.
ResidentMemory residentMemory(const Executor *executor);

// Peak resident set of the process so far (VmHWM), in bytes.
uint64_t peakResidentBytes();

// Bytes of the heap that the trainer can name.
struct KnownHeap {
  std::string_view what;
  uint64_t bytes;
};

// Promise, arena and resident set in a line.
std::string memorySummary(const Executor &executor, const ResidentMemory &now);

// Of a device with memory of its own: what is taken of it, a line for each part; empty where that is this process's.
std::vector<std::string> deviceMemory(const Executor &executor);

// Which rank holds least and which holds most, in a line: all ranks call it and get it.
Expected<std::string> memoryOfRanks(const Ranks &ranks, const ResidentMemory &now);

// The table, a line per entry.
std::vector<std::string> memoryTable(const Executor &executor, const ResidentMemory &start,
                                     const ResidentMemory &now,
                                     const std::vector<KnownHeap> &known);

} // namespace amc::rt

#endif
