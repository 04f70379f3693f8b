#include "engine/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <map>
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
  std::vector<std::string> texts;  // by id: its bytes, a space at the end of a word

  static std::shared_ptr<const Tables> standard();  // OpenAI's
  static std::uint64_t key(TokenId left, TokenId right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
  }
  void encode_word(std::string_view bytes, std::vector<TokenId>& out) const;
};

namespace {

using TokenIds = std::unordered_map<std::string_view, TokenId>;
using Codes = std::span<const char32_t>;

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

// A text that is not split: a special token or a placeholder.
struct ClipTokenizer::Special {
  std::vector<char32_t> codes;  // normalised
  TokenId first_id = 0;
  std::int32_t vectors = 1;
  // Whether its edge is a letter or digit, which must not go on outside.
  bool word_begins = false;
  bool word_ends = false;
};

struct ClipTokenizer::Specials {
  std::map<char32_t, std::vector<Special>> by_first;  // by first character, the longest first
  std::map<TokenId, std::int32_t> vectors;

  // False if it is there already.
  bool add(Special special) {
    std::vector<Special>& same_first = by_first[special.codes.front()];
    if (std::ranges::find(same_first, special.codes, &Special::codes) != same_first.end()) return false;
    vectors[special.first_id] = special.vectors;
    same_first.push_back(std::move(special));
    std::ranges::stable_sort(same_first, std::greater<>(), [](const Special& one) { return one.codes.size(); });
    return true;
  }

  // The longest that stands at `at`; null if none.
  const Special* match(Codes codes, std::size_t at) const {
    const auto found = by_first.find(codes[at]);
    if (found == by_first.end()) return nullptr;
    const auto is_word = [&](std::size_t i) {
      return i < codes.size() && (class_of(codes[i]) == CharClass::letter || class_of(codes[i]) == CharClass::number);
    };
    for (const Special& special : found->second) {
      const std::size_t length = special.codes.size();
      if (codes.size() - at < length || !std::ranges::equal(codes.subspan(at, length), special.codes)) continue;
      if (special.word_begins && at > 0 && is_word(at - 1)) continue;
      if (special.word_ends && is_word(at + length)) continue;
      return &special;
    }
    return nullptr;
  }
};

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
  for (const auto& [token, id] : ids) tables.size = std::max(tables.size, id + 1);
  tables.texts.resize(static_cast<std::size_t>(tables.size));
  const auto text_of = [&](TokenId id) -> std::string& { return tables.texts[static_cast<std::size_t>(id)]; };
  for (std::size_t byte = 0; byte < 256; ++byte) {
    text_of(tables.byte_ids[byte]) = std::string(1, static_cast<char>(byte));
    text_of(tables.last_byte_ids[byte]) = {static_cast<char>(byte), ' '};
  }
  tables.merges.reserve(merges.size());
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string left(merges[rank].left);
    const std::string right(merges[rank].right);
    const TokenId joined = id_of(left + right);
    // The first rank counts where a pair stands twice.
    tables.merges.try_emplace(Tables::key(id_of(left), id_of(right)),
                              typename Tables::Joined{static_cast<std::int32_t>(rank), joined});
    text_of(joined) = text_of(id_of(left)) + text_of(id_of(right));
  }
  tables.start_id = id_of(std::string(kStartOfText));
  tables.end_id = id_of(std::string(kEndOfText));
  text_of(tables.start_id) = std::string(kStartOfText) + ' ';
  text_of(tables.end_id) = std::string(kEndOfText) + ' ';
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

ClipTokenizer::ClipTokenizer(std::shared_ptr<const Tables> tables, TokenId pad_id, std::string_view pad_token)
    : tables_(std::move(tables)), pad_id_(pad_id) {
  auto specials = std::make_shared<Specials>();
  for (const auto& [text, id] :
       {std::pair(kStartOfText, tables_->start_id), {kEndOfText, tables_->end_id}, {pad_token, pad_id}}) {
    auto codes = normalize(text);
    if (codes && !codes->empty()) specials->add({.codes = *std::move(codes), .first_id = id, .vectors = 1});
  }
  specials_ = std::move(specials);
}

Result<ClipTokenizer> ClipTokenizer::with_placeholders(const std::vector<Placeholder>& placeholders) const {
  auto specials = std::make_shared<Specials>(*specials_);
  for (const Placeholder& placeholder : placeholders) {
    auto codes = normalize(placeholder.token);
    if (!codes || std::ranges::all_of(*codes, [](char32_t code) { return code == U' '; })) {
      return fail(ErrorCode::invalid_argument, "'{}' cannot be an embedding's token", codes ? placeholder.token : "");
    }
    if (placeholder.first_id < vocabulary_size() || placeholder.vectors < 1) {
      return fail(ErrorCode::invalid_argument, "embedding '{}': {} vectors from id {}, the vocabulary ends at {}",
                  placeholder.token, placeholder.vectors, placeholder.first_id, vocabulary_size() - 1);
    }
    const auto is_word = [](char32_t code) {
      return class_of(code) == CharClass::letter || class_of(code) == CharClass::number;
    };
    Special special{.codes = *std::move(codes), .first_id = placeholder.first_id, .vectors = placeholder.vectors};
    special.word_begins = is_word(special.codes.front());
    special.word_ends = is_word(special.codes.back());
    if (!specials->add(std::move(special))) {
      return fail(ErrorCode::invalid_argument, "two embeddings have the token '{}'", placeholder.token);
    }
  }
  ClipTokenizer result = *this;
  result.specials_ = std::move(specials);
  return result;
}

ClipTokenizer ClipTokenizer::clip_l() {
  auto tables = Tables::standard();
  const TokenId pad_id = tables->end_id;
  return {std::move(tables), pad_id, kEndOfText};
}

ClipTokenizer ClipTokenizer::clip_g() { return {Tables::standard(), 0, "!"}; }

std::shared_ptr<const ClipTokenizer::Tables> ClipTokenizer::Tables::standard() {
  const auto merges = parse_merges(clip_merges_text(), "CLIP's merges");
  DR_ASSERT(merges.has_value());
  const std::vector<std::string> tokens = clip_vocabulary(*merges);
  TokenIds ids;
  ids.reserve(tokens.size());
  for (std::size_t id = 0; id < tokens.size(); ++id) ids.emplace(tokens[id], static_cast<TokenId>(id));
  auto tables = std::make_shared<Tables>();
  const auto filled = fill(*tables, ids, *merges, "CLIP's vocabulary");
  DR_ASSERT(filled.has_value());
  return tables;
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

  const std::string token = pad_token(folder).value_or(std::string(kEndOfText));
  const auto found = ids.find(token);
  if (found == ids.end()) {
    return fail(ErrorCode::corrupt_data, "{}: the padding token '{}' is missing", vocabulary_name, token);
  }
  return ClipTokenizer(std::move(tables), found->second, token);
}

Result<std::vector<TokenId>> ClipTokenizer::encode(std::string_view text) const {
  // The ids of longer texts would not fit the list links of encode_word.
  if (text.size() > std::numeric_limits<std::int32_t>::max() / 4) {
    return fail(ErrorCode::invalid_argument, "a text of {} bytes is too long", text.size());
  }
  const auto normalized = normalize(text);
  if (!normalized) return tl::unexpected(normalized.error());

  const Codes codes = *normalized;
  std::vector<TokenId> ids;
  std::string word;
  for (std::size_t at = 0; at < codes.size();) {
    // Special tokens are one even inside a text.
    if (const Special* special = specials_->match(codes, at)) {
      for (std::int32_t i = 0; i < special->vectors; ++i) ids.push_back(special->first_id + i);
      at += special->codes.size();
      continue;
    }
    if (class_of(codes[at]) == CharClass::space) {
      ++at;
      continue;
    }
    // A special token ends the word before it.
    std::size_t end = at + 1;
    for (const std::size_t longest = at + word_length(codes.subspan(at)); end < longest; ++end) {
      if (specials_->match(codes, end) != nullptr) break;
    }
    word.clear();
    for (; at < end; ++at) append_utf8(word, codes[at]);
    tables_->encode_word(word, ids);
  }
  return ids;
}

std::string ClipTokenizer::decode(std::span<const TokenId> ids) const {
  std::string bytes;
  for (const TokenId id : ids) {
    if (id >= 0 && static_cast<std::size_t>(id) < tables_->texts.size())
      bytes += tables_->texts[static_cast<std::size_t>(id)];
    for (const auto& [first, same_first] : specials_->by_first) {
      for (const Special& special : same_first) {
        if (special.first_id != id || id < vocabulary_size()) continue;
        for (const char32_t code : special.codes) append_utf8(bytes, code);
        bytes += ' ';
      }
    }
  }
  if (bytes.ends_with(' ')) bytes.pop_back();
  return valid_utf8(bytes);
}

std::int32_t ClipTokenizer::vectors_of(TokenId id) const {
  if (id < vocabulary_size()) return 1;
  const auto found = specials_->vectors.find(id);
  return found == specials_->vectors.end() ? 1 : found->second;
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
