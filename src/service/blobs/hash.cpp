#include "service/blobs/hash.h"

#include <array>
#include <cerrno>
#include <memory>
#include <system_error>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <unistd.h>

namespace darkroom {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";

class Sha256 {
 public:
  Sha256() : context_(::EVP_MD_CTX_new()) {
    DR_ASSERT(context_ != nullptr);
    DR_ASSERT(::EVP_DigestInit_ex(context_.get(), ::EVP_sha256(), nullptr) == 1);
  }
  void add(const void* bytes, std::size_t size) { DR_ASSERT(::EVP_DigestUpdate(context_.get(), bytes, size) == 1); }
  std::string finish() {
    std::string digest(static_cast<std::size_t>(EVP_MD_get_size(::EVP_sha256())), '\0');
    DR_ASSERT(::EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(digest.data()), nullptr) == 1);
    return digest;
  }

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { ::EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

}  // namespace

std::string to_hex(std::string_view bytes) {
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    hex += kDigits[value >> 4U];
    hex += kDigits[value & 15U];
  }
  return hex;
}

std::optional<std::string> from_hex(std::string_view hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    const std::size_t high = kDigits.find(hex[i]);
    const std::size_t low = kDigits.find(hex[i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    bytes += static_cast<char>(high * 16 + low);
  }
  return bytes;
}

std::string sha256(std::string_view bytes) {
  Sha256 hash;
  hash.add(bytes.data(), bytes.size());
  return hash.finish();
}

std::string sha256_hex(std::string_view bytes) { return to_hex(sha256(bytes)); }

Result<std::string> sha256_of_file(int fd, const std::function<bool()>& goes_on) {
  Sha256 hash;
  std::array<char, 1 << 16> buffer;
  while (true) {
    if (goes_on && !goes_on()) return fail(ErrorCode::cancelled, "not read to its end");
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(ErrorCode::internal, "cannot read a file: {}", std::generic_category().message(errno));
    if (got == 0) return hash.finish();
    hash.add(buffer.data(), static_cast<std::size_t>(got));
  }
}

std::string hmac_sha256(std::string_view key, std::string_view bytes) {
  std::string digest(static_cast<std::size_t>(EVP_MD_get_size(::EVP_sha256())), '\0');
  unsigned int size = 0;
  const unsigned char* const done = ::HMAC(::EVP_sha256(), key.data(), static_cast<int>(key.size()),
                                           reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                                           reinterpret_cast<unsigned char*>(digest.data()), &size);
  DR_ASSERT(done != nullptr && size == digest.size());
  return digest;
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

bool is_hmac_sha256(std::string_view hmac, std::string_view key, std::string_view bytes) {
  return equal_in_constant_time(hmac, hmac_sha256(key, bytes));
}

}  // namespace darkroom
