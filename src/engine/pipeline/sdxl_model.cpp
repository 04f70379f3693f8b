#include "engine/pipeline/sdxl_model.h"

namespace darkroom::engine {
namespace {

TextEncoder load_text_encoder(Backend& backend, const ModelPart<ClipTextConfig>& part, DType compute,
                              ClipTokenizer tokenizer) {
  TextEncoder text{
      .tokenizer = std::move(tokenizer), .network = std::make_unique<Network>(backend), .encoder = nullptr};
  text.encoder = std::make_unique<ClipTextEncoder>(*text.network, *part.weights, part.config, compute);
  return text;
}

}  // namespace

Autoencoder Autoencoder::load(Backend& backend, const ModelPart<VaeConfig>& part, DType compute) {
  Autoencoder vae{.config = part.config, .network = std::make_unique<Network>(backend)};
  vae.decoder = std::make_unique<VaeDecoder>(*vae.network, *part.weights, part.config, compute);
  vae.encoder = std::make_unique<VaeEncoder>(*vae.network, *part.weights, part.config, compute);
  return vae;
}

void Autoencoder::unscale(std::span<float> latents) const {
  const auto channels = static_cast<std::size_t>(config.latent_channels);
  const bool normalised = !config.latents_mean.empty() && !config.latents_std.empty();
  for (std::size_t i = 0; i < latents.size(); ++i) {
    const std::size_t c = i % channels;
    latents[i] =
        normalised
            ? static_cast<float>(latents[i] * config.latents_std[c] / config.scaling_factor + config.latents_mean[c])
            : static_cast<float>(latents[i] / config.scaling_factor + config.shift_factor);
  }
}

void Autoencoder::scale(std::span<float> latents) const {
  const auto channels = static_cast<std::size_t>(config.latent_channels);
  const bool normalised = !config.latents_mean.empty() && !config.latents_std.empty();
  for (std::size_t i = 0; i < latents.size(); ++i) {
    const std::size_t c = i % channels;
    latents[i] =
        normalised
            ? static_cast<float>((latents[i] - config.latents_mean[c]) * config.scaling_factor / config.latents_std[c])
            : static_cast<float>((latents[i] - config.shift_factor) * config.scaling_factor);
  }
}

SdxlModel::SdxlModel(Backend& backend, Checkpoint files, const ComputeTypes& compute_types)
    : checkpoint(std::move(files)),
      types(compute_types),
      text_encoder_2(load_text_encoder(backend, checkpoint.text_encoder_2, types.model,
                                       checkpoint.tokenizer_2
                                           ? value_or_throw(ClipTokenizer::open(*checkpoint.tokenizer_2))
                                           : ClipTokenizer::clip_g())),
      unet_network(std::make_unique<Network>(backend)) {
  if (checkpoint.text_encoder) {
    text_encoder = load_text_encoder(
        backend, *checkpoint.text_encoder, types.model,
        checkpoint.tokenizer ? value_or_throw(ClipTokenizer::open(*checkpoint.tokenizer)) : ClipTokenizer::clip_l());
  }
  unet = std::make_unique<Unet>(*unet_network, *checkpoint.unet.weights, checkpoint.unet.config, types.model);
  if (checkpoint.vae) vae = Autoencoder::load(backend, *checkpoint.vae, types.vae);
}

std::uint64_t SdxlModel::bytes() const {
  std::uint64_t total = text_encoder_2.network->bytes() + unet_network->bytes();
  if (text_encoder) total += text_encoder->network->bytes();
  if (vae) total += vae->network->bytes();
  return total;
}

std::vector<AdaptedNetwork> SdxlModel::adapted_networks() const {
  std::vector<AdaptedNetwork> networks{
      {AdapterTarget::unet, unet_network.get(), checkpoint.unet.weights},
      {AdapterTarget::text_encoder_2, text_encoder_2.network.get(), checkpoint.text_encoder_2.weights}};
  if (text_encoder) {
    networks.push_back({AdapterTarget::text_encoder, text_encoder->network.get(), checkpoint.text_encoder->weights});
  }
  return networks;
}

}  // namespace darkroom::engine
