#include "engine/pipeline/autoencoder.h"

#include <algorithm>
#include <cmath>

#include "engine/backend/ops.h"

namespace darkroom::engine {

Autoencoder::Autoencoder(Backend& backend, const ModelPart<VaeConfig>& part, DType compute)
    : config(part.config),
      network(backend),
      decoder(network, *part.weights, part.config, compute),
      encoder(network, *part.weights, part.config, compute) {}

template <class Coder>
std::vector<float> Autoencoder::code(const Coder& coder, const Tensor& x, int tile, const CancelToken& cancel) {
  const Banding banding{.pixels = std::int64_t{tile} * tile * kLatentPixels * kLatentPixels,
                        .between = [&] { cancel.throw_if_cancelled(); }};
  return to_host(network.finite("vae", [&] { return tile == 0 ? coder(x) : coder.in_bands(x, banding); }));
}

LatentDistribution Autoencoder::encode(std::span<const float> pixels, const LatentShape& shape, int tile,
                                       const CancelToken& cancel) {
  const Tensor picture = from_host(
      network.backend(), pixels,
      {1, std::int64_t{shape.height} * kLatentPixels, std::int64_t{shape.width} * kLatentPixels, config.in_channels});
  const std::vector<float> moments = code(encoder, picture, tile, cancel);
  const auto channels = static_cast<std::size_t>(config.latent_channels);
  LatentDistribution distribution;
  for (std::size_t i = 0; i < moments.size(); i += 2 * channels) {
    for (std::size_t c = 0; c < channels; ++c) {
      distribution.mean.push_back(moments[i + c]);
      const float log_variance = std::clamp(moments[i + channels + c], -30.0F, 20.0F);
      distribution.deviation.push_back(std::exp(0.5F * log_variance));
    }
  }
  return distribution;
}

std::vector<float> Autoencoder::sample(const LatentDistribution& distribution, std::span<const float> noise) const {
  std::vector<float> latents = distribution.mean;
  for (std::size_t i = 0; i < latents.size(); ++i) latents[i] += distribution.deviation[i] * noise[i];
  scale(latents);
  return latents;
}

Image Autoencoder::decode(std::span<const float> latents, const LatentShape& shape, int tile,
                          const CancelToken& cancel) {
  std::vector<float> raw(latents.begin(), latents.end());
  unscale(raw);
  const Tensor z = from_host(network.backend(), raw, {1, shape.height, shape.width, shape.channels});
  const std::vector<float> values = code(decoder, z, tile, cancel);
  Image picture(shape.width * kLatentPixels, shape.height * kLatentPixels, 3);
  std::ranges::transform(values, picture.pixels.begin(), [](float value) {
    return static_cast<std::uint8_t>(std::nearbyint(std::clamp(value / 2 + 0.5F, 0.0F, 1.0F) * 255.0F));
  });
  return picture;
}

// Where a channel's latents lie in the model's own numbers: the mean and deviation of each, or the same shift for all.
Autoencoder::Spread Autoencoder::spread_of(std::size_t channel) const {
  if (config.latents_mean.empty() || config.latents_std.empty()) return {.mean = config.shift_factor, .deviation = 1.0};
  return {.mean = config.latents_mean[channel], .deviation = config.latents_std[channel]};
}

void Autoencoder::unscale(std::span<float> latents) const {
  const auto channels = static_cast<std::size_t>(config.latent_channels);
  for (std::size_t i = 0; i < latents.size(); ++i) {
    const auto [mean, deviation] = spread_of(i % channels);
    latents[i] = static_cast<float>(latents[i] * deviation / config.scaling_factor + mean);
  }
}

void Autoencoder::scale(std::span<float> latents) const {
  const auto channels = static_cast<std::size_t>(config.latent_channels);
  for (std::size_t i = 0; i < latents.size(); ++i) {
    const auto [mean, deviation] = spread_of(i % channels);
    latents[i] = static_cast<float>((latents[i] - mean) * config.scaling_factor / deviation);
  }
}

}  // namespace darkroom::engine
