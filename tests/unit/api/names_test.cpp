// The small parts: the tolerant reader, the catalog, networks in prompts, pictures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "catalog.h"
#include "service/api/picture_input.h"
#include "service/api/prompt_networks.h"
#include "service/api/tolerant_reader.h"

namespace darkroom {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(TolerantReader, TakesWholeNumbersInManyForms) {
  struct Case {
    json value;
    bool set;
    int number;
    std::size_t complaints;
  };
  const Case kCases[] = {{25, true, 25, 0},
                         {25.0, true, 25, 0},
                         {12.5, true, 12, 0},
                         {"30", true, 30, 0},
                         {" 30 ", true, 30, 0},
                         {"12.5", true, 12, 0},
                         {nullptr, false, 7, 0},
                         {"", false, 7, 0},
                         {"many", false, 7, 1},
                         {true, false, 7, 1},
                         {1000, false, 7, 1},
                         {0.9, false, 7, 1},
                         {json::array(), false, 7, 1},
                         {"nan", false, 7, 1},
                         {1e300, false, 7, 1}};
  for (const auto& [value, set, number, count] : kCases) {
    std::vector<Complaint> complaints;
    const json body = {{"n", value}};
    int out = 7;
    EXPECT_EQ(TolerantReader(body, "", complaints).whole("n", out, 1, 150), set) << value;
    EXPECT_EQ(out, number) << value;
    EXPECT_EQ(complaints.size(), count) << value;
  }
}

TEST(TolerantReader, TakesSeedsInManyForms) {
  struct Case {
    json value;
    bool set;
    std::uint64_t seed;
    std::size_t complaints;
  };
  const Case kCases[] = {{42, true, 42, 0},
                         {"42", true, 42, 0},
                         {"", false, 7, 0},
                         {" ", false, 7, 0},
                         {nullptr, false, 7, 0},
                         {-1, false, 7, 0},
                         {-1.0, false, 7, 0},
                         {"-1", false, 7, 0},
                         {9007199254740991, true, 9007199254740991U, 0},
                         {"9007199254740991", true, 9007199254740991U, 0},
                         {18446744073709551615U, true, 18446744073709551615U, 0},
                         {12.5, true, 12, 0},
                         {-2, false, 7, 1},
                         {"seed", false, 7, 1}};
  for (const auto& [value, set, seed, count] : kCases) {
    std::vector<Complaint> complaints;
    const json body = {{"seed", value}};
    std::uint64_t out = 7;
    EXPECT_EQ(TolerantReader(body, "", complaints).seed("seed", out), set) << value;
    EXPECT_EQ(out, set ? seed : 7U) << value;
    EXPECT_EQ(complaints.size(), count) << value;
  }
}

TEST(TolerantReader, TakesFlagsInManyForms) {
  const std::pair<json, bool> kCases[] = {{true, true}, {false, false}, {1, true},        {0, false},
                                          {1.0, true},  {"True", true}, {"false", false}, {"0", false}};
  for (const auto& [value, flag] : kCases) {
    std::vector<Complaint> complaints;
    const json body = {{"f", value}};
    bool out = !flag;
    EXPECT_TRUE(TolerantReader(body, "", complaints).flag("f", out)) << value;
    EXPECT_EQ(out, flag) << value;
  }
}

TEST(ModelCatalog, KnowsAModelByAllItsNames) {
  const ModelCatalog models = test_catalog();
  const std::pair<const char*, const char*> kCases[] = {
      {"sd_xl_base_1.0.safetensors [31e35c80fc]", "sd_xl_base_1.0.safetensors"},
      {"sd_xl_base_1.0.safetensors", "sd_xl_base_1.0.safetensors"},
      {"sd_xl_base_1.0", "sd_xl_base_1.0.safetensors"},
      {"SD_XL_Base_1.0", "sd_xl_base_1.0.safetensors"},
      {"31e35c80fc", "sd_xl_base_1.0.safetensors"},
      {"31E35C80FC4829D14F90153F4C74CD59C90B779F6AFE05A74CD6120B893F7E5B", "sd_xl_base_1.0.safetensors"},
      {"/models/sd_xl_base_1.0.safetensors", "sd_xl_base_1.0.safetensors"},
      {"anime\\pony.safetensors", "anime/Pony.safetensors"},
      {"anime/Pony", "anime/Pony.safetensors"},
      {"pony", "anime/Pony.safetensors"},
      {"folder-model", "folder-model"}};
  for (const auto& [wanted, file] : kCases) {
    const auto found = models.find(ModelRole::checkpoint, wanted);
    ASSERT_TRUE(found) << wanted << ": " << found.error().message;
    EXPECT_EQ((*found)->file, file) << wanted;
  }
  for (const char* wanted : {"31e35c80f", "base", "detail", "v1-5", ""}) {
    EXPECT_FALSE(models.find(ModelRole::checkpoint, wanted)) << wanted;
  }
  EXPECT_THAT(models.find(ModelRole::checkpoint, "poni").error().message, HasSubstr("did you mean"));
  EXPECT_FALSE(models.find(ModelRole::lora, "broken"));
}

std::vector<std::string> kinds(const SplitPrompt& split) {
  std::vector<std::string> all;
  for (const PromptNetwork& network : split.networks) {
    std::string text = network.kind;
    for (const std::string& argument : network.arguments) text += "|" + argument;
    all.push_back(text);
  }
  return all;
}

TEST(PromptNetworks, AreTakenOutOfThePrompt) {
  struct Case {
    const char* prompt;
    const char* words;
    std::vector<std::string> networks;
  };
  const Case kCases[] = {{"a cat", "a cat", {}},
                         {"a <lora:x:0.5> cat", "a  cat", {"lora|x|0.5"}},
                         {"<LORA:x:1><lyco:y>", "", {"lora|x|1", "lyco|y"}},
                         {"a < b > c <3 <x> <:y>", "a < b > c <3 <x> <:y>", {}},
                         {"<a<lora:x:1>", "<a", {"lora|x|1"}},
                         {"<lora:x", "<lora:x", {}},
                         {"<", "<", {}}};
  for (const auto& [prompt, words, networks] : kCases) {
    const SplitPrompt split = split_networks(prompt);
    EXPECT_EQ(split.words, words);
    EXPECT_EQ(kinds(split), networks) << prompt;
  }
}

TEST(PromptNetworks, GiveLorasWithWebuisWeights) {
  const ModelCatalog models = test_catalog();
  struct Case {
    const char* prompt;
    float text_encoder;
    float unet;
  };
  const Case kCases[] = {{"<lora:detail>", 1.0F, 1.0F},           {"<lora:detail:0.5>", 0.5F, 0.5F},
                         {"<lora:detail:0.5:0.25>", 0.5F, 0.25F}, {"<lora:detail:te=0.1:unet=-0.2>", 0.1F, -0.2F},
                         {"<lora:detail:unet=0.3>", 1.0F, 0.3F},  {"<lora:detail.safetensors:.7>", 0.7F, 0.7F}};
  for (const auto& [prompt, text_encoder, unet] : kCases) {
    std::vector<Complaint> complaints;
    std::vector<std::string> warnings;
    const auto loras = loras_of(split_networks(prompt).networks, models, 2.0F, "/prompt", complaints, warnings);
    ASSERT_EQ(loras.size(), 1U) << prompt;
    EXPECT_THAT(complaints, IsEmpty());
    EXPECT_EQ(loras[0].model, "detail.safetensors");
    EXPECT_EQ(loras[0].text_encoder_weight, text_encoder) << prompt;
    EXPECT_EQ(loras[0].unet_weight, unet) << prompt;
  }
}

TEST(PromptNetworks, ComplainOfWhatIsNotThere) {
  const ModelCatalog models = test_catalog();
  const std::pair<const char*, const char*> kCases[] = {{"<lora:detial:1>", "did you mean detail"},
                                                        {"<lora:detail:3>", "must be between -2 and 2"},
                                                        {"<lora:detail:high>", "weight \"high\""},
                                                        {"<lora:detail:dyn=4>", "dyn=4"}};
  for (const auto& [prompt, complaint] : kCases) {
    std::vector<Complaint> complaints;
    std::vector<std::string> warnings;
    loras_of(split_networks(prompt).networks, models, 2.0F, "/prompt", complaints, warnings);
    ASSERT_EQ(complaints.size(), 1U) << prompt;
    EXPECT_EQ(complaints[0].pointer, "/prompt");
    EXPECT_THAT(complaints[0].message, HasSubstr(complaint));
  }
  std::vector<Complaint> complaints;
  std::vector<std::string> warnings;
  loras_of(split_networks("<hypernet:x:1>").networks, models, 2.0F, "/prompt", complaints, warnings);
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("\"hypernet\"")));
}

TEST(PromptNetworks, FindEmbeddingsByWord) {
  const ModelCatalog models = test_catalog();
  EXPECT_EQ(embeddings_in("a cat", "BadHands, blurry", models).size(), 1U);
  EXPECT_EQ(embeddings_in("(badhands:1.2)", "", models).size(), 1U);
  EXPECT_THAT(embeddings_in("notbadhands badhands2", "", models), IsEmpty());
}

TEST(PictureInput, ComesInBase64OrAsADataUri) {
  const Limits limits;
  const std::string plain = kPixel;
  std::string broken_up = plain;
  broken_up.insert(20, "\r\n");
  std::string unpadded = plain;
  while (unpadded.ends_with('=')) unpadded.pop_back();
  for (const std::string& text : {plain, "data:image/png;base64," + plain, broken_up, unpadded}) {
    const auto picture = decode_picture(text, limits);
    ASSERT_TRUE(picture) << picture.error().message;
    EXPECT_EQ(picture->bytes, decode_base64(plain).value());
  }
}

TEST(PictureInput, IsRefusedByName) {
  const Limits limits{.picture_bytes = 60};
  const std::pair<std::string, const char*> kCases[] = {{"https://example.org/a.png", "is a URL"},
                                                        {"HTTP", "not a PNG"},
                                                        {"data:image/png,xx", "without ;base64,"},
                                                        {"!!!!", "not base64"},
                                                        {kPixel, "at most 60 bytes"}};
  for (const auto& [text, complaint] : kCases) {
    const auto picture = decode_picture(text, limits);
    ASSERT_FALSE(picture) << text;
    EXPECT_THAT(picture.error().message, HasSubstr(complaint));
  }
}

TEST(PictureInput, GivesASizeThatCanBeMade) {
  const Limits limits;
  const auto picture = decode_picture(kPixel, limits);
  EXPECT_EQ(size_like(*picture, limits).value(), (Size{256, 256}));
  std::string wide = picture->bytes;  // IHDR says 3000×1000
  wide.replace(16, 8, std::string("\0\0\x0b\xb8\0\0\x03\xe8", 8));
  EXPECT_EQ(size_like({.bytes = wide}, limits).value(), (Size{2048, 680}));
}

}  // namespace
}  // namespace darkroom
