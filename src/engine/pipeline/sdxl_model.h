// A checkpoint, laid out: its networks and tokenizers, ready to run.
#pragma once

#include <memory>
#include <optional>

#include "engine/models/clip_text.h"
#include "engine/models/unet.h"
#include "engine/models/vae.h"
#include "engine/pipeline/adapters.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/checkpoint.h"

namespace darkroom::engine {

// The types that a model's networks compute in.
struct ComputeTypes {
  DType model = DType::f32;  // text encoders and UNet
  DType vae = DType::f32;
  bool operator==(const ComputeTypes&) const = default;
};

// A text encoder and the tokenizer that goes with it.
struct TextEncoder {
  ClipTokenizer tokenizer;
  std::unique_ptr<Network> network;
  std::unique_ptr<ClipTextEncoder> encoder;
};

struct Autoencoder {
  VaeConfig config;
  std::unique_ptr<Network> network;
  std::unique_ptr<VaeDecoder> decoder;
  std::unique_ptr<VaeEncoder> encoder;

  static Autoencoder load(Backend& backend, const ModelPart<VaeConfig>& part, DType compute);
  // Denoised latents [h, w, C] → what the decoder takes, and what the encoder gives → latents: the scaling factor,
  // and the mean and deviation of each channel where the model has them.
  void unscale(std::span<float> latents) const;
  void scale(std::span<float> latents) const;
};

struct SdxlModel {
  SdxlModel(Backend& backend, Checkpoint files, const ComputeTypes& compute_types);

  Checkpoint checkpoint;
  ComputeTypes types;
  std::optional<TextEncoder> text_encoder;  // CLIP-L; the refiner has none
  TextEncoder text_encoder_2;               // OpenCLIP bigG
  std::unique_ptr<Network> unet_network;
  std::unique_ptr<Unet> unet;
  std::optional<Autoencoder> vae;  // a single file may come without
  Adapters adapters;               // what UNet and text encoders wear

  std::uint64_t bytes() const;  // of laid-out weights
  // UNet and text encoders.
  std::vector<AdaptedNetwork> adapted_networks() const;
};

}  // namespace darkroom::engine
