// The packing portfolio; see Packing.h.
//
// Phases: round sizes up and compute the bound; stack what lives for ever; then for each member of
// the portfolio place the others and keep the lowest result. Gap placement keeps the placed items
// sorted by offset in parallel arrays and walks them once for each new item, which is a tight loop
// without branches that mispredict. A sweep keeps the free ranges by offset and merges neighbours
// when an item dies.
#include "compiler/analysis/Packing.h"
#include <algorithm>
#include <cassert>
#include <cstddef>
#include <functional>
#include <map>
#include <numeric>

namespace amc {
namespace {

struct Item {
  uint64_t bytes, first, last;
  uint32_t index; // in the caller's list
};

enum class Fit { First, Best };

// The squeaky wheel stops after so many rounds for each order, and after so many pairs of items in
// all.
constexpr unsigned squeakyRounds = 60;
constexpr uint64_t squeakyWork = 600'000'000;

uint64_t liveBound(const std::vector<Item> &items) {
  std::vector<std::pair<uint64_t, int64_t>> events;
  events.reserve(2 * items.size());
  for (const Item &item : items) {
    events.emplace_back(item.first, static_cast<int64_t>(item.bytes));
    events.emplace_back(item.last, -static_cast<int64_t>(item.bytes));
  }
  // At equal times deaths come first: lifetimes are half-open.
  std::sort(events.begin(), events.end());
  int64_t live = 0, most = 0;
  for (auto [time, change] : events) {
    live += change;
    most = std::max(most, live);
  }
  return static_cast<uint64_t>(most);
}

// Places items in the order given into gaps between what is alive at the same time.
class GapPlacer {
public:
  explicit GapPlacer(size_t count) {
    for (auto *column : {&first, &last, &begin, &end})
      column->reserve(count);
  }

  uint64_t place(const Item &item, Fit fit) {
    uint64_t cursor = 0, best = ~uint64_t(0), bestGap = ~uint64_t(0);
    for (size_t i = 0; i < begin.size(); ++i) {
      if (first[i] >= item.last || last[i] <= item.first)
        continue;
      if (begin[i] > cursor) {
        uint64_t gap = begin[i] - cursor;
        if (gap >= item.bytes && gap < bestGap) {
          best = cursor;
          bestGap = gap;
          if (fit == Fit::First || gap == item.bytes)
            break;
        }
      }
      cursor = std::max(cursor, end[i]);
    }
    uint64_t offset = best == ~uint64_t(0) ? cursor : best;
    size_t at =
        static_cast<size_t>(std::upper_bound(begin.begin(), begin.end(), offset) - begin.begin());
    insert(first, at, item.first);
    insert(last, at, item.last);
    insert(begin, at, offset);
    insert(end, at, offset + item.bytes);
    return offset;
  }

private:
  static void insert(std::vector<uint64_t> &column, size_t at, uint64_t value) {
    column.insert(column.begin() + static_cast<ptrdiff_t>(at), value);
  }
  std::vector<uint64_t> first, last, begin, end; // placed items, by offset
};

// Walks along the time axis and takes room from, and returns it to, a list of free ranges above
// which all is free. Items are born in the order given, which must be by birth.
std::vector<uint64_t> sweep(const std::vector<Item> &items, const std::vector<uint32_t> &order,
                            Fit fit) {
  std::vector<uint64_t> offsets(items.size());
  std::vector<uint32_t> byDeath(order);
  std::stable_sort(byDeath.begin(), byDeath.end(),
                   [&](uint32_t a, uint32_t b) { return items[a].last < items[b].last; });
  std::map<uint64_t, uint64_t> free; // begin -> end
  uint64_t top = 0;
  size_t dead = 0;
  auto release = [&](uint64_t begin, uint64_t end) {
    auto next = free.lower_bound(begin);
    if (next != free.end() && next->first == end) {
      end = next->second;
      next = free.erase(next);
    }
    if (next != free.begin()) {
      auto before = std::prev(next);
      if (before->second == begin) {
        begin = before->first;
        free.erase(before);
      }
    }
    if (end == top)
      top = begin;
    else
      free.emplace(begin, end);
  };
  for (uint32_t index : order) {
    const Item &item = items[index];
    for (; dead < byDeath.size() && items[byDeath[dead]].last <= item.first; ++dead)
      release(offsets[byDeath[dead]], offsets[byDeath[dead]] + items[byDeath[dead]].bytes);
    auto chosen = free.end();
    for (auto range = free.begin(); range != free.end(); ++range) {
      uint64_t size = range->second - range->first;
      if (size < item.bytes)
        continue;
      if (chosen == free.end() || size < chosen->second - chosen->first)
        chosen = range;
      if (fit == Fit::First || size == item.bytes)
        break;
    }
    if (chosen == free.end()) {
      offsets[index] = top;
      top += item.bytes;
      continue;
    }
    auto [begin, end] = *chosen;
    free.erase(chosen);
    offsets[index] = begin;
    if (begin + item.bytes < end)
      free.emplace(begin + item.bytes, end);
  }
  return offsets;
}

struct Order {
  const char *name;
  std::function<bool(const Item &, const Item &)> before;
};

uint64_t span(const Item &item) { return item.last - item.first; }

const std::vector<Order> &orders() {
  static const std::vector<Order> all = {
      {"lifetime",
       [](const Item &a, const Item &b) {
         return std::make_pair(span(a), a.bytes) > std::make_pair(span(b), b.bytes);
       }},
      {"size",
       [](const Item &a, const Item &b) {
         return std::make_pair(a.bytes, span(a)) > std::make_pair(b.bytes, span(b));
       }},
      {"area",
       [](const Item &a, const Item &b) {
         return static_cast<double>(a.bytes) * static_cast<double>(span(a)) >
                static_cast<double>(b.bytes) * static_cast<double>(span(b));
       }},
      {"birth",
       [](const Item &a, const Item &b) {
         return std::make_tuple(a.first, ~span(a), ~a.bytes) <
                std::make_tuple(b.first, ~span(b), ~b.bytes);
       }},
      {"death",
       [](const Item &a, const Item &b) {
         return std::make_tuple(~a.last, ~span(a), ~a.bytes) <
                std::make_tuple(~b.last, ~span(b), ~b.bytes);
       }},
  };
  return all;
}

// Moves the items that reach the height half-way to the front of the order.
void promoteHighest(const std::vector<Item> &items, const std::vector<uint64_t> &offsets,
                    std::vector<uint32_t> &order) {
  uint64_t height = 0;
  for (uint32_t i : order)
    height = std::max(height, offsets[i] + items[i].bytes);
  for (size_t at = 0; at < order.size(); ++at)
    if (offsets[order[at]] + items[order[at]].bytes == height)
      std::rotate(order.begin() + static_cast<std::ptrdiff_t>(at / 2),
                  order.begin() + static_cast<std::ptrdiff_t>(at),
                  order.begin() + static_cast<std::ptrdiff_t>(at + 1));
}

} // namespace

Placement pack(const std::vector<PackingItem> &input, uint64_t alignment, uint64_t workLimit) {
  assert(alignment > 0 && (alignment & (alignment - 1)) == 0);
  Placement result;
  result.offsets.assign(input.size(), 0);
  auto rounded = [&](uint64_t bytes) { return (bytes + alignment - 1) & ~(alignment - 1); };

  uint64_t begin = ~uint64_t(0), end = 0;
  for (const PackingItem &item : input)
    if (item.first < item.last) {
      begin = std::min(begin, item.first);
      end = std::max(end, item.last);
    }
  uint64_t base = 0;
  std::vector<Item> items; // what does not live for ever
  for (uint32_t i = 0; i < input.size(); ++i) {
    const PackingItem &item = input[i];
    if (item.first >= item.last || item.bytes == 0)
      continue;
    if (item.first == begin && item.last == end) {
      result.offsets[i] = base;
      base += rounded(item.bytes);
    } else {
      items.push_back({rounded(item.bytes), item.first, item.last, i});
    }
  }
  uint64_t bound = liveBound(items);
  result.bound = base + bound;
  result.height = base;
  if (items.empty()) {
    result.rule = "stacked";
    return result;
  }

  uint64_t lowest = ~uint64_t(0), work = 0;
  auto consider = [&](const std::string &rule, const std::vector<uint64_t> &offsets) {
    ++result.tried;
    uint64_t height = 0;
    for (uint32_t i = 0; i < items.size(); ++i)
      height = std::max(height, offsets[i] + items[i].bytes);
    if (height >= lowest)
      return;
    lowest = height;
    result.rule = rule;
    for (uint32_t i = 0; i < items.size(); ++i)
      result.offsets[items[i].index] = base + offsets[i];
  };

  std::vector<uint64_t> offsets;
  std::vector<uint32_t> order(items.size());
  auto sorted = [&](const Order &by) {
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](uint32_t a, uint32_t b) { return by.before(items[a], items[b]); });
  };
  // The cheap members first, so that a huge instance has a result whatever the limit is.
  for (Fit fit : {Fit::Best, Fit::First}) {
    sorted(orders()[3]);
    consider(fit == Fit::Best ? "sweep, best fit" : "sweep, first fit", sweep(items, order, fit));
  }
  const uint64_t pairs = static_cast<uint64_t>(items.size()) * items.size() / 2;
  // Places in the order that stands, unless the bound is reached or the limit is; says whether it
  // did.
  auto placeAll = [&](Fit fit, const std::string &rule) {
    if (lowest == bound)
      return false;
    if (work + pairs > workLimit) {
      result.limited = true;
      return false;
    }
    work += pairs;
    GapPlacer placer(items.size());
    offsets.assign(items.size(), 0);
    for (uint32_t i : order)
      offsets[i] = placer.place(items[i], fit);
    consider(rule, offsets);
    return true;
  };
  for (const Order &by : orders())
    for (Fit fit : {Fit::First, Fit::Best}) {
      sorted(by);
      placeAll(fit, std::string(by.name) + (fit == Fit::First ? ", first fit" : ", best fit"));
    }
  for (const Order &by : orders()) {
    sorted(by);
    for (unsigned round = 0; round < squeakyRounds && work + pairs <= squeakyWork; ++round) {
      if (!placeAll(Fit::First, std::string(by.name) + ", squeaky wheel"))
        break;
      promoteHighest(items, offsets, order);
    }
  }
  result.height = base + lowest;
  return result;
}

} // namespace amc
