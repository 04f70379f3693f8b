#include "engine/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <optional>
#include <queue>
#include <string>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "engine/text/clip_vocabulary.h"
#include "engine/text/normalize.h"

namespace darkroom::engine {

namespace fs = std::filesystem;

struct ClipTokenizer::Tables {
  struct Joined {
    std::int32_t rank;
    TokenId id;
  };

  std::array<TokenId, 256> byte_ids{};
  std::array<TokenId, 256> last_byte_ids{};  // at the end of a word
  std::unordered_map<std::uint64_t, Joined> merges;
  TokenId start_id = 0;
  TokenId end_id = 0;
  TokenId size = 0;

  static std::uint64_t key(TokenId left, TokenId right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
  }
  void encode_word(std::string_view bytes, std::vector<TokenId>& out) const;
};

namespace {

using TokenIds = std::unordered_map<std::string_view, TokenId>;

void append_utf8(std::string& text, char32_t code) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

using Codes = std::span<const char32_t>;

bool begins_with(Codes codes, std::string_view ascii) {
  return codes.size() >= ascii.size() && std::equal(ascii.begin(), ascii.end(), codes.begin(),
                                                    [](char a, char32_t b) { return static_cast<char32_t>(a) == b; });
}

// Length of the word that begins at the front, which is not white space:
//   's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
std::size_t word_length(Codes codes) {
  for (const std::string_view contraction : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (begins_with(codes, contraction)) return contraction.size();
  }
  const CharClass first = class_of(codes.front());
  if (first == CharClass::number) return 1;
  std::size_t length = 1;
  while (length < codes.size() && class_of(codes[length]) == first) ++length;
  return length;
}

Result<std::string> read_text(const fs::path& path) {
  auto file = MappedFile::open(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  const auto bytes = (*file)->bytes();
  constexpr std::size_t kMaxBytes = 64U << 20;
  if (bytes.size() > kMaxBytes) {
    return fail(ErrorCode::corrupt_data, "{}: {} bytes, the limit is {}", path.string(), bytes.size(), kMaxBytes);
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<nlohmann::json> read_object(const fs::path& path) {
  auto text = read_text(path);
  if (!text) return tl::unexpected(std::move(text.error()));
  auto json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return fail(ErrorCode::corrupt_data, "{} is not a JSON object", path.string());
  return json;
}

}  // namespace

// Joins neighbours by rank, the leftmost first, until no pair is in the table: a linked list of symbols and a queue of
// candidate pairs, so that a word of n bytes takes n log n.
void ClipTokenizer::Tables::encode_word(std::string_view bytes, std::vector<TokenId>& out) const {
  struct Symbol {
    TokenId id;
    std::int32_t previous;
    std::int32_t next;
  };
  struct Candidate {
    std::int32_t rank;
    std::int32_t at;      // the left symbol
    TokenId left, right;  // as they were: a candidate is stale if they changed
    TokenId joined;
    bool operator>(const Candidate& other) const { return std::pair(rank, at) > std::pair(other.rank, other.at); }
  };

  const auto count = static_cast<std::int32_t>(bytes.size());
  std::vector<Symbol> symbols;
  symbols.reserve(bytes.size());
  for (std::int32_t i = 0; i < count; ++i) {
    const auto byte = static_cast<std::uint8_t>(bytes[static_cast<std::size_t>(i)]);
    symbols.push_back({i + 1 == count ? last_byte_ids[byte] : byte_ids[byte], i - 1, i + 1 == count ? -1 : i + 1});
  }
  const auto symbol = [&](std::int32_t i) -> Symbol& { return symbols[static_cast<std::size_t>(i)]; };

  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](std::int32_t at) {
    if (at < 0 || symbol(at).next < 0) return;
    const TokenId left = symbol(at).id;
    const TokenId right = symbol(symbol(at).next).id;
    if (const auto found = merges.find(key(left, right)); found != merges.end()) {
      queue.push({found->second.rank, at, left, right, found->second.id});
    }
  };
  for (std::int32_t i = 0; i < count; ++i) consider(i);

  constexpr TokenId kGone = -1;
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbol(best.at);
    if (left.id != best.left || left.next < 0 || symbol(left.next).id != best.right) continue;
    Symbol& right = symbol(left.next);
    left.id = best.joined;
    left.next = right.next;
    right.id = kGone;
    if (left.next >= 0) symbol(left.next).previous = best.at;
    consider(left.previous);
    consider(best.at);
  }
  for (std::int32_t i = 0; i >= 0; i = symbol(i).next) out.push_back(symbol(i).id);
}

namespace {

// Fills tables from every token's id and the merges.
template <class Tables>
Result<void> fill(Tables& tables, const TokenIds& ids, const std::vector<Merge>& merges, const std::string& name) {
  std::string missing;
  const auto id_of = [&](const std::string& token) -> TokenId {
    const auto found = ids.find(token);
    if (found == ids.end() && missing.empty()) missing = token;
    return found == ids.end() ? 0 : found->second;
  };
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const std::string symbol = byte_symbol(static_cast<std::uint8_t>(byte));
    tables.byte_ids[byte] = id_of(symbol);
    tables.last_byte_ids[byte] = id_of(symbol + std::string(kEndOfWord));
  }
  tables.merges.reserve(merges.size());
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string left(merges[rank].left);
    const std::string right(merges[rank].right);
    const TokenId joined = id_of(left + right);
    // The first rank counts where a pair stands twice.
    tables.merges.try_emplace(Tables::key(id_of(left), id_of(right)),
                              typename Tables::Joined{static_cast<std::int32_t>(rank), joined});
  }
  tables.start_id = id_of(std::string(kStartOfText));
  tables.end_id = id_of(std::string(kEndOfText));
  for (const auto& [token, id] : ids) tables.size = std::max(tables.size, id + 1);
  if (!missing.empty()) return fail(ErrorCode::corrupt_data, "{}: the token '{}' is missing", name, missing);
  return {};
}

// The content of "pad_token", as either file may say it.
std::optional<std::string> pad_token(const fs::path& folder) {
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const auto json = read_object(folder / name);
    if (!json) continue;
    auto token = json->find("pad_token");
    if (token == json->end()) continue;
    if (token->is_string()) return token->get<std::string>();
    if (token->is_object() && token->contains("content") && (*token)["content"].is_string()) {
      return (*token)["content"].get<std::string>();
    }
  }
  return std::nullopt;
}

}  // namespace

ClipTokenizer ClipTokenizer::standard(TokenId pad_id) {
  const auto merges = parse_merges(clip_merges_text(), "CLIP's merges");
  DR_ASSERT(merges.has_value());
  const std::vector<std::string> tokens = clip_vocabulary(*merges);
  TokenIds ids;
  ids.reserve(tokens.size());
  for (std::size_t id = 0; id < tokens.size(); ++id) ids.emplace(tokens[id], static_cast<TokenId>(id));
  auto tables = std::make_shared<Tables>();
  const auto filled = fill(*tables, ids, *merges, "CLIP's vocabulary");
  DR_ASSERT(filled.has_value());
  return {std::move(tables), pad_id};
}

Result<ClipTokenizer> ClipTokenizer::open(const fs::path& folder) {
  const auto vocabulary = read_object(folder / "vocab.json");
  if (!vocabulary) return tl::unexpected(vocabulary.error());
  const std::string vocabulary_name = (folder / "vocab.json").string();
  TokenIds ids;
  ids.reserve(vocabulary->size());
  for (const auto& [token, id] : vocabulary->items()) {
    constexpr TokenId kMaxId = 1 << 24;
    if (!id.is_number_integer() || id < 0 || id > kMaxId) {
      return fail(ErrorCode::corrupt_data, "{}: the id of '{}' is {}, allowed is 0 to {}", vocabulary_name, token,
                  id.dump(), kMaxId);
    }
    ids.emplace(token, id.get<TokenId>());
  }
  const auto merges_text = read_text(folder / "merges.txt");
  if (!merges_text) return tl::unexpected(merges_text.error());
  const auto merges = parse_merges(*merges_text, (folder / "merges.txt").string());
  if (!merges) return tl::unexpected(merges.error());
  auto tables = std::make_shared<Tables>();
  if (auto filled = fill(*tables, ids, *merges, vocabulary_name); !filled)
    return tl::unexpected(std::move(filled.error()));

  TokenId pad_id = tables->end_id;
  if (const auto token = pad_token(folder)) {
    const auto found = ids.find(*token);
    if (found == ids.end()) {
      return fail(ErrorCode::corrupt_data, "{}: the padding token '{}' is missing", vocabulary_name, *token);
    }
    pad_id = found->second;
  }
  return ClipTokenizer(std::move(tables), pad_id);
}

Result<std::vector<TokenId>> ClipTokenizer::encode(std::string_view text) const {
  // The ids of longer texts would not fit the list links of encode_word.
  if (text.size() > std::numeric_limits<std::int32_t>::max() / 4) {
    return fail(ErrorCode::invalid_argument, "a text of {} bytes is too long", text.size());
  }
  const auto normalized = normalize(text);
  if (!normalized) return tl::unexpected(normalized.error());

  std::vector<TokenId> ids;
  std::string word;
  for (Codes rest = *normalized; !rest.empty();) {
    // The two special tokens are one even inside a text.
    if (begins_with(rest, kStartOfText) || begins_with(rest, kEndOfText)) {
      const bool is_start = begins_with(rest, kStartOfText);
      ids.push_back(is_start ? tables_->start_id : tables_->end_id);
      rest = rest.subspan(is_start ? kStartOfText.size() : kEndOfText.size());
      continue;
    }
    if (class_of(rest.front()) == CharClass::space) {
      rest = rest.subspan(1);
      continue;
    }
    std::size_t length = word_length(rest);
    // A special token ends the word before it.
    for (std::size_t i = 1; i < length; ++i) {
      if (rest[i] == U'<' && (begins_with(rest.subspan(i), kStartOfText) || begins_with(rest.subspan(i), kEndOfText))) {
        length = i;
      }
    }
    word.clear();
    for (const char32_t code : rest.first(length)) append_utf8(word, code);
    tables_->encode_word(word, ids);
    rest = rest.subspan(length);
  }
  return ids;
}

std::vector<TokenId> ClipTokenizer::pad_to_77(std::span<const TokenId> ids) const {
  return engine::pad_to_77(ids, start_id(), end_id(), pad_id_);
}
TokenId ClipTokenizer::start_id() const { return tables_->start_id; }
TokenId ClipTokenizer::end_id() const { return tables_->end_id; }
TokenId ClipTokenizer::vocabulary_size() const { return tables_->size; }

std::vector<TokenId> pad_to_77(std::span<const TokenId> ids, TokenId start_id, TokenId end_id, TokenId pad_id) {
  std::vector<TokenId> padded;
  padded.reserve(kTokensPerPrompt);
  padded.push_back(start_id);
  const auto taken = ids.first(std::min(ids.size(), kTokensPerChunk));
  padded.insert(padded.end(), taken.begin(), taken.end());
  padded.push_back(end_id);
  padded.resize(kTokensPerPrompt, pad_id);
  return padded;
}

}  // namespace darkroom::engine
