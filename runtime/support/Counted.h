// "1 rank", "4 ranks", "2 micro-batches": a number of things, as messages say it.
#ifndef AMC_RUNTIME_SUPPORT_COUNTED_H
#define AMC_RUNTIME_SUPPORT_COUNTED_H

#include <cstdint>
#include <string>
#include <string_view>

namespace amc::rt {

inline std::string counted(uint64_t number, std::string_view one) {
  std::string text = std::to_string(number) + " " + std::string(one);
  if (number == 1)
    return text;
  return text + (one.ends_with("ch") || one.ends_with("s") ? "es" : "s");
}

} // namespace amc::rt

#endif
