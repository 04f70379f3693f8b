#include "engine/pipeline/learned_words.h"

#include <set>

#include "base/text.h"
#include "engine/pipeline/warnings.h"
#include "engine/weights/weight_file.h"

namespace darkroom::engine {
namespace {

// Collects one encoder's words, whose ids follow the vocabulary.
class Teacher {
 public:
  explicit Teacher(const TextEncoder& text) : text_(text) { words_.first_id = text.tokenizer.vocabulary_size(); }

  std::int64_t width() const { return text_.encoder->config().hidden_size; }

  void teach(const std::string& token, const LearnedVectors& vectors) {
    if (vectors.rows.empty() || vectors.width != width()) return;  // a refiner's encoder may be another one
    const auto known = static_cast<std::int64_t>(words_.rows.size()) / width();
    placeholders_.push_back({.token = token,
                             .first_id = words_.first_id + static_cast<TokenId>(known),
                             .vectors = static_cast<std::int32_t>(vectors.count())});
    words_.rows.insert(words_.rows.end(), vectors.rows.begin(), vectors.rows.end());
  }

  TaughtTokenizer finish() const {
    if (placeholders_.empty()) return {text_.tokenizer, {}};
    return {value_or_throw(text_.tokenizer.with_placeholders(placeholders_)), words_};
  }

 private:
  const TextEncoder& text_;
  std::vector<Placeholder> placeholders_;
  ExtraTokens words_;
};

}  // namespace

LearnedWords learn_words(const SdxlModel& model, std::span<const EmbeddingUse> embeddings,
                         std::span<const LearnedWord> of_loras, std::vector<std::string>& warnings) {
  std::optional<Teacher> first;
  if (model.text_encoder) first.emplace(*model.text_encoder);
  Teacher second(model.text_encoder_2);
  std::set<std::string> known;  // case does not count in a prompt
  const auto teach = [&](const std::string& token, const Embedding& vectors) {
    if (first) first->teach(token, vectors.clip_l);
    second.teach(token, vectors.clip_g);
    known.insert(to_lower(token));
  };
  for (const EmbeddingUse& use : embeddings) {
    const WeightFile file = value_or_throw(open_weight_file(use.model));
    teach(use.token, value_or_throw(read_embedding(*file.weights, first ? first->width() : 0, second.width())));
  }
  for (const LearnedWord& word : of_loras) {
    if (!known.contains(to_lower(word.token))) {
      teach(word.token, word.vectors);
      continue;
    }
    add_once(warnings, fmt::format("a LoRA's word '{}' has no effect: another of that name counts", word.token));
  }
  return {.first = first ? std::optional(first->finish()) : std::nullopt, .second = second.finish()};
}

}  // namespace darkroom::engine
