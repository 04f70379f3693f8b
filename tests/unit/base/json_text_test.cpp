#include "base/json_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace darkroom {
namespace {

using testing::HasSubstr;

std::string trouble(std::string_view text) {
  const Result<nlohmann::json> value = parse_json(text);
  return value ? "none: " + value->dump() : value.error().message;
}

TEST(ParseJson, ReadsEveryKindOfValue) {
  const Result<nlohmann::json> value =
      parse_json(R"({"a":[1,-2,2.5,true,null,"x"],"b":{"c":[]},"d":18446744073709551615})");
  ASSERT_TRUE(value) << value.error().message;
  EXPECT_EQ(value->dump(), R"({"a":[1,-2,2.5,true,null,"x"],"b":{"c":[]},"d":18446744073709551615})");
}

TEST(ParseJson, RefusesWhatIsNotJsonAndSaysWhere) {
  EXPECT_THAT(trouble(""), HasSubstr("unexpected end of input"));
  EXPECT_THAT(trouble("{\"a\":nope}"), HasSubstr("column 7"));
  EXPECT_THAT(trouble("{} {}"), HasSubstr("expected end of input"));
  EXPECT_THAT(trouble("NaN"), HasSubstr("invalid literal"));
  EXPECT_THAT(trouble("1e999"), HasSubstr("number overflow"));
}

TEST(ParseJson, RefusesAKeyThatStandsTwice) {
  EXPECT_THAT(trouble(R"({"a":{"b":1,"b":2}})"), HasSubstr("the key \"b\" stands twice"));
  EXPECT_EQ(trouble(R"([{"b":1},{"b":2}])"), R"(none: [{"b":1},{"b":2}])");
}

TEST(ParseJson, RefusesTextThatIsNotUtf8AndLoneSurrogates) {
  EXPECT_THAT(trouble("\"\xff\""), HasSubstr("ill-formed UTF-8"));
  EXPECT_THAT(trouble(R"("\ud800")"), HasSubstr("surrogate"));
}

TEST(ParseJson, BoundsTheDepth) {
  EXPECT_EQ(trouble(std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']')).substr(0, 4), "none");
  EXPECT_THAT(trouble(std::string(10'000, '[')), HasSubstr("nested deeper than 32 levels"));
}

TEST(ParseJson, BoundsTheNumberOfValues) {
  const auto zeros = [](int count) {
    std::string text = "[0";
    for (int i = 1; i < count; ++i) text += ",0";
    return text + "]";
  };
  EXPECT_TRUE(parse_json(zeros(kMaxJsonValues - 1)));
  EXPECT_THAT(trouble(zeros(kMaxJsonValues)), HasSubstr("holds more than 1000000 values"));
}

TEST(ParseJson, SaysLittleAboutALongText) {
  EXPECT_LT(trouble('"' + std::string(1'000'000, 'a')).size(), 500U);
  EXPECT_THAT(trouble('"' + std::string(1'000'000, 'a')), HasSubstr("missing closing quote"));
}

}  // namespace
}  // namespace darkroom
