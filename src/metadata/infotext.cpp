#include "metadata/infotext.h"

#include <algorithm>
#include <optional>

#include <nlohmann/json.hpp>

#include "base/text.h"

namespace darkroom {
namespace {

constexpr std::string_view kSpace = " \t\r\n\v\f";
constexpr std::string_view kNegativePrompt = "Negative prompt:";
constexpr std::size_t kFewestSettings = 3;  // that make a last line one of settings

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::string quote(const std::string& value) {
  const bool plain = value.find_first_of(",:\n\"") == std::string::npos && trim(value).size() == value.size();
  if (plain) return value;
  using nlohmann::json;
  return json(value).dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string unquote(std::string_view value) {
  if (value.starts_with('"') && value.ends_with('"')) {
    const auto parsed = nlohmann::json::parse(value, nullptr, false);
    if (parsed.is_string()) return parsed.get<std::string>();
  }
  return std::string(value);
}

bool is_word(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || byte >= 0x80;
}

bool is_key(char c) { return is_word(c) || c == ' ' || c == '-' || c == '/'; }

// Where the JSON string at the start of `text` ends; absent: there is none, or more than a comma follows it.
std::optional<std::size_t> quoted_size(std::string_view text) {
  if (!text.starts_with('"')) return std::nullopt;
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      const bool ends = i + 1 == text.size() || text[i + 1] == ',';
      return ends ? std::optional(i + 1) : std::nullopt;
    }
  }
  return std::nullopt;
}

// webui's regular expression, \s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$), found again and again. What does
// not fit between two settings is passed over.
std::vector<std::pair<std::string, std::string>> parse_settings(std::string_view line) {
  std::vector<std::pair<std::string, std::string>> settings;
  while (!line.empty()) {
    const auto begin = static_cast<std::size_t>(std::find_if(line.begin(), line.end(), is_word) - line.begin());
    line.remove_prefix(begin);
    const auto size = static_cast<std::size_t>(std::find_if_not(line.begin(), line.end(), is_key) - line.begin());
    const std::string_view key = line.substr(0, size);
    line.remove_prefix(size);
    if (key.size() < 2 || !line.starts_with(':')) continue;
    line.remove_prefix(1);
    line.remove_prefix(std::min(line.size(), line.find_first_not_of(kSpace)));
    const std::size_t value_size = quoted_size(line).value_or(std::min(line.size(), line.find(',')));
    settings.emplace_back(key, unquote(line.substr(0, value_size)));
    line.remove_prefix(std::min(line.size(), value_size + 1));
  }
  return settings;
}

void append_line(std::string& text, std::string_view line) {
  if (!text.empty()) text += '\n';
  text += line;
}

}  // namespace

Result<void> check_parameters_text(std::string_view text) {
  if (const auto at = first_invalid_utf8(text)) {
    return fail(ErrorCode::invalid_argument, "the parameters text is not UTF-8 at byte {}", *at);
  }
  if (const auto at = text.find('\0'); at != std::string_view::npos) {
    return fail(ErrorCode::invalid_argument, "the parameters text has a zero byte, at {}", at);
  }
  return {};
}

std::string to_infotext(const Infotext& info) {
  std::string text = info.prompt;
  if (!info.negative_prompt.empty()) text += fmt::format("\n{} {}", kNegativePrompt, info.negative_prompt);
  for (std::size_t i = 0; i < info.settings.size(); ++i) {
    const auto& [key, value] = info.settings[i];
    text += fmt::format("{}{}: {}", i == 0 ? "\n" : ", ", key, quote(value));
  }
  return text;
}

Result<Infotext> parse_infotext(std::string_view text) {
  if (const auto ok = check_parameters_text(text); !ok) return tl::unexpected(ok.error());
  text = trim(text);
  Infotext info;
  const auto last_break = text.rfind('\n');
  const std::size_t last = last_break == std::string_view::npos ? 0 : last_break + 1;
  info.settings = parse_settings(text.substr(last));
  if (info.settings.size() < kFewestSettings) {
    info.settings.clear();
  } else {
    text = text.substr(0, last);
    if (!text.empty()) text.remove_suffix(1);  // the line break
  }
  std::string* target = &info.prompt;
  while (!text.empty()) {
    const std::size_t size = std::min(text.size(), text.find('\n'));
    std::string_view line = trim(text.substr(0, size));
    text.remove_prefix(std::min(text.size(), size + 1));
    if (line.starts_with(kNegativePrompt)) {
      line = trim(line.substr(kNegativePrompt.size()));
      target = &info.negative_prompt;
    }
    append_line(*target, line);
  }
  return info;
}

}  // namespace darkroom
