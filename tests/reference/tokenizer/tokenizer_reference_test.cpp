// The tokenizer against the reference's ids.
#include <filesystem>
#include <fstream>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/text/tokenizer.h"

namespace darkroom::engine {
namespace {

TEST(TokenizerReference, EveryCaseIsExact) {
  const auto cases = nlohmann::json::parse(
      std::ifstream(std::filesystem::path(DARKROOM_SOURCE_DIR) / "tests/reference/vectors/tokenizer/cases.json"));
  const ClipTokenizer l = ClipTokenizer::clip_l();
  const ClipTokenizer g = ClipTokenizer::clip_g();
  ASSERT_GE(cases.size(), 29U);
  for (const auto& one : cases) {
    const auto text = one.at("text").get<std::string>();
    const auto ids = l.encode(text);
    ASSERT_TRUE(ids) << ids.error().message;
    std::vector<TokenId> whole = *ids;
    whole.insert(whole.begin(), l.start_id());
    whole.push_back(l.end_id());
    EXPECT_EQ(whole, one.at("ids").get<std::vector<TokenId>>()) << text;
    EXPECT_EQ(l.pad_to_77(*ids), one.at("padded_77_l").get<std::vector<TokenId>>()) << text;
    EXPECT_EQ(g.pad_to_77(value_or_throw(g.encode(text))), one.at("padded_77_g").get<std::vector<TokenId>>()) << text;
  }
}

}  // namespace
}  // namespace darkroom::engine
