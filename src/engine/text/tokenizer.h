// CLIP's tokenizer: byte pair encoding of normalised text. Twin: transformers' CLIPTokenizer(Fast).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace darkroom::engine {

using TokenId = std::int32_t;

inline constexpr std::size_t kTokensPerPrompt = 77;  // with start and end
inline constexpr std::size_t kTokensPerChunk = kTokensPerPrompt - 2;

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

  // The ids of the text, without start and end. Error invalid_argument: not UTF-8, at byte N.
  Result<std::vector<TokenId>> encode(std::string_view text) const;
  // Start, the first 75 of the ids, end, padding: 77 in all.
  std::vector<TokenId> pad_to_77(std::span<const TokenId> ids) const;

  TokenId start_id() const;
  TokenId end_id() const;
  TokenId pad_id() const { return pad_id_; }
  // Ids run from 0 to one less; an added token's may follow.
  TokenId vocabulary_size() const;

 private:
  struct Tables;
  ClipTokenizer(std::shared_ptr<const Tables> tables, TokenId pad_id, std::string_view pad_token);

  // Of the special token that a normalised text begins with; nothing if none.
  std::optional<std::pair<std::size_t, TokenId>> special_at(std::span<const char32_t> codes) const;

  std::shared_ptr<const Tables> tables_;
  TokenId pad_id_ = 0;
  std::vector<char32_t> pad_token_;  // normalised
};

std::vector<TokenId> pad_to_77(std::span<const TokenId> ids, TokenId start_id, TokenId end_id, TokenId pad_id);

}  // namespace darkroom::engine
