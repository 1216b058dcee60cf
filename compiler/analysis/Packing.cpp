// The packing portfolio; see Packing.h.
//
// Phases: round sizes up and compute the bound; stack what lives for ever; then for each member of
// the portfolio place the others and keep the lowest result. Gap placement keeps the placed items
// sorted by offset in parallel arrays and walks them once for each new item: a tight loop, faster
// up to some ten thousand items than gathering and sorting what is alive together. A sweep keeps
// the free ranges by offset and merges neighbours when an item dies.
#include "compiler/analysis/Packing.h"
#include "compiler/analysis/PackingSearch.h"
#include <algorithm>
#include <bit>
#include <cassert>
#include <cstddef>
#include <functional>
#include <map>
#include <numeric>

namespace amc {
namespace {

struct Item {
  uint64_t bytes, first, last;
  uint32_t index;                // in the caller's list
  uint64_t tight = 0;            // most bytes that are alive together at some time of its life
  uint32_t birth = 0, death = 0; // first and last, counted in births
};

enum class Fit { First, Best };

// The squeaky wheel stops after so many rounds for each order, and after so many pairs of items in
// all.
constexpr unsigned squeakyRounds = 60;
constexpr uint64_t squeakyWork = 600'000'000;
// Heights between the bound and the portfolio's best that the exact search is asked for.
constexpr unsigned bisections = 8;

// The largest sum of items alive together, and for every item the largest of its life.
uint64_t liveBound(std::vector<Item> &items) {
  std::vector<uint64_t> births;
  for (const Item &item : items)
    births.push_back(item.first);
  std::sort(births.begin(), births.end());
  births.erase(std::unique(births.begin(), births.end()), births.end());
  // Sums at births; [first, last) of an item as places among them.
  auto place = [&](uint64_t time) {
    return static_cast<size_t>(std::lower_bound(births.begin(), births.end(), time) -
                               births.begin());
  };
  std::vector<int64_t> change(births.size() + 1, 0);
  for (const Item &item : items) {
    change[place(item.first)] += static_cast<int64_t>(item.bytes);
    change[place(item.last)] -= static_cast<int64_t>(item.bytes);
  }
  // Maxima of ranges of a power of two.
  std::vector<std::vector<uint64_t>> most(1);
  int64_t sum = 0;
  for (size_t i = 0; i < births.size(); ++i)
    most[0].push_back(static_cast<uint64_t>(sum += change[i]));
  for (size_t width = 1; 2 * width <= births.size(); width *= 2) {
    const std::vector<uint64_t> &half = most.back();
    std::vector<uint64_t> whole(half.size() - width);
    for (size_t i = 0; i < whole.size(); ++i)
      whole[i] = std::max(half[i], half[i + width]);
    most.push_back(std::move(whole));
  }
  for (Item &item : items) {
    size_t begin = place(item.first), end = place(item.last);
    item.birth = static_cast<uint32_t>(begin);
    item.death = static_cast<uint32_t>(end);
    size_t level = static_cast<size_t>(std::bit_width(end - begin)) - 1;
    item.tight = std::max(most[level][begin], most[level][end - (size_t(1) << level)]);
  }
  return items.empty() ? 0 : *std::max_element(most[0].begin(), most[0].end());
}

// Places items in the order given into gaps between what is alive at the same time.
class GapPlacer {
public:
  explicit GapPlacer(size_t count) {
    for (auto *column : {&first, &last})
      column->reserve(count);
    for (auto *column : {&begin, &end})
      column->reserve(count);
  }

  uint64_t place(const Item &item, Fit fit) {
    uint64_t cursor = 0, best = ~uint64_t(0), bestGap = ~uint64_t(0);
    for (size_t i = 0; i < begin.size(); ++i) {
      if ((first[i] >= item.death) | (last[i] <= item.birth)) // one branch
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
    insert(first, at, item.birth);
    insert(last, at, item.death);
    insert(begin, at, offset);
    insert(end, at, offset + item.bytes);
    return offset;
  }

private:
  template <class T> static void insert(std::vector<T> &column, size_t at, T value) {
    column.insert(column.begin() + static_cast<ptrdiff_t>(at), value);
  }
  std::vector<uint32_t> first, last; // placed items, by offset
  std::vector<uint64_t> begin, end;
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
      {"tight, lifetime",
       [](const Item &a, const Item &b) {
         return std::make_tuple(a.tight, span(a), a.bytes) >
                std::make_tuple(b.tight, span(b), b.bytes);
       }},
      {"tight, size",
       [](const Item &a, const Item &b) {
         return std::make_tuple(a.tight, a.bytes, span(a)) >
                std::make_tuple(b.tight, b.bytes, span(b));
       }},
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

Placement pack(const std::vector<PackingItem> &input, uint64_t alignment,
               const PackingLimits &limits) {
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
    sorted(orders()[5]);
    consider(fit == Fit::Best ? "sweep, best fit" : "sweep, first fit", sweep(items, order, fit));
  }
  const uint64_t pairs = static_cast<uint64_t>(items.size()) * items.size() / 2;
  // Places in the order that stands, unless the bound is reached or the limit is; says whether it
  // did.
  auto placeAll = [&](Fit fit, const std::string &rule) {
    if (lowest == bound)
      return false;
    if (work + pairs > limits.work) {
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
  if (lowest > bound && items.size() <= limits.exactItems && limits.exactSteps > 0) {
    std::vector<PackingItem> exact;
    for (const Item &item : items)
      exact.push_back({item.bytes, item.first, item.last});
    uint64_t proven = bound; // nothing is lower
    auto search = [&](uint64_t height, uint64_t steps) {
      PackingSearchResult found = searchPacking(exact, height, steps);
      result.steps += found.steps;
      if (found.answer == PackingSearchResult::Found)
        consider(std::string("exact search, ") + found.rank, found.offsets);
      if (found.answer == PackingSearchResult::Impossible)
        proven = std::max(proven, height + alignment);
      return found.answer;
    };
    // The bound itself gets most of the steps, fewer where little is to gain. Then bisection: an
    // exhausted search counts as impossible for where to look next, not as a proof.
    const bool wide = lowest - bound > bound / 100;
    search(bound, wide ? limits.exactSteps : limits.exactSteps / 5);
    uint64_t low = std::max(proven, bound + alignment);
    for (unsigned round = 0; round < bisections && low < lowest && lowest > proven; ++round) {
      uint64_t height = low + (lowest - low) / 2 / alignment * alignment;
      if (search(height, limits.exactSteps / (wide ? 20 : 100)) != PackingSearchResult::Found)
        low = height + alignment;
    }
    result.bound = base + proven;
  }
  result.height = base + lowest;
  return result;
}

} // namespace amc
