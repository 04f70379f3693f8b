// The weighted prompt syntax and the chunks it makes.
#include "engine/text/prompt.h"

#include <string>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace darkroom::engine {
namespace {

using testing::Each;
using testing::HasSubstr;

const ClipTokenizer& clip() {
  static const ClipTokenizer tokenizer = ClipTokenizer::clip_l();
  return tokenizer;
}

// "text*weight", a break as "|".
std::vector<std::string> parts_of(std::string_view text) {
  std::vector<std::string> parts;
  for (const PromptPart& part : value_or_throw(parse_weighted_prompt(text))) {
    parts.push_back(part.is_break ? "|" : fmt::format("{}*{:.4g}", part.text, part.weight));
  }
  return parts;
}
using Parts = std::vector<std::string>;

// The examples of the web UI's own documentation (parse_prompt_attention), and its corners.
TEST(WeightedPrompt, IsParsedAsInTheWebUi) {
  EXPECT_EQ(parts_of("normal text"), Parts{"normal text*1"});
  EXPECT_EQ(parts_of("an (important) word"), (Parts{"an *1", "important*1.1", " word*1"}));
  EXPECT_EQ(parts_of("(unbalanced"), Parts{"unbalanced*1.1"});
  EXPECT_EQ(parts_of("\\(literal\\]"), Parts{"(literal]*1"});
  EXPECT_EQ(parts_of("(unnecessary)(parens)"), Parts{"unnecessaryparens*1.1"});
  EXPECT_EQ(
      parts_of("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky)))."),
      (Parts{"a *1", "house*1.573", " *1.1", "on*1", " a *1.1", "hill*0.55", ", sun, *1.1", "sky*1.464", ".*1.1"}));
  EXPECT_EQ(parts_of(""), Parts{"*1"});
  EXPECT_EQ(parts_of("()"), Parts{"*1"});
  EXPECT_EQ(parts_of("a)b]c"), Parts{"a)b]c*1"});
  EXPECT_EQ(parts_of("time 12:30"), Parts{"time 12:30*1"});
  EXPECT_EQ(parts_of("(a: +1.5 ) (b:-1)"), (Parts{"a*1.5", " *1", "b*-1"}));
  EXPECT_EQ(parts_of("[a(b]c)"), (Parts{"a*0.9091", "b*1", "c*1.1"}));
  EXPECT_EQ(parts_of("a\\b\\\\c\\"), Parts{"ab\\c*1"});
}

TEST(WeightedPrompt, BreakIsAWordOfItsOwn) {
  EXPECT_EQ(parts_of("a BREAK b"), (Parts{"a *1", "|", " b*1"}));
  EXPECT_EQ(parts_of("BREAKFAST xBREAK BREAK_ break"), Parts{"BREAKFAST xBREAK BREAK_ break*1"});
  EXPECT_EQ(parts_of("(a BREAK b:1.2)"), (Parts{"a *1.2", "|", " b*1.2"}));
}

TEST(WeightedPrompt, WhatIsNoWeightIsText) {
  EXPECT_EQ(parts_of("a (cat:.)"), (Parts{"a *1", "cat:.*1.1"}));
  EXPECT_EQ(parts_of("(cat:1.2.3)"), Parts{"cat:1.2.3*1.1"});
  EXPECT_EQ(parts_of("(cat:)"), Parts{"cat:*1.1"});
  EXPECT_EQ(parts_of("(cat:-)"), Parts{"cat:-*1.1"});
  EXPECT_EQ(parts_of("(cat:+-1)"), Parts{"cat:+-1*1.1"});
  EXPECT_EQ(parts_of("(cat:1e3)"), Parts{"cat:1e3*1.1"});
  EXPECT_EQ(parts_of("(cat:nan)"), Parts{"cat:nan*1.1"});
  EXPECT_EQ(parts_of("(cat:1.2"), Parts{"cat:1.2*1.1"});
  EXPECT_EQ(parts_of("cat:1.2)"), Parts{"cat:1.2)*1"});
  EXPECT_EQ(parts_of("(cat:.5)"), Parts{"cat*0.5"});
}

TEST(WeightedPrompt, AnAbsurdWeightIsRefusedWithItsText) {
  for (const std::string& text :
       std::vector<std::string>{"(cat:101)", "(cat:-1000)", "(cat:" + std::string(1000, '9') + ")", "((cat:50):50)"}) {
    const auto parts = parse_weighted_prompt(text);
    ASSERT_FALSE(parts) << text;
    EXPECT_EQ(parts.error().code, ErrorCode::invalid_argument);
    EXPECT_THAT(parts.error().message, HasSubstr("'cat'"));
  }
}

TEST(WeightedPrompt, DeepBracketsTakeNoStack) {
  const std::string deep = std::string(30'000, '[') + "cat" + std::string(30'000, ']');
  const auto parts = value_or_throw(parse_weighted_prompt(deep));
  ASSERT_EQ(parts.size(), 1U);
  EXPECT_EQ(parts.front().text, "cat");
  EXPECT_LT(parts.front().weight, 1e-300);
  std::string ladder;
  for (int i = 0; i < 15'000; ++i) ladder += "[a";
  EXPECT_TRUE(parse_weighted_prompt(ladder));
  EXPECT_FALSE(parse_weighted_prompt(std::string(60'000, '(') + "cat"));
}

TEST(WeightedPrompt, TokensCarryTheirWeights) {
  const auto prompt = value_or_throw(encode_weighted_prompt("a (red:1.3) circle", clip()));
  ASSERT_EQ(prompt.chunks.size(), 1U);
  const PromptChunk& chunk = prompt.chunks.front();
  EXPECT_EQ(chunk.ids, clip().pad_to_77(value_or_throw(clip().encode("a red circle"))));
  ASSERT_EQ(chunk.weights.size(), 77U);
  EXPECT_EQ(chunk.weights[0], 1.0F);
  EXPECT_EQ(chunk.weights[2], 1.3F);
  EXPECT_EQ(chunk.weights[3], 1.0F);
  EXPECT_TRUE(prompt.is_weighted());
  EXPECT_FALSE(value_or_throw(encode_weighted_prompt("a red circle", clip())).is_weighted());
}

TEST(WeightedPrompt, ALongOneFillsChunksOf75Tokens) {
  std::string text;
  for (int i = 0; i < 160; ++i) text += "word ";
  const auto prompt = value_or_throw(encode_weighted_prompt(text, clip()));
  ASSERT_EQ(prompt.chunks.size(), 3U);
  const TokenId word = clip().encode("word").value()[0];
  EXPECT_EQ(prompt.chunks[0].ids[75], word);
  EXPECT_EQ(prompt.chunks[0].ids[76], clip().end_id());
  EXPECT_EQ(prompt.chunks[2].ids[10], word);
  EXPECT_EQ(prompt.chunks[2].ids[11], clip().end_id());
  EXPECT_EQ(value_or_throw(encode_weighted_prompt("", clip())).chunks.size(), 1U);
  EXPECT_EQ(value_or_throw(encode_weighted_prompt("a BREAK b", clip())).chunks.size(), 2U);
}

TEST(WeightedPrompt, APlaceholderIsNotSplitBetweenChunks) {
  const auto with = value_or_throw(clip().with_placeholders({{"<x>", 49408, 4}, {"<huge>", 50000, 100}}));
  std::string text;
  for (int i = 0; i < 73; ++i) text += "word ";
  const auto prompt = value_or_throw(encode_weighted_prompt(text + "<x>", with));
  ASSERT_EQ(prompt.chunks.size(), 2U);
  EXPECT_EQ(prompt.chunks[0].ids[74], with.end_id());
  EXPECT_EQ(prompt.chunks[1].ids[1], 49408);
  EXPECT_EQ(prompt.chunks[1].ids[4], 49411);
  EXPECT_EQ(value_or_throw(encode_weighted_prompt("<huge>", with)).chunks.size(), 2U);
}

TEST(WeightedPrompt, TooManyChunksAreRefused) {
  std::string text;
  for (int i = 0; i < 10'000; ++i) text += "BREAK ";
  EXPECT_EQ(encode_weighted_prompt(text, clip()).error().code, ErrorCode::invalid_argument);
}

TEST(WeightedPrompt, InvalidUtf8IsRefusedAtItsByteInTheWholeText) {
  const auto prompt = encode_weighted_prompt("(a:1.2) b\xFF", clip());
  ASSERT_FALSE(prompt);
  EXPECT_THAT(prompt.error().message, HasSubstr("at byte 9"));
}

TEST(WeightedPrompt, AShorterOneIsExtendedWithEmptyChunks) {
  auto prompt = value_or_throw(encode_weighted_prompt("a", clip()));
  extend_to(prompt, 3, clip());
  ASSERT_EQ(prompt.chunks.size(), 3U);
  EXPECT_EQ(prompt.chunks[2].ids, clip().pad_to_77({}));
  EXPECT_THAT(prompt.chunks[2].weights, Each(1.0F));
}

TEST(PlainPrompt, IsTakenLiterallyAndCutAt75Tokens) {
  const auto brackets = value_or_throw(encode_plain_prompt("a (red:1.3) circle", clip()));
  EXPECT_EQ(brackets.chunks.front().ids, clip().pad_to_77(value_or_throw(clip().encode("a (red:1.3) circle"))));
  EXPECT_EQ(brackets.cut, "");
  std::string text;
  for (int i = 0; i < 75; ++i) text += "word ";
  EXPECT_EQ(value_or_throw(encode_plain_prompt(text, clip())).cut, "");
  const auto cut = value_or_throw(encode_plain_prompt(text + "a red Circle", clip()));
  EXPECT_EQ(cut.chunks.size(), 1U);
  EXPECT_EQ(cut.cut, "a red circle");
}

}  // namespace
}  // namespace darkroom::engine
