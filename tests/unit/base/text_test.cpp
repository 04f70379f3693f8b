#include "base/text.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/near_match.h"
#include "base/random.h"

namespace darkroom {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Utf8, ValidTextHasNoInvalidByte) {
  EXPECT_EQ(first_invalid_utf8("plain, ü, 漢, 🌅"), std::nullopt);
  EXPECT_EQ(first_invalid_utf8("\xf4\x8f\xbf\xbf"), std::nullopt);  // U+10FFFF
}

TEST(Utf8, TheFirstInvalidByteIsNamed) {
  EXPECT_EQ(first_invalid_utf8("ab\xff"), 2U);
  EXPECT_EQ(first_invalid_utf8("a\xc3"), 1U);             // cut short
  EXPECT_EQ(first_invalid_utf8("\xc0\x80"), 0U);          // overlong
  EXPECT_EQ(first_invalid_utf8("\xe0\x80\x80"), 0U);      // overlong
  EXPECT_EQ(first_invalid_utf8("x\xed\xa0\x80"), 1U);     // surrogate
  EXPECT_EQ(first_invalid_utf8("\xf4\x90\x80\x80"), 0U);  // past U+10FFFF
  EXPECT_EQ(first_invalid_utf8("\xe6\xbc\x41"), 0U);
}

TEST(Base64, EveryLengthComesBack) {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    const Result<std::string> back = decode_base64(encode_base64(bytes));
    ASSERT_TRUE(back) << back.error().message;
    ASSERT_EQ(*back, bytes);
    bytes += static_cast<char>(i * 7);
  }
  EXPECT_EQ(encode_base64("any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
}

TEST(Base64, WhatIsNotBase64IsRefused) {
  for (const char* text : {"a", "ab=c", "a===", "ab\n=", "YW5!"}) EXPECT_FALSE(decode_base64(text)) << text;
}

TEST(NearMatches, FindMisspellingsAndPartsButNotStrangers) {
  const std::vector<std::string> names = {"juggernautXL_v9", "pony-v6", "sdxl-base-1.0"};
  EXPECT_THAT(near_matches("jugernautxl_v9", names), ElementsAre("juggernautXL_v9"));
  EXPECT_THAT(near_matches("pony", names), ElementsAre("pony-v6"));
  EXPECT_THAT(near_matches("flux", names), IsEmpty());
  EXPECT_EQ(did_you_mean("sdxl-base-10", names), "; did you mean sdxl-base-1.0?");
  EXPECT_EQ(did_you_mean("flux", names), "");
}

TEST(Random, TwoDrawsDiffer) { EXPECT_NE(random_u64(), random_u64()); }

}  // namespace
}  // namespace darkroom
