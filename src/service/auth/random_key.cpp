#include "service/auth/random_key.h"

#include <cstdint>

#include "base/random.h"

namespace darkroom {

std::string random_key(std::string_view prefix) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  constexpr int kCharacters = 43;  // of 6 bits: 258
  constexpr int kEach = 10;        // characters out of one number
  std::string key(prefix);
  std::uint64_t bits = 0;
  for (int i = 0; i < kCharacters; ++i) {
    if (i % kEach == 0) bits = random_u64();
    key += kDigits[bits & 63];
    bits >>= 6;
  }
  return key;
}

}  // namespace darkroom
