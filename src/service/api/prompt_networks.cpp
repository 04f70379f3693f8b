#include "service/api/prompt_networks.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/text.h"

namespace darkroom {
namespace {

bool is_word(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || byte >= 0x80;
}

// <word:anything but an angle bracket>
std::optional<PromptNetwork> network_in(std::string_view inside) {
  const std::size_t colon = inside.find(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  if (!std::ranges::all_of(inside.substr(0, colon), is_word)) return std::nullopt;
  PromptNetwork network{to_lower(inside.substr(0, colon)), {}};
  for (const std::string_view part : split(inside.substr(colon + 1), ':')) network.arguments.emplace_back(part);
  return network;
}

std::optional<float> weight_of(std::string_view text) {
  float weight = 0.0F;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), weight);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return weight;
}

// webui's: the first weight is the text encoders', the second the UNet's, which is the first where it is not given.
// The answer is what is wrong, or "".
std::string read_weights(const PromptNetwork& network, float max_weight, LoraUse& use) {
  std::optional<float> text_encoder;
  std::optional<float> unet;
  for (std::size_t i = 1; i < network.arguments.size(); ++i) {
    const std::string_view argument = network.arguments[i];
    const std::size_t equals = argument.find('=');
    const std::string_view key = equals == std::string_view::npos ? "" : argument.substr(0, equals);
    const bool known = key.empty() || key == "te" || key == "unet";
    if (!known) return fmt::format("<lora:{}> has \"{}\"; there are te= and unet=", network.arguments[0], argument);
    const std::optional<float> weight = weight_of(argument.substr(key.empty() ? 0 : equals + 1));
    if (!weight || *weight < -max_weight || *weight > max_weight) {
      return fmt::format("<lora:{}> has the weight \"{}\", must be between {} and {}", network.arguments[0], argument,
                         -max_weight, max_weight);
    }
    const bool to_unet = key == "unet" || (key.empty() && i > 1);
    (to_unet ? unet : text_encoder) = *weight;
  }
  use.text_encoder_weight = text_encoder.value_or(1.0F);
  use.unet_weight = unet.value_or(use.text_encoder_weight);
  return "";
}

bool has_word(std::string_view text, std::string_view word) {
  for (std::size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
    const std::size_t end = at + word.size();
    const bool begins = at == 0 || !is_word(text[at - 1]);
    if (begins && (end == text.size() || !is_word(text[end]))) return true;
  }
  return false;
}

}  // namespace

SplitPrompt split_networks(std::string_view prompt) {
  SplitPrompt result;
  while (!prompt.empty()) {
    const std::size_t open = prompt.find('<');
    const std::size_t close = open == std::string_view::npos ? open : prompt.find_first_of("<>", open + 1);
    if (close == std::string_view::npos) break;
    result.words += prompt.substr(0, open);
    auto network = prompt[close] == '>' ? network_in(prompt.substr(open + 1, close - open - 1)) : std::nullopt;
    const std::size_t next = prompt[close] == '>' ? close + 1 : close;
    if (network) {
      result.networks.push_back(std::move(*network));
    } else {
      result.words += prompt.substr(open, next - open);
    }
    prompt.remove_prefix(next);
  }
  result.words += prompt;
  return result;
}

std::vector<LoraUse> loras_of(const std::vector<PromptNetwork>& networks, const ModelCatalog& models, float max_weight,
                              std::string_view pointer, std::vector<Complaint>& complaints,
                              std::vector<std::string>& warnings) {
  std::vector<LoraUse> loras;
  for (const PromptNetwork& network : networks) {
    if (network.kind != "lora" && network.kind != "lyco") {
      warnings.push_back(fmt::format("there are no networks of the kind \"{}\"; left out of the prompt", network.kind));
      continue;
    }
    if (network.arguments.empty()) continue;
    LoraUse use;
    const auto found = models.find(ModelRole::lora, network.arguments[0]);
    if (found) {
      use.model = (*found)->file;
    } else {
      complaints.push_back({std::string(pointer), "has <lora:…>: " + found.error().message});
    }
    if (std::string trouble = read_weights(network, max_weight, use); !trouble.empty()) {
      complaints.push_back({std::string(pointer), "has " + std::move(trouble)});
    }
    loras.push_back(std::move(use));
  }
  return loras;
}

std::vector<EmbeddingUse> embeddings_in(std::string_view prompt, std::string_view negative_prompt,
                                        const ModelCatalog& models) {
  const std::string texts[] = {to_lower(prompt), to_lower(negative_prompt)};
  std::vector<EmbeddingUse> uses;
  for (const CatalogModel* model : models.of(ModelRole::embedding)) {
    const std::string word = to_lower(model->stem());
    if (has_word(texts[0], word) || has_word(texts[1], word)) uses.push_back({model->stem(), model->file});
  }
  return uses;
}

}  // namespace darkroom
