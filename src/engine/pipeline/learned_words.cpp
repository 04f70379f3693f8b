#include "engine/pipeline/learned_words.h"

#include "engine/weights/embedding.h"

namespace darkroom::engine {
namespace {

// Collects one encoder's words, whose ids follow the vocabulary.
class Teacher {
 public:
  explicit Teacher(const TextEncoder& text) : text_(text) { words_.first_id = text.tokenizer.vocabulary_size(); }

  std::int64_t width() const { return text_.encoder->config().hidden_size; }

  void teach(const std::string& token, const LearnedVectors& vectors) {
    if (vectors.rows.empty()) return;
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

LearnedWords learn_words(const SdxlModel& model, std::span<const EmbeddingUse> embeddings) {
  std::optional<Teacher> first;
  if (model.text_encoder) first.emplace(*model.text_encoder);
  Teacher second(model.text_encoder_2);
  for (const EmbeddingUse& use : embeddings) {
    const Embedding embedding = value_or_throw(open_embedding(use.model, first ? first->width() : 0, second.width()));
    if (first) first->teach(use.token, embedding.clip_l);
    second.teach(use.token, embedding.clip_g);
  }
  return {.first = first ? std::optional(first->finish()) : std::nullopt, .second = second.finish()};
}

}  // namespace darkroom::engine
