// Places of registers: PTX has one for each value; a warp's register file should stay in the cache. Registers that live
// at different times share a place, by a linear scan over their live ranges.
//
// A lane writes its own part of a place only, so what is live in lanes that have gone another way is safe: sharing
// needs no more than it would on a machine of one lane.
#include "test/emulated_cuda/engine/Decoder.h"
#include <algorithm>

namespace emu {
namespace {

class Bitset {
public:
  explicit Bitset(size_t bits) : words((bits + 63) / 64) {}
  bool has(size_t i) const { return words[i / 64] >> (i % 64) & 1; }
  void add(size_t i) { words[i / 64] |= 1ull << (i % 64); }
  // this |= live & ~without; whether anything is new
  bool addAll(const Bitset &live, const Bitset *without = nullptr) {
    bool changed = false;
    for (size_t k = 0; k < words.size(); ++k) {
      uint64_t now = words[k] | (live.words[k] & (without ? ~without->words[k] : ~0ull));
      changed |= now != words[k];
      words[k] = now;
    }
    return changed;
  }
  template <class F> void each(F f) const {
    for (size_t k = 0; k < words.size(); ++k)
      for (uint64_t rest = words[k]; rest; rest &= rest - 1)
        f(k * 64 + __builtin_ctzll(rest));
  }

private:
  std::vector<uint64_t> words;
};

struct BasicBlock {
  size_t begin, end;
  std::vector<size_t> next;
  Bitset read, written, in, out; // read before written, written whatever the guard
};

struct Range {
  size_t begin = ~size_t(0), end = 0;
  void cover(size_t at) {
    begin = std::min(begin, at);
    end = std::max(end, at);
  }
};

class Allocation {
public:
  Allocation(Kernel &kernel, std::vector<VirtualRegister> &registers) : kernel(kernel), registers(registers) {}

  void run() {
    findBlocks();
    findLive();
    findRanges();
    scan();
  }

private:
  Kernel &kernel;
  std::vector<VirtualRegister> &registers;
  std::vector<BasicBlock> blocks;
  std::vector<Range> ranges;

  bool isPlain(uint32_t r) const { return r != none && registers[r].kind == VirtualRegister::Plain; }

  uint32_t *registersOf(Instr &instr) {
    return instr.results + instr.operands <= (int)std::size(instr.r) ? instr.r : kernel.more.data() + instr.extra;
  }
  template <class F> void eachOperand(Instr &instr, F f) {
    for (unsigned n = 0; n < instr.operands; ++n)
      f(registersOf(instr)[instr.results + n]);
    if (instr.guard != none)
      f(instr.guard);
  }
  template <class F> void eachResult(Instr &instr, F f) {
    for (unsigned n = 0; n < instr.results; ++n)
      f(registersOf(instr)[n]);
  }

  void findBlocks() {
    std::vector<Instr> &code = kernel.code;
    std::vector<bool> begins(code.size() + 1);
    begins[0] = true;
    auto targets = [&](const Instr &instr, auto f) {
      if (instr.flow == Flow::Branch)
        f(instr.extra);
      else if (instr.flow == Flow::BranchTable)
        for (unsigned k = 0; k < instr.immediate; ++k)
          f(kernel.more[instr.extra + k]);
    };
    for (size_t i = 0; i < code.size(); ++i) {
      targets(code[i], [&](uint32_t to) { begins[to] = true; });
      if (code[i].flow == Flow::Branch || code[i].flow == Flow::BranchTable || code[i].flow == Flow::Exit)
        begins[i + 1] = true;
    }
    std::vector<size_t> blockOf(code.size());
    size_t n = registers.size();
    for (size_t i = 0; i < code.size(); ++i) {
      if (begins[i])
        blocks.push_back({i, i, {}, Bitset(n), Bitset(n), Bitset(n), Bitset(n)});
      blocks.back().end = i + 1;
      blockOf[i] = blocks.size() - 1;
    }
    for (size_t b = 0; b < blocks.size(); ++b) {
      const Instr &last = code[blocks[b].end - 1];
      targets(last, [&](uint32_t to) { blocks[b].next.push_back(blockOf[to]); });
      bool leaves = last.guard == none &&
                    (last.flow == Flow::Branch || last.flow == Flow::BranchTable || last.flow == Flow::Exit);
      if (!leaves && b + 1 < blocks.size())
        blocks[b].next.push_back(b + 1);
    }
  }

  void findLive() {
    for (BasicBlock &block : blocks)
      for (size_t i = block.begin; i < block.end; ++i) {
        Instr &instr = kernel.code[i];
        eachOperand(instr, [&](uint32_t r) {
          if (isPlain(r) && !block.written.has(r))
            block.read.add(r);
        });
        if (instr.guard == none)
          eachResult(instr, [&](uint32_t r) { block.written.add(r); });
      }
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t b = blocks.size(); b-- > 0;) {
        BasicBlock &block = blocks[b];
        for (size_t next : block.next)
          changed |= block.out.addAll(blocks[next].in);
        changed |= block.in.addAll(block.read);
        changed |= block.in.addAll(block.out, &block.written);
      }
    }
  }

  // Operands are read at even positions, results written at the odd ones behind them.
  void findRanges() {
    ranges.resize(registers.size());
    for (BasicBlock &block : blocks) {
      block.in.each([&](size_t r) { ranges[r].cover(2 * block.begin); });
      block.out.each([&](size_t r) { ranges[r].cover(2 * block.end); });
      for (size_t i = block.begin; i < block.end; ++i) {
        eachOperand(kernel.code[i], [&](uint32_t r) { ranges[r].cover(2 * i); });
        eachResult(kernel.code[i], [&](uint32_t r) { ranges[r].cover(2 * i + 1); });
      }
    }
  }

  static unsigned placeBytes(unsigned width) { return width ? width * 32 : 4; }

  void scan() {
    std::vector<uint32_t> order;
    for (uint32_t r = 0; r < registers.size(); ++r)
      if (isPlain(r) && ranges[r].begin <= ranges[r].end)
        order.push_back(r);
    std::stable_sort(order.begin(), order.end(),
                     [&](uint32_t a, uint32_t b) { return ranges[a].begin < ranges[b].begin; });
    uint32_t bytes = 0;
    for (unsigned width : {8u, 4u, 2u, 1u, 0u}) {
      std::vector<uint32_t> free;
      std::multimap<size_t, uint32_t> busy; // by end
      for (uint32_t r : order) {
        if (registers[r].width != width)
          continue;
        while (!busy.empty() && busy.begin()->first < ranges[r].begin) {
          free.push_back(busy.begin()->second);
          busy.erase(busy.begin());
        }
        if (free.empty()) {
          free.push_back(bytes);
          bytes += placeBytes(width);
        }
        registers[r].place = free.back();
        free.pop_back();
        busy.emplace(ranges[r].end, registers[r].place);
      }
      for (VirtualRegister &r : registers) {
        if (r.kind == VirtualRegister::Plain || r.width != width)
          continue;
        r.place = bytes;
        bytes += placeBytes(width);
        bool isSpecial = r.kind == VirtualRegister::SpecialValue;
        kernel.presets.push_back({r.place, r.width, isSpecial, r.special, r.value});
      }
      bytes = (bytes + 63) / 64 * 64;
    }
    kernel.registerBytes = bytes;
    auto place = [&](uint32_t &r) { r = registers[r].place; };
    for (Instr &instr : kernel.code) {
      eachOperand(instr, place);
      eachResult(instr, place);
    }
  }
};

} // namespace

void Decoder::allocateRegisters() { Allocation(kernel, registers).run(); }

} // namespace emu
