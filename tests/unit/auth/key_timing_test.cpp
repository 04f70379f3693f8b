// How long a wrong key takes tells nothing of the right ones: whatever it is, the same comparisons are made, each of
// all the bytes. Comparisons are counted by standing in for OpenSSL's (see CMakeLists.txt).
#include <filesystem>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service/auth/authenticator.h"
#include "service/auth/key_file.h"
#include "service/auth/random_key.h"

namespace {
std::vector<std::size_t> compared;  // bytes of each comparison
}

// The linker's names for the function that stands in and the one that it stands in for.
// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" int __real_CRYPTO_memcmp(const void* a, const void* b, std::size_t bytes);
extern "C" int __wrap_CRYPTO_memcmp(const void* a, const void* b, std::size_t bytes) {
  compared.push_back(bytes);
  return __real_CRYPTO_memcmp(a, b, bytes);
}
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)

namespace darkroom {
namespace {

TEST(KeyTiming, EveryKeyIsComparedWithEveryOtherWhole) {
  const auto directory = std::filesystem::path(testing::TempDir()) / ("key_timing_" + random_key(""));
  std::vector<std::string> secrets;
  for (const char* name : {"first", "second", "third", "fourth"}) {
    const auto key = KeyFile(directory).add({.name = name});
    ASSERT_TRUE(key) << key.error().message;
    secrets.push_back(key->secret);
  }
  Authenticator authenticator(directory, Openness::closed);
  const auto comparisons_for = [&](const std::string& secret) {
    compared.clear();
    static_cast<void>(authenticator.identify({.authorization = "Bearer " + secret, .api_key = {}}));
    return compared;
  };
  // By their SHA-256, in hexadecimal: how much of a secret is right shows nowhere.
  const std::vector<std::size_t> whole(secrets.size(), 64);
  EXPECT_EQ(comparisons_for("x"), whole);
  EXPECT_EQ(comparisons_for(std::string(10'000, 'x')), whole);
  for (const std::string& secret : secrets) {
    EXPECT_EQ(comparisons_for(secret), whole);
    for (const std::size_t wrong : {std::size_t{0}, secret.size() / 2, secret.size() - 1}) {
      std::string other = secret;
      other[wrong] = other[wrong] == 'a' ? 'b' : 'a';
      EXPECT_EQ(comparisons_for(other), whole) << wrong;
    }
  }
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace darkroom
