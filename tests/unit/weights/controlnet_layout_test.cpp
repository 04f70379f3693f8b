// lllyasviel's names for a ControlNet's tensors, one by one.
#include <map>
#include <regex>

#include <gtest/gtest.h>

#include "engine/weights/checkpoint.h"
#include "engine/weights/key_map_sdxl.h"
#include "tests/support/tiny_models.h"

namespace darkroom::engine {
namespace {

using test::tiny_model;

// The original's name of a diffusers tensor of a net with two resnets a level.
std::string original_name(std::string name) {
  const auto replace = [&](const char* pattern, const std::string& with) {
    name = std::regex_replace(name, std::regex(pattern), with);
  };
  std::smatch match;
  if (std::regex_match(name, match, std::regex(R"(down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*))"))) {
    const int block = 1 + 3 * std::stoi(match[1]) + std::stoi(match[3]);
    name = fmt::format("input_blocks.{}.{}.{}", block, match[2] == "resnets" ? 0 : 1, match[4].str());
  } else if (std::regex_match(name, match, std::regex(R"(down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.*))"))) {
    name = fmt::format("input_blocks.{}.0.op.{}", 3 + 3 * std::stoi(match[1]), match[2].str());
  } else if (std::regex_match(name, match, std::regex(R"(controlnet_cond_embedding\.blocks\.(\d+)\.(.*))"))) {
    name = fmt::format("input_hint_block.{}.{}", 2 + 2 * std::stoi(match[1]), match[2].str());
  }
  replace(R"(^controlnet_cond_embedding\.conv_in\.)", "input_hint_block.0.");
  replace(R"(^controlnet_cond_embedding\.conv_out\.)", "input_hint_block.14.");
  replace(R"(^conv_in\.)", "input_blocks.0.0.");
  replace(R"(^mid_block\.resnets\.0\.)", "middle_block.0.");
  replace(R"(^mid_block\.attentions\.0\.)", "middle_block.1.");
  replace(R"(^mid_block\.resnets\.1\.)", "middle_block.2.");
  replace(R"(^time_embedding\.linear_1\.)", "time_embed.0.");
  replace(R"(^time_embedding\.linear_2\.)", "time_embed.2.");
  replace(R"(^add_embedding\.linear_1\.)", "label_emb.0.0.");
  replace(R"(^add_embedding\.linear_2\.)", "label_emb.0.2.");
  replace(R"(^controlnet_down_blocks\.(\d+)\.)", "zero_convs.$1.0.");
  replace(R"(^controlnet_mid_block\.)", "middle_block_out.0.");
  if (name.find("transformer_blocks") == std::string::npos) {
    replace(R"(\.norm1\.)", ".in_layers.0.");
    replace(R"(\.conv1\.)", ".in_layers.2.");
    replace(R"(\.time_emb_proj\.)", ".emb_layers.1.");
    replace(R"(\.norm2\.)", ".out_layers.0.");
    replace(R"(\.conv2\.)", ".out_layers.3.");
    replace(R"(\.conv_shortcut\.)", ".skip_connection.");
  }
  return "control_model." + name;
}

TEST(OriginalControlNet, HasEveryTensorUnderItsDiffusersName) {
  const auto part = value_or_throw(open_controlnet(tiny_model("tiny-controlnet-a")));
  std::vector<HostTensor> renamed;
  std::map<std::string, std::string> expected;
  for (const std::string& name : part.weights->names()) {
    HostTensor tensor = *part.weights->find(name);
    tensor.name = expected[name] = original_name(name);
    // The tiny text encoder is narrower than the real one, which tells how wide the time ids are.
    if (name == "add_embedding.linear_1.weight") tensor.shape = {tensor.shape[0], 1280 + 6 * 32};
    renamed.push_back(std::move(tensor));
  }
  const auto source = value_or_throw(TensorMap::make("renamed", renamed));
  const auto mapped = map_original_controlnet(*source, "control_model.");
  ASSERT_TRUE(mapped) << mapped.error().message;

  std::map<std::string, std::string> got;
  for (const auto& [name, entry] : mapped->entries) got[name] = entry.source;
  EXPECT_EQ(got, expected);
  ControlNetConfig config = part.config;
  config.unet.projection_class_embeddings_input_dim = 1280 + 6 * 32;
  config.unet.out_channels = mapped->config.unet.out_channels;
  config.unet.norm_num_groups = mapped->config.unet.norm_num_groups;
  EXPECT_EQ(mapped->config, config);
}

TEST(OriginalControlNet, OfAnotherModelIsRefused) {
  const auto part = value_or_throw(open_controlnet(tiny_model("tiny-controlnet-a")));
  std::vector<HostTensor> renamed;
  for (const std::string& name : part.weights->names()) {
    HostTensor tensor = *part.weights->find(name);
    tensor.name = original_name(name);
    renamed.push_back(std::move(tensor));
  }
  const auto source = value_or_throw(TensorMap::make("renamed", renamed));
  const auto mapped = map_original_controlnet(*source, "control_model.");
  ASSERT_FALSE(mapped);
  EXPECT_EQ(mapped.error().code, ErrorCode::unsupported);
}

}  // namespace
}  // namespace darkroom::engine
