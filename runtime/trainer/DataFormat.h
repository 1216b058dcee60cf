// What a data file is by its first bytes, whatever it is called.
#ifndef AMC_RUNTIME_TRAINER_DATAFORMAT_H
#define AMC_RUNTIME_TRAINER_DATAFORMAT_H

#include "runtime/support/Status.h"

#include <string>
#include <string_view>

namespace amc::rt {

struct DataContent {
  bool safetensors = false;    // begins as one: the length of a header, and the header
  std::string_view other = ""; // "a gzip file", of formats that are neither text nor tokens
  bool zeros = false;          // has bytes 0 near its beginning, which no text has
};

Expected<DataContent> recognizeData(const std::string &path);

} // namespace amc::rt

#endif
