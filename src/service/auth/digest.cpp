#include "service/auth/digest.h"

#include <array>

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/error.h"
#include "base/random.h"

namespace darkroom {

std::string sha256_hex(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  const int done = EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr);
  DR_ASSERT(done == 1);  // it fails for want of memory only
  std::string hex;
  for (unsigned i = 0; i < length; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string random_key(std::string_view prefix) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  constexpr int kCharacters = 43;  // of 6 bits: 258
  std::string key(prefix);
  std::uint64_t bits = 0;
  for (int i = 0; i < kCharacters; ++i) {
    if (i % 10 == 0) bits = random_u64();  // 60 bits of each
    key += kDigits[bits & 63];
    bits >>= 6;
  }
  return key;
}

}  // namespace darkroom
