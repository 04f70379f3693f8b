// CLIP's tokenizer: byte pair encoding of normalised text. Twin: transformers' CLIPTokenizer(Fast).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace darkroom::engine {

using TokenId = std::int32_t;

inline constexpr std::size_t kTokensPerPrompt = 77;  // with start and end
inline constexpr std::size_t kTokensPerChunk = kTokensPerPrompt - 2;

// A word that stands for learned vectors (textual inversion): its text becomes the ids first_id, first_id + 1, …,
// which lie above the vocabulary; who encodes them appends the vectors to the token embedding.
struct Placeholder {
  std::string token;  // "<sks-cat>"; matched without regard to case, a letter or digit at its edge ends a word there
  TokenId first_id = 0;
  std::int32_t vectors = 1;
};

// Immutable and cheap to copy.
class ClipTokenizer {
 public:
  // OpenAI's vocabulary as SDXL's first encoder uses it: padded with the end token.
  static ClipTokenizer clip_l();
  // As the second one uses it: padded with "!".
  // compat(transformers): the padding token is special, so that each "!" of a text is a token of its own there.
  static ClipTokenizer clip_g();
  // A folder with vocab.json, merges.txt and, for the padding, tokenizer_config.json or special_tokens_map.json.
  static Result<ClipTokenizer> open(const std::filesystem::path& folder);

  // The same tokenizer that also knows these. Errors invalid_argument: an empty or doubled token, ids that are not
  // above the vocabulary.
  Result<ClipTokenizer> with_placeholders(const std::vector<Placeholder>& placeholders) const;

  // The ids of the text, without start and end. Error invalid_argument: not UTF-8, at byte N.
  Result<std::vector<TokenId>> encode(std::string_view text) const;
  // The text of ids, in lower case, words parted by a space; for messages. Always UTF-8.
  std::string decode(std::span<const TokenId> ids) const;
  // Start, the first 75 of the ids, end, padding: 77 in all.
  std::vector<TokenId> pad_to_77(std::span<const TokenId> ids) const;

  TokenId start_id() const;
  TokenId end_id() const;
  TokenId pad_id() const { return pad_id_; }
  // Ids run from 0 to one less; placeholders follow.
  TokenId vocabulary_size() const;
  // How many ids from this on belong together: a placeholder's vectors, otherwise 1.
  std::int32_t vectors_of(TokenId id) const;

 private:
  struct Tables;
  struct Specials;
  struct Special;
  ClipTokenizer(std::shared_ptr<const Tables> tables, TokenId pad_id, std::string_view pad_token);

  std::shared_ptr<const Tables> tables_;
  std::shared_ptr<const Specials> specials_;
  TokenId pad_id_ = 0;
};

std::vector<TokenId> pad_to_77(std::span<const TokenId> ids, TokenId start_id, TokenId end_id, TokenId pad_id);

}  // namespace darkroom::engine
