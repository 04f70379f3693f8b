// What upscalers' files are found to be, in every layout that they are shared in.
#include <array>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/weights/checkpoint.h"
#include "engine/weights/key_map_upscaler.h"
#include "engine/weights/safetensors.h"
#include "tests/support/tiny_models.h"
#include "tests/unit/weights/weights_support.h"

namespace darkroom::engine {
namespace {

using test::TemporaryFolder;
using testing::HasSubstr;

// Shapes by name; the values are zeros.
using Shapes = std::map<std::string, Shape>;

void add_convolution(Shapes& shapes, const std::string& layer, std::int64_t in, std::int64_t out) {
  shapes[layer + ".weight"] = {out, in, 3, 3};
  shapes[layer + ".bias"] = {out};
}

// The names of one layout. ups, hr and last are of the x4 network unless a test says otherwise.
struct Names {
  std::string first = "conv_first";
  std::string dense = "body.{}.rdb{}.conv{}";
  std::string body = "conv_body";
  std::vector<std::string> ups = {"conv_up1", "conv_up2"};
  std::string hr = "conv_hr";
  std::string last = "conv_last";
};

const Names kTrunk{"conv_first", "RRDB_trunk.{}.RDB{}.conv{}", "trunk_conv", {"upconv1", "upconv2"}, "HRconv",
                   "conv_last"};

// ESRGAN's numbers: a doubling, its convolution and its activation are three of them.
Names numbered(int ups, int blocks) {
  Names names{.first = "model.0", .dense = "model.1.sub.{}.RDB{}.conv{}.0"};
  names.body = fmt::format("model.1.sub.{}", blocks);
  names.ups.clear();
  for (int i = 0; i < ups; ++i) names.ups.push_back(fmt::format("model.{}", 3 + 3 * i));
  names.hr = fmt::format("model.{}", 2 + 3 * ups);
  names.last = fmt::format("model.{}", 4 + 3 * ups);
  return names;
}

Shapes rrdbnet(const Names& names, int blocks = 2, std::int64_t in = 3, std::int64_t width = 6, std::int64_t growth = 4,
               std::int64_t out = 3) {
  Shapes shapes;
  add_convolution(shapes, names.first, in, width);
  add_convolution(shapes, names.body, width, width);
  add_convolution(shapes, names.hr, width, width);
  add_convolution(shapes, names.last, width, out);
  for (const std::string& up : names.ups) add_convolution(shapes, up, width, width);
  for (int block = 0; block < blocks; ++block) {
    for (int rdb = 1; rdb <= 3; ++rdb) {
      for (int conv = 1; conv <= 5; ++conv) {
        add_convolution(shapes, fmt::format(fmt::runtime(names.dense), block, rdb, conv), width + (conv - 1) * growth,
                        conv == 5 ? width : growth);
      }
    }
  }
  return shapes;
}

Shapes compact(int convs, std::int64_t last) {
  Shapes shapes;
  for (int i = 0; i <= convs; ++i) {
    add_convolution(shapes, fmt::format("body.{}", 2 * i), i == 0 ? 3 : 8, 8);
    shapes[fmt::format("body.{}.weight", 2 * i + 1)] = {8};
  }
  add_convolution(shapes, fmt::format("body.{}", 2 * convs + 2), 8, last);
  return shapes;
}

Shapes under(const std::string& prefix, const Shapes& shapes) {
  Shapes result;
  for (const auto& [name, shape] : shapes) result[prefix + name] = shape;
  return result;
}

Result<ModelPart<UpscalerConfig>> open(const Shapes& shapes) {
  static const std::array<std::byte, 64 * 1024> kZeros{};
  std::vector<HostTensor> tensors;
  for (const auto& [name, shape] : shapes) {
    tensors.push_back({.name = name, .dtype = DType::f16, .shape = shape, .data = kZeros.data(), .owner = nullptr});
    EXPECT_LE(tensors.back().bytes(), kZeros.size());
  }
  const TemporaryFolder folder;
  EXPECT_TRUE(write_safetensors(folder / "x.safetensors", tensors));
  return open_upscaler(folder / "x.safetensors");
}

RrdbnetConfig rrdbnet_of(const Shapes& shapes) {
  const auto part = value_or_throw(open(shapes));
  // Every tensor is to be had under basicsr's name.
  for (const char* name : {"conv_first.weight", "body.0.rdb1.conv1.weight", "body.1.rdb3.conv5.bias",
                           "conv_body.weight", "conv_hr.bias", "conv_last.weight"}) {
    EXPECT_TRUE(part.weights->contains(name)) << name;
  }
  EXPECT_EQ(part.weights->names().size(), shapes.size());
  return std::get<RrdbnetConfig>(part.config);
}

constexpr RrdbnetConfig kSmall{.num_feat = 6, .num_block = 2, .num_grow_ch = 4};

TEST(Upscaler, RrdbnetIsKnownUnderEachOfItsNames) {
  EXPECT_EQ(rrdbnet_of(rrdbnet({})), kSmall);
  EXPECT_EQ(rrdbnet_of(rrdbnet(kTrunk)), kSmall);
  EXPECT_EQ(rrdbnet_of(rrdbnet(numbered(2, 2))), kSmall);
  EXPECT_EQ(kSmall.scale(), 4);
}

TEST(Upscaler, WidthsAndDepthFollowFromTheShapes) {
  const RrdbnetConfig config = rrdbnet_of(rrdbnet({}, 3, 3, 10, 2));
  EXPECT_EQ(config.num_block, 3);
  EXPECT_EQ(config.num_feat, 10);
  EXPECT_EQ(config.num_grow_ch, 2);
}

TEST(Upscaler, TheScaleFollowsFromTheDoublings) {
  for (int ups = 0; ups <= 3; ++ups) EXPECT_EQ(rrdbnet_of(rrdbnet(numbered(ups, 2))).scale(), 1 << ups) << ups;
  Names names = kTrunk;
  names.ups = {"upconv1"};
  EXPECT_EQ(rrdbnet_of(rrdbnet(names)).scale(), 2);
  names.ups = {"upconv1", "upconv2", "upconv3"};
  EXPECT_EQ(rrdbnet_of(rrdbnet(names)).scale(), 8);
}

TEST(Upscaler, MoreChannelsAreSquaresOfPixels) {
  const RrdbnetConfig x2 = rrdbnet_of(rrdbnet({}, 2, 12));
  EXPECT_EQ(x2.unshuffle, 2);
  EXPECT_EQ(x2.scale(), 2);
  const RrdbnetConfig x1 = rrdbnet_of(rrdbnet({}, 2, 48));
  EXPECT_EQ(x1.unshuffle, 4);
  EXPECT_EQ(x1.scale(), 1);
}

TEST(Upscaler, CompactNetworksAreKnown) {
  const auto part = value_or_throw(open(compact(5, 48)));
  EXPECT_EQ(std::get<CompactConfig>(part.config), (CompactConfig{.num_feat = 8, .num_conv = 5, .upscale = 4}));
  EXPECT_TRUE(part.weights->contains("body.11.weight"));
  EXPECT_EQ(std::get<CompactConfig>(value_or_throw(open(compact(2, 3))).config).scale(), 1);
}

TEST(Upscaler, NamesMayLieUnderAnything) {
  EXPECT_EQ(rrdbnet_of(under("params.", rrdbnet({}))), kSmall);
  EXPECT_EQ(rrdbnet_of(under("module.", rrdbnet(kTrunk))), kSmall);
  EXPECT_EQ(value_or_throw(open(under("params.", compact(5, 48)))).config.index(), 1U);
}

TEST(Upscaler, TheRunningMeanIsTakenWhereAFileHasBoth) {
  for (const char* other : {"params.", "zz."}) {
    Shapes both = under("params_ema.", rrdbnet({}));
    both.merge(under(other, rrdbnet({}, 3)));
    EXPECT_EQ(std::get<RrdbnetConfig>(value_or_throw(open(both)).config).num_block, 2) << other;
  }
}

struct Stranger {
  const char* name;
  Shapes shapes;
  ErrorCode code;
  const char* message;
};

TEST(Upscaler, WhatIsNoneIsRefusedByWhatWasFound) {
  Shapes short_of_one = rrdbnet({});
  short_of_one.erase("body.1.rdb2.conv3.weight");
  Shapes gap = rrdbnet({}, 3);
  for (int rdb = 1; rdb <= 3; ++rdb) {
    for (int conv = 1; conv <= 5; ++conv) {
      for (const char* tensor : {"weight", "bias"}) gap.erase(fmt::format("body.1.rdb{}.conv{}.{}", rdb, conv, tensor));
    }
  }
  Shapes plus = rrdbnet(numbered(2, 2));
  plus["model.1.sub.0.RDB1.conv1x1.weight"] = {4, 6, 1, 1};
  Shapes empty = rrdbnet({});
  empty["conv_first.weight"] = {0, 3, 3, 3};
  const std::vector<Stranger> strangers = {
      {"lora", {{"a.lora_up.weight", {1}}}, ErrorCode::unsupported, "is not an upscaler: lora"},
      {"vae", {{"decoder.conv_in.weight", {1}}}, ErrorCode::unsupported, "is not an upscaler: vae"},
      {"nothing", {{"x", {1}}}, ErrorCode::unsupported, "is not an upscaler: unknown"},
      {"swinir",
       {{"conv_first.weight", {6, 3, 3, 3}}, {"layers.0.residual_group.blocks.0.norm1.weight", {6}}},
       ErrorCode::unsupported,
       "is a SwinIR network; Darkroom runs RRDBNet (ESRGAN, Real-ESRGAN) and SRVGGNetCompact"},
      {"edsr", {{"conv_first.weight", {6, 3, 3, 3}}}, ErrorCode::unsupported, "is an unknown network; Darkroom runs"},
      {"plus", plus, ErrorCode::unsupported, "'model.1.sub.0.RDB1.conv1x1.weight' has no place in an RRDBNet"},
      {"gap", gap, ErrorCode::unsupported, "'body.2.rdb1.conv1.bias' has no place in an RRDBNet"},
      {"one missing", short_of_one, ErrorCode::corrupt_data, "no tensor 'body.1.rdb2.conv3.weight'"},
      {"gray", rrdbnet({}, 2, 1, 6, 4, 1), ErrorCode::unsupported, "takes 1 channels and gives 1"},
      {"shrinks", rrdbnet(numbered(0, 2), 2, 12), ErrorCode::unsupported, "0 doublings of 1/2 of the size"},
      {"no square", compact(3, 50), ErrorCode::unsupported, "takes 3 channels and ends in 50"},
      {"empty", empty, ErrorCode::corrupt_data, "'conv_first.weight' [0,3,3,3]"},
  };
  for (const Stranger& stranger : strangers) {
    SCOPED_TRACE(stranger.name);
    const auto part = open(stranger.shapes);
    ASSERT_FALSE(part);
    EXPECT_EQ(part.error().code, stranger.code);
    EXPECT_THAT(part.error().message, HasSubstr(stranger.message));
    EXPECT_THAT(part.error().message, HasSubstr("x.safetensors"));
  }
}

TEST(Upscaler, TheReferenceFilesAreWhatTheyAre) {
  const auto folder = test::vectors_dir() / "upscalers";
  for (const auto& [file, scale] : {std::pair("esrgan-x4-old-keys.safetensors", 4),
                                    {"realesrgan-x4-new-keys.safetensors", 4},
                                    {"realesrgan-x4.pth", 4},
                                    {"realesrgan-x2-new-keys.safetensors", 2}}) {
    const auto config = std::get<RrdbnetConfig>(value_or_throw(open_upscaler(folder / file)).config);
    EXPECT_EQ(config.scale(), scale) << file;
    EXPECT_EQ(config.num_feat, 16) << file;
    EXPECT_EQ(config.num_grow_ch, 8) << file;
    EXPECT_EQ(config.num_block, 2) << file;
  }
}

}  // namespace
}  // namespace darkroom::engine
