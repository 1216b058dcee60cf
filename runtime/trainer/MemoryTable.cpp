// See MemoryTable.h.
#include "runtime/trainer/MemoryTable.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <fstream>
#include <optional>
#include <sstream>

namespace amc::rt {
namespace {

struct Mapping {
  uint64_t begin = 0, end = 0;
  bool writable = false, anonymous = false, inaccessible = false, mainStack = false;
  bool shared = false; // memory that processes share, no file of the disk
};

// "7f00-8f00 rw-p 00000000 00:00 0   [stack]"; nothing if the line is none of these headers.
std::optional<Mapping> parseHeader(std::string_view line) {
  Mapping mapping;
  const char *end = line.data() + line.size();
  auto first = std::from_chars(line.data(), end, mapping.begin, 16);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != '-')
    return std::nullopt;
  auto second = std::from_chars(first.ptr + 1, end, mapping.end, 16);
  if (second.ec != std::errc() || second.ptr == end || *second.ptr != ' ')
    return std::nullopt;
  std::string_view permissions(second.ptr + 1, std::min<size_t>(4, end - second.ptr - 1));
  mapping.writable = permissions.starts_with("rw");
  mapping.inaccessible = permissions.starts_with("---");
  mapping.anonymous = line.find(" /") == std::string_view::npos;
  mapping.mainStack = line.ends_with("[stack]");
  for (std::string_view prefix : {" /memfd:", " /dev/shm/", " /dev/zero", " /SYSV"})
    mapping.shared |= line.find(prefix) != line.npos;
  return mapping;
}

std::string readAll(const char *path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The number of a line "Name:   123 kB", in bytes.
std::optional<uint64_t> kilobytes(std::string_view line, std::string_view name) {
  if (!line.starts_with(name))
    return std::nullopt;
  line.remove_prefix(name.size());
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  uint64_t value = 0;
  std::from_chars(line.data(), line.data() + line.size(), value);
  return value * 1024;
}

template <typename Visitor> void forEachLine(std::string_view text, Visitor visit) {
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    visit(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// Where the arena begins, from any tensor in it; 0 where it is not in this process's memory.
uint64_t arenaBegin(const Executor &executor) {
  if (!executor.hostAddressable())
    return 0;
  const plan::Plan &plan = executor.plan();
  for (const plan::Output &output : plan.outputs()) {
    Tensor tensor = executor.view(output.view());
    if (tensor.data)
      return reinterpret_cast<uint64_t>(tensor.data) - output.view().byte_offset() -
             plan.buffers(static_cast<int>(output.view().buffer())).offset();
  }
  return 0;
}

} // namespace

ResidentMemory parseSmaps(std::string_view smaps, uint64_t arenaBegin, uint64_t arenaEnd) {
  ResidentMemory memory;
  uint64_t *counted = &memory.heap;
  uint64_t inArena = 0; // bytes of the mapping that are the arena's
  Mapping before;
  forEachLine(smaps, [&](std::string_view line) {
    if (std::optional<Mapping> mapping = parseHeader(line)) {
      // A thread's stack lies right above its guard page.
      bool threadStack = mapping->writable && mapping->anonymous && before.inaccessible &&
                         before.end == mapping->begin && before.end - before.begin <= 65536;
      bool overlaps = mapping->begin < arenaEnd && arenaBegin < mapping->end;
      inArena =
          overlaps ? std::min(mapping->end, arenaEnd) - std::max(mapping->begin, arenaBegin) : 0;
      if (mapping->shared)
        counted = &memory.shared;
      else if (overlaps)
        counted = &memory.arena;
      else if (!mapping->anonymous)
        counted = &memory.files;
      else
        counted = mapping->mainStack || threadStack ? &memory.stacks : &memory.heap;
      before = *mapping;
    } else if (std::optional<uint64_t> bytes = kilobytes(line, "Rss:")) {
      // One mapping may hold the arenas of several ranks.
      uint64_t own = counted == &memory.shared ? std::min(*bytes, inArena) : 0;
      memory.arena += own;
      *counted += *bytes - own;
    }
  });
  return memory;
}

ResidentMemory residentMemory(const Executor *executor) {
  uint64_t begin = executor ? arenaBegin(*executor) : 0;
  return parseSmaps(readAll("/proc/self/smaps"), begin,
                    begin + (executor ? executor->arenaBytes() : 0));
}

uint64_t peakResidentBytes() {
  uint64_t peak = 0;
  forEachLine(readAll("/proc/self/status"), [&](std::string_view line) {
    if (std::optional<uint64_t> bytes = kilobytes(line, "VmHWM:"))
      peak = *bytes;
  });
  return peak;
}

std::string memorySummary(const Executor &executor, const ResidentMemory &now) {
  return fmt::format("memory: promised peak {} bytes, arena {} bytes, resident set {} bytes",
                     executor.plan().promise().arena_bytes(), executor.arenaBytes(), now.total());
}

std::vector<std::string> deviceMemory(const Executor &executor) {
  std::vector<std::string> lines;
  if (executor.hostAddressable())
    return lines;
  auto row = [&](std::string_view what, uint64_t bytes) {
    lines.push_back(fmt::format("  {:<50} {:>15}", what, bytes));
  };
  lines.push_back(fmt::format("memory of the device in bytes, {}:", executor.isa()));
  uint64_t all = executor.arenaBytes();
  row("arena, as promised", executor.arenaBytes());
  for (const DeviceRemainder &part : executor.remainder()) {
    row(part.what, part.bytes);
    all += part.bytes;
  }
  row("in all", all);
  return lines;
}

Expected<std::string> memoryOfRanks(const Ranks &ranks, const ResidentMemory &now) {
  Expected<std::vector<std::string>> all = ranks.exchange(text(now.total(), " ", now.arena));
  if (!all.ok())
    return all.status();
  std::vector<std::pair<uint64_t, uint64_t>> held; // resident set and arena, by rank
  for (const std::string &said : *all) {
    const char *end = said.data() + said.size();
    auto &[total, arena] = held.emplace_back();
    auto [at, error] = std::from_chars(said.data(), end, total);
    if (error == std::errc() && at != end)
      std::from_chars(at + 1, end, arena);
  }
  auto [least, most] = std::minmax_element(held.begin(), held.end());
  auto describe = [&](auto at) {
    return fmt::format("{} bytes (rank {}, {} of them arena)", at->first, at - held.begin(),
                       at->second);
  };
  return fmt::format("memory of {} ranks: resident set from {} to {}; other ranks' memory that a "
                     "rank maps is not counted",
                     held.size(), describe(least), describe(most));
}

std::vector<std::string> memoryTable(const Executor &executor, const ResidentMemory &start,
                                     const ResidentMemory &now,
                                     const std::vector<KnownHeap> &known) {
  std::vector<std::string> lines;
  auto row = [&](std::string_view what, uint64_t before, uint64_t after) {
    lines.push_back(fmt::format("  {:<34} {:>15} {:>15} {:>+15}", what, before, after,
                                static_cast<int64_t>(after - before)));
  };
  uint64_t promised = executor.plan().promise().arena_bytes();
  uint64_t mapped = executor.arenaBytes();
  lines.push_back(
      fmt::format("memory: promised peak {} bytes, arena {} bytes mapped in whole pages "
                  "({} above the promise), {} of them resident",
                  promised, mapped, static_cast<int64_t>(mapped - promised), now.arena));
  lines.push_back(
      fmt::format("  {:<34} {:>15} {:>15} {:>15}", "resident bytes", "at start", "now", "growth"));
  row("arena", start.arena, now.arena);
  row("program and libraries", start.files, now.files);
  row("stacks of all threads", start.stacks, now.stacks);
  row("heap and other anonymous memory", start.heap, now.heap);
  uint64_t named = 0;
  for (const KnownHeap &entry : known) {
    lines.push_back(fmt::format("    of it {:<28} {:>15} {:>15}", entry.what, "", entry.bytes));
    named += entry.bytes;
  }
  uint64_t growth = now.heap > start.heap ? now.heap - start.heap : 0;
  lines.push_back(fmt::format("    of it {:<28} {:>15} {:>15}", "kernels, allocator, libraries", "",
                              growth > named ? growth - named : 0));
  row("resident set", start.total(), now.total());
  if (now.shared > 0)
    row("shared with other ranks, not counted", start.shared, now.shared);
  // The kernel's peak counts shared memory, too.
  uint64_t peak = peakResidentBytes();
  if (now.shared == 0 && peak > now.total())
    lines.push_back(fmt::format("  peak of the resident set {} bytes: {} were released again", peak,
                                peak - now.total()));
  lines.push_back(fmt::format("  kernels and threads may use up to {} bytes outside the arena",
                              executor.scratchBytes()));
  return lines;
}

} // namespace amc::rt
