// Names of layers in every style, and what is said of files that do not fit.
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/weights/checkpoint.h"
#include "engine/weights/inspect.h"
#include "engine/weights/key_map_sdxl.h"
#include "engine/weights/lora.h"
#include "engine/weights/lora_family.h"
#include "tests/support/tiny_models.h"
#include "tests/unit/weights/lora_support.h"
#include "tests/unit/weights/torch_file.h"
#include "tests/unit/weights/weights_support.h"

namespace darkroom::engine {
namespace {

using test::noise;
using test::source_of;
using test::tensor_of;
using test::tiny_model;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

const Checkpoint& folder() {
  static const Checkpoint checkpoint = value_or_throw(open_checkpoint(tiny_model("tiny-base")));
  return checkpoint;
}

const LayerNames& names() {
  static const LayerNames all({{AdapterTarget::unet, folder().unet.weights},
                               {AdapterTarget::text_encoder, folder().text_encoder->weights},
                               {AdapterTarget::text_encoder_2, folder().text_encoder_2.weights}});
  return all;
}

Result<std::shared_ptr<const Lora>> bind(std::vector<HostTensor> tensors, const TensorMetadata& metadata = {}) {
  const auto settings = AdapterMetadata::parse(metadata, "test.safetensors");
  if (!settings) return tl::unexpected(settings.error());
  return Lora::bind(*source_of(std::move(tensors)), *settings, names());
}

std::string refusal(std::vector<HostTensor> tensors, ErrorCode code) {
  const auto lora = bind(std::move(tensors));
  if (lora) return "was not refused";
  EXPECT_EQ(lora.error().code, code) << lora.error().message;
  return lora.error().message;
}

// ---- names ----

TEST(LoraNames, TheWayBackToTheOriginalsNamesIsTheWayOfTheCheckpointReversed) {
  const auto file = value_or_throw(open_weight_file(tiny_model("tiny-base-single-file")));
  constexpr std::string_view kUnet = "model.diffusion_model.";
  const auto unet = value_or_throw(map_original_unet(*file.weights, kUnet));
  const OriginalNames back = original_unet_names(*folder().unet.weights);
  ASSERT_EQ(back.size(), unet.entries.size());
  for (const auto& [name, entry] : unet.entries) EXPECT_EQ(std::string(kUnet) + back.at(name), entry.source);

  constexpr std::string_view kText = "conditioner.embedders.1.model.";
  const auto text = value_or_throw(map_openclip_text(*file.weights, kText));
  const OriginalNames text_back = original_openclip_names(*folder().text_encoder_2.weights);
  for (const auto& [name, entry] : text.entries) {
    if (name.starts_with("text_model.embeddings.") || name == "text_projection.weight") continue;
    std::string source = entry.source;
    if (entry.parts == 3) source.replace(source.find("in_proj_"), 8, "in_proj.");
    EXPECT_EQ(std::string(kText) + text_back.at(name), source);
  }
}

struct NameCase {
  std::string key;
  AdapterTarget target;
  std::string layer;  // the first
  AdapterRole role;
};

void PrintTo(const NameCase& c, std::ostream* out) { *out << c.key; }

class LoraKeys : public testing::TestWithParam<NameCase> {};

TEST_P(LoraKeys, FindTheirLayer) {
  const NameCase& c = GetParam();
  const auto key = split_adapter_key(c.key);
  ASSERT_TRUE(key);
  EXPECT_EQ(key->role, c.role);
  const auto place = names().find(key->layer);
  ASSERT_TRUE(place) << key->layer;
  EXPECT_EQ(place->target, c.target);
  EXPECT_EQ(place->layers.front(), c.layer);
}

constexpr auto kUnetPart = AdapterTarget::unet;
constexpr auto kText = AdapterTarget::text_encoder;
constexpr auto kText2 = AdapterTarget::text_encoder_2;
const std::string kToQ = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q";
const std::string kToOut = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0";
const std::string kQ = "text_model.encoder.layers.0.self_attn.q_proj";

INSTANTIATE_TEST_SUITE_P(
    EveryStyle, LoraKeys,
    testing::ValuesIn(std::vector<NameCase>{
        // kohya, with diffusers' modules and with the original's
        {"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight", kUnetPart, kToQ,
         AdapterRole::down},
        {"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0.alpha", kUnetPart, kToOut,
         AdapterRole::alpha},
        {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_up.weight", kUnetPart, kToQ, AdapterRole::up},
        {"lora_unet_input_blocks_4_0_in_layers_2.lora_mid.weight", kUnetPart, "down_blocks.1.resnets.0.conv1",
         AdapterRole::mid},
        {"lora_unet_input_blocks_3_0_op.lora_up.weight", kUnetPart, "down_blocks.0.downsamplers.0.conv",
         AdapterRole::up},
        {"lora_unet_output_blocks_2_2_conv.lora_up.weight", kUnetPart, "up_blocks.0.upsamplers.0.conv",
         AdapterRole::up},
        {"lora_unet_middle_block_1_proj_in.dora_scale", kUnetPart, "mid_block.attentions.0.proj_in",
         AdapterRole::dora_scale},
        {"lora_unet_time_embed_0.diff", kUnetPart, "time_embedding.linear_1", AdapterRole::difference},
        {"lora_unet_label_emb_0_2.diff_b", kUnetPart, "add_embedding.linear_2", AdapterRole::bias_difference},
        {"lora_unet_conv_in.w_norm", kUnetPart, "conv_in", AdapterRole::difference},
        {"lycoris_conv_in.b_norm", kUnetPart, "conv_in", AdapterRole::bias_difference},
        {"lora_te1_text_model_encoder_layers_0_self_attn_q_proj.hada_w1_a", kText, kQ, AdapterRole::hada_w1_a},
        {"lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lokr_w2_b", kText2, kQ, AdapterRole::lokr_w2_b},
        {"lora_te2_text_projection.lora_up.weight", kText2, "text_projection", AdapterRole::up},
        {"lora_te2_transformer_resblocks_0_attn_in_proj.lora_up.weight", kText2, kQ, AdapterRole::up},
        {"lora_te2_transformer_resblocks_0_mlp_c_fc.lora_up.weight", kText2, "text_model.encoder.layers.0.mlp.fc1",
         AdapterRole::up},
        {"oft_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.oft_blocks", kUnetPart, kToQ,
         AdapterRole::oft_blocks},
        {"lycoris_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.rescale", kUnetPart, kToQ,
         AdapterRole::rescale},
        {"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.on_input", kUnetPart, kToQ,
         AdapterRole::on_input},
        // diffusers, PEFT
        {"unet." + kToQ + ".lora_A.weight", kUnetPart, kToQ, AdapterRole::down},
        {"unet." + kToQ + ".lora_B.default.weight", kUnetPart, kToQ, AdapterRole::up},
        {"unet." + kToQ + ".lora_B.style_1.bias", kUnetPart, kToQ, AdapterRole::up_bias},
        {"unet." + kToQ + ".lora_magnitude_vector", kUnetPart, kToQ, AdapterRole::dora_scale},
        {"unet." + kToQ + ".lora_magnitude_vector.default.weight", kUnetPart, kToQ, AdapterRole::dora_scale},
        {"base_model.model." + kToQ + ".lora_A.weight", kUnetPart, kToQ, AdapterRole::down},
        {"unet.base_model.model." + kToQ + ".lora_A.weight", kUnetPart, kToQ, AdapterRole::down},
        {"text_encoder." + kQ + ".lora_A.weight", kText, kQ, AdapterRole::down},
        {"text_encoder_2." + kQ + ".lora_B.weight", kText2, kQ, AdapterRole::up},
        {"text_encoder." + kQ + ".lora_linear_layer.up.weight", kText, kQ, AdapterRole::up},
        {"text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.down.weight", kText, kQ, AdapterRole::down},
        // diffusers before 0.18 and after
        {"unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight", kUnetPart, kToQ,
         AdapterRole::down},
        {"down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight", kUnetPart, kToOut,
         AdapterRole::up},
        {"unet." + kToQ + ".lora.up.weight", kUnetPart, kToQ, AdapterRole::up},
        // the original's names
        {"diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.lora_up.weight", kUnetPart, kToQ,
         AdapterRole::up},
        {"model.diffusion_model.out.2.diff_b", kUnetPart, "conv_out", AdapterRole::bias_difference},
        {"text_encoders.clip_l.transformer." + kQ + ".lora_up.weight", kText, kQ, AdapterRole::up},
        {"conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight.lora_down.weight", kText2, kQ,
         AdapterRole::down},
        {"conditioner.embedders.1.model.transformer.resblocks.0.attn.out_proj.a1.weight", kText2,
         "text_model.encoder.layers.0.self_attn.out_proj", AdapterRole::glora_a1},
    }));

TEST(LoraNames, AFusedProjectionStandsForQueryKeyAndValueInThatOrder) {
  const auto place = names().find("lora_te2_transformer_resblocks_0_attn_in_proj");
  ASSERT_TRUE(place);
  const std::string attention = "text_model.encoder.layers.0.self_attn.";
  EXPECT_THAT(place->layers, ElementsAre(attention + "q_proj", attention + "k_proj", attention + "v_proj"));
}

TEST(LoraNames, WhatIsNoLayersTensorHasNoPlace) {
  for (const char* key :
       {"", ".alpha", "lora_unet_conv_in.weight", "conv_in.lora_A.a.b.weight", "x.lora_A.", "weight"}) {
    EXPECT_FALSE(split_adapter_key(key)) << key;
  }
  for (const char* layer :
       {"", "lora_unet_", "lora_unet_conv_i", "conv_in.", "lora_te1_text_model_embeddings_token_embedding"}) {
    EXPECT_FALSE(names().find(layer)) << layer;
  }
}

// ---- files ----

TEST(LoraFile, TheReferencesFilesFitWhollyIntoBothLayoutsOfTheirModel) {
  const Checkpoint single = value_or_throw(open_checkpoint(tiny_model("tiny-base-single-file")));
  const LayerNames of_single({{AdapterTarget::unet, single.unet.weights},
                              {AdapterTarget::text_encoder, single.text_encoder->weights},
                              {AdapterTarget::text_encoder_2, single.text_encoder_2.weights}});
  for (const char* name : {"kohya", "peft", "dora", "loha", "lokr"}) {
    const auto path = test::vectors_dir() / "loras" / (std::string(name) + ".safetensors");
    for (const LayerNames* model : {&names(), &of_single}) {
      const auto lora = Lora::open(path, *model);
      ASSERT_TRUE(lora) << lora.error().message;
      EXPECT_THAT((*lora)->unmatched(), SizeIs(0)) << name;
      EXPECT_EQ((*lora)->applied(), (*lora)->total());
    }
  }
}

TEST(LoraFile, TensorsWithoutAPlaceAreCountedAndNamed) {
  const auto lora = bind({noise("unet.conv_in.diff_b", {32}), noise("bundle_emb.x.string_to_param", {2, 4}),
                          noise("unet." + kToQ + ".diff_b", {64})});  // that layer has no bias
  ASSERT_TRUE(lora) << lora.error().message;
  EXPECT_EQ((*lora)->applied(), 1);
  EXPECT_EQ((*lora)->total(), 3);
  EXPECT_THAT((*lora)->unmatched(), ElementsAre("bundle_emb.x.string_to_param", "unet." + kToQ + ".diff_b"));
  EXPECT_THAT((*lora)->touched(AdapterTarget::unet), ElementsAre("conv_in.bias"));
}

TEST(LoraFile, AnAlphaOfNoKnownFormIsWithoutAPlace) {
  const std::string layer = "lora_unet_conv_in";
  const auto lora = bind({noise(layer + ".alpha", {1}), noise(layer + ".other_blocks", {4, 8, 8}),
                          noise("lora_unet_conv_out.diff_b", {4})});
  ASSERT_TRUE(lora) << lora.error().message;
  EXPECT_EQ((*lora)->applied(), 1);
  EXPECT_THAT((*lora)->unmatched(), ElementsAre(layer + ".alpha", layer + ".other_blocks"));
  EXPECT_THAT(
      refusal({noise(layer + ".alpha", {1}), noise(layer + ".other_blocks", {4, 8, 8})}, ErrorCode::unsupported),
      HasSubstr("none of its 2 tensors belongs to a layer of the model"));
}

// A whole model's tensors are not the factors of (IA)³, whose name they have.
TEST(LoraFile, AWeightIsAnAdaptersOnlyBesideItsAxis) {
  const Shape weight = folder().unet.weights->info(kToQ + ".weight")->shape;
  EXPECT_THAT(refusal({noise("unet." + kToQ + ".weight", weight)}, ErrorCode::unsupported),
              HasSubstr("none of its 1 tensors belongs to a layer of the model"));
}

TEST(LoraFile, NothingThatFitsIsAnErrorThatSaysSo) {
  EXPECT_THAT(refusal({noise("lora_unet_nowhere.lora_up.weight", {4, 2})}, ErrorCode::unsupported),
              HasSubstr("none of its 1 tensors belongs to a layer of the model; the first is lora_unet_nowhere"));
  EXPECT_THAT(refusal({}, ErrorCode::unsupported), HasSubstr("none of its 0 tensors"));
}

TEST(LoraFile, OtherModelsLorasAreRefusedByName) {
  const std::string to_k = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight";
  for (const auto& [name, shape, family] :
       {std::tuple<std::string, Shape, std::string>{to_k, {4, 768}, "Stable Diffusion 1.x"},
        {to_k, {4, 1024}, "Stable Diffusion 2.x"},
        {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", {4, 768}, "Stable Diffusion 1.x"},
        {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", {4, 1024}, "Stable Diffusion 2.x"},
        {"unet.down_blocks.0.attentions.0.proj_in.lora_A.weight", {4, 320}, "Stable Diffusion 1.x"},
        {"transformer.transformer_blocks.0.attn.to_q.lora_A.weight", {4, 1536}, "Stable Diffusion 3"},
        {"lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", {4, 1536}, "Stable Diffusion 3"},
        {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", {4, 3072}, "Flux"},
        {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", {4, 3072}, "Flux"}}) {
    EXPECT_EQ(refusal({noise(name, shape)}, ErrorCode::unsupported),
              "test.safetensors is a LoRA for " + family + ", the model is Stable Diffusion XL");
  }
  const auto sdxl =
      source_of({noise("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight", {4, 2048})});
  EXPECT_EQ(family_of_lora(*sdxl), Family::sdxl);
}

// The layer's weight is [O, I]; 320 tokens of text width and so on come from the tiny model itself.
TEST(LoraFile, AWrongShapeIsNamedWithWhatWasExpectedAndFound) {
  const Shape weight = folder().unet.weights->info(kToQ + ".weight")->shape;
  const std::int64_t out = weight[0], in = weight[1];
  const std::string layer = "unet." + kToQ;
  struct Case {
    std::vector<std::pair<std::string, Shape>> tensors;
    std::string message;
  };
  const std::vector<Case> cases{
      {{{".lora_A.weight", {4, in}}, {".lora_B.weight", {out + 1, 4}}},
       fmt::format("{}.lora_B.weight: expected [{},4], found [{},4]", layer, out, out + 1)},
      {{{".lora_A.weight", {4, in - 1}}, {".lora_B.weight", {out, 4}}},
       fmt::format("{}.lora_A.weight: expected [4,{}], found [4,{}]", layer, in, in - 1)},
      {{{".lora_A.weight", {4, in, 3, 3}}, {".lora_B.weight", {out, 4}}},
       fmt::format("{}.lora_A.weight: expected [4,{}], found [4,{},3,3]", layer, in, in)},
      {{{".lora_A.weight", {4, in}}}, fmt::format("{}: lora_up is missing", layer)},
      {{{".lora_B.weight", {out, 4}}}, fmt::format("{}: lora_down is missing", layer)},
      {{{".lora_A.weight", {4, in}}, {".lora_B.weight", {out, 4}}, {".alpha", {2}}},
       fmt::format("{}.alpha: expected one number, found [2]", layer)},
      {{{".lora_A.weight", {4, in}}, {".lora_B.weight", {out, 4}}, {".dora_scale", {3, 1}}},
       fmt::format("{}.dora_scale: expected [{},1] or [1,{}], found [3,1]", layer, out, in)},
      {{{".lora_A.weight", {4, in}}, {".lora_B.weight", {out, 4}}, {".hada_w1_a", {out, 4}}},
       fmt::format("{0}.hada_w1_a does not belong to the other tensors of {0}", layer)},
      {{{".hada_w1_a", {out, 2}}, {".hada_w1_b", {2, in}}, {".hada_w2_a", {out, 2}}, {".hada_w2_b", {3, in}}},
       fmt::format("{}.hada_w2_a: expected [{},3], found [{},2]", layer, out, out)},
      {{{".lokr_w1", {3, 7}}, {".lokr_w2", {2, 2}}},
       fmt::format("{}.lokr_w1: expected a shape whose numbers divide [{},{}], found [3,7]", layer, out, in)},
      {{{".lokr_w1", {2, 2}}, {".lokr_w2", {2, 2}}},
       fmt::format("{}.lokr_w2: expected [{},{}], found [2,2]", layer, out / 2, in / 2)},
      {{{".a1.weight", {in, 2}}, {".a2.weight", {2, in}}, {".b1.weight", {out, 2}}}, "not all are there"},
      {{{".a1.weight", {in, 2}}, {".a2.weight", {2, in}}, {".b1.weight", {out, 2}}, {".b2.weight", {2, in + 1}}},
       fmt::format("{}.b2.weight: expected [2,{}], found [2,{}]", layer, in, in + 1)},
      {{{".diff", {out, in + 1}}},
       fmt::format("{}.diff: expected [{},{}], found [{},{}]", layer, out, in, out, in + 1)},
      {{{".oft_blocks", {4, out / 4, out / 4 + 1}}},
       fmt::format("{0}.oft_blocks: expected [{1}/n, n, n], or [stages, {1}/n, n, n] with an even n whose product with "
                   "2^(stages - 1) divides {1}, found [4,{2},{3}]",
                   layer, out, out / 4, out / 4 + 1)},
      {{{".oft_blocks", {2, 3, 0, 0}}}, fmt::format("{}.oft_blocks: [2,3,0,0] holds no numbers", layer)},
      {{{".oft_blocks", {out, out}}}, fmt::format("found [{},{}]", out, out)},
      {{{".oft_blocks", {3, 2, out / 2, out / 2}}}, fmt::format("found [3,2,{},{}]", out / 2, out / 2)},
      {{{".oft_blocks", {2, out, 1, 1}}}, fmt::format("found [2,{},1,1]", out)},
      {{{".oft_blocks", {4, out / 4, out / 4}}, {".rescale", {out + 1, 1}}},
       fmt::format("{}.rescale: expected [{}], found [{},1]", layer, out, out + 1)},
      {{{".rescale", {out}}}, fmt::format("{0}.rescale does not belong to the other tensors of {0}", layer)},
      {{{".weight", {in + 1}}, {".on_input", {1}}},
       fmt::format("{}.weight: expected [{}], found [{}]", layer, in, in + 1)},
      {{{".dora_scale", {out, 1}}}, fmt::format("{}: dora_scale without a change", layer)},
      {{{".lora_A.weight", {0, in}}, {".lora_B.weight", {out, 0}}},
       fmt::format("{}.lora_A.weight: [0,{}] holds no numbers", layer, in)},
  };
  for (const Case& c : cases) {
    std::vector<HostTensor> tensors;
    for (const auto& [ending, shape] : c.tensors) tensors.push_back(noise(layer + ending, shape));
    EXPECT_THAT(refusal(std::move(tensors), ErrorCode::corrupt_data), HasSubstr(c.message));
  }
}

TEST(LoraFile, ATensorThatIsNotFloatingOrStandsTwiceIsRefused) {
  const std::string layer = "unet." + kToQ;
  HostTensor whole = noise(layer + ".diff", folder().unet.weights->info(kToQ + ".weight")->shape);
  whole.dtype = DType::i32;
  EXPECT_THAT(refusal({whole}, ErrorCode::corrupt_data), HasSubstr("expected a floating type, found int32"));
  EXPECT_THAT(refusal({noise(layer + ".lora_A.weight", {4, 64}), noise(layer + ".lora_down.weight", {4, 64})},
                      ErrorCode::corrupt_data),
              HasSubstr("says again what another tensor of its layer says"));
}

float scale_of(const Lora& lora) { return lora.changes(AdapterTarget::unet, "conv_in.weight").front().layer->scale; }

std::vector<HostTensor> conv_in_lora() {
  const Shape weight = folder().unet.weights->info("conv_in.weight")->shape;
  return {noise("unet.conv_in.lora_A.weight", {4, weight[1], 3, 3}),
          noise("unet.conv_in.lora_B.weight", {weight[0], 4, 1, 1})};
}

TEST(LoraFile, AlphaMayBeAnInteger) {
  std::vector<HostTensor> tensors = conv_in_lora();
  const auto eight = std::make_shared<std::int64_t>(8);
  tensors.push_back({.name = "unet.conv_in.alpha",
                     .dtype = DType::i64,
                     .shape = Shape{},
                     .data = reinterpret_cast<const std::byte*>(eight.get()),
                     .owner = eight});
  EXPECT_EQ(scale_of(*bind(tensors).value()), 2.0F);
  tensors.back() = tensor_of("unet.conv_in.alpha", Shape{}, {INFINITY});
  EXPECT_THAT(refusal(tensors, ErrorCode::corrupt_data), HasSubstr("expected a finite number"));
}

TEST(LoraFile, AlphaMayStandInDiffusersMetadata) {
  const auto scale = [](const std::string& text) {
    return scale_of(*bind(conv_in_lora(), {{"lora_adapter_metadata", text}}).value());
  };
  EXPECT_EQ(scale(R"({"unet.r": 4, "unet.lora_alpha": 8})"), 2.0F);
  EXPECT_EQ(scale(R"({"unet.lora_alpha": 8, "unet.alpha_pattern": {"conv_in": 2, "v_in": 1}})"), 0.5F);
  EXPECT_EQ(scale(R"({"unet.lora_alpha": 8, "unet.use_rslora": true})"), 4.0F);
  EXPECT_EQ(scale(R"({"text_encoder.lora_alpha": 8})"), 1.0F);
  const auto wrong = bind(conv_in_lora(), {{"lora_adapter_metadata", R"({"unet.lora_alpha": "x"})"}});
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("unet: 'lora_alpha' is \"x\", expected a number"));
}

TEST(LoraFile, WordsThatAreBundledWithItAreItsOwn) {
  const std::int64_t clip_l = folder().text_encoder->config.hidden_size;
  const std::int64_t clip_g = folder().text_encoder_2.config.hidden_size;
  const auto lora =
      bind({noise("unet.conv_in.diff_b", {32}), noise("bundle_emb.a b.clip_l", {2, clip_l}),
            noise("bundle_emb.a b.clip_g", {2, clip_g}), noise("bundle_emb.<old>.string_to_param.*", {clip_g}),
            noise("bundle_emb.other.string_to_param.*", {3, 7})});
  ASSERT_TRUE(lora) << lora.error().message;
  EXPECT_EQ((*lora)->applied(), 4);
  EXPECT_THAT((*lora)->unmatched(), ElementsAre("bundle_emb.other.string_to_param.*"));
  const auto& words = (*lora)->words();
  ASSERT_THAT(words, SizeIs(2));
  EXPECT_EQ(words[0].token, "<old>");
  EXPECT_EQ(words[0].vectors.clip_g.count(), 1);
  EXPECT_EQ(words[1].token, "a b");
  EXPECT_EQ(words[1].vectors.clip_l.count(), 2);
  EXPECT_EQ(words[1].vectors.clip_g.count(), 2);
  EXPECT_TRUE(bind({noise("bundle_emb.alone.clip_g", {clip_g})}));  // words alone are something
}

// ---- PEFT's folders ----

class PeftFolder : public testing::Test {
 protected:
  // An adapter of one layer in `below`, under the name that save_pretrained() gives it.
  void save(const std::string& below, const std::string& config, const std::string& layer, const Shape& weight) {
    const std::string name = "base_model.model." + layer;
    save_tensors(below, config,
                 {noise(name + ".lora_A.weight", {4, weight[1]}), noise(name + ".lora_B.weight", {weight[0], 4})});
  }
  void save_tensors(const std::string& below, const std::string& config, const std::vector<HostTensor>& tensors) {
    const auto place = folder_.path() / below;
    std::filesystem::create_directories(place);
    std::ofstream(place / "adapter_config.json") << config;
    EXPECT_TRUE(write_safetensors(place / "adapter_model.safetensors", tensors));
  }
  void save_unet(const std::string& below, const std::string& config) {
    save(below, config, kToQ, folder().unet.weights->info(kToQ + ".weight")->shape);
  }
  void save_text(const std::string& below, const std::string& config) {
    save(below, config, kTextLayer, folder().text_encoder_2.weights->info(kTextLayer + ".weight")->shape);
  }
  float unet_scale() const {
    const auto lora = Lora::open(folder_.path(), names());
    if (!lora) ADD_FAILURE() << lora.error().message;
    return lora ? (*lora)->changes(AdapterTarget::unet, kToQ + ".weight").front().layer->scale : 0.0F;
  }
  Error refusal_of_folder() const {
    const auto lora = Lora::open(folder_.path(), names());
    return lora ? Error{ErrorCode::internal, "was not refused"} : lora.error();
  }

  const std::string kTextLayer = "text_model.encoder.layers.0.mlp.fc1";
  const test::TemporaryFolder folder_;
};

TEST_F(PeftFolder, TheConfigurationSaysByWhatItIsScaled) {
  save_unet("", R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8})");
  EXPECT_EQ(unet_scale(), 2.0F);
  save_unet("", R"({"r": 4, "lora_alpha": 8, "use_rslora": true})");
  EXPECT_EQ(unet_scale(), 4.0F);
  save_unet("", R"({"r": 4, "lora_alpha": 8, "alpha_pattern": {")" + kToQ + R"(": 1}})");
  EXPECT_EQ(unet_scale(), 0.25F);
  save_unet("", R"({"peft_type": "LORA", "r": 4, "lora_alpha": null, "auto_mapping": null})");
  EXPECT_EQ(unet_scale(), 1.0F);
}

// PEFT's LoKrLayer: make_kron(w1, w2, alpha / r), r as asked for, whatever of the factors is a product.
TEST_F(PeftFolder, LoKrIsScaledByTheRankThatWasAskedFor) {
  const Shape weight = folder().unet.weights->info(kToQ + ".weight")->shape;
  const std::string name = "base_model.model." + kToQ;
  const std::vector<HostTensor> whole{noise(name + ".lokr_w1", {4, 4}),
                                      noise(name + ".lokr_w2", {weight[0] / 4, weight[1] / 4})};
  const std::vector<HostTensor> product{noise(name + ".lokr_w1", {4, 4}),
                                        noise(name + ".lokr_w2_a", {weight[0] / 4, 2}),
                                        noise(name + ".lokr_w2_b", {2, weight[1] / 4})};
  for (const auto& tensors : {whole, product}) {
    save_tensors("", R"({"peft_type": "LOKR", "r": 16, "alpha": 8, "decompose_factor": 4})", tensors);
    EXPECT_EQ(unet_scale(), 0.5F);
    save_tensors("", R"({"peft_type": "LOKR", "r": 16, "alpha": 8, "rank_pattern": {")" + kToQ + R"(": 2}})", tensors);
    EXPECT_EQ(unet_scale(), 4.0F);
    save_tensors("", R"({"peft_type": "LOKR"})", tensors);
    EXPECT_EQ(unet_scale(), 1.0F);
  }
}

TEST_F(PeftFolder, TheNetworkIsTheClassThatItSaysOrItsFoldersName) {
  save_text("", R"({"auto_mapping": {"base_model_class": "CLIPTextModelWithProjection"}})");
  const auto by_class = Lora::open(folder_.path(), names());
  ASSERT_TRUE(by_class) << by_class.error().message;
  EXPECT_THAT((*by_class)->touched(AdapterTarget::text_encoder_2), ElementsAre(kTextLayer + ".weight"));

  save_text("both/text_encoder_2", "{}");
  save_unet("both/unet", "{}");
  const auto both = Lora::open(folder_ / "both", names());
  ASSERT_TRUE(both) << both.error().message;
  EXPECT_THAT((*both)->touched(AdapterTarget::text_encoder_2), ElementsAre(kTextLayer + ".weight"));
  EXPECT_THAT((*both)->touched(AdapterTarget::unet), ElementsAre(kToQ + ".weight"));
  EXPECT_EQ((*both)->total(), 4);
}

TEST_F(PeftFolder, IsAModelOfTheKindLora) {
  EXPECT_FALSE(is_model_folder(folder_.path()));
  save_unet("unet", "{}");
  EXPECT_TRUE(is_model_folder(folder_.path()));
  const auto summary = inspect(folder_.path());
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->what.kind, FileKind::lora);
  EXPECT_EQ(to_string(summary->format), "peft_folder");
  EXPECT_GT(summary->bytes, 0U);
}

TEST_F(PeftFolder, WhatCannotBeAppliedIsNamed) {
  EXPECT_EQ(refusal_of_folder().code, ErrorCode::not_found);
  EXPECT_THAT(refusal_of_folder().message, HasSubstr("holds no LoRA"));
  for (const auto& [config, code, message] : {
           std::tuple(R"({"peft_type": "IA3"})", ErrorCode::unsupported,
                      R"('peft_type' is "IA3"; implemented is "LORA" or "LOHA" or "LOKR")"),
           {R"({"init_lora_weights": "pissa"})", ErrorCode::unsupported, R"('init_lora_weights' is "pissa")"},
           {R"({"fan_in_fan_out": true})", ErrorCode::unsupported, "'fan_in_fan_out' is true; implemented is false"},
           {R"({"lora_alpha": "8"})", ErrorCode::corrupt_data, R"('lora_alpha' is "8", expected a number)"},
           {R"({"r": 0})", ErrorCode::corrupt_data, "'r' is 0, expected a number above 0"},
           {R"({"rank_pattern": {"a": -1}})", ErrorCode::corrupt_data, "expected an object of numbers above 0"},
           {R"([])", ErrorCode::corrupt_data, "adapter_config.json"},
       }) {
    save_unet("", config);
    EXPECT_EQ(refusal_of_folder().code, code) << config;
    EXPECT_THAT(refusal_of_folder().message, HasSubstr(message));
  }
  save_unet("", "{}");
  std::filesystem::remove(folder_ / "adapter_model.safetensors");
  EXPECT_THAT(refusal_of_folder().message, HasSubstr("adapter_model.safetensors is missing"));
}

TEST(LoraFile, TorchFilesAreRead) {
  using namespace test::torch_file;
  const auto biases = static_cast<std::size_t>(folder().unet.weights->info("conv_in.bias")->shape[0]);
  std::string numbers;
  for (std::size_t i = 0; i < biases; ++i) numbers += little(std::bit_cast<std::uint32_t>(static_cast<float>(i)), 4);
  const auto count = static_cast<std::int64_t>(biases);
  const std::string value =
      dict({{"lora_unet_conv_in.diff_b", tensor(storage("FloatStorage", "0", count), 0, {count}, {1})}});
  const test::TemporaryFolder temporary;
  const auto path = temporary / "old.pt";
  std::ofstream(path, std::ios::binary) << zipped(
      {{"x/data.pkl", kProto + value + "."}, {"x/byteorder", "little"}, {"x/data/0", numbers}});

  const auto lora = Lora::open(path, names());
  ASSERT_TRUE(lora) << lora.error().message;
  const AdaptedSource source(folder().unet.weights, AdapterTarget::unet, {{*lora, 1.0F}}, 1);
  const auto base = test::rows_of(*folder().unet.weights->find("conv_in.bias"));
  test::expect_near(*source.find("conv_in.bias"),
                    test::make_rows(biases, 1, [&](std::size_t i, std::size_t) { return base[i][0] + i; }));
}

}  // namespace
}  // namespace darkroom::engine
