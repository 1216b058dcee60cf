// Launches: blocks one after the other, their warps in turns between barriers, lanes as groups.
#include "test/emulated_cuda/driver/Findings.h"
#include "test/emulated_cuda/engine/Access.h"
#include "test/emulated_cuda/engine/Lanes.h"
#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

namespace emu {
namespace {

// Backward branches after which another group, or another warp, gets a turn, and after which a warp is taken to hang.
constexpr uint64_t groupTurn = 1 << 10, warpTurn = 1 << 16;
constexpr uint64_t hangs = 1ull << 27;

constexpr uint64_t largestShared = 1 << 19; // gaps included

Region &sharedRegion() {
  static thread_local Region *region = [] {
    auto *made = new Region;
    made->mapping = Mapping(largestShared);
    made->host = made->mapping.data();
    made->bytes = largestShared;
    made->shadow = Shadow(largestShared);
    made->what = "the block's shared memory";
    return made;
  }();
  return *region;
}

class BlockRun {
public:
  BlockRun(Launch &launch, std::mt19937_64 &random) : launch(launch), kernel(*launch.kernel), random(random) {
    block.launch = &launch;
    block.warpCount = (launch.threads + 31) / 32;
    block.warps.resize(block.warpCount);
    registerBytes = (kernel.registerBytes + 63) / 64 * 64;
    registers.resize(registerBytes * block.warpCount + 64);
    local.resize(32ull * kernel.localBytes * block.warpCount + 16);
    auto aligned = [](std::byte *p, size_t to) {
      return reinterpret_cast<std::byte *>((reinterpret_cast<uintptr_t>(p) + to - 1) / to * to);
    };
    for (unsigned i = 0; i < block.warpCount; ++i) {
      Warp &w = block.warps[i];
      w.block = &block;
      w.launch = &launch;
      w.index = i;
      w.registers = aligned(registers.data(), 64) + i * registerBytes;
      w.local = aligned(local.data(), 16) + 32ull * kernel.localBytes * i;
      unsigned lanes = std::min(32u, launch.threads - 32 * i);
      w.exists = lanes == 32 ? allLanes : (1u << lanes) - 1;
      setPresets(w);
    }
    block.shared = &sharedRegion();
    block.shared->poisoned = !kernel.shared.empty(); // dynamic memory alone ends where the region does
  }

  void run(unsigned x, unsigned y, unsigned z, uint64_t n) {
    block.id[0] = x;
    block.id[1] = y;
    block.id[2] = z;
    block.serial = launch.operation->serial + 1 + n;
    block.time = block.lastFull = block.fenced = 0;
    block.partialBarriers = false;
    block.acquired.clear();
    for (Barrier &barrier : block.barriers)
      barrier = {};
    block.shared->shadow.setInitialised(0, launch.sharedBytes, false);
    for (Warp &w : block.warps) {
      w.live = w.exists;
      w.waiting.assign(1, {0, w.exists, Group::Ready});
      w.active = 0;
      w.steps = w.free = 0;
      w.copies.clear();
      w.setClock(0);
      std::fill_n(w.commits, 32, 0);
      std::fill_n(w.partialTime, 32, 0);
      setBlockPresets(w);
    }
    for (;;) {
      ready.clear();
      bool all = true;
      for (Warp &w : block.warps) {
        all &= w.finished();
        if (canRun(w))
          ready.push_back(&w);
      }
      if (all)
        return;
      if (!ready.empty())
        runWarp(*ready[random() % ready.size()]);
      else if (!releaseAfterExits())
        deadlock();
    }
  }

private:
  Launch &launch;
  const Kernel &kernel;
  std::mt19937_64 &random;
  Block block;
  size_t registerBytes;
  std::vector<std::byte> registers, local;
  std::vector<Warp *> ready;

  const Instr &at(uint32_t pc) const { return kernel.code[pc]; }

  void findNext(Warp &w) {
    w.nextPc = none;
    for (const Group &group : w.waiting)
      if (group.state == Group::Ready)
        w.nextPc = std::min(w.nextPc, group.pc);
  }

  void park(Warp &w, Group::State state, uint8_t barrier = 0) {
    w.waiting.push_back({w.pc, w.active, state, barrier});
    w.active = 0;
  }

  // Of each lane the mask of those that it meets.
  const uint32_t *members(Warp &w, const Instr &i) const {
    static const std::vector<uint32_t> everyone(32, allLanes);
    return i.detail[7] == wholeWarp ? everyone.data() : w.lanes<uint32_t>(i.r[i.detail[7]]);
  }

  bool isAligned(const Instr &i) const { return i.flow == Flow::Barrier && i.detail[1]; }

  // Whether the lanes that a waiting group waits for have come or gone.
  bool complete(Warp &w, const Group &group) {
    const Instr &i = at(group.pc);
    if (isAligned(i))
      return group.mask == w.live;
    const uint32_t *masks = members(w, i);
    for (uint32_t rest = group.mask; rest; rest &= rest - 1)
      if (masks[std::countr_zero(rest)] & w.live & ~group.mask)
        return false;
    return true;
  }

  bool canRun(Warp &w) {
    bool any = false;
    for (Group &group : w.waiting)
      any |= group.state == Group::Ready;
    if (any || w.finished())
      return any;
    for (Group &group : w.waiting)
      if (group.state == Group::Meeting && complete(w, group)) {
        group.state = Group::Ready;
        return true;
      }
    return false;
  }

  // The ready group that stands first becomes the one that runs. False: there is none.
  bool pick(Warp &w) {
    if (!canRun(w))
      return false;
    findNext(w);
    w.pc = w.nextPc;
    w.active = 0;
    absorb(w);
    return true;
  }

  // Ready groups at the program counter join.
  void absorb(Warp &w) {
    std::erase_if(w.waiting, [&](const Group &group) {
      bool here = group.pc == w.pc && group.state == Group::Ready;
      if (here)
        w.active |= group.mask;
      return here;
    });
    findNext(w);
  }

  // Lanes `away` go on at `pc`, the others here.
  void split(Warp &w, uint32_t away, uint32_t pc) {
    w.waiting.push_back({pc, away, Group::Ready});
    w.active &= ~away;
    findNext(w);
  }

  // False: the warp's turn is over.
  bool jump(Warp &w, uint32_t pc) {
    bool back = pc <= w.pc;
    w.pc = pc;
    if (back) {
      ++w.steps;
      if (w.free)
        --w.free;
      if (w.steps > hangs)
        abortLaunch(w, at(pc), std::countr_zero(w.active), CUDA_ERROR_LAUNCH_TIMEOUT, "hang", "does not end");
      if (w.steps % warpTurn == 0) {
        park(w, Group::Ready);
        return false;
      }
      if (w.nextPc != none && w.steps % groupTurn == 0) { // others starve
        uint32_t from = w.pc, mask = w.active;
        std::vector<size_t> choices;
        for (size_t g = 0; g < w.waiting.size(); ++g)
          if (w.waiting[g].state == Group::Ready)
            choices.push_back(g);
        Group &other = w.waiting[choices[random() % choices.size()]];
        w.pc = other.pc;
        w.active = other.mask;
        other = {from, mask, Group::Ready};
        w.free = groupTurn;
        findNext(w);
        return true;
      }
    }
    if (w.pc > w.nextPc && !w.free) {
      park(w, Group::Ready);
      return pick(w);
    }
    return true;
  }

  void runWarp(Warp &w) {
    if (!pick(w))
      return;
    const Instr *code = kernel.code.data();
    for (;;) {
      if (w.pc == w.nextPc)
        absorb(w);
      const Instr &i = code[w.pc];
      uint32_t mask = w.active;
      if (i.guard != none) {
        uint32_t p = w.predicate(i.guard);
        mask &= i.guardNegated ? ~p : p;
      }
      switch (i.flow) {
      case Flow::Plain:
        if (mask)
          i.run(w, i, mask);
        ++w.pc;
        break;
      case Flow::Branch:
        if (!mask) {
          ++w.pc;
        } else {
          if (mask != w.active) {
            split(w, w.active & ~mask, w.pc + 1);
          }
          if (!jump(w, i.extra))
            return;
        }
        break;
      case Flow::BranchTable:
        if (!branchTable(w, i, mask))
          return;
        break;
      case Flow::Exit:
        w.live &= ~mask;
        w.active &= ~mask;
        if (w.active)
          ++w.pc;
        else if (!pick(w))
          return;
        break;
      case Flow::Trap:
        if (mask)
          i.run(w, i, mask);
        ++w.pc;
        break;
      case Flow::Together:
      case Flow::Barrier:
        if (mask != w.active) {
          if (!mask) {
            ++w.pc;
            break;
          }
          split(w, w.active & ~mask, w.pc + 1);
        }
        joinMeeting(w);
        if (!(i.flow == Flow::Together ? together(w, i) : barrier(w, i)) && !pick(w))
          return;
        break;
      }
    }
  }

  bool branchTable(Warp &w, const Instr &i, uint32_t mask) {
    uint32_t stay = w.active & ~mask;
    const uint32_t *index = w.lanes<uint32_t>(i.r[0]);
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
      unsigned l = std::countr_zero(rest);
      if (index[l] >= i.immediate)
        abortLaunch(w, i, l, CUDA_ERROR_LAUNCH_FAILED, "branch", concat("has no target ", index[l]));
      w.waiting.push_back({kernel.more[i.extra + index[l]], 1u << l, Group::Ready});
    }
    if (stay)
      w.waiting.push_back({w.pc + 1, stay, Group::Ready});
    if (++w.steps > hangs)
      abortLaunch(w, i, 0, CUDA_ERROR_LAUNCH_TIMEOUT, "hang", "does not end");
    w.active = 0;
    return pick(w);
  }

  // Lanes that wait here already.
  void joinMeeting(Warp &w) {
    std::erase_if(w.waiting, [&](const Group &group) {
      bool here = group.pc == w.pc && group.state == Group::Meeting;
      if (here)
        w.active |= group.mask;
      return here;
    });
  }

  // Shuffles and the like: each set of lanes that names itself goes on when it is complete. False: the rest waits.
  bool together(Warp &w, const Instr &i) {
    uint32_t waits = 0, meets[32];
    memcpy(meets, members(w, i), sizeof meets); // the result may be the same register
    for (uint32_t rest = w.active; rest;) {
      unsigned first = std::countr_zero(rest);
      uint32_t named = meets[first], set = 0;
      for (uint32_t lanes = rest; lanes; lanes &= lanes - 1)
        if (unsigned l = std::countr_zero(lanes); meets[l] == named)
          set |= 1u << l;
      rest &= ~set;
      if (uint32_t strangers = set & ~named)
        abortLaunch(w, i, std::countr_zero(strangers), CUDA_ERROR_LAUNCH_FAILED, "mask",
                    concat("executes with the mask ", hex(named), ", which its own lane is not in"));
      if (named & w.live & ~set)
        waits |= set;
      else
        i.run(w, i, set);
    }
    if (!waits) {
      ++w.pc;
      return true;
    }
    if (uint32_t go = w.active & ~waits)
      split(w, go, w.pc + 1);
    w.active = waits;
    park(w, Group::Meeting);
    return false;
  }

  // False: the group waits.
  bool barrier(Warp &w, const Instr &i) {
    if (isAligned(i)) {
      if (w.active != w.live) {
        park(w, Group::Meeting);
        return false;
      }
      if (w.live != w.exists)
        abortLaunch(w, i, std::countr_zero(w.active), CUDA_ERROR_LAUNCH_FAILED, "divergent barrier",
                    concat("barrier reached by lanes ", hex(w.live), " of a warp that has ", hex(w.exists),
                           ": the others have ended without it"));
    }
    unsigned first = std::countr_zero(w.active), place = i.detail[3];
    uint32_t id = w.lanes<uint32_t>(i.r[place])[first];
    uint32_t expected = i.detail[2] ? w.lanes<uint32_t>(i.r[place + 1])[first] : 0;
    for (uint32_t rest = w.active; rest; rest &= rest - 1) {
      unsigned l = std::countr_zero(rest);
      if (w.lanes<uint32_t>(i.r[place])[l] != id || (expected && w.lanes<uint32_t>(i.r[place + 1])[l] != expected))
        abortLaunch(w, i, l, CUDA_ERROR_LAUNCH_FAILED, "divergent barrier", "lanes name different barriers");
    }
    if (id >= 16 || expected % 32 || expected > 32 * block.warpCount)
      abortLaunch(w, i, first, CUDA_ERROR_LAUNCH_FAILED, "barrier",
                  concat("barrier ", id, " of ", expected, " threads should be below 16, of whole warps of the block"));
    Barrier &b = block.barriers[id];
    if (b.arrived && b.expected != expected)
      abortLaunch(w, i, first, CUDA_ERROR_LAUNCH_FAILED, "barrier",
                  concat("barrier ", id, " is waited for by ", b.expected, " threads, and by ", expected, " here"));
    b.expected = expected;
    b.arrived += expected && i.detail[1] ? 32 : std::popcount(w.active);
    b.warps |= 1u << w.index;
    if (i.detail[4])
      b.ones += std::popcount(w.predicate(i.r[i.detail[4]]) & w.active);
    if (expected && b.arrived > expected)
      abortLaunch(w, i, first, CUDA_ERROR_LAUNCH_FAILED, "barrier",
                  concat("more than ", expected, " threads come to barrier ", id));
    bool waits = (BarrierKind)i.detail[0] != BarrierKind::Arrive;
    if (waits) {
      park(w, Group::AtBarrier, id);
    } else {
      ++w.pc;
      w.setClock(tick(w, i));
    }
    b.arrivalTime[w.index] = w.clock;
    if (expected ? b.arrived == expected : b.arrived == liveThreads())
      release(id);
    return !waits;
  }

  uint32_t liveThreads() const {
    uint32_t count = 0;
    for (const Warp &w : block.warps)
      count += std::popcount(w.live);
    return count;
  }

  uint64_t tick(Warp &w, const Instr &i) {
    if (++block.time > maxClock)
      abortLaunch(w, i, 0, CUDA_ERROR_LAUNCH_FAILED, "limit", "the block has more barriers than the emulator counts");
    return block.time;
  }

  void release(unsigned id) {
    Barrier b = std::exchange(block.barriers[id], {});
    uint64_t now = tick(block.warps[0], at(0));
    bool full = !b.expected || b.expected >= 32 * block.warpCount;
    if (!full && !block.partialBarriers) {
      block.partialBarriers = true;
      memset(block.known, 0, sizeof block.known);
    }
    for (Warp &w : block.warps) {
      bool here = false;
      for (Group &group : w.waiting) {
        if (group.state != Group::AtBarrier || group.barrier != id)
          continue;
        here = true;
        reduce(w, at(group.pc), group.mask, b);
        group.state = Group::Ready;
        ++group.pc;
      }
      if (!here)
        continue;
      w.setClock(now);
      b.arrivalTime[w.index] = now;
    }
    if (full) {
      block.lastFull = now;
      return;
    }
    uint64_t joint[32] = {};
    for (unsigned p = 0; p < block.warpCount; ++p)
      if (b.warps >> p & 1)
        for (unsigned v = 0; v < block.warpCount; ++v)
          joint[v] = std::max({joint[v], block.known[p][v], v == p ? b.arrivalTime[p] : 0});
    for (unsigned p = 0; p < block.warpCount; ++p)
      if ((b.warps >> p & 1) && b.arrivalTime[p] == now)
        memcpy(block.known[p], joint, sizeof joint);
  }

  void reduce(Warp &w, const Instr &i, uint32_t mask, const Barrier &b) {
    switch ((BarrierKind)i.detail[0]) {
    case BarrierKind::ReduceAnd:
      setPredicate(w, i.r[0], b.ones == b.arrived ? allLanes : 0, mask);
      break;
    case BarrierKind::ReduceOr:
      setPredicate(w, i.r[0], b.ones ? allLanes : 0, mask);
      break;
    case BarrierKind::ReducePopc: {
      uint32_t t[32];
      std::fill_n(t, 32, b.ones);
      merge(w.lanes<uint32_t>(i.r[0]), t, mask);
      break;
    }
    default:
      break;
    }
  }

  // Barriers of all threads, where the rest has ended meanwhile.
  bool releaseAfterExits() {
    for (unsigned id = 0; id < 16; ++id)
      if (Barrier &b = block.barriers[id]; b.arrived && !b.expected && b.arrived == liveThreads()) {
        release(id);
        return true;
      }
    return false;
  }

  [[noreturn]] void deadlock() {
    Warp *culprit = nullptr;
    Group *group = nullptr;
    std::string others;
    for (auto state : {Group::Meeting, Group::AtBarrier})
      for (Warp &w : block.warps)
        for (Group &g : w.waiting)
          if (g.state == state) {
            if (!group) {
              group = &g;
              culprit = &w;
            } else if (others.size() < 300) {
              others += concat("; lanes ", hex(g.mask), " of warp ", w.index, " wait in line ", at(g.pc).line);
            }
          }
    bool barrier = at(group->pc).flow == Flow::Barrier;
    abortLaunch(*culprit, at(group->pc), std::countr_zero(group->mask), CUDA_ERROR_LAUNCH_FAILED,
                barrier ? "divergent barrier" : "divergence",
                concat("lanes ", hex(group->mask), " of warp ", culprit->index,
                       " wait here for others, which do not come", others));
  }
};

} // namespace

void Warp::setClock(uint64_t now, uint32_t lanes) {
  for (unsigned l = 0; l < 32; ++l)
    if (lanes >> l & 1)
      stamps[l] = stampOf(block->serial, now, index, l);
  if (lanes == allLanes)
    clock = now;
}

CUresult runLaunch(Launch &launch, std::mt19937_64 &random) {
  uint64_t blocks = (uint64_t)launch.grid[0] * launch.grid[1] * launch.grid[2];
  const Operation &operation = *launch.operation;
  launch.limit = stampOf(operation.limit);
  launch.launchStamp = stampOf(operation.serial, 0, manyBlocks);
  launch.sharedBytes = launch.kernel->dynamicSharedOffset + launch.dynamicShared;
  if (launch.sharedBytes > largestShared) {
    finding(operation.what, ": the gaps between its shared variables leave no room in the emulator");
    return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  }
  launch.blocks = blocks;
  do
    launch.blockStep = random() % blocks + 1;
  while (std::gcd(launch.blockStep, blocks) != 1); // or some are not met
  launch.firstBlock = random() % blocks;
  try {
    BlockRun run(launch, random);
    for (uint64_t n = 0, at = launch.firstBlock; n < blocks; ++n, at = (at + launch.blockStep) % blocks) {
      ++launch.blocksBegun;
      run.run(at % launch.grid[0], at / launch.grid[0] % launch.grid[1], at / launch.grid[0] / launch.grid[1], n);
    }
  } catch (const LaunchAborted &aborted) {
    return aborted.code;
  }
  return CUDA_SUCCESS;
}

std::string threadName(const Warp &w, unsigned lane) {
  const Launch &launch = *w.launch;
  unsigned thread = w.index * 32 + lane;
  return concat("block (", w.block->id[0], ", ", w.block->id[1], ", ", w.block->id[2], "), thread (",
                thread % launch.block[0], ", ", thread / launch.block[0] % launch.block[1], ", ",
                thread / launch.block[0] / launch.block[1], ")");
}

void reportIn(Warp &w, const Instr &i, unsigned lane, const char *kind, const std::string &text) {
  std::string where = w.launch->kernel->where(i);
  reportFinding(concat(kind, where), concat(kind, ": ", where, ", ", threadName(w, lane), ": ", text));
}

void abortLaunch(Warp &w, const Instr &i, unsigned lane, CUresult code, const char *kind, const std::string &text) {
  reportIn(w, i, lane, kind, text);
  throw LaunchAborted{code};
}

} // namespace emu
