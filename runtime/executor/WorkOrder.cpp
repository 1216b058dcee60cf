#include "runtime/executor/WorkOrder.h"
#include <algorithm>
#include <deque>

namespace amc::rt {
namespace {

bool meet(const std::vector<ByteRange> &a, const std::vector<ByteRange> &b) {
  return std::any_of(a.begin(), a.end(), [&](const ByteRange &x) {
    return std::any_of(b.begin(), b.end(), [&](const ByteRange &y) { return x.meets(y); });
  });
}

} // namespace

void Touched::add(const Touched &other) {
  read.insert(read.end(), other.read.begin(), other.read.end());
  written.insert(written.end(), other.written.begin(), other.written.end());
}

bool Touched::meets(const Touched &other) const {
  return meet(written, other.written) || meet(written, other.read) || meet(read, other.written);
}

bool Touched::meetsButFor(const ByteRange &shared, const Touched &other) const {
  Touched rest = *this;
  std::erase(rest.written, shared);
  auto partOfShared = [&](const ByteRange &range) { return range.meets(shared) && range != shared; };
  return rest.meets(other) || std::any_of(other.written.begin(), other.written.end(), partOfShared) ||
         std::any_of(other.read.begin(), other.read.end(), partOfShared);
}

WorkOrder::WorkOrder(std::vector<Instruction> instructions, const MakePair &make) : instructions(std::move(instructions)) {
  findPairs(make);
  stopAt([](uint64_t) { return false; });
}

// Products, say, with what follows them. In between there may be what has nothing to do with the second, which then runs
// earlier than it stands in the plan.
void WorkOrder::findPairs(const MakePair &make) {
  for (uint64_t i = 0; i < instructions.size(); ++i) {
    const Instruction &first = instructions[i];
    if (first.alone || first.result == ByteRange())
      continue;
    Touched between;
    for (uint64_t k = i + 1; k < std::min<uint64_t>(instructions.size(), i + workWindow); ++k) {
      const Instruction &second = instructions[k];
      if (second.alone || second.section != first.section)
        break;
      const std::vector<ByteRange> &read = second.touched.read;
      if (std::find(read.begin(), read.end(), first.result) == read.end()) {
        between.add(second.touched);
        continue;
      }
      if (!second.touched.meets(between) && !first.touched.meetsButFor(first.result, second.touched))
        if (std::unique_ptr<Kernel> kernel = make(first.work, second.work, first.resultElements))
          pairs.push_back({i, k, std::move(kernel)});
      break; // others that read the result come later
    }
  }
}

void WorkOrder::stopAt(const std::function<bool(uint64_t)> &looked) {
  all.clear();
  for (const Instruction &instruction : instructions)
    all.push_back(instruction.work);
  pairedNow = 0;
  std::vector<const Pair *> begins(instructions.size());
  for (const Pair &pair : pairs) {
    bool stops = false;
    for (uint64_t i = pair.first; i < pair.second; ++i)
      stops |= looked(i);
    if (stops || !all[pair.first].kernel || !all[pair.second].kernel) // or either is done by another already
      continue;
    begins[pair.first] = &pair;
    all[pair.first].kernel = pair.kernel.get();
    all[pair.second].kernel = nullptr;
    ++pairedNow;
  }
  std::deque<Touched> before; // the nearest first
  for (uint64_t i = 0; i < all.size(); ++i) {
    Touched touched;
    if (all[i].kernel)
      touched = instructions[i].touched;
    if (begins[i])
      touched.add(instructions[begins[i]->second].touched);
    for (size_t d = 0; d < before.size(); ++d)
      all[i].behind |= uint32_t(touched.meets(before[d])) << (d + 1);
    before.push_front(std::move(touched));
    if (before.size() == workWindow)
      before.pop_back();
  }
}

} // namespace amc::rt
