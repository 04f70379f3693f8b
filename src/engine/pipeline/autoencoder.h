// A VAE, laid out: between pictures and the latents that a UNet works on.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/image/image.h"
#include "engine/models/vae.h"
#include "engine/pipeline/engine.h"
#include "engine/pipeline/latents.h"
#include "engine/pipeline/model_cache.h"
#include "engine/pipeline/vae_tiles.h"
#include "engine/weights/checkpoint.h"

namespace darkroom::engine {

// What the encoder knows of a picture: of each latent the mean and the deviation, [h, w, C] both, not yet scaled.
struct LatentDistribution {
  std::vector<float> mean;
  std::vector<float> deviation;
};

struct Autoencoder final : LaidOutModel {
  Autoencoder(Backend& backend, const ModelPart<VaeConfig>& part, DType compute);
  std::uint64_t bytes() const override { return network.bytes(); }

  // pixels [8h, 8w, 3] in [−1, 1]. tile: side in latents of what is worked on at a time (vae_tiles.h); 0: the whole.
  LatentDistribution encode(std::span<const float> pixels, const LatentShape& shape, int tile,
                            const CancelToken& cancel);
  // mean + deviation·noise, scaled as the UNet takes latents. noise [h, w, C] → [h, w, C]
  std::vector<float> sample(const LatentDistribution& distribution, std::span<const float> noise) const;
  // Latents [h, w, C] of one picture → RGB, rounded as diffusers rounds.
  Image decode(std::span<const float> latents, const LatentShape& shape, int tile, const CancelToken& cancel);

  // Denoised latents [h, w, C] → what the decoder takes, and what the encoder gives → latents: the scaling factor,
  // and the mean and deviation of each channel where the model has them.
  void unscale(std::span<float> latents) const;
  void scale(std::span<float> latents) const;

  VaeConfig config;
  Network network;
  VaeDecoder decoder;
  VaeEncoder encoder;

 private:
  // coder(x), at once or in bands; x [1, h, w, C]
  template <class Coder>
  std::vector<float> code(const Coder& coder, const Tensor& x, int tile, const CancelToken& cancel);

  struct Spread {
    double mean = 0;
    double deviation = 1;
  };
  Spread spread_of(std::size_t channel) const;
};

}  // namespace darkroom::engine
