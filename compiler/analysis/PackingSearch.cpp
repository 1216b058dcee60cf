// Branch and bound over the places of items; see PackingSearch.h.
//
// One Search is one ranking at one step limit. Items are numbered by rank. A node of the search is
// a part: unplaced items, by rank, and the range of sections they cover. Placing an item raises the
// lowest offsets of those it overlaps; the trail keeps the old ones for the way back. All recursion
// is as deep as there are items.
#include "compiler/analysis/PackingSearch.h"
#include <algorithm>
#include <numeric>
#include <tuple>

namespace amc {
namespace {

struct Spans {
  std::vector<uint32_t> first, last; // sections of every item, [first, last)
  uint32_t sections = 0;
};

// Sections: the stretches of time between a birth and the next death. What is alive between a death
// and the next birth is alive in the section before, too.
Spans makeSpans(const std::vector<PackingItem> &items) {
  struct Event {
    uint64_t time;
    bool birth;
    uint32_t item;
  };
  std::vector<Event> events;
  for (uint32_t i = 0; i < items.size(); ++i) {
    events.push_back({items[i].first, true, i});
    events.push_back({items[i].last, false, i});
  }
  std::sort(events.begin(), events.end(), [](const Event &a, const Event &b) {
    return std::tie(a.time, a.birth, a.item) < std::tie(b.time, b.birth, b.item);
  });
  Spans spans;
  spans.first.assign(items.size(), 0);
  spans.last.assign(items.size(), 0);
  bool born = false; // since the last section was closed
  for (const Event &event : events) {
    if (event.birth) {
      spans.first[event.item] = spans.sections;
      born = true;
      continue;
    }
    spans.sections += born;
    born = false;
    spans.last[event.item] = spans.sections;
  }
  return spans;
}

class Search {
public:
  Search(const std::vector<PackingItem> &items, const Spans &spans,
         const std::vector<uint32_t> &order, uint64_t height, uint64_t limit)
      : count(static_cast<uint32_t>(items.size())), height(height), limit(limit), size(count),
        first(count), last(count), lowest(count, 0), offset(count, 0), placed(count, false),
        overlaps(count), blamed(count, 0), nodes(count + 2), floor(spans.sections, 0),
        total(spans.sections, 0), members(spans.sections), witness(spans.sections, 0),
        cuts(spans.sections, 0) {
    for (uint32_t r = 0; r < count; ++r) {
      uint32_t i = order[r];
      size[r] = items[i].bytes;
      first[r] = spans.first[i];
      last[r] = spans.last[i];
      for (uint32_t s = first[r]; s < last[r]; ++s) {
        total[s] += size[r];
        if (members[s].empty())
          witness[s] = r;
        members[s].push_back(r);
        if (s + 1 < last[r])
          ++cuts[s];
      }
    }
    for (uint32_t a = 0; a < count; ++a)
      for (uint32_t b = 0; b < count; ++b)
        if (a != b && first[a] < last[b] && first[b] < last[a])
          overlaps[a].push_back(b);
  }

  PackingSearchResult::Answer run() {
    for (uint64_t sum : total)
      if (sum > height)
        return PackingSearchResult::Impossible;
    std::vector<uint32_t> all(count);
    std::iota(all.begin(), all.end(), 0);
    return split(all, 0, static_cast<uint32_t>(floor.size()), 0, 0);
  }

  uint64_t steps = 0;
  const std::vector<uint64_t> &offsets() const { return offset; } // by rank
  /// How often an item was still to come when a section had too little room; by rank.
  const std::vector<uint64_t> &blame() const { return blamed; }

private:
  using Answer = PackingSearchResult::Answer;
  using Part = std::vector<uint32_t>;
  struct Node {
    Part part;
    std::vector<std::pair<uint64_t, uint32_t>> candidates; // offset and rank
  };

  // Searches each run of sections that no unplaced item ties to the next on its own. `part` may
  // hold placed items; `from` and `rank` are where the last item of an undivided part was placed.
  Answer split(const Part &part, uint32_t begin, uint32_t end, uint64_t from, uint32_t rank) {
    uint32_t at = begin;
    bool whole = true;
    std::vector<std::pair<uint32_t, uint32_t>> runs;
    for (uint32_t s = begin; s < end; ++s)
      if (s + 1 == end || cuts[s] == 0) {
        runs.emplace_back(at, s + 1);
        whole = whole && s + 1 == end;
        at = s + 1;
      }
    if (whole)
      return branch(part, begin, end, from, rank);
    for (auto [low, high] : runs) {
      Part piece;
      for (uint32_t item : part)
        if (!placed[item] && first[item] >= low && last[item] <= high)
          piece.push_back(item);
      if (piece.empty())
        continue;
      if (Answer answer = branch(piece, low, high, 0, 0); answer != Answer::Found)
        return answer;
    }
    return Answer::Found;
  }

  Answer branch(const Part &before, uint32_t begin, uint32_t end, uint64_t from, uint32_t rank) {
    Node &node = nodes[depth++];
    Answer answer = choose(node, before, begin, end, from, rank);
    --depth;
    return answer;
  }

  Answer choose(Node &node, const Part &before, uint32_t begin, uint32_t end, uint64_t from,
                uint32_t rank) {
    Part &part = node.part; // unplaced, by rank
    part.clear();
    uint64_t lowestTop = ~uint64_t(0);
    for (uint32_t item : before) {
      if (placed[item])
        continue;
      part.push_back(item);
      lowestTop = std::min(lowestTop, lowest[item] + size[item]);
    }
    if (part.empty())
      return Answer::Found;
    steps += part.size();
    if (steps > limit)
      return Answer::Exhausted;
    // At `lowestTop` or above, an item would leave a gap that another fits into.
    auto &candidates = node.candidates;
    candidates.clear();
    for (uint32_t item : part)
      if (lowest[item] < lowestTop &&
          std::make_pair(lowest[item], item) >= std::make_pair(from, rank))
        candidates.emplace_back(lowest[item], item);
    std::sort(candidates.begin(), candidates.end());
    for (auto [at, item] : candidates) {
      const size_t mark = trail.size(), floorMark = floorTrail.size();
      bool covered = put(item, at);
      Answer answer = Answer::Impossible;
      if (fits(begin, end, at))
        answer =
            cutLoose(item) ? split(part, begin, end, at, item) : branch(part, begin, end, at, item);
      else
        cutLoose(item);
      // Taken back when it is found, too: another run of sections may fail, and this be tried
      // again.
      if (answer == Answer::Found)
        offset[item] = at;
      take(item, mark, floorMark);
      if (answer != Answer::Impossible || !covered)
        return answer;
    }
    return Answer::Impossible;
  }

  // Places `item` and raises what overlaps it. Whether there was anything.
  bool put(uint32_t item, uint64_t at) {
    placed[item] = true;
    const uint64_t top = at + size[item];
    uint32_t low = first[item], high = last[item];
    bool covered = false;
    for (uint32_t other : overlaps[item]) {
      if (placed[other])
        continue;
      covered = true;
      if (lowest[other] >= top)
        continue;
      trail.emplace_back(other, lowest[other]);
      lowest[other] = top;
      low = std::min(low, first[other]);
      high = std::max(high, last[other]);
    }
    for (uint32_t s = first[item]; s < last[item]; ++s) {
      total[s] -= size[item];
      floorTrail.emplace_back(s, floor[s]);
      floor[s] = top;
    }
    changedLow = low;
    changedHigh = high;
    return covered;
  }

  void take(uint32_t item, size_t mark, size_t floorMark) {
    for (uint32_t s = first[item]; s < last[item]; ++s) {
      total[s] += size[item];
      if (s + 1 < last[item])
        ++cuts[s];
    }
    for (; trail.size() > mark; trail.pop_back())
      lowest[trail.back().first] = trail.back().second;
    for (; floorTrail.size() > floorMark; floorTrail.pop_back())
      floor[floorTrail.back().first] = floorTrail.back().second;
    placed[item] = false;
  }

  // The item no longer ties its sections together. Whether some came apart.
  bool cutLoose(uint32_t item) {
    bool apart = false;
    for (uint32_t s = first[item]; s + 1 < last[item]; ++s)
      apart = --cuts[s] == 0 || apart;
    return apart;
  }

  // Whether every section still has room: nothing is placed below `from` any more, and no item of a
  // section below the lowest of their lowest offsets.
  bool fits(uint32_t begin, uint32_t end, uint64_t from) {
    for (uint32_t s = begin; s < end; ++s)
      if (total[s] > 0 && std::max(floor[s], from) + total[s] > height)
        return full(s);
    for (uint32_t s = changedLow; s < changedHigh; ++s) {
      if (total[s] == 0)
        continue;
      // The floor rises only if every item to come is above it; the last that was not is asked
      // first.
      if (!placed[witness[s]] && lowest[witness[s]] <= floor[s])
        continue;
      uint64_t least = ~uint64_t(0);
      for (uint32_t item : members[s])
        if (!placed[item] && lowest[item] < least) {
          least = lowest[item];
          witness[s] = item;
          if (least <= floor[s])
            break;
        }
      if (least > floor[s]) {
        floorTrail.emplace_back(s, floor[s]);
        floor[s] = least;
        if (least + total[s] > height)
          return full(s);
      }
    }
    return true;
  }

  bool full(uint32_t section) {
    for (uint32_t item : members[section])
      blamed[item] += !placed[item];
    return false;
  }

  const uint32_t count;
  const uint64_t height, limit;
  std::vector<uint64_t> size; // of items, by rank
  std::vector<uint32_t> first, last;
  std::vector<uint64_t> lowest; // offsets that what is placed allows
  std::vector<uint64_t> offset;
  std::vector<uint8_t> placed;
  std::vector<std::vector<uint32_t>> overlaps;
  std::vector<uint64_t> blamed;
  std::vector<Node> nodes; // by depth
  uint32_t depth = 0;
  std::vector<uint64_t> floor, total; // of sections: where what is placed ends, unplaced bytes
  std::vector<std::vector<uint32_t>> members;
  std::vector<uint32_t> witness; // of sections: an item that was at the floor
  std::vector<uint32_t> cuts;    // unplaced items in this section and the next
  std::vector<std::pair<uint32_t, uint64_t>> trail, floorTrail;
  uint32_t changedLow = 0, changedHigh = 0;
};

// What items are ranked by, largest first: the letters of MiniMalloc.
struct Keys {
  double area;
  uint64_t total, width, size; // total: most bytes of a section that it is in
};

std::vector<uint32_t> rankBy(const char *letters, const std::vector<Keys> &keys) {
  std::vector<uint32_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    for (const char *letter = letters; *letter; ++letter) {
      double left = 0, right = 0;
      switch (*letter) {
      case 'A':
        left = keys[a].area, right = keys[b].area;
        break;
      case 'T':
        left = static_cast<double>(keys[a].total), right = static_cast<double>(keys[b].total);
        break;
      case 'W':
        left = static_cast<double>(keys[a].width), right = static_cast<double>(keys[b].width);
        break;
      case 'Z':
        left = static_cast<double>(keys[a].size), right = static_cast<double>(keys[b].size);
        break;
      }
      if (left != right)
        return left > right;
    }
    return false;
  });
  return order;
}

constexpr const char *rankings[] = {"WAT", "TAW", "TWA"};
// How far blame may pull an item to the front, in tenths of the whole order, and how many percent
// of old blame a restart keeps. No pair is best everywhere; these six fit all instances of
// MiniMalloc.
constexpr std::pair<uint64_t, uint64_t> pulls[] = {{1, 90}, {10, 90}, {1, 99},
                                                   {3, 99}, {10, 99}, {30, 99}};
// The shortest run looks at every item so many times.
constexpr uint64_t restart = 80;
constexpr uint64_t one = 1 << 20; // fixed point: the same order on every machine

// 1 1 2 1 1 2 4 1 1 2 1 1 2 4 8 ... (Luby, Sinclair and Zuckerman, 1993)
uint64_t luby(uint64_t round) {
  uint64_t length = 1;
  for (; !(round & 1); round >>= 1)
    length <<= 1;
  return length;
}

struct Strategy {
  uint32_t ranking;
  uint64_t pull, memory;
  std::vector<uint64_t> weight; // of items

  std::vector<uint32_t> order(const std::vector<uint32_t> &base) const {
    const uint64_t count = base.size();
    const uint64_t most = std::max<uint64_t>(1, *std::max_element(weight.begin(), weight.end()));
    std::vector<uint64_t> score(count);
    for (uint32_t p = 0; p < count; ++p)
      score[base[p]] = (count - p) * one / count + pull * (weight[base[p]] * one / most) / 10;
    std::vector<uint32_t> result = base;
    std::stable_sort(result.begin(), result.end(),
                     [&](uint32_t a, uint32_t b) { return score[a] > score[b]; });
    return result;
  }

  void learn(const std::vector<uint32_t> &order, const std::vector<uint64_t> &blame) {
    const uint64_t most = std::max<uint64_t>(1, *std::max_element(blame.begin(), blame.end()));
    for (uint32_t r = 0; r < order.size(); ++r)
      weight[order[r]] = weight[order[r]] * memory / 100 + blame[r] * one / most;
  }
};

} // namespace

PackingSearchResult searchPacking(const std::vector<PackingItem> &input, uint64_t height,
                                  uint64_t stepLimit) {
  PackingSearchResult result;
  std::vector<PackingItem> items;
  std::vector<uint32_t> index;
  for (uint32_t i = 0; i < input.size(); ++i)
    if (input[i].first < input[i].last && input[i].bytes > 0) {
      items.push_back(input[i]);
      index.push_back(i);
    }
  result.offsets.assign(input.size(), 0);
  if (items.empty()) {
    result.answer = PackingSearchResult::Found;
    return result;
  }
  Spans spans = makeSpans(items);
  std::vector<uint64_t> total(spans.sections, 0);
  for (uint32_t i = 0; i < items.size(); ++i)
    for (uint32_t s = spans.first[i]; s < spans.last[i]; ++s)
      total[s] += items[i].bytes;
  std::vector<Keys> keys;
  for (uint32_t i = 0; i < items.size(); ++i) {
    uint64_t width = items[i].last - items[i].first;
    keys.push_back(
        {static_cast<double>(items[i].bytes) * static_cast<double>(width),
         *std::max_element(total.begin() + spans.first[i], total.begin() + spans.last[i]), width,
         items[i].bytes});
  }
  const uint32_t count = static_cast<uint32_t>(items.size());
  std::vector<std::vector<uint32_t>> bases;
  for (const char *letters : rankings)
    bases.push_back(rankBy(letters, keys));
  std::vector<Strategy> strategies;
  for (auto [pull, memory] : pulls)
    for (uint32_t ranking = 0; ranking < bases.size(); ++ranking)
      strategies.push_back({ranking, pull, memory, std::vector<uint64_t>(count, 0)});
  for (uint64_t round = 1;; ++round)
    for (Strategy &strategy : strategies) {
      if (result.steps >= stepLimit)
        return result;
      std::vector<uint32_t> order = strategy.order(bases[strategy.ranking]);
      uint64_t limit = restart * (count + 1) * luby(round);
      Search search(items, spans, order, height, std::min(limit, stepLimit - result.steps));
      result.answer = search.run();
      result.steps += search.steps;
      if (result.answer == PackingSearchResult::Exhausted) {
        strategy.learn(order, search.blame());
        continue;
      }
      result.rank = rankings[strategy.ranking];
      if (result.answer == PackingSearchResult::Found)
        for (uint32_t r = 0; r < count; ++r)
          result.offsets[index[order[r]]] = search.offsets()[r];
      return result;
    }
}

} // namespace amc
