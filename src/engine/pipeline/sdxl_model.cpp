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

SdxlModel::SdxlModel(Backend& backend, Checkpoint files, const ComputeTypes& compute_types)
    : checkpoint(std::move(files)),
      types(compute_types),
      text_encoder_2(load_text_encoder(backend, checkpoint.text_encoder_2, types.text,
                                       checkpoint.tokenizer_2
                                           ? value_or_throw(ClipTokenizer::open(*checkpoint.tokenizer_2))
                                           : ClipTokenizer::clip_g())),
      unet_network(std::make_unique<Network>(backend)) {
  if (checkpoint.text_encoder) {
    text_encoder = load_text_encoder(
        backend, *checkpoint.text_encoder, types.text,
        checkpoint.tokenizer ? value_or_throw(ClipTokenizer::open(*checkpoint.tokenizer)) : ClipTokenizer::clip_l());
  }
  unet = std::make_unique<Unet>(*unet_network, *checkpoint.unet.weights, checkpoint.unet.config, types.model);
  if (checkpoint.vae) vae = std::make_shared<Autoencoder>(backend, *checkpoint.vae, types.vae);
}

std::uint64_t SdxlModel::bytes() const {
  std::uint64_t total = text_encoder_2.network->bytes() + unet_network->bytes();
  if (text_encoder) total += text_encoder->network->bytes();
  if (vae) total += vae->bytes();
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
