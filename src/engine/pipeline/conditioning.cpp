#include "engine/pipeline/conditioning.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "engine/pipeline/learned_words.h"
#include "engine/pipeline/warnings.h"
#include "engine/text/prompt.h"

namespace darkroom::engine {
namespace {

// The texts of one prompt as each encoder's tokens. CLIP-L's are empty for a model without that encoder.
struct PromptTokens {
  EncodedPrompt first;
  EncodedPrompt second;
};

// What the encoders make of a prompt, on the host.
struct PromptStates {
  std::vector<float> context;  // [77·chunks, C_l + C_g]
  std::vector<float> pooled;   // [P], of the first chunk
};

EncodedPrompt tokens_of(const ClipTokenizer& tokenizer, const std::string& words, PromptSyntax syntax) {
  return value_or_throw(syntax == PromptSyntax::webui ? encode_weighted_prompt(words, tokenizer)
                                                      : encode_plain_prompt(words, tokenizer));
}

PromptTokens tokens_of(const LearnedWords& learned, const std::string& words, const std::string& words_2,
                       PromptSyntax syntax, std::vector<std::string>& warnings) {
  PromptTokens tokens{.first = {}, .second = tokens_of(learned.second.tokenizer, words_2, syntax)};
  if (learned.first) tokens.first = tokens_of(learned.first->tokenizer, words, syntax);
  // Both encoders, and a refiner's, cut the same text at the same place: said once.
  for (const std::string* cut : {&tokens.first.cut, &tokens.second.cut}) {
    if (cut->empty()) continue;
    add_once(warnings, fmt::format("the text encoders take {} tokens; this has no effect: {}", kTokensPerChunk, *cut));
  }
  return tokens;
}

// States times the tokens' weights, then scaled so that the mean is what it was: the web UI's emphasis.
void emphasise(const PromptChunk& chunk, std::vector<float>& states) {
  const std::size_t width = states.size() / chunk.weights.size();
  const double before = std::accumulate(states.begin(), states.end(), 0.0);
  for (std::size_t i = 0; i < states.size(); ++i) states[i] *= chunk.weights[i / width];
  const double after = std::accumulate(states.begin(), states.end(), 0.0);
  if (after == 0.0) return;
  const auto factor = static_cast<float>(before / after);
  for (float& state : states) state *= factor;
}

// [77·chunks, C] of one encoder. `pooled`: where the first chunk's summary goes.
std::vector<float> states_of(const TextEncoder& text, const ExtraTokens& words, const EncodedPrompt& prompt,
                             int clip_skip, std::vector<float>& pooled) {
  std::vector<float> all;
  for (const PromptChunk& chunk : prompt.chunks) {
    Tensor summary;
    const Tensor states = text.network->finite("text encoder", [&] {
      ClipTextOutput output = (*text.encoder)(chunk.ids, 1, clip_skip, words);
      summary = output.pooled;
      return output.hidden_states;
    });
    if (summary.defined() && all.empty()) pooled = to_host(summary);
    std::vector<float> values = to_host(states);
    if (prompt.is_weighted()) emphasise(chunk, values);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

// [T, A] and [T, B] → [T, A + B]
std::vector<float> beside(const std::vector<float>& a, const std::vector<float>& b, std::size_t tokens) {
  std::vector<float> joined;
  joined.reserve(a.size() + b.size());
  for (std::size_t token = 0; token < tokens; ++token) {
    for (const std::vector<float>* part : {&a, &b}) {
      const auto width = static_cast<std::ptrdiff_t>(part->size() / tokens);
      const auto begin = part->begin() + static_cast<std::ptrdiff_t>(token) * width;
      joined.insert(joined.end(), begin, begin + width);
    }
  }
  return joined;
}

PromptStates encode(const SdxlModel& model, const LearnedWords& learned, PromptTokens tokens, std::size_t chunks,
                    int clip_skip) {
  PromptStates states;
  extend_to(tokens.second, chunks, model.text_encoder_2.tokenizer);
  states.context = states_of(model.text_encoder_2, learned.second.words, tokens.second, clip_skip, states.pooled);
  if (model.text_encoder) {
    extend_to(tokens.first, chunks, model.text_encoder->tokenizer);
    std::vector<float> unused;
    states.context = beside(states_of(*model.text_encoder, learned.first->words, tokens.first, clip_skip, unused),
                            states.context, chunks * kTokensPerPrompt);
  }
  return states;
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

TimeIds time_ids(const SdxlModel& model, const GenerationSpec& spec, const Size& picture) {
  const MicroConditioning& micro = spec.micro_conditioning;
  const Size original = micro.original_size.value_or(picture);
  const Size target = micro.target_size.value_or(picture);
  TimeIds ids{.guided = size_ids(original, micro.crop_top_left, target), .unguided = {}};
  ids.unguided =
      size_ids(micro.negative_original_size.value_or(original),
               micro.negative_crop_top_left.value_or(micro.crop_top_left), micro.negative_target_size.value_or(target));
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

Conditioning encode_prompts(const SdxlModel& model, const GenerationSpec& spec, std::span<const LearnedWord> lora_words,
                            const Size& picture, const PassRows& rows, std::vector<std::string>& warnings) {
  const LearnedWords learned = learn_words(model, spec.embeddings, lora_words, warnings);
  const PromptTokens guided_tokens =
      tokens_of(learned, spec.prompt, spec.prompt_2.value_or(spec.prompt), spec.prompt_syntax, warnings);
  const bool given = spec.negative_prompt.has_value() || spec.negative_prompt_2.has_value();
  const bool zeros = !given && model.checkpoint.info.force_zeros_for_empty_prompt;
  std::optional<PromptTokens> negative_tokens;
  if (rows.unguided && !zeros) {
    const std::string words = spec.negative_prompt.value_or("");
    negative_tokens = tokens_of(learned, words, spec.negative_prompt_2.value_or(words), spec.prompt_syntax, warnings);
  }
  // Every row of a pass has equally many tokens.
  std::size_t chunks = std::max(guided_tokens.first.chunks.size(), guided_tokens.second.chunks.size());
  if (negative_tokens) {
    chunks = std::max({chunks, negative_tokens->first.chunks.size(), negative_tokens->second.chunks.size()});
  }
  const PromptStates guided = encode(model, learned, guided_tokens, chunks, spec.clip_skip);
  // compat(diffusers): clip_skip is for the prompt alone; negative prompts keep the penultimate layer.
  const PromptStates negative = negative_tokens ? encode(model, learned, *negative_tokens, chunks, /*clip_skip=*/0)
                                                : PromptStates{.context = std::vector<float>(guided.context.size()),
                                                               .pooled = std::vector<float>(guided.pooled.size())};
  std::vector<float> context;
  std::vector<float> pooled;
  Conditioning conditioning{.context = {}, .pooled = {}, .time_ids = time_ids_of(model, spec, picture, rows)};
  const auto append_rows = [&](const PromptStates& prompt) {
    for (int i = 0; i < rows.pictures; ++i) {
      context.insert(context.end(), prompt.context.begin(), prompt.context.end());
      pooled.insert(pooled.end(), prompt.pooled.begin(), prompt.pooled.end());
    }
  };
  if (rows.unguided) append_rows(negative);
  append_rows(guided);
  if (rows.perturbed) append_rows(guided);

  Backend& backend = model.unet_network->backend();
  const auto tokens = static_cast<std::int64_t>(chunks * kTokensPerPrompt);
  conditioning.context = from_host(
      backend, context, {rows.count(), tokens, static_cast<std::int64_t>(context.size()) / (rows.count() * tokens)});
  conditioning.pooled =
      from_host(backend, pooled, {rows.count(), static_cast<std::int64_t>(pooled.size()) / rows.count()});
  return conditioning;
}

std::vector<float> time_ids_of(const SdxlModel& model, const GenerationSpec& spec, const Size& picture,
                               const PassRows& rows) {
  const TimeIds ids = time_ids(model, spec, picture);
  std::vector<float> all;
  const auto append_rows = [&](const std::vector<float>& one) {
    for (int i = 0; i < rows.pictures; ++i) all.insert(all.end(), one.begin(), one.end());
  };
  if (rows.unguided) append_rows(ids.unguided);
  append_rows(ids.guided);
  if (rows.perturbed) append_rows(ids.guided);
  return all;
}

Conditioning rows_of(const Conditioning& all, std::int64_t first, std::int64_t count) {
  const auto width = static_cast<std::int64_t>(all.time_ids.size()) / all.context.dim(0);
  const auto begin = all.time_ids.begin() + first * width;
  return {.context = all.context.slice_batch(first, count),
          .pooled = all.pooled.slice_batch(first, count),
          .time_ids = {begin, begin + count * width}};
}

}  // namespace darkroom::engine
