// Warps and blocks while they run.
//
// A warp's registers are arrays of 32 lanes. Lanes that have gone different ways are groups with a program counter
// each; the group with the lowest runs, so that groups meet again, but none starves. Where lanes have to meet
// (shuffles, barriers), a group waits until they have; if they cannot, that is a finding.
#ifndef AMC_TEST_EMULATED_CUDA_ENGINE_WARP_H
#define AMC_TEST_EMULATED_CUDA_ENGINE_WARP_H

#include "test/emulated_cuda/engine/Program.h"
#include "test/emulated_cuda/memory/Memory.h"
#include <random>

namespace emu {

struct Block;
struct Launch;

struct LaunchAborted { // thrown where a kernel cannot go on
  CUresult code;
};

struct Group {
  // Meeting: waits for other lanes of the warp to come here.
  enum State : uint8_t { Ready, Meeting, AtBarrier };
  uint32_t pc, mask;
  State state;
  uint8_t barrier = 0;
};

struct AsyncCopy { // cp.async, until it is waited for
  uint8_t lane, bytes, sourceBytes;
  uint32_t target;
  CUdeviceptr source;
  uint32_t commit; // of the lane's groups
};

struct Warp {
  Block *block = nullptr;
  const Launch *launch = nullptr;
  std::byte *registers = nullptr;
  std::byte *local = nullptr; // localBytes for each lane
  unsigned index = 0;
  uint32_t exists = 0, live = 0; // lanes of the block; not yet exited
  // The group that runs.
  uint32_t pc = 0, active = 0;
  std::vector<Group> waiting; // the others
  uint32_t nextPc = none;     // lowest of those that are ready
  uint64_t steps = 0;         // backward branches
  unsigned free = 0;          // of them, for which the group runs though others stand before it
  // Races: see Shadow.h.
  uint64_t clock = 0;
  Stamp stamps[32]; // of the lanes now
  Stamp stamp = 0;  // without the lane
  Region *lastRegion = nullptr;
  std::vector<AsyncCopy> copies;
  uint32_t commits[32];
  uint32_t partialTime[32]; // clock when the lane last met others under a partial mask

  template <class T> T *lanes(uint32_t place) { return reinterpret_cast<T *>(registers + place); }
  uint32_t &predicate(uint32_t place) { return *reinterpret_cast<uint32_t *>(registers + place); }
  void setClock(uint64_t now, uint32_t lanes = allLanes);
  bool finished() const { return !live; }
};

struct Barrier {
  uint32_t arrived = 0;     // threads
  uint32_t expected = 0;    // threads, 0: all that live
  uint32_t warps = 0;       // that take part, by index
  uint32_t ones = 0;        // threads whose predicate holds (bar.red)
  uint64_t arrivalTime[32]; // of the warps
};

struct Block {
  const Launch *launch = nullptr;
  unsigned id[3] = {};
  uint64_t serial = 0;
  std::vector<Warp> warps;
  unsigned warpCount = 0;
  Region *shared = nullptr;
  Barrier barriers[16];
  uint64_t time = 0;     // of the last barrier or meeting of lanes
  uint64_t lastFull = 0; // of the last barrier of all threads
  bool partialBarriers = false;
  uint64_t known[32][32]; // [w][v]: up to when w has seen what v did, by partial barriers
  // Fences and atomics that order blocks: what this block has acquired, as lengths of Launch::released.
  uint64_t fenced = 0; // some thread has fenced; 1 + time
  std::map<CUdeviceptr, size_t> acquired;
};

struct Releases { // at one address, by blocks that fenced before an atomic there
  struct One {
    uint64_t serial, time;
  };
  std::vector<One> list;
};

struct Launch {
  const Kernel *kernel = nullptr;
  unsigned grid[3] = {1, 1, 1}, block[3] = {1, 1, 1};
  unsigned threads = 1;
  uint32_t dynamicShared = 0, sharedBytes = 0; // sharedBytes: gaps included
  std::vector<std::byte> parameters;
  Memory *memory = nullptr;
  Order *order = nullptr;
  const Operation *operation = nullptr;
  Stamp limit = 0;       // stamps below are of operations that are ordered before this one
  Stamp firstStamp = 0;  // of this launch
  Stamp launchStamp = 0; // "several blocks of this launch"
  uint64_t blocksBegun = 0;
  // Blocks run, and have serials, in the order (firstBlock + n * blockStep) modulo their number.
  uint64_t blocks = 1, firstBlock = 0, blockStep = 1;
  mutable std::map<CUdeviceptr, Releases> released;
  unsigned processors = 1;
};

// Constants, and special registers that are the same in all blocks; the others, for w.block. (Presets.cpp)
void setPresets(Warp &w);
void setBlockPresets(Warp &w);

// Runs all blocks, in an order drawn from `random`. CUDA_SUCCESS, or what the context gets as its sticky error; what
// was wrong has been reported.
CUresult runLaunch(Launch &launch, std::mt19937_64 &random);

// Tells where: the instruction, block and thread. The kind is a literal that names the check.
[[noreturn]] void abortLaunch(Warp &warp, const Instr &instr, unsigned lane, CUresult code, const char *kind,
                              const std::string &text);
void reportIn(Warp &warp, const Instr &instr, unsigned lane, const char *kind, const std::string &text);
std::string threadName(const Warp &warp, unsigned lane);

} // namespace emu

#endif
