// XXH3-128 as plans write it.
#ifndef AMC_RUNTIME_PLAN_HASH_H
#define AMC_RUNTIME_PLAN_HASH_H

#include <string>
#include <xxhash.h>

namespace amc::rt {

// 32 hexadecimal digits, the most significant first.
inline std::string hexadecimal(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  std::string text;
  for (unsigned char byte : canonical.digest)
    for (int digit : {byte >> 4, byte & 15})
      text += "0123456789abcdef"[digit];
  return text;
}

} // namespace amc::rt

#endif
