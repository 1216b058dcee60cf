// --log-json: a line at a time, on the disk as soon as it is written.
#ifndef AMC_RUNTIME_TRAINER_JSONLOG_H
#define AMC_RUNTIME_TRAINER_JSONLOG_H

#include "runtime/trainer/Files.h"

#include <cerrno>
#include <cstdio>
#include <string>

namespace amc::rt {

class JsonLog {
public:
  JsonLog() = default;
  JsonLog(const JsonLog &) = delete;
  ~JsonLog() {
    if (file)
      std::fclose(file);
  }
  Status open(const std::string &path, bool append) {
    name = path;
    file = std::fopen(path.c_str(), append ? "a" : "w");
    return file ? Status() : systemError(errno, path, "cannot be written");
  }
  Status write(const std::string &line) {
    if (!file)
      return {};
    if (std::fprintf(file, "%s\n", line.c_str()) < 0 || std::fflush(file) != 0)
      return systemError(errno, name, "cannot be written");
    return {};
  }

private:
  std::FILE *file = nullptr;
  std::string name;
};

} // namespace amc::rt

#endif
