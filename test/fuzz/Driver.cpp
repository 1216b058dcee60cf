// The deterministic fuzz driver; see Driver.h.
#include "test/fuzz/Driver.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

namespace amc::fuzz {

std::string mutate(std::string bytes, Random &random) {
  static const uint64_t edges[] = {0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF,
                                   0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF};
  for (uint64_t changes = 1 + random.below(8); changes > 0; --changes) {
    size_t at = random.below(bytes.size() + 1), length = random.below(std::min<size_t>(bytes.size() - at, 64) + 1);
    switch (random.below(6)) {
    case 0:
      if (at < bytes.size())
        bytes[at] ^= static_cast<char>(1u << random.below(8));
      break;
    case 1: {
      uint64_t value = edges[random.below(std::size(edges))];
      size_t width = std::min<size_t>(size_t(1) << random.below(4), bytes.size() - at);
      std::memcpy(bytes.data() + at, &value, width);
      break;
    }
    case 2:
      bytes.resize(at);
      break;
    case 3:
      bytes.insert(at, bytes.substr(at, length));
      break;
    case 4:
      bytes.erase(at, length);
      break;
    default:
      if (at < bytes.size())
        bytes[at] = static_cast<char>(random.next());
    }
  }
  return bytes;
}

int run(int argc, char **argv, void (*target)(const std::string &)) {
  uint64_t runs = 500, seed = 1;
  std::string keep;
  std::vector<std::string> corpus;
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    if (argument.rfind("--runs=", 0) == 0) {
      runs = std::strtoull(argv[i] + 7, nullptr, 10);
    } else if (argument.rfind("--seed=", 0) == 0) {
      seed = std::strtoull(argv[i] + 7, nullptr, 10);
    } else if (argument.rfind("--keep=", 0) == 0) {
      keep = argument.substr(7);
    } else if (argument.rfind("--", 0) == 0) {
      std::fprintf(stderr, "unknown flag %s; usage: [--runs=N] [--seed=S] [--keep=FILE] CORPUS…\n", argv[i]);
      return 2;
    } else {
      std::ifstream file(argument, std::ios::binary);
      if (!file) {
        std::fprintf(stderr, "%s: cannot be read\n", argv[i]);
        return 2;
      }
      corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "no corpus file was given\n");
    return 2;
  }
  auto call = [&](const std::string &bytes) {
    if (!keep.empty())
      std::ofstream(keep, std::ios::binary) << bytes;
    target(bytes);
  };
  for (const std::string &bytes : corpus)
    call(bytes);
  Random random(seed);
  for (uint64_t i = 0; i < runs; ++i) {
    const std::string &parent = corpus[random.below(corpus.size())];
    call(mutate(parent, random));
  }
  if (!keep.empty())
    std::remove(keep.c_str());
  std::printf("%zu corpus files and %llu mutations of them: no crash\n", corpus.size(),
              static_cast<unsigned long long>(runs));
  return 0;
}

} // namespace amc::fuzz
