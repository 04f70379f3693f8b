#include "service/http/target.h"

#include <algorithm>

#include "base/text.h"

namespace darkroom::http {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_forbidden_in_path(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7F || c == '/' || c == '\\';
}

Result<std::string> decoded_part(std::string_view part) {
  Result<std::string> text = percent_decoded(part);
  if (!text) return text;
  if (*text == "." || *text == "..") return fail(ErrorCode::invalid_argument, "the path has a part {}", *text);
  if (std::any_of(text->begin(), text->end(), is_forbidden_in_path)) {
    return fail(ErrorCode::invalid_argument, "the path has an escaped slash, a backslash or a control character");
  }
  if (const auto offset = first_invalid_utf8(*text)) {
    return fail(ErrorCode::invalid_argument, "a part of the path is not UTF-8 at byte {}", *offset);
  }
  return text;
}

Result<std::string> decoded_path(std::string_view path) {
  if (!path.starts_with('/')) return fail(ErrorCode::invalid_argument, "the path does not start with a slash");
  path.remove_prefix(1);
  if (path.ends_with('/')) path.remove_suffix(1);
  if (path.empty()) return "/";
  std::string decoded;
  for (const std::string_view part : split(path, '/')) {
    Result<std::string> text = decoded_part(part);
    if (!text) return text;
    decoded += '/' + *text;
  }
  return decoded;
}

Result<std::string> decoded_query_part(std::string_view part) {
  std::string spaced(part);
  std::replace(spaced.begin(), spaced.end(), '+', ' ');
  Result<std::string> text = percent_decoded(spaced);
  if (text && first_invalid_utf8(*text)) return fail(ErrorCode::invalid_argument, "the query is not UTF-8");
  return text;
}

}  // namespace

Result<std::string> percent_decoded(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0) return fail(ErrorCode::invalid_argument, "malformed escape at byte {}", i);
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return decoded;
}

Result<Target> parse_target(std::string_view target) {
  if (target == "*") return Target{"*", {}};
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!to_lower(target.substr(0, scheme.size())).starts_with(scheme)) continue;
    const std::size_t slash = target.find_first_of("/?", scheme.size());
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
    break;
  }
  const std::size_t question = target.find('?');
  Result<std::string> path = decoded_path(target.substr(0, question));
  if (!path) return tl::unexpected(path.error());
  Target parsed{std::move(*path), {}};
  if (question == std::string_view::npos) return parsed;
  for (const std::string_view pair : split(target.substr(question + 1), '&')) {
    if (pair.empty()) continue;
    const std::size_t equals = pair.find('=');
    Result<std::string> name = decoded_query_part(pair.substr(0, equals));
    Result<std::string> value =
        equals == std::string_view::npos ? std::string() : decoded_query_part(pair.substr(equals + 1));
    if (!name) return tl::unexpected(name.error());
    if (!value) return tl::unexpected(value.error());
    parsed.query.emplace_back(std::move(*name), std::move(*value));
  }
  return parsed;
}

}  // namespace darkroom::http
