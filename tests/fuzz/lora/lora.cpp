// Any bytes as a LoRA: as a safetensors file, and as a list of tensors whose names fit a small model. An error, or
// changes to the model's tensors that keep their shapes.
#include "engine/weights/lora.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/weights/safetensors.h"

namespace {

using namespace darkroom::engine;

constexpr std::array kLayers{"mid_block.attentions.0.proj_in", "mid_block.resnets.0.conv1", "conv_norm_out"};
const std::string kAttention = "text_model.encoder.layers.0.self_attn.";
constexpr std::size_t kPoolFloats = 4096;

HostTensor zeros(std::string name, const Shape& shape) {
  static const std::array<float, kPoolFloats> pool{};
  return {.name = std::move(name), .shape = shape, .data = reinterpret_cast<const std::byte*>(pool.data())};
}

const LayerNames& names() {
  static const LayerNames model = [] {
    std::vector<HostTensor> unet;
    const std::array weights{Shape{6, 8}, Shape{6, 4, 3, 3}, Shape{6}};
    for (std::size_t i = 0; i < kLayers.size(); ++i) {
      unet.push_back(zeros(std::string(kLayers[i]) + ".weight", weights[i]));
      unet.push_back(zeros(std::string(kLayers[i]) + ".bias", {6}));
    }
    std::vector<HostTensor> text{zeros("text_model.encoder.layers.0.layer_norm1.weight", {4}),
                                 zeros("text_model.embeddings.token_embedding.weight", {8, 4})};
    for (const char* layer : {"q_proj", "k_proj", "v_proj"}) {
      text.push_back(zeros(kAttention + layer + ".weight", {4, 4}));
      text.push_back(zeros(kAttention + layer + ".bias", {4}));
    }
    return LayerNames({{AdapterTarget::unet, TensorMap::make("unet", std::move(unet)).value()},
                       {AdapterTarget::text_encoder_2, TensorMap::make("text", std::move(text)).value()}});
  }();
  return model;
}

void check(const WeightSource& file, const TensorMetadata& metadata) {
  const auto settings = AdapterMetadata::parse(metadata, "fuzz");
  if (!settings) return;
  const auto lora = Lora::bind(file, *settings, names());
  if (!lora) return;
  DR_ASSERT((*lora)->applied() > 0 && (*lora)->total() == static_cast<int>(file.names().size()));
  for (const AdapterTarget target : {AdapterTarget::unet, AdapterTarget::text_encoder_2}) {
    const WeightSource& base = names().base(target);
    const AdaptedSource adapted(std::shared_ptr<const WeightSource>(&base, [](const WeightSource*) {}), target,
                                {{*lora, 1.0F}, {*lora, -0.5F}}, 1);
    for (const std::string& tensor : (*lora)->touched(target)) {
      const auto merged = adapted.find(tensor);
      DR_ASSERT(merged && merged->shape == base.info(tensor)->shape && merged->dtype == DType::f32);
    }
  }
}

// A tensor for each 6 bytes: its layer, its ending, its rank and three dimensions.
void check_list(std::span<const std::uint8_t> bytes) {
  static constexpr std::array kEndings{
      ".lora_up.weight", ".lora_down.weight", ".lora_mid.weight", ".lora_B.bias", ".alpha",     ".dora_scale",
      ".hada_w1_a",      ".hada_w1_b",        ".hada_w2_a",       ".hada_w2_b",   ".hada_t1",   ".hada_t2",
      ".lokr_w1",        ".lokr_w1_a",        ".lokr_w1_b",       ".lokr_w2",     ".lokr_w2_a", ".lokr_w2_b",
      ".lokr_t2",        ".a1.weight",        ".a2.weight",       ".b1.weight",   ".b2.weight", ".oft_blocks",
      ".rescale",        ".weight",           ".on_input",        ".diff",        ".diff_b",    ".clip_g"};
  std::vector<HostTensor> tensors;
  for (; bytes.size() >= 6; bytes = bytes.subspan(6)) {
    const std::size_t layer = bytes[0] % (kLayers.size() + 2);
    const std::string name = layer == kLayers.size()
                                 ? "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj"
                             : layer > kLayers.size() ? "bundle_emb.word"
                                                      : std::string("unet.") + kLayers[layer];
    const auto dim = [&](std::size_t i) { return std::int64_t{bytes[i] % 13}; };
    const std::array<std::int64_t, 4> dims{dim(3), dim(4), dim(5), dim(5)};
    tensors.push_back(zeros(name + kEndings[bytes[1] % kEndings.size()],
                            Shape(std::span(dims).first(std::min<std::size_t>(bytes[2] % 5U, 4)))));
    if (tensors.back().elements() > static_cast<std::int64_t>(kPoolFloats)) tensors.pop_back();
  }
  if (const auto file = TensorMap::make("fuzz", std::move(tensors))) check(**file, {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::uint8_t> bytes(data, size);
  check_list(bytes);
  const auto file = SafetensorsFile::parse(std::as_bytes(bytes), nullptr, "fuzz");
  if (!file) return 0;
  check(*TensorMap::make("fuzz", file->tensors()).value(), file->metadata());
  return 0;
}
