// Bytes as a person reads them: "1000 B", "7.30 GiB". The one wording of messages, tables and
// pages.
#ifndef AMC_COMPILER_ANALYSIS_BYTESTEXT_H
#define AMC_COMPILER_ANALYSIS_BYTESTEXT_H

#include <cstdint>
#include <string>

namespace amc {

std::string bytesText(uint64_t bytes);

} // namespace amc

#endif
