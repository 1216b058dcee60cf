// See Ranks.h.
#include "runtime/trainer/Ranks.h"

#include "runtime/plan/Splits.h"

namespace amc::rt {
namespace {


// A list of texts as one, each behind its length.
std::string join(const std::vector<std::pair<std::string, std::string>> &facts) {
  std::string joined;
  for (const auto &[name, value] : facts)
    for (const std::string *piece : {&name, &value})
      joined += text(piece->size(), ":", *piece);
  return joined;
}

// Nothing if it was not made by `join`.
std::optional<std::vector<std::pair<std::string, std::string>>> split(std::string_view joined) {
  std::vector<std::string> pieces;
  while (!joined.empty()) {
    size_t colon = joined.find(':');
    if (colon == joined.npos || colon == 0 || colon > 12)
      return std::nullopt;
    uint64_t length = 0;
    for (char digit : joined.substr(0, colon)) {
      if (digit < '0' || digit > '9')
        return std::nullopt;
      length = length * 10 + static_cast<uint64_t>(digit - '0');
    }
    joined.remove_prefix(colon + 1);
    if (length > joined.size())
      return std::nullopt;
    pieces.emplace_back(joined.substr(0, length));
    joined.remove_prefix(length);
  }
  if (pieces.size() % 2 != 0)
    return std::nullopt;
  std::vector<std::pair<std::string, std::string>> facts;
  for (size_t i = 0; i < pieces.size(); i += 2)
    facts.emplace_back(pieces[i], pieces[i + 1]);
  return facts;
}

} // namespace

Status Ranks::setMesh(const MeshShape &mesh) {
  shape = mesh;
  if (mesh.ranks() == size())
    return {};
  return inputError("the plan is for ", mesh.ranks(), mesh.ranks() == 1 ? " rank" : " ranks",
                    mesh.ranks() == 1 ? "" : text(" (", meshText(mesh), ")"), ", and this run has ",
                    size(), "; ",
                    mesh.ranks() == 1 ? "compile it with --dp-size or the like for more"
                                      : text("start it with --nproc-per-node ", mesh.ranks(),
                                             " or mpirun -n ", mesh.ranks()));
}

uint64_t Ranks::dataRanks() const { return groupSize(shape, dataAxes); }
uint64_t Ranks::dataIndex() const { return indexInGroup(shape, dataAxes, rank()); }
std::vector<uint64_t> Ranks::dataLeaders() const { return groupMembers(shape, dataAxes, 0); }

Expected<std::vector<std::string>> Ranks::exchange(const std::string &mine) const {
  if (!communicator)
    return std::vector<std::string>{mine};
  return communicator->exchange(mine);
}

Status Ranks::agree(const Status &mine) const {
  if (!communicator)
    return mine;
  // The exit code's digit, then the message.
  Expected<std::vector<std::string>> all =
      communicator->exchange(mine.ok() ? "" : text(mine.exitCode(), mine.message()));
  if (!all.ok())
    return mine.ok() ? all.status() : mine;
  for (size_t other = 0; other < all->size(); ++other) {
    const std::string &said = (*all)[other];
    if (said.empty())
      continue;
    agreed = true;
    ErrorKind kind = said[0] == '2'   ? ErrorKind::Usage
                     : said[0] == '3' ? ErrorKind::Limit
                                      : ErrorKind::Input;
    return Status(kind, text("rank ", other, ": ", said.substr(1)));
  }
  return {};
}

Status Ranks::sameOnAll(const std::vector<std::pair<std::string, std::string>> &facts,
                        std::string_view advice) const {
  if (!communicator)
    return {};
  Expected<std::vector<std::string>> all = communicator->exchange(join(facts));
  if (!all.ok())
    return all.status();
  for (size_t other = 1; other < all->size(); ++other) {
    if ((*all)[other] == all->front())
      continue;
    agreed = true;
    auto mine = split(all->front()), theirs = split((*all)[other]);
    if (!mine || !theirs || mine->size() != theirs->size())
      return inputError("rank ", other, " runs another amrun than rank 0", advice);
    for (size_t i = 0; i < mine->size(); ++i)
      if ((*mine)[i] != (*theirs)[i])
        return inputError((*theirs)[i].first, " differs: rank ", other, " has ",
                          (*theirs)[i].second, ", rank 0 has ", (*mine)[i].second, advice);
  }
  return {};
}

Status Ranks::end(Status failure) const {
  if (!communicator || failure.ok())
    return failure;
  if (agreed)
    return isFirst() ? std::move(failure) : Status(failure.kind(), "");
  return Status(failure.kind(), communicator->lastWords(failure));
}

} // namespace amc::rt
