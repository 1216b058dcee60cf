// Packs the buffers of CSV files (id, lower, upper, size, in any order; a header line) and prints a
// row for each: what offsets.py makes its table of.
//   bench-offsets CONVENTION ALIGNMENT FILE...
// CONVENTION says which ends of [lower, upper] belong to a lifetime: half-open (lower does, upper
// does not), closed (both do), open (neither does).
#include "compiler/analysis/Packing.h"
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>

using namespace amc;

namespace {

std::vector<std::string> split(const std::string &line) {
  std::vector<std::string> cells;
  std::istringstream in(line);
  for (std::string cell; std::getline(in, cell, ',');)
    cells.push_back(cell);
  return cells;
}

size_t column(const std::vector<std::string> &header, std::string_view name) {
  for (size_t i = 0; i < header.size(); ++i)
    if (header[i] == name)
      return i;
  std::fprintf(stderr, "no column %s\n", std::string(name).c_str());
  std::exit(1);
}

std::vector<PackingItem> read(const char *path, std::string_view convention) {
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line)) {
    std::fprintf(stderr, "%s: cannot be read\n", path);
    std::exit(1);
  }
  if (!line.empty() && line.back() == '\r')
    line.pop_back();
  std::vector<std::string> header = split(line);
  size_t lower = column(header, "lower"), upper = column(header, "upper"),
         size = column(header, "size");
  std::vector<PackingItem> items;
  while (std::getline(in, line)) {
    std::vector<std::string> cells = split(line);
    if (cells.size() < header.size())
      continue;
    PackingItem item;
    item.first = std::stoull(cells[lower]) + (convention == "open");
    item.last = std::stoull(cells[upper]) + (convention == "closed");
    item.bytes = std::stoull(cells[size]);
    items.push_back(item);
  }
  return items;
}

// Pair by pair; shares nothing with the packing.
bool valid(std::vector<PackingItem> items, const std::vector<uint64_t> &offsets, uint64_t height) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].first >= items[i].last)
      continue;
    if (offsets[i] + items[i].bytes > height)
      return false;
    for (size_t j = i + 1; j < items.size(); ++j)
      if (items[i].first < items[j].last && items[j].first < items[i].last &&
          offsets[i] < offsets[j] + items[j].bytes && offsets[j] < offsets[i] + items[i].bytes)
        return false;
  }
  return true;
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: bench-offsets half-open|closed|open ALIGNMENT FILE...\n");
    return 2;
  }
  for (int at = 3; at < argc; ++at) {
    std::vector<PackingItem> items = read(argv[at], argv[1]);
    auto begin = std::chrono::steady_clock::now();
    Placement placement = pack(items, std::strtoull(argv[2], nullptr, 10));
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    if (!valid(items, placement.offsets, placement.height)) {
      std::fprintf(stderr, "%s: the placement is wrong\n", argv[at]);
      return 1;
    }
    std::printf("%s,%zu,%llu,%llu,%.3f,%s\n", argv[at], items.size(),
                static_cast<unsigned long long>(placement.bound),
                static_cast<unsigned long long>(placement.height), seconds.count(),
                placement.rule.c_str());
    std::fflush(stdout);
  }
}
