// Checkpoints in both layouts, made by tools/model_writer, and what is refused.
#include "engine/weights/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/weights/json_file.h"
#include "tests/support/tiny_models.h"
#include "tests/unit/weights/weights_support.h"

namespace darkroom::engine {
namespace {

namespace fs = std::filesystem;
using test::TemporaryFolder;
using test::tiny_model;
using testing::ElementsAre;
using testing::HasSubstr;

Checkpoint opened(const std::string& name) { return value_or_throw(open_checkpoint(tiny_model(name))); }

void expect_same_weights(const WeightSource& actual, const WeightSource& expected) {
  ASSERT_EQ(actual.names(), expected.names());
  for (const std::string& name : expected.names()) {
    const HostTensor a = actual.find(name).value();
    const HostTensor e = expected.find(name).value();
    ASSERT_EQ(a.dtype, e.dtype) << name;
    ASSERT_EQ(a.shape, e.shape) << name << " " << a.shape.str() << " " << e.shape.str();
    ASSERT_EQ(std::memcmp(a.data, e.data, e.bytes()), 0) << name;
    const TensorInfo info = actual.info(name).value();
    ASSERT_EQ(info.shape, a.shape) << name;
    ASSERT_EQ(info.dtype, a.dtype) << name;
  }
}

TEST(Checkpoint, BothLayoutsOfAModelGiveTheSameWeights) {
  const Checkpoint folder = opened("tiny-base");
  const Checkpoint file = opened("tiny-base-single-file");
  expect_same_weights(*file.unet.weights, *folder.unet.weights);
  expect_same_weights(*file.vae.value().weights, *folder.vae.value().weights);
  expect_same_weights(*file.text_encoder.value().weights, *folder.text_encoder.value().weights);
  expect_same_weights(*file.text_encoder_2.weights, *folder.text_encoder_2.weights);
}

TEST(Checkpoint, ConfigsInferredFromShapesAreTheFoldersOwn) {
  const Checkpoint folder = opened("tiny-base");
  const Checkpoint file = opened("tiny-base-single-file");
  EXPECT_EQ(file.unet.config, folder.unet.config);
  EXPECT_EQ(file.vae->config, folder.vae->config);
  // The folder's configs have the old value 2; no shape tells it.
  ClipTextConfig l = folder.text_encoder->config;
  ClipTextConfig g = folder.text_encoder_2.config;
  EXPECT_EQ(l.eos_token_id, 2);
  l.eos_token_id = g.eos_token_id = 49407;
  EXPECT_EQ(file.text_encoder->config, l);
  EXPECT_EQ(file.text_encoder_2.config, g);
  EXPECT_TRUE(g.has_projection);
  EXPECT_FALSE(l.has_projection);
}

TEST(Checkpoint, AFolderSaysWhatKindItIs) {
  const Checkpoint base = opened("tiny-base");
  EXPECT_EQ(base.format, FileFormat::diffusers_folder);
  EXPECT_EQ(base.info.kind, ModelKind::base);
  EXPECT_EQ(base.info.prediction_type, PredictionType::epsilon);
  EXPECT_TRUE(base.info.force_zeros_for_empty_prompt);
  EXPECT_EQ(base.tokenizer, tiny_model("tiny-base") / "tokenizer");
  EXPECT_EQ(base.tokenizer_2, tiny_model("tiny-base") / "tokenizer_2");
  EXPECT_THAT(base.scheduler_config, HasSubstr("EulerDiscreteScheduler"));
  EXPECT_THAT(base.unet.config.block_out_channels, ElementsAre(32, 64, 128));
  EXPECT_THAT(base.unet.config.attention_head_dim, ElementsAre(1, 1, 2));

  const Checkpoint refiner = opened("tiny-refiner");
  EXPECT_EQ(refiner.info.kind, ModelKind::refiner);
  EXPECT_TRUE(refiner.info.requires_aesthetics_score);
  EXPECT_FALSE(refiner.info.force_zeros_for_empty_prompt);
  EXPECT_FALSE(refiner.text_encoder.has_value());

  const Checkpoint inpaint = opened("tiny-inpaint");
  EXPECT_EQ(inpaint.info.kind, ModelKind::inpaint);
  EXPECT_EQ(inpaint.unet.config.in_channels, 9);

  const Checkpoint v = opened("tiny-vpred");
  EXPECT_EQ(v.info.prediction_type, PredictionType::v_prediction);
  EXPECT_EQ(v.info.rescale_betas_zero_snr, true);
}

// The tensors of a tiny checkpoint, to be changed and written again.
std::vector<HostTensor> single_file_tensors() {
  return value_or_throw(SafetensorsFile::open(tiny_model("tiny-base-single-file"))).tensors();
}

// Turns diffusers' names of a tiny refiner into those of its original layout, for want of a manifest of that.
TEST(Checkpoint, ASingleFileRefinerHasOnlyTheSecondEncoder) {
  const TemporaryFolder folder;
  auto tensors = single_file_tensors();
  std::erase_if(tensors, [](const HostTensor& t) { return t.name.starts_with("conditioner.embedders.0."); });
  for (HostTensor& t : tensors) {
    if (t.name.starts_with("conditioner.embedders.1.")) t.name.replace(0, 24, "conditioner.embedders.0.");
    // 64 pooled values and five numbers of 32.
    if (t.name == "model.diffusion_model.label_emb.0.0.weight") t.shape = {128, 224};
  }
  ASSERT_TRUE(write_safetensors(folder / "refiner.safetensors", tensors));
  const auto refiner = open_checkpoint(folder / "refiner.safetensors");
  ASSERT_TRUE(refiner) << refiner.error().message;
  EXPECT_EQ(refiner->info.kind, ModelKind::refiner);
  EXPECT_TRUE(refiner->info.requires_aesthetics_score);
  EXPECT_FALSE(refiner->info.force_zeros_for_empty_prompt);
  EXPECT_FALSE(refiner->text_encoder.has_value());
  EXPECT_EQ(refiner->unet.config.addition_time_embed_dim, 32);
  expect_same_weights(*refiner->text_encoder_2.weights, *opened("tiny-base").text_encoder_2.weights);
}

TEST(Checkpoint, AVaeWithItsAttentionsOldNamesIsTheSame) {
  const TemporaryFolder folder;
  const fs::path vae = tiny_model("tiny-base") / "vae";
  auto tensors = value_or_throw(SafetensorsFile::open(vae / "diffusion_pytorch_model.safetensors")).tensors();
  for (HostTensor& t : tensors) {
    for (const auto& [now, old] :
         {std::pair(".to_q.", ".query."), {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}}) {
      if (const auto at = t.name.find(now); at != std::string::npos)
        t.name.replace(at, std::string_view(now).size(), old);
    }
  }
  ASSERT_TRUE(write_safetensors(folder / "diffusion_pytorch_model.safetensors", tensors));
  fs::copy(vae / "config.json", folder / "config.json");
  const auto old = open_vae(folder.path());
  ASSERT_TRUE(old) << old.error().message;
  expect_same_weights(*old->weights, *opened("tiny-base").vae->weights);
}

TEST(Checkpoint, TextEncodersWithoutTheTextModelPrefixAreTheSame) {
  const TemporaryFolder folder;
  fs::copy(tiny_model("tiny-base"), folder / "model", fs::copy_options::recursive);
  const fs::path file = folder / "model/text_encoder/model.safetensors";
  auto tensors = value_or_throw(SafetensorsFile::open(file)).tensors();
  for (HostTensor& t : tensors) t.name.erase(0, std::string_view("text_model.").size());
  static const std::int64_t kPositions[2] = {0, 1};
  tensors.push_back({.name = "embeddings.position_ids",
                     .dtype = DType::i64,
                     .shape = {1, 2},
                     .data = reinterpret_cast<const std::byte*>(kPositions),
                     .owner = nullptr});
  ASSERT_TRUE(write_safetensors(file, tensors));
  const auto checkpoint = open_checkpoint(folder / "model");
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  expect_same_weights(*checkpoint->text_encoder->weights, *opened("tiny-base").text_encoder->weights);
}

// The real model's header, over data that is not there: a sparse file of 6.9 GB that takes no room.
TEST(Checkpoint, TheRealModelsConfigsAreInferredFromItsShapes) {
  const TemporaryFolder folder;
  std::stringstream text;
  text << std::ifstream(test::source_dir() / "tests/reference/full-size/sdxl-base-single-file.json").rdbuf();
  const auto manifest = value_or_throw(parse_json_object(text.str(), "manifest"));
  std::string header = "{";
  std::uint64_t end = 0;
  for (const auto& tensor : manifest.at("components")[0].at("tensors")) {
    const std::uint64_t begin = end;
    std::uint64_t bytes = 2;
    for (const auto& dim : tensor.at("shape")) bytes *= dim.get<std::uint64_t>();
    end += bytes;
    header += fmt::format("{}{}:{{\"dtype\":\"F16\",\"shape\":{},\"data_offsets\":[{},{}]}}", begin == 0 ? "" : ",",
                          tensor.at("name").dump(), tensor.at("shape").dump(), begin, end);
  }
  header += "}";
  {
    std::ofstream file(folder / "sdxl.safetensors", std::ios::binary);
    for (int i = 0; i < 8; ++i) file.put(static_cast<char>(header.size() >> (8 * i) & 0xFF));
    file << header;
  }
  fs::resize_file(folder / "sdxl.safetensors", 8 + header.size() + end);

  const auto checkpoint = open_checkpoint(folder / "sdxl.safetensors");
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  EXPECT_EQ(checkpoint->info.kind, ModelKind::base);
  // The defaults of the structs are SDXL's.
  EXPECT_EQ(checkpoint->unet.config, UnetConfig());
  EXPECT_EQ(checkpoint->vae->config, VaeConfig());
  EXPECT_EQ(checkpoint->text_encoder->config, ClipTextConfig());
  ClipTextConfig g;
  g.hidden_size = g.projection_dim = 1280;
  g.intermediate_size = 5120;
  g.num_hidden_layers = 32;
  g.num_attention_heads = 20;
  g.hidden_act = HiddenAct::gelu;
  g.has_projection = true;
  EXPECT_EQ(checkpoint->text_encoder_2.config, g);
  EXPECT_EQ(checkpoint->unet.weights->names().size(), 1680U);  // as in diffusers' folder
}

TEST(Checkpoint, ASingleFileMayComeWithoutItsVae) {
  const TemporaryFolder folder;
  auto tensors = single_file_tensors();
  std::erase_if(tensors, [](const HostTensor& t) { return t.name.starts_with("first_stage_model."); });
  ASSERT_TRUE(write_safetensors(folder / "no-vae.safetensors", tensors));
  const auto checkpoint = open_checkpoint(folder / "no-vae.safetensors");
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  EXPECT_FALSE(checkpoint->vae.has_value());
}

TEST(Checkpoint, MarkersInASingleFileTellVPrediction) {
  const TemporaryFolder folder;
  auto tensors = single_file_tensors();
  static const float kSigmaMax = 120.0F;
  tensors.push_back({.name = "v_pred", .dtype = DType::f32, .shape = {0}, .data = nullptr, .owner = nullptr});
  tensors.push_back({.name = "ztsnr", .dtype = DType::f32, .shape = {0}, .data = nullptr, .owner = nullptr});
  tensors.push_back({.name = "edm_vpred.sigma_max",
                     .dtype = DType::f32,
                     .shape = {1},
                     .data = reinterpret_cast<const std::byte*>(&kSigmaMax),
                     .owner = nullptr});
  ASSERT_TRUE(write_safetensors(folder / "v.safetensors", tensors));
  const auto checkpoint = open_checkpoint(folder / "v.safetensors");
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  EXPECT_EQ(checkpoint->info.prediction_type, PredictionType::v_prediction);
  EXPECT_EQ(checkpoint->info.rescale_betas_zero_snr, true);
  EXPECT_EQ(checkpoint->info.edm_sigma_max, 120.0);
  EXPECT_THAT(checkpoint->scheduler_config, HasSubstr("\"timestep_spacing\":\"trailing\""));
}

TEST(Checkpoint, AStrangeTensorInTheUnetIsRefusedByName) {
  const TemporaryFolder folder;
  auto tensors = single_file_tensors();
  tensors.push_back({.name = "model.diffusion_model.ipadapter.weight",
                     .dtype = DType::f32,
                     .shape = {0},
                     .data = nullptr,
                     .owner = nullptr});
  ASSERT_TRUE(write_safetensors(folder / "odd.safetensors", tensors));
  const auto checkpoint = open_checkpoint(folder / "odd.safetensors");
  ASSERT_FALSE(checkpoint);
  EXPECT_EQ(checkpoint.error().code, ErrorCode::unsupported);
  EXPECT_THAT(checkpoint.error().message, HasSubstr("model.diffusion_model.ipadapter.weight"));
}

TEST(Checkpoint, AnIncompleteFolderListsWhatIsMissing) {
  const TemporaryFolder folder;
  fs::copy(tiny_model("tiny-base") / "model_index.json", folder / "model_index.json");
  const auto checkpoint = open_checkpoint(folder.path());
  ASSERT_FALSE(checkpoint);
  EXPECT_EQ(checkpoint.error().code, ErrorCode::not_found);
  for (const char* part : {"unet/config.json", "vae/config.json", "text_encoder/config.json",
                           "text_encoder_2/config.json", "scheduler/scheduler_config.json"}) {
    EXPECT_THAT(checkpoint.error().message, HasSubstr(part));
  }
}

TEST(Checkpoint, VariantsAndShardsOfAPartAreFound) {
  const TemporaryFolder folder;
  fs::copy(tiny_model("tiny-base"), folder / "model", fs::copy_options::recursive);
  const fs::path unet = folder / "model" / "unet";
  const auto file = value_or_throw(SafetensorsFile::open(unet / "diffusion_pytorch_model.safetensors"));
  const auto middle = file.tensors().begin() + 300;
  const std::vector<HostTensor> first(file.tensors().begin(), middle), second(middle, file.tensors().end());
  ASSERT_TRUE(write_safetensors(unet / "diffusion_pytorch_model-00001-of-00002.safetensors", first));
  ASSERT_TRUE(write_safetensors(unet / "diffusion_pytorch_model-00002-of-00002.safetensors", second));
  std::string map;
  for (const HostTensor& t : first)
    map += fmt::format("\"{}\":\"diffusion_pytorch_model-00001-of-00002.safetensors\",", t.name);
  for (const HostTensor& t : second)
    map += fmt::format("\"{}\":\"diffusion_pytorch_model-00002-of-00002.safetensors\",", t.name);
  map.pop_back();
  std::ofstream(unet / "diffusion_pytorch_model.safetensors.index.json") << "{\"weight_map\":{" << map << "}}";
  fs::remove(unet / "diffusion_pytorch_model.safetensors");
  fs::rename(folder / "model/vae/diffusion_pytorch_model.safetensors",
             folder / "model/vae/diffusion_pytorch_model.fp16.safetensors");
  const auto checkpoint = open_checkpoint(folder / "model");
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  expect_same_weights(*checkpoint->unet.weights, *opened("tiny-base").unet.weights);

  // A shard outside the folder is not followed.
  std::ofstream(unet / "diffusion_pytorch_model.safetensors.index.json")
      << R"({"weight_map":{"x":"../vae/diffusion_pytorch_model.fp16.safetensors"}})";
  const auto hostile = open_checkpoint(folder / "model");
  ASSERT_FALSE(hostile);
  EXPECT_EQ(hostile.error().code, ErrorCode::corrupt_data);
}

TEST(Checkpoint, AConfigThatTheEngineDoesNotImplementIsRefusedByKeyAndValue) {
  const TemporaryFolder folder;
  fs::copy(tiny_model("tiny-base"), folder / "model", fs::copy_options::recursive);
  const fs::path config = folder / "model" / "unet" / "config.json";
  std::stringstream text;
  text << std::ifstream(config).rdbuf();
  std::string changed = text.str();
  const std::string from = "\"resnet_time_scale_shift\": \"default\"";
  ASSERT_NE(changed.find(from), std::string::npos);
  changed.replace(changed.find(from), from.size(), "\"resnet_time_scale_shift\": \"scale_shift\"");
  std::ofstream(config) << changed;
  const auto checkpoint = open_checkpoint(folder / "model");
  ASSERT_FALSE(checkpoint);
  EXPECT_EQ(checkpoint.error().code, ErrorCode::unsupported);
  EXPECT_THAT(checkpoint.error().message, HasSubstr("unet/config.json: 'resnet_time_scale_shift' is \"scale_shift\""));
}

struct Stranger {
  const char* expected;
  std::vector<std::pair<const char*, Shape>> tensors;
};

TEST(Checkpoint, WhatIsNotSdxlIsRefusedByItsName) {
  const Shape one{1};
  const std::vector<Stranger> strangers = {
      {"a Stable Diffusion 1.x checkpoint",
       {{"model.diffusion_model.input_blocks.0.0.weight", {1, 4, 1, 1}},
        {"cond_stage_model.transformer.text_model.x", one}}},
      {"a Stable Diffusion 2.x checkpoint",
       {{"model.diffusion_model.input_blocks.0.0.weight", {1, 4, 1, 1}},
        {"cond_stage_model.model.ln_final.weight", one}}},
      {"a Stable Diffusion 3 checkpoint", {{"model.diffusion_model.joint_blocks.0.x", one}}},
      {"a Flux UNet", {{"double_blocks.0.img_attn.qkv.weight", one}}},
      {"a Stable Video Diffusion checkpoint",
       {{"model.diffusion_model.input_blocks.1.0.time_stack.in_layers.0.weight", one},
        {"conditioner.embedders.0.x", one}}},
      {"a LoRA", {{"lora_unet_down_blocks_1_attentions_0_proj_in.lora_up.weight", one}}},
      {"a VAE", {{"decoder.conv_in.weight", one}}},
      {"a ControlNet", {{"controlnet_cond_embedding.conv_in.weight", one}}},
      {"an upscaler", {{"conv_first.weight", one}}},
      {"a textual inversion embedding", {{"clip_g", one}, {"clip_l", one}}},
      {"a text encoder", {{"text_model.embeddings.token_embedding.weight", one}}},
      {"a Stable Diffusion XL UNet without text encoders",
       {{"down_blocks.0.resnets.0.norm1.weight", one},
        {"conv_in.weight", one},
        {"add_embedding.linear_1.weight", one}}},
      {"not a model that Darkroom knows", {{"x", one}}},
  };
  static const std::array<std::byte, 64> kZeros{};
  for (const Stranger& stranger : strangers) {
    const TemporaryFolder folder;
    std::vector<HostTensor> tensors;
    for (const auto& [name, shape] : stranger.tensors) {
      tensors.push_back({.name = name, .dtype = DType::f16, .shape = shape, .data = kZeros.data(), .owner = nullptr});
    }
    ASSERT_TRUE(write_safetensors(folder / "x.safetensors", tensors));
    const auto checkpoint = open_checkpoint(folder / "x.safetensors");
    ASSERT_FALSE(checkpoint) << stranger.expected;
    EXPECT_EQ(checkpoint.error().code, ErrorCode::unsupported);
    EXPECT_THAT(checkpoint.error().message, HasSubstr(std::string("x.safetensors is ") + stranger.expected));
  }
}

TEST(Checkpoint, AVaeIsOpenedAloneAndOutOfAModel) {
  const auto alone = open_vae(tiny_model("tiny-vae-alt"));
  ASSERT_TRUE(alone) << alone.error().message;
  EXPECT_THAT(alone->config.block_out_channels, ElementsAre(32, 32, 64, 64));
  const auto whole = open_vae(tiny_model("tiny-base-single-file"));
  ASSERT_TRUE(whole) << whole.error().message;
  const auto file = open_vae(tiny_model("tiny-base") / "vae" / "diffusion_pytorch_model.safetensors");
  ASSERT_TRUE(file) << file.error().message;
  expect_same_weights(*whole->weights, *file->weights);
  EXPECT_EQ(whole->config, file->config);
}

TEST(Checkpoint, AControlNetIsOpenedFromItsFolder) {
  const auto net = open_controlnet(tiny_model("tiny-controlnet-a"));
  ASSERT_TRUE(net) << net.error().message;
  EXPECT_THAT(net->config.conditioning_embedding_out_channels, ElementsAre(16, 32, 96, 256));
  EXPECT_THAT(net->config.unet.block_out_channels, ElementsAre(32, 64, 128));
  EXPECT_EQ(inspect(tiny_model("tiny-controlnet-a")).value().what.kind, FileKind::controlnet);
}

TEST(Inspect, TellsKindFormatSizeAndTypes) {
  const auto file = inspect(tiny_model("tiny-base-single-file"));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->what.kind, FileKind::checkpoint);
  EXPECT_EQ(file->what.family, Family::sdxl);
  EXPECT_EQ(file->what.model_kind, ModelKind::base);
  EXPECT_EQ(file->bytes, fs::file_size(tiny_model("tiny-base-single-file")));
  ASSERT_EQ(file->dtypes.size(), 1U);
  EXPECT_EQ(file->dtypes.begin()->first, DType::f16);

  const auto refiner = inspect(tiny_model("tiny-refiner"));
  ASSERT_TRUE(refiner) << refiner.error().message;
  EXPECT_EQ(refiner->format, FileFormat::diffusers_folder);
  EXPECT_EQ(refiner->what.model_kind, ModelKind::refiner);

  for (const char* lora : {"kohya", "peft", "dora", "loha", "lokr"}) {
    const auto found = inspect(test::vectors_dir() / "loras" / (std::string(lora) + ".safetensors"));
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_EQ(found->what.kind, FileKind::lora) << lora;
  }
  EXPECT_EQ(inspect(test::vectors_dir() / "embeddings" / "sks-cat.safetensors").value().what.kind, FileKind::embedding);
}

}  // namespace
}  // namespace darkroom::engine
