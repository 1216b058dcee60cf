// The known word that somebody may have meant who wrote one that is not known: of a flag, a key, a weight's name. One
// rule for compiler and runtime; nothing that is not near is offered, for a wrong suggestion sends people astray.
#ifndef AMC_RUNTIME_SUPPORT_NEAREST_H
#define AMC_RUNTIME_SUPPORT_NEAREST_H

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace amc::rt {

// Levenshtein's.
inline size_t editDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t(0));
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

// The edits from `word` to a candidate, if it is near: at most a third of each part between dots and slashes is
// another, so that a long path does not make up for a last part that has nothing in common; or `word` is in it.
inline std::optional<size_t> editsIfNear(std::string_view word, std::string_view candidate) {
  auto parts = [](std::string_view path) {
    std::vector<std::string_view> list;
    for (size_t begin = 0, end; begin <= path.size(); begin = end + 1) {
      end = std::min(path.find_first_of("./", begin), path.size());
      list.push_back(path.substr(begin, end - begin));
    }
    return list;
  };
  if (word.size() >= 3 && candidate.find(word) != candidate.npos)
    return candidate.size() - word.size();
  std::vector<std::string_view> mine = parts(word), its = parts(candidate);
  size_t longest = 0;
  for (std::string_view part : mine)
    longest = std::max(longest, part.size());
  if (mine.size() != its.size()) // a dot too many or too few is an edit, too
    mine = {word}, its = {candidate};
  size_t edits = 0;
  for (size_t i = 0; i < mine.size(); ++i) {
    size_t distance = editDistance(mine[i], its[i]);
    if (distance > std::max<size_t>(1, std::min(longest, mine[i].size()) / 3))
      return std::nullopt;
    edits += distance;
  }
  return edits < word.size() ? std::optional(edits) : std::nullopt;
}

// The nearest one, the first of those alike; empty if none is near.
inline std::string nearest(std::string_view word, const std::vector<std::string> &known) {
  const std::string *best = nullptr;
  size_t fewest = 0;
  for (const std::string &candidate : known)
    if (std::optional<size_t> edits = editsIfNear(word, candidate); edits && (!best || *edits < fewest)) {
      best = &candidate;
      fewest = *edits;
    }
  return best ? *best : "";
}

} // namespace amc::rt

#endif
