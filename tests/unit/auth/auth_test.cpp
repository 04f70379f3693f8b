#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "service/auth/authenticator.h"
#include "service/auth/key_file.h"
#include "service/auth/random_key.h"
#include "service/auth/rate_limiter.h"
#include "service/blobs/hash.h"

namespace darkroom {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;

class Keys : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove_all(directory_); }

  NewKey made(const KeyTerms& terms) {
    Result<NewKey> key = KeyFile(directory_).add(terms);
    EXPECT_TRUE(key) << key.error().message;
    return *key;
  }
  std::string text() const {
    std::ifstream file(directory_ / "keys.json");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::filesystem::path directory_ = std::filesystem::path(testing::TempDir()) / ("auth_test_" + random_key(""));
};

TEST(RandomKey, IsLongAndUnlikeAnyOther) {
  const std::string key = random_key("dk_");
  EXPECT_THAT(key, testing::StartsWith("dk_"));
  EXPECT_EQ(key.size(), 3U + 43U);
  EXPECT_EQ(key.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
            std::string::npos);
  EXPECT_NE(key, random_key("dk_"));
}

TEST_F(Keys, AreKeptHashedWithTheirTerms) {
  const NewKey key = made({.name = "blog",
                           .scopes = {Scope::read},
                           .limits = {.weight = 3, .per_minute = 60, .concurrency = 2, .pictures_per_day = 100}});
  EXPECT_THAT(text(), testing::Not(HasSubstr(key.secret)));
  const auto keys = KeyFile(directory_).load();
  ASSERT_TRUE(keys && *keys);
  ASSERT_EQ((*keys)->size(), 1U);
  const ApiKey& read = (*keys)->front();
  EXPECT_EQ(read.id, key.key.id);
  EXPECT_EQ(read.name, "blog");
  EXPECT_EQ(read.sha256, to_hex(sha256(key.secret)));
  EXPECT_THAT(read.scopes, ElementsAre(Scope::read));
  EXPECT_EQ(read.limits.weight, 3.0);
  EXPECT_EQ(read.limits.per_minute, 60);
  EXPECT_EQ(read.limits.concurrency, 2);
  EXPECT_EQ(read.limits.pictures_per_day, 100);
}

TEST_F(Keys, NamesAreTakenOnce) {
  made({.name = "a"});
  const auto again = KeyFile(directory_).add({.name = "a"});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::conflict);
}

TEST_F(Keys, TermsThatCouldNotBeReadBackAreRefusedAndNothingIsWritten) {
  made({.name = "a"});
  const std::string before = text();
  EXPECT_FALSE(KeyFile(directory_).add({.name = std::string(200, 'x')}));
  EXPECT_FALSE(KeyFile(directory_).add({.name = "b", .limits = {.weight = 0}}));
  EXPECT_EQ(text(), before);
}

TEST_F(Keys, AreRevokedByIdOrNameAndAMisspeltOneIsNamed) {
  const NewKey a = made({.name = "alpha"});
  made({.name = "beta"});
  const auto missing = KeyFile(directory_).revoke("beeta");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("did you mean beta"));
  EXPECT_TRUE(KeyFile(directory_).revoke(a.key.id));
  EXPECT_TRUE(KeyFile(directory_).revoke("beta"));
  EXPECT_EQ((*KeyFile(directory_).load())->size(), 0U);
}

TEST_F(Keys, MadeAtTheSameTimeAreAllThere) {
  constexpr int kThreads = 4;
  constexpr int kEach = 5;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kEach; ++i) EXPECT_TRUE(KeyFile(directory_).add({.name = fmt::format("{}-{}", thread, i)}));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ((*KeyFile(directory_).load())->size(), static_cast<std::size_t>(kThreads * kEach));
}

TEST_F(Keys, AnyWayOfSendingOneIsUnderstood) {
  const NewKey key = made({.name = "a"});
  Authenticator authenticator(directory_, Openness::closed);
  const std::string bearer = "Bearer " + key.secret;
  const std::string lower = "bearer  " + key.secret + " ";
  const std::string as_password = "Basic " + encode_base64("somebody:" + key.secret);
  const std::string as_user = "Basic " + encode_base64(key.secret + ":");
  const std::string bare_user = "Basic " + encode_base64(key.secret);
  for (const std::string& authorization : {bearer, lower, as_password, as_user, bare_user}) {
    const Result<Principal> who = authenticator.identify({.authorization = authorization, .api_key = {}});
    ASSERT_TRUE(who) << authorization;
    EXPECT_EQ(who->key, key.key.id);
  }
  EXPECT_TRUE(authenticator.identify({.authorization = {}, .api_key = key.secret}));
}

TEST_F(Keys, WithoutOneAClosedServiceServesNobody) {
  made({.name = "a"});
  Authenticator authenticator(directory_, Openness::until_keys_exist);
  for (const std::string_view nothing : {"", "Basic", "Basic ", "Bearer", "Basic Og==", "Basic !", "Token x"}) {
    const Result<Principal> who = authenticator.identify({.authorization = nothing, .api_key = {}});
    ASSERT_FALSE(who) << nothing;
    EXPECT_EQ(who.error().code, ErrorCode::invalid_argument) << nothing;
  }
  const Result<Principal> wrong = authenticator.identify({.authorization = "Bearer dk_wrong", .api_key = {}});
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::not_found);
}

TEST_F(Keys, AnOpenServiceTakesAnyWordButKnowsItsKeys) {
  Authenticator open(directory_, Openness::until_keys_exist);
  EXPECT_TRUE(open.is_open());
  for (const std::string_view word : {"", "Basic", "Bearer none"}) {
    const Result<Principal> who = open.identify({.authorization = word, .api_key = {}});
    ASSERT_TRUE(who);
    EXPECT_EQ(who->key, "");
    EXPECT_TRUE(who->may(Scope::admin));
  }
  const NewKey key = made({.name = "a"});
  EXPECT_FALSE(open.is_open());
  EXPECT_FALSE(open.identify({.authorization = "Bearer none", .api_key = {}}));
  Authenticator always(directory_, Openness::always);
  EXPECT_EQ(always.identify({.authorization = "Bearer none", .api_key = {}})->key, "");
  const std::string bearer = "Bearer " + key.secret;
  EXPECT_EQ(always.identify({.authorization = bearer, .api_key = {}})->key, key.key.id);
}

TEST_F(Keys, ChangesAreSeenWithTheNextRequest) {
  const NewKey key = made({.name = "a"});
  Authenticator authenticator(directory_, Openness::closed);
  const std::string bearer = "Bearer " + key.secret;
  EXPECT_TRUE(authenticator.identify({.authorization = bearer, .api_key = {}}));
  ASSERT_TRUE(KeyFile(directory_).revoke("a"));
  EXPECT_FALSE(authenticator.identify({.authorization = bearer, .api_key = {}}));
}

TEST_F(Keys, ExpiredOnesAreNone) {
  const NewKey key = made({.name = "a", .expires = 1});
  Authenticator authenticator(directory_, Openness::closed);
  const std::string bearer = "Bearer " + key.secret;
  EXPECT_FALSE(authenticator.identify({.authorization = bearer, .api_key = {}}));
}

TEST_F(Keys, ADamagedFileLetsNobodyIn) {
  made({.name = "a"});
  std::ofstream(directory_ / "keys.json") << "{\"keys\": [{\"id\": 1}]}";
  Authenticator authenticator(directory_, Openness::until_keys_exist);
  const Result<Principal> who = authenticator.identify({});
  ASSERT_FALSE(who);
  EXPECT_EQ(who.error().code, ErrorCode::internal);
  EXPECT_THAT(who.error().message, HasSubstr("/keys/0/id"));
}

TEST(Scopes, OfMoreIncludeThoseOfLess) {
  EXPECT_TRUE(allows({}, Scope::none));
  EXPECT_FALSE(allows({}, Scope::read));
  EXPECT_FALSE(allows({Scope::read}, Scope::generate));
  EXPECT_TRUE(allows({Scope::generate}, Scope::read));
  EXPECT_FALSE(allows({Scope::generate}, Scope::admin));
  EXPECT_TRUE(allows({Scope::admin}, Scope::generate));
}

TEST(RateLimiter, HoldsAMinutesWorthAndFillsSteadily) {
  RateLimiter limiter;
  const RateLimiter::Time start;
  for (int i = 0; i < 60; ++i) EXPECT_EQ(limiter.take("a", 60, start), milliseconds(0));
  EXPECT_EQ(limiter.take("a", 60, start), seconds(1));
  EXPECT_EQ(limiter.take("a", 60, start + milliseconds(400)), milliseconds(600));
  EXPECT_EQ(limiter.take("a", 60, start + seconds(1)), milliseconds(0));
  EXPECT_EQ(limiter.take("a", 60, start + seconds(1)), seconds(1));
  EXPECT_EQ(limiter.take("b", 1, start), milliseconds(0));
  // A long pause earns no more than a minute.
  for (int i = 0; i < 60; ++i) EXPECT_EQ(limiter.take("a", 60, start + std::chrono::hours(1)), milliseconds(0));
  EXPECT_EQ(limiter.take("a", 60, start + std::chrono::hours(1)), seconds(1));
}

}  // namespace
}  // namespace darkroom
