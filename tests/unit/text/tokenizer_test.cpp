// The tokenizer beside the reference's cases: limits, hostile texts, own vocabularies, placeholders.
#include "engine/text/tokenizer.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "engine/text/clip_vocabulary.h"

namespace darkroom::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const ClipTokenizer& clip() {
  static const ClipTokenizer tokenizer = ClipTokenizer::clip_l();
  return tokenizer;
}

std::vector<TokenId> ids_of(std::string_view text) { return value_or_throw(clip().encode(text)); }

TEST(Tokenizer, KnowsItsVocabulary) {
  EXPECT_EQ(clip().vocabulary_size(), 49408);
  EXPECT_EQ(clip().start_id(), 49406);
  EXPECT_EQ(clip().end_id(), 49407);
  EXPECT_EQ(clip().pad_id(), 49407);
  EXPECT_EQ(ClipTokenizer::clip_g().pad_id(), 0);
}

TEST(Tokenizer, APromptIsPaddedAndTruncatedTo77) {
  const std::vector<TokenId> many(100, 320);
  const auto padded = clip().pad_to_77(many);
  ASSERT_EQ(padded.size(), 77U);
  EXPECT_EQ(padded.front(), 49406);
  EXPECT_EQ(padded[75], 320);
  EXPECT_EQ(padded.back(), 49407);
  EXPECT_EQ(clip().pad_to_77({})[1], 49407);
}

TEST(Tokenizer, InvalidUtf8IsRefusedAtItsByte) {
  for (const auto& [text, byte] : {std::pair(std::string("ab\xFF"), 2),
                                   {std::string("\xC0\x80"), 0},
                                   {std::string("a\xED\xA0\x80"), 1},
                                   {std::string("caf\xC3"), 3},
                                   {std::string("\xF4\x90\x80\x80"), 0}}) {
    const auto ids = clip().encode(text);
    ASSERT_FALSE(ids);
    EXPECT_EQ(ids.error().code, ErrorCode::invalid_argument);
    EXPECT_THAT(ids.error().message, HasSubstr(fmt::format("at byte {}", byte)));
  }
}

TEST(Tokenizer, AWordOf60KilobytesIsEncodedWhole) {
  const std::string word(60'000, 'a');
  const auto ids = ids_of(word);
  EXPECT_EQ(clip().decode(ids), word);
  std::string mixed;
  for (int i = 0; i < 60'000; ++i) mixed.push_back(static_cast<char>('a' + i * 7919 % 26));
  EXPECT_EQ(clip().decode(ids_of(mixed)), mixed);
}

TEST(Tokenizer, ManyCombiningMarksInTheWrongOrderAreNormalised) {
  std::string marks = "a";
  for (int i = 0; i < 15'000; ++i) marks += i % 2 == 0 ? "\xCC\x81" : "\xCC\xA3";  // above, below
  EXPECT_FALSE(ids_of(marks).empty());
  EXPECT_EQ(ids_of("e\xCC\x81"), ids_of("\xC3\xA9"));
}

TEST(Tokenizer, AZeroByteIsACharacterLikeAnother) {
  const auto ids = ids_of(std::string_view("a\0b", 3));
  EXPECT_GE(ids.size(), 3U);
}

TEST(Tokenizer, IdsAreDecodedToWords) {
  EXPECT_EQ(clip().decode(ids_of("A Photo,  of caf\xC3\xA9")), "a photo , of caf\xC3\xA9");
  // One byte of a character of four.
  const auto fox = ids_of("\xF0\x9F\xA6\x8A\xF0\x9F\xA6\x8A\xF0\x9F\xA6\x8A");
  EXPECT_NO_THROW(clip().decode(std::span(fox).first(1)));
  const std::vector<TokenId> outside{-1, 1'000'000};
  EXPECT_EQ(clip().decode(outside), "");
}

TEST(Tokenizer, APlaceholderBecomesItsVectors) {
  const auto with = value_or_throw(clip().with_placeholders({{"<sks-cat>", 49408, 2}, {"badhands", 49410, 3}}));
  EXPECT_THAT(value_or_throw(with.encode("a <SKS-cat> b")), ElementsAre(320, 49408, 49409, ids_of("b")[0]));
  EXPECT_THAT(value_or_throw(with.encode("badhands,")), ElementsAre(49410, 49411, 49412, 267));
  EXPECT_EQ(value_or_throw(with.encode("badhandsome xbadhands")), ids_of("badhandsome xbadhands"));
  EXPECT_THAT(value_or_throw(with.encode("x<sks-cat>")), ElementsAre(ids_of("x")[0], 49408, 49409));
  EXPECT_EQ(with.vectors_of(49410), 3);
  EXPECT_EQ(with.vectors_of(320), 1);
  EXPECT_EQ(with.decode(std::vector<TokenId>{320, 49408}), "a <sks-cat>");

  EXPECT_FALSE(clip().with_placeholders({{"x", 49407, 1}}));
  EXPECT_FALSE(clip().with_placeholders({{" ", 49408, 1}}));
  EXPECT_FALSE(clip().with_placeholders({{"x", 49408, 1}, {"X", 49409, 1}}));
}

class OwnVocabulary : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "darkroom-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const char* name, std::string_view text) { std::ofstream(folder_ / name, std::ios::binary) << text; }
  // OpenAI's, as JSON.
  static std::string vocabulary() {
    std::string json = "{";
    int id = 0;
    for (const std::string& token : clip_vocabulary(value_or_throw(parse_merges(clip_merges_text(), "merges")))) {
      std::string escaped;
      for (const char c : token) escaped += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
      json += fmt::format("{}\"{}\":{}", id == 0 ? "" : ",", escaped, id);
      ++id;
    }
    return json + "}";
  }
  std::filesystem::path folder_;
};

TEST_F(OwnVocabulary, OfAFolderGivesTheSameIds) {
  write("vocab.json", vocabulary());
  write("merges.txt", clip_merges_text());
  write("tokenizer_config.json", R"({"pad_token": "!"})");
  const auto tokenizer = ClipTokenizer::open(folder_);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->pad_id(), 0);
  EXPECT_EQ(value_or_throw(tokenizer->encode("Hello, wörld 42")), ids_of("Hello, wörld 42"));
}

TEST_F(OwnVocabulary, WithADamagedFileIsRefused) {
  EXPECT_EQ(ClipTokenizer::open(folder_).error().code, ErrorCode::not_found);
  write("vocab.json", "{");
  EXPECT_EQ(ClipTokenizer::open(folder_).error().code, ErrorCode::corrupt_data);
  write("vocab.json", R"({"a": -1})");
  EXPECT_THAT(ClipTokenizer::open(folder_).error().message, HasSubstr("the id of 'a' is -1"));
  write("vocab.json", R"({"a": 1})");
  write("merges.txt", "#version: 0.2\na b c\n");
  EXPECT_THAT(ClipTokenizer::open(folder_).error().message, HasSubstr("line 2 is not two symbols"));
  write("merges.txt", "a b\n");
  EXPECT_THAT(ClipTokenizer::open(folder_).error().message, HasSubstr("is missing"));
}

}  // namespace
}  // namespace darkroom::engine
