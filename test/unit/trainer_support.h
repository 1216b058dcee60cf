// What the trainer's tests share: a folder of their own, files in it, safetensors made by hand.
#ifndef AMC_TEST_UNIT_TRAINER_SUPPORT_H
#define AMC_TEST_UNIT_TRAINER_SUPPORT_H

#include "runtime/trainer/Safetensors.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

namespace amc::rt::test {

class TempDir {
public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "amc-test-XXXXXX").string();
    if (!::mkdtemp(pattern.data()))
      std::abort();
    folder = pattern;
  }
  ~TempDir() { std::filesystem::remove_all(folder); }
  std::string path(const std::string &name) const { return folder + "/" + name; }
  std::string write(const std::string &name, std::string_view bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
    return path(name);
  }
  // Names in the folder, sorted.
  std::vector<std::string> list(const std::string &below = ".") const {
    std::vector<std::string> names;
    for (const auto &entry : std::filesystem::directory_iterator(folder + "/" + below))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

private:
  std::string folder;
};

inline std::string slurp(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

template <typename T> std::string rawBytes(const std::vector<T> &values) {
  return std::string(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T));
}

// A safetensors file from a header as given and the bytes behind it.
inline std::string safetensors(const std::string &header, const std::string &data) {
  uint64_t length = header.size();
  return std::string(reinterpret_cast<const char *>(&length), 8) + header + data;
}

// Asserts success and hands the value out.
template <typename T> T take(Expected<T> expected) {
  if (!expected.ok()) {
    ADD_FAILURE() << expected.status().message();
    std::abort();
  }
  return std::move(expected).value();
}

inline void expectOk(const Status &status) { EXPECT_TRUE(status.ok()) << status.message(); }

// Asserts a failure of this kind whose message contains `part`.
inline void expectError(const Status &status, ErrorKind kind, const std::string &part) {
  ASSERT_FALSE(status.ok()) << "expected an error with: " << part;
  EXPECT_EQ(status.kind(), kind) << status.message();
  EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
}

} // namespace amc::rt::test

#endif
