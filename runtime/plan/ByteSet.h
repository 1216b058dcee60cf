// Which bytes of a buffer have been written.
#ifndef AMC_RUNTIME_PLAN_BYTESET_H
#define AMC_RUNTIME_PLAN_BYTESET_H

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>

namespace amc::rt {

// Disjoint ranges of bytes, joined where they touch.
class ByteSet {
public:
  void add(uint64_t begin, uint64_t end) {
    if (begin >= end)
      return;
    auto next = ranges.upper_bound(begin);
    if (next != ranges.begin() && std::prev(next)->second >= begin)
      --next;
    while (next != ranges.end() && next->first <= end) {
      begin = std::min(begin, next->first);
      end = std::max(end, next->second);
      next = ranges.erase(next);
    }
    ranges.emplace(begin, end);
  }
  bool covers(uint64_t begin, uint64_t end) const {
    if (begin >= end)
      return true;
    auto next = ranges.upper_bound(begin);
    return next != ranges.begin() && std::prev(next)->second >= end;
  }

  /// Whether any byte of the range is in the set.
  bool touches(uint64_t begin, uint64_t end) const {
    if (begin >= end)
      return false;
    auto next = ranges.lower_bound(end); // the first that begins behind it
    return next != ranges.begin() && std::prev(next)->second > begin;
  }

private:
  std::map<uint64_t, uint64_t> ranges;
};

} // namespace amc::rt

#endif
