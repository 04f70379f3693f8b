#include "engine/text/prompt.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "engine/text/normalize.h"

namespace darkroom::engine {

namespace {

constexpr double kBracket = 1.1;

// A range of parts that a pair of brackets covers.
struct Range {
  std::size_t begin = 0;
  std::size_t end = 0;
  double factor = 1.0;
};

bool is_python_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// ":1.3)" at the front of a text: its length and the number. Anything else is text, even ":.)".
struct Weight {
  std::size_t length = 0;
  double value = 1.0;
};
std::optional<Weight> weight_at(std::string_view text) {
  std::size_t at = 1;
  const auto skip_spaces = [&] {
    while (at < text.size() && is_python_space(text[at])) ++at;
  };
  skip_spaces();
  const bool plus = at < text.size() && text[at] == '+';  // which from_chars does not take
  if (plus) ++at;
  const std::size_t begin = at;
  if (!plus && at < text.size() && text[at] == '-') ++at;
  while (at < text.size() && ((text[at] >= '0' && text[at] <= '9') || text[at] == '.')) ++at;
  Weight weight;
  const auto [end, error] =
      std::from_chars(text.data() + begin, text.data() + at, weight.value, std::chars_format::fixed);
  if (end != text.data() + at || (error != std::errc() && error != std::errc::result_out_of_range)) return std::nullopt;
  if (error == std::errc::result_out_of_range) weight.value = HUGE_VAL;
  skip_spaces();
  if (at >= text.size() || text[at] != ')') return std::nullopt;
  weight.length = at + 1;
  return weight;
}

// Letters, digits and underscore, as \b sees them; any other character of more than a byte counts too.
bool is_word_byte(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x80 || byte == '_' || (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z');
}

class Parser {
 public:
  void run(std::string_view text) {
    std::size_t literal = 0;  // where text not yet taken begins
    std::size_t at = 0;
    const auto flush = [&](std::size_t next) {
      take_text(text.substr(literal, at - literal));
      literal = next;
      at = next;
    };
    while (at < text.size()) {
      const char c = text[at];
      if (c == '\\' && at + 1 < text.size() &&
          std::string_view("()[]\\").find(text[at + 1]) != std::string_view::npos) {
        flush(at + 2);
        parts_.push_back({std::string(1, text[at - 1])});
      } else if (c == '\\') {
        flush(at + 1);  // compat(webui): a lone backslash vanishes
      } else if (c == '(') {
        flush(at + 1);
        round_.push_back(parts_.size());
      } else if (c == '[') {
        flush(at + 1);
        square_.push_back(parts_.size());
      } else if (const auto weight = c == ':' && !round_.empty() ? weight_at(text.substr(at)) : std::nullopt) {
        flush(at + weight->length);
        close(round_, weight->value, round_ranges_);
      } else if (c == ')' && !round_.empty()) {
        flush(at + 1);
        close(round_, kBracket, round_ranges_);
      } else if (c == ']' && !square_.empty()) {
        flush(at + 1);
        close(square_, 1.0 / kBracket, square_ranges_);
      } else {
        ++at;
      }
    }
    flush(at);
    // compat(webui): an open bracket closes at the end.
    while (!round_.empty()) close(round_, kBracket, round_ranges_);
    while (!square_.empty()) close(square_, 1.0 / kBracket, square_ranges_);
  }

  std::vector<PromptPart> finish() {
    apply(std::move(round_ranges_));
    apply(std::move(square_ranges_));
    std::vector<PromptPart> merged;
    for (PromptPart& part : parts_) {
      if (!part.is_break && !merged.empty() && !merged.back().is_break && merged.back().weight == part.weight) {
        merged.back().text += part.text;
      } else {
        merged.push_back(std::move(part));
      }
    }
    if (merged.empty()) merged.emplace_back();
    return merged;
  }

 private:
  static constexpr std::string_view kBreak = "BREAK";

  void take_text(std::string_view text) {
    if (text.empty()) return;
    std::size_t begin = 0;
    for (std::size_t at = text.find(kBreak); at != std::string_view::npos; at = text.find(kBreak, at + 1)) {
      const std::size_t end = at + kBreak.size();
      if ((at > 0 && is_word_byte(text[at - 1])) || (end < text.size() && is_word_byte(text[end]))) continue;
      add_text(text.substr(begin, at - begin));
      parts_.push_back({.text = {}, .weight = 1.0, .is_break = true});
      begin = end;
    }
    add_text(text.substr(begin));
  }
  void add_text(std::string_view text) {
    if (!text.empty()) parts_.push_back({std::string(text)});
  }

  void close(std::vector<std::size_t>& open, double factor, std::vector<Range>& ranges) {
    ranges.push_back({open.back(), parts_.size(), factor});
    open.pop_back();
  }

  // Multiplies each part by all ranges around it. Ranges of one kind nest, so that a sweep with a stack of products
  // does, however deep they are.
  void apply(std::vector<Range> ranges) {
    std::ranges::reverse(ranges);  // the outer before the inner where both begin at one place
    std::ranges::stable_sort(ranges, {}, &Range::begin);
    std::vector<Range> around;  // factor: the product with all outer ones
    auto next = ranges.begin();
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      while (!around.empty() && around.back().end <= i) around.pop_back();
      for (; next != ranges.end() && next->begin <= i; ++next) {
        if (next->end <= i) continue;  // empty brackets
        Range inner = *next;
        if (!around.empty()) inner.factor *= around.back().factor;
        around.push_back(inner);
      }
      if (!around.empty()) parts_[i].weight *= around.back().factor;
    }
  }

  std::vector<PromptPart> parts_;
  std::vector<std::size_t> round_, square_;  // where the open brackets begin
  std::vector<Range> round_ranges_, square_ranges_;
};

// Fills chunk after chunk.
class Chunker {
 public:
  explicit Chunker(const ClipTokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void add(std::span<const TokenId> ids, float weight) {
    while (!ids.empty()) {
      const auto together = std::min(ids.size(), static_cast<std::size_t>(tokenizer_.vectors_of(ids.front())));
      const bool fits = ids_.size() + together <= kTokensPerChunk;
      // What is longer than a chunk is split after all.
      if (!fits && (together <= kTokensPerChunk || ids_.size() == kTokensPerChunk)) next();
      const std::size_t taken = std::min(together, kTokensPerChunk - ids_.size());
      ids_.insert(ids_.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(taken));
      weights_.resize(ids_.size(), weight);
      ids = ids.subspan(taken);
    }
  }
  void next() {
    PromptChunk chunk{.ids = tokenizer_.pad_to_77(ids_), .weights = {1.0F}};
    chunk.weights.insert(chunk.weights.end(), weights_.begin(), weights_.end());
    chunk.weights.resize(kTokensPerPrompt, 1.0F);
    chunks_.push_back(std::move(chunk));
    ids_.clear();
    weights_.clear();
  }
  std::vector<PromptChunk> finish() {
    if (!ids_.empty() || chunks_.empty()) next();
    return std::move(chunks_);
  }

 private:
  const ClipTokenizer& tokenizer_;
  std::vector<TokenId> ids_;
  std::vector<float> weights_;
  std::vector<PromptChunk> chunks_;
};

}  // namespace

bool EncodedPrompt::is_weighted() const {
  return std::ranges::any_of(chunks, [](const PromptChunk& chunk) {
    return std::ranges::any_of(chunk.weights, [](float weight) { return weight != 1.0F; });
  });
}

Result<std::vector<PromptPart>> parse_weighted_prompt(std::string_view text) {
  Parser parser;
  parser.run(text);
  std::vector<PromptPart> parts = parser.finish();
  for (const PromptPart& part : parts) {
    if (!(std::abs(part.weight) <= kMaxPromptWeight)) {
      return fail(ErrorCode::invalid_argument, "the prompt gives '{}' the weight {:g}, the limit is {:g}",
                  valid_utf8(std::string_view(part.text).substr(0, 40)), part.weight, kMaxPromptWeight);
    }
  }
  return parts;
}

Result<EncodedPrompt> encode_plain_prompt(std::string_view text, const ClipTokenizer& tokenizer) {
  const auto ids = tokenizer.encode(text);
  if (!ids) return tl::unexpected(ids.error());
  EncodedPrompt prompt;
  prompt.chunks.push_back({tokenizer.pad_to_77(*ids), std::vector<float>(kTokensPerPrompt, 1.0F)});
  if (ids->size() > kTokensPerChunk) prompt.cut = tokenizer.decode(std::span(*ids).subspan(kTokensPerChunk));
  return prompt;
}

Result<EncodedPrompt> encode_weighted_prompt(std::string_view text, const ClipTokenizer& tokenizer) {
  // The whole first, so that a byte offset is one of the whole.
  if (const auto decoded = decode_utf8(text); !decoded) return tl::unexpected(decoded.error());
  const auto parts = parse_weighted_prompt(text);
  if (!parts) return tl::unexpected(parts.error());
  Chunker chunker(tokenizer);
  for (const PromptPart& part : *parts) {
    if (part.is_break) {
      chunker.next();
      continue;
    }
    const auto ids = tokenizer.encode(part.text);
    if (!ids) return tl::unexpected(ids.error());
    chunker.add(*ids, static_cast<float>(part.weight));
  }
  EncodedPrompt prompt{.chunks = chunker.finish(), .cut = {}};
  if (prompt.chunks.size() > kMaxPromptChunks) {
    return fail(ErrorCode::invalid_argument, "the prompt takes {} chunks of {} tokens, the limit is {}",
                prompt.chunks.size(), kTokensPerChunk, kMaxPromptChunks);
  }
  return prompt;
}

void extend_to(EncodedPrompt& prompt, std::size_t chunks, const ClipTokenizer& tokenizer) {
  while (prompt.chunks.size() < chunks) {
    prompt.chunks.push_back({tokenizer.pad_to_77({}), std::vector<float>(kTokensPerPrompt, 1.0F)});
  }
}

}  // namespace darkroom::engine
