#include "service/http/multipart.h"

#include <algorithm>

#include "base/text.h"
#include "service/http/text.h"

namespace darkroom::http {
namespace {

constexpr std::string_view kLineBreak = "\r\n";
constexpr std::size_t kMaxBoundary = 70;  // RFC 2046, 5.1.1

// Up to the end of a quoted text, without its escapes; `rest` then begins after it. Nothing: it does not end.
std::optional<std::string> quoted_text(std::string_view& rest) {
  std::string text;
  for (std::size_t i = 1; i < rest.size(); ++i) {
    if (rest[i] == '"') {
      rest.remove_prefix(i + 1);
      return text;
    }
    // Browsers escape a quote as %22 and leave a backslash as it is, others write \" and \\.
    if (rest[i] == '\\' && i + 1 < rest.size() && (rest[i + 1] == '"' || rest[i + 1] == '\\')) ++i;
    text += rest[i];
  }
  return std::nullopt;
}

struct Headers {
  std::string disposition;
  std::string type;
};

Result<std::string> boundary_of(std::string_view content_type) {
  const std::string_view type = trimmed(content_type.substr(0, content_type.find(';')));
  if (!same_word(type, "multipart/form-data")) {
    return fail(ErrorCode::invalid_argument, "the content type is not multipart/form-data");
  }
  const std::optional<std::string> boundary = header_parameter(content_type, "boundary");
  if (!boundary || boundary->empty() || boundary->size() > kMaxBoundary) {
    return fail(ErrorCode::invalid_argument, "the boundary must have 1 to {} characters", kMaxBoundary);
  }
  return *boundary;
}

class Parser {
 public:
  Parser(std::string_view body, const std::string& boundary, const MultipartLimits& limits)
      : body_(body), delimiter_("\r\n--" + boundary), limits_(limits) {}

  Result<std::vector<FormPart>> parse() {
    if (Result<void> found = skip_preamble(); !found) return tl::unexpected(found.error());
    std::vector<FormPart> parts;
    while (true) {
      const Result<bool> more = after_delimiter();
      if (!more) return tl::unexpected(more.error());
      if (!*more) return parts;  // the epilogue means nothing
      if (parts.size() == limits_.parts) {
        return fail(ErrorCode::invalid_argument, "the form has more than {} parts", limits_.parts);
      }
      Result<FormPart> part = next_part();
      if (!part) return tl::unexpected(part.error());
      parts.push_back(std::move(*part));
    }
  }

 private:
  // The first delimiter may stand at the very beginning, without its line break.
  Result<void> skip_preamble() {
    const std::string_view bare = std::string_view(delimiter_).substr(kLineBreak.size());
    if (body_.starts_with(bare)) {
      at_ = bare.size();
      return {};
    }
    const std::size_t found = body_.find(delimiter_);
    if (found == std::string_view::npos) return fail(ErrorCode::invalid_argument, "the body has no boundary");
    at_ = found + delimiter_.size();
    return {};
  }

  // Whether a part follows.
  Result<bool> after_delimiter() {
    if (body_.substr(at_).starts_with("--")) return false;
    while (at_ < body_.size() && (body_[at_] == ' ' || body_[at_] == '\t')) ++at_;
    if (!body_.substr(at_).starts_with(kLineBreak)) return broken("a boundary is not followed by a line break");
    at_ += kLineBreak.size();
    return true;
  }

  Result<FormPart> next_part() {
    const Result<Headers> headers = part_headers();
    if (!headers) return tl::unexpected(headers.error());
    const std::string& disposition = headers->disposition;
    std::optional<std::string> name = header_parameter(disposition, "name");
    if (!same_word(trimmed(disposition.substr(0, disposition.find(';'))), "form-data") || !name) {
      return broken("a part has no Content-Disposition: form-data with a name");
    }
    FormPart part{std::move(*name), header_parameter(disposition, "filename").value_or(""), headers->type, {}};
    const std::size_t begin = at_;
    // An empty part: its header's empty line is the delimiter's line break too.
    const std::size_t from = begin >= kLineBreak.size() ? begin - kLineBreak.size() : begin;
    const std::size_t end = body_.find(delimiter_, from);
    if (end == std::string_view::npos) return broken("a part does not end");
    part.data = end < begin ? std::string_view() : body_.substr(begin, end - begin);
    at_ = end + delimiter_.size();
    return part;
  }

  Result<Headers> part_headers() {
    Headers headers;
    const std::size_t begin = at_;
    while (true) {
      const std::size_t end = body_.find(kLineBreak, at_);
      if (end == std::string_view::npos) return broken("a part's headers do not end");
      if (end - begin > limits_.header_bytes) return broken("a part's headers are too long");
      const std::string_view line = body_.substr(at_, end - at_);
      at_ = end + kLineBreak.size();
      if (line.empty()) return headers;
      if (Result<void> read = read_header(line, headers); !read) return tl::unexpected(read.error());
    }
  }

  Result<void> read_header(std::string_view line, Headers& headers) const {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return broken("a part has a header without a colon");
    const std::string_view name = trimmed(line.substr(0, colon));
    const std::string_view value = trimmed(line.substr(colon + 1));
    if (same_word(name, "content-disposition")) headers.disposition = value;
    if (same_word(name, "content-type")) headers.type = value;
    if (same_word(name, "content-transfer-encoding") && !same_word(value, "binary") && !same_word(value, "8bit") &&
        !same_word(value, "7bit")) {
      return broken("a part has a transfer encoding, which forms do not have any more");
    }
    return {};
  }

  tl::unexpected<Error> broken(std::string_view what) const {
    return fail(ErrorCode::invalid_argument, "{} (near byte {})", what, at_);
  }

  std::string_view body_;
  std::string delimiter_;  // with the line break before it
  const MultipartLimits& limits_;
  std::size_t at_ = 0;
};

}  // namespace

std::optional<std::string> header_parameter(std::string_view value, std::string_view name) {
  std::size_t semicolon = value.find(';');
  while (semicolon != std::string_view::npos) {
    value.remove_prefix(semicolon + 1);
    const std::size_t equals = value.find_first_of("=;");
    if (equals == std::string_view::npos) return std::nullopt;
    if (value[equals] == ';') {
      semicolon = equals;
      continue;
    }
    const bool wanted = same_word(trimmed(value.substr(0, equals)), name);
    value.remove_prefix(equals + 1);
    value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
    std::optional<std::string> text;
    if (value.starts_with('"')) {
      text = quoted_text(value);
      if (!text) return std::nullopt;
    } else {
      text = trimmed(value.substr(0, value.find(';')));
    }
    if (wanted) return text;
    semicolon = value.find(';');
  }
  return std::nullopt;
}

Result<std::vector<FormPart>> parse_multipart(std::string_view content_type, std::string_view body,
                                              const MultipartLimits& limits) {
  const Result<std::string> boundary = boundary_of(content_type);
  if (!boundary) return tl::unexpected(boundary.error());
  return Parser(body, *boundary, limits).parse();
}

}  // namespace darkroom::http
