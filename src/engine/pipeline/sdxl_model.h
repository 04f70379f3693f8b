// A checkpoint, laid out: its networks and tokenizers, ready to run.
#pragma once

#include <memory>
#include <optional>

#include "engine/models/clip_text.h"
#include "engine/models/unet.h"
#include "engine/pipeline/adapters.h"
#include "engine/pipeline/autoencoder.h"
#include "engine/pipeline/compute_types.h"
#include "engine/pipeline/model_cache.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/checkpoint.h"

namespace darkroom::engine {

// A text encoder and the tokenizer that goes with it.
struct TextEncoder {
  ClipTokenizer tokenizer;
  std::unique_ptr<Network> network;
  std::unique_ptr<ClipTextEncoder> encoder;
};

struct SdxlModel final : LaidOutModel {
  SdxlModel(Backend& backend, Checkpoint files, const ComputeTypes& compute_types);

  Checkpoint checkpoint;
  ComputeTypes types;
  std::optional<TextEncoder> text_encoder;  // CLIP-L; the refiner has none
  TextEncoder text_encoder_2;               // OpenCLIP bigG
  std::unique_ptr<Network> unet_network;
  std::unique_ptr<Unet> unet;
  std::shared_ptr<Autoencoder> vae;  // a single file may come without
  Adapters adapters;                 // what UNet and text encoders wear

  std::uint64_t bytes() const override;  // of laid-out weights
  // UNet and text encoders.
  std::vector<AdaptedNetwork> adapted_networks() const;
};

}  // namespace darkroom::engine
