#include "base/json_reader.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_writer.h"

namespace darkroom {

enum class Colour : std::uint8_t { red, green };
constexpr auto enum_names(Colour) {
  return std::to_array<EnumName<Colour>>({{"red", Colour::red}, {"green", Colour::green}});
}

namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::IsEmpty;

struct Part {
  std::string name;
  float weight = 1.0F;
};

struct Whole {
  bool flag = false;
  int count = 3;
  std::uint64_t seed = 0;
  float scale = 0.5F;
  std::string name;
  Colour colour = Colour::red;
  std::optional<int> maybe;
  std::vector<float> numbers;
  std::vector<Part> parts;
  std::optional<Part> extra;
};

template <class Io>
void fields(Io& io, auto& whole) {
  const auto part = [](Io& inner, auto& value) {
    inner.required("name", value.name, not_empty());
    inner.field("weight", value.weight, between(-2.0F, 2.0F));
    return true;
  };
  io.field("flag", whole.flag);
  io.field("count", whole.count, between(1, 10), multiple_of(2));
  io.field("seed", whole.seed);
  io.field("scale", whole.scale);
  io.required("name", whole.name, max_bytes(5));
  io.field("colour", whole.colour);
  io.field("maybe", whole.maybe, between(0, 9));
  io.field("numbers", whole.numbers);
  io.list("parts", whole.parts, 2, part);
  io.optional("extra", whole.extra, part);
}

std::vector<std::string> complaints_about(const json& document, Whole& whole) {
  std::vector<std::string> lines;
  for (const Complaint& complaint : read_json(document, [&](JsonReader& in) { fields(in, whole); })) {
    lines.push_back(complaint.pointer + ": " + complaint.message);
  }
  return lines;
}

std::vector<std::string> complaints_about(const char* text) {
  Whole whole;
  return complaints_about(json::parse(text), whole);
}

TEST(JsonReader, WhatIsWrittenReadsBack) {
  const Whole whole{.flag = true,
                    .count = 4,
                    .seed = 18446744073709551615U,
                    .scale = 0.8F,
                    .name = "abc",
                    .colour = Colour::green,
                    .maybe = 7,
                    .numbers = {1.5F, -2.0F},
                    .parts = {{"x", 0.1F}},
                    .extra = Part{"y", -2.0F}};
  const json written = write_json([&](JsonWriter& out) { fields(out, whole); });
  Whole back;
  EXPECT_THAT(complaints_about(written, back), IsEmpty());
  EXPECT_EQ(write_json([&](JsonWriter& out) { fields(out, back); }), written);
  EXPECT_EQ(written["scale"].dump(), "0.8");
  EXPECT_EQ(back.seed, whole.seed);
}

TEST(JsonReader, AbsentAndNullKeepTheDefault) {
  Whole whole;
  EXPECT_THAT(complaints_about(json::parse(R"({"name":"a","count":null})"), whole), IsEmpty());
  EXPECT_EQ(whole.count, 3);
  EXPECT_FALSE(whole.maybe);
}

TEST(JsonReader, CollectsEveryMistakeWithItsPointer) {
  EXPECT_THAT(
      complaints_about(R"({"flag":1,"count":11,"seed":-1,"scale":"x","colour":"blue","maybe":10,
                                   "numbers":[1,"a"],"parts":[{"name":""},{"weight":3}],"extra":5,"nmae":"a"})"),
      ElementsAre("/flag: expected true or false, found 1", "/count: is 11, must be between 1 and 10",
                  "/count: is 11, must be a multiple of 2", "/seed: is -1, must be between 0 and 18446744073709551615",
                  "/scale: expected a number, found \"x\"", "/name: is required",
                  "/colour: is \"blue\", must be red or green", "/maybe: is 10, must be between 0 and 9",
                  "/numbers: expected a number, found \"a\"", "/parts/0/name: must not be empty",
                  "/parts/1/name: is required", "/parts/1/weight: is 3, must be between -2 and 2",
                  "/extra: expected an object, found 5", "/extra/name: is required",
                  "/nmae: is not known; did you mean name?"));
}

TEST(JsonReader, WholeNumbersMayBeWrittenAsDecimals) {
  Whole whole;
  EXPECT_THAT(complaints_about(json::parse(R"({"name":"a","count":4.0,"seed":5.0})"), whole), IsEmpty());
  EXPECT_EQ(whole.count, 4);
  EXPECT_EQ(whole.seed, 5U);
  EXPECT_THAT(complaints_about(R"({"name":"a","count":4.5,"seed":1e30})"),
              ElementsAre("/count: expected a whole number, found 4.5", "/seed: expected a whole number, found 1e+30"));
}

TEST(JsonReader, HugeNumbersAreOutOfRange) {
  EXPECT_THAT(complaints_about(R"({"name":"a","count":9223372036854775808,"scale":1e300})"),
              ElementsAre("/count: is 9223372036854775808, must be between -2147483648 and 2147483647",
                          "/scale: is 1e+300, must be between -3.4028235e+38 and 3.4028235e+38"));
}

TEST(JsonReader, ListsAndTextsHaveLimits) {
  EXPECT_THAT(
      complaints_about(R"({"name":"abcdef","parts":[{"name":"a"},{"name":"a"},{"name":"a"}]})"),
      ElementsAre("/name: has 6 bytes, at most 5 are allowed", "/parts: has 3 elements, at most 2 are allowed"));
}

TEST(JsonReader, ATextWithAZeroCharacterIsRefused) {
  EXPECT_THAT(complaints_about(R"({"name":"a\u0000b"})"), ElementsAre("/name: has a zero character at byte 1"));
}

TEST(JsonReader, KeysAreEscapedInPointers) {
  EXPECT_THAT(complaints_about(R"({"name":"a","x/y~z":1})"), ElementsAre("/x~1y~0z: is not known"));
}

TEST(JsonReader, MistakesThatNeverEndAreNotSaidForEver) {
  nlohmann::json object = {{"name", "a"}};
  for (int i = 0; i < 5000; ++i) object["unknown" + std::to_string(i)] = i;
  const std::vector<std::string> complaints = complaints_about(object.dump().c_str());
  ASSERT_EQ(complaints.size(), 101U);
  EXPECT_EQ(complaints.back(), ": and more than these 100 mistakes");
}

TEST(JsonReader, SomethingThatIsNoObjectIsOneComplaintAndTheMissingKeys) {
  EXPECT_THAT(complaints_about("[1]"), ElementsAre(": expected an object, found a list", "/name: is required"));
}

}  // namespace
}  // namespace darkroom
