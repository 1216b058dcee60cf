#include "compiler/analysis/BytesText.h"
#include <cstdio>

namespace amc {

std::string bytesText(uint64_t bytes) {
  if (bytes < 1024)
    return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes);
  const char *unit = "";
  for (const char *next : {"KiB", "MiB", "GiB", "TiB"}) {
    if (value < 1024)
      break;
    value /= 1024;
    unit = next;
  }
  char text[64]; // 2^64 is 16777216.00 TiB
  std::snprintf(text, sizeof text, "%.2f %s", value, unit);
  return text;
}

} // namespace amc
