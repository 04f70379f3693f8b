#include "engine/pipeline/conditioning.h"

#include "base/error.h"

namespace darkroom::engine {
namespace {

// One prompt as both encoders see it, on the host.
struct EncodedPrompt {
  std::vector<float> context;  // [77, C_l + C_g]
  std::vector<float> pooled;   // [P]
};

// What an encoder makes of a text.
struct EncodedText {
  std::vector<float> states;  // [77, C]
  std::vector<float> pooled;  // [P], of an encoder with a projection
};

EncodedText encode_text(const TextEncoder& text, const std::string& words, const GenerationSpec& spec,
                        std::vector<std::string>& warnings) {
  const std::vector<TokenId> ids = value_or_throw(text.tokenizer.encode(words));
  if (ids.size() > kTokensPerChunk) {
    warnings.push_back(fmt::format("the prompt has {} tokens; those after the first {} have no effect", ids.size(), kTokensPerChunk));
  }
  EncodedText encoded;
  const Tensor states = text.network->finite("text encoder", [&] {
    const ClipTextOutput output = (*text.encoder)(text.tokenizer.pad_to_77(ids), 1, spec.clip_skip);
    if (output.pooled.defined()) encoded.pooled = to_host(output.pooled);
    return output.hidden_states;
  });
  encoded.states = to_host(states);
  return encoded;
}

// [77, A] and [77, B] → [77, A + B]
std::vector<float> beside(const std::vector<float>& a, const std::vector<float>& b) {
  const std::size_t wide_a = a.size() / kTokensPerPrompt;
  const std::size_t wide_b = b.size() / kTokensPerPrompt;
  std::vector<float> joined;
  joined.reserve(a.size() + b.size());
  for (std::size_t token = 0; token < kTokensPerPrompt; ++token) {
    const auto from_a = a.begin() + static_cast<std::ptrdiff_t>(token * wide_a);
    const auto from_b = b.begin() + static_cast<std::ptrdiff_t>(token * wide_b);
    joined.insert(joined.end(), from_a, from_a + static_cast<std::ptrdiff_t>(wide_a));
    joined.insert(joined.end(), from_b, from_b + static_cast<std::ptrdiff_t>(wide_b));
  }
  return joined;
}

EncodedPrompt encode_prompt(const SdxlModel& model, const std::string& words, const std::string& words_2,
                            const GenerationSpec& spec, std::vector<std::string>& warnings) {
  EncodedText second = encode_text(model.text_encoder_2, words_2, spec, warnings);
  if (!model.text_encoder) return {.context = std::move(second.states), .pooled = std::move(second.pooled)};
  // Both encoders cut the same text at the same place: say so once.
  std::vector<std::string> repeated;
  const EncodedText first = encode_text(*model.text_encoder, words, spec, words == words_2 ? repeated : warnings);
  return {.context = beside(first.states, second.states), .pooled = std::move(second.pooled)};
}

// Sizes as the UNet takes them: (height, width), then (top, left).
std::vector<float> size_ids(const Size& original, const Point& crop, const Size& target) {
  return {static_cast<float>(original.height), static_cast<float>(original.width), static_cast<float>(crop.y),
          static_cast<float>(crop.x),          static_cast<float>(target.height),  static_cast<float>(target.width)};
}

struct TimeIds {
  std::vector<float> guided;
  std::vector<float> unguided;
};

TimeIds time_ids(const SdxlModel& model, const GenerationSpec& spec) {
  const MicroConditioning& micro = spec.micro_conditioning;
  const Size picture{spec.width, spec.height};
  const Size original = micro.original_size.value_or(picture);
  const Size target = micro.target_size.value_or(picture);
  TimeIds ids{.guided = size_ids(original, micro.crop_top_left, target), .unguided = {}};
  ids.unguided = size_ids(micro.negative_original_size.value_or(original),
                          micro.negative_crop_top_left.value_or(micro.crop_top_left),
                          micro.negative_target_size.value_or(target));
  if (model.checkpoint.info.requires_aesthetics_score) {
    // The refiner is told how pleasing the picture should be instead of its target size.
    ids.guided.resize(4);
    ids.guided.push_back(micro.aesthetic_score);
    ids.unguided.resize(4);
    ids.unguided.push_back(micro.negative_aesthetic_score);
  }
  return ids;
}

}  // namespace

Conditioning encode_prompts(const SdxlModel& model, const GenerationSpec& spec, int pictures, bool unguided,
                            std::vector<std::string>& warnings) {
  const EncodedPrompt guided = encode_prompt(model, spec.prompt, spec.prompt_2.value_or(spec.prompt), spec, warnings);
  EncodedPrompt negative;
  const bool given = spec.negative_prompt.has_value() || spec.negative_prompt_2.has_value();
  if (unguided && !given && model.checkpoint.info.force_zeros_for_empty_prompt) {
    negative = {.context = std::vector<float>(guided.context.size()), .pooled = std::vector<float>(guided.pooled.size())};
  } else if (unguided) {
    const std::string words = spec.negative_prompt.value_or("");
    negative = encode_prompt(model, words, spec.negative_prompt_2.value_or(words), spec, warnings);
  }
  const TimeIds ids = time_ids(model, spec);

  std::vector<float> context;
  std::vector<float> pooled;
  Conditioning conditioning;
  const auto append_rows = [&](const EncodedPrompt& prompt, const std::vector<float>& sizes) {
    for (int i = 0; i < pictures; ++i) {
      context.insert(context.end(), prompt.context.begin(), prompt.context.end());
      pooled.insert(pooled.end(), prompt.pooled.begin(), prompt.pooled.end());
      conditioning.time_ids.insert(conditioning.time_ids.end(), sizes.begin(), sizes.end());
    }
  };
  if (unguided) append_rows(negative, ids.unguided);
  append_rows(guided, ids.guided);

  Backend& backend = model.unet_network->backend();
  const std::int64_t rows = unguided ? 2 * pictures : pictures;
  const auto tokens = static_cast<std::int64_t>(kTokensPerPrompt);
  conditioning.context = from_host(backend, context, {rows, tokens, static_cast<std::int64_t>(context.size()) / (rows * tokens)});
  conditioning.pooled = from_host(backend, pooled, {rows, static_cast<std::int64_t>(pooled.size()) / rows});
  return conditioning;
}

}  // namespace darkroom::engine
