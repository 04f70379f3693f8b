// lllyasviel's names for a ControlNet's tensors, one by one.
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "engine/weights/checkpoint.h"
#include "engine/weights/key_map_sdxl.h"
#include "tests/support/tiny_models.h"

namespace darkroom::engine {
namespace {

using test::tiny_model;

using Renaming = std::pair<std::string, std::string>;

// The original's name of a diffusers tensor of a net with two resnets a level.
std::string original_name(const std::string& diffusers) {
  std::vector<std::string> parts;  // "down_blocks", "1", "resnets", "0", "norm1", "weight"
  std::istringstream stream(diffusers);
  for (std::string part; std::getline(stream, part, '.');) parts.push_back(part);
  const auto number = [&](std::size_t part) { return std::stoi(parts.at(part)); };
  const auto rest = [&](std::size_t first) {
    return fmt::format("{}", fmt::join(parts.begin() + first, parts.end(), "."));
  };

  std::string name = diffusers;
  if (parts[0] == "down_blocks" && parts[2] == "downsamplers") {
    name = fmt::format("input_blocks.{}.0.op.{}", 3 + 3 * number(1), rest(5));
  } else if (parts[0] == "down_blocks") {
    const int block = 1 + 3 * number(1) + number(3);
    name = fmt::format("input_blocks.{}.{}.{}", block, parts[2] == "resnets" ? 0 : 1, rest(4));
  } else if (parts[0] == "controlnet_cond_embedding" && parts[1] == "blocks") {
    name = fmt::format("input_hint_block.{}.{}", 2 + 2 * number(2), rest(3));
  } else if (parts[0] == "controlnet_down_blocks") {
    name = fmt::format("zero_convs.{}.0.{}", number(1), rest(2));
  }
  for (const auto& [start, with] : {Renaming("controlnet_cond_embedding.conv_in.", "input_hint_block.0."),
                                    {"controlnet_cond_embedding.conv_out.", "input_hint_block.14."},
                                    {"conv_in.", "input_blocks.0.0."},
                                    {"mid_block.resnets.0.", "middle_block.0."},
                                    {"mid_block.attentions.0.", "middle_block.1."},
                                    {"mid_block.resnets.1.", "middle_block.2."},
                                    {"time_embedding.linear_1.", "time_embed.0."},
                                    {"time_embedding.linear_2.", "time_embed.2."},
                                    {"add_embedding.linear_1.", "label_emb.0.0."},
                                    {"add_embedding.linear_2.", "label_emb.0.2."},
                                    {"controlnet_mid_block.", "middle_block_out.0."}}) {
    if (name.starts_with(start)) name.replace(0, start.size(), with);
  }
  const bool resnet = name.find("transformer_blocks") == std::string::npos;
  for (const auto& [part, with] : {Renaming(".norm1.", ".in_layers.0."),
                                   {".conv1.", ".in_layers.2."},
                                   {".time_emb_proj.", ".emb_layers.1."},
                                   {".norm2.", ".out_layers.0."},
                                   {".conv2.", ".out_layers.3."},
                                   {".conv_shortcut.", ".skip_connection."}}) {
    if (const std::size_t at = name.find(part); resnet && at != std::string::npos) name.replace(at, part.size(), with);
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
