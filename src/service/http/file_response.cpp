#include "service/http/file_response.h"

#include <algorithm>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/text.h"
#include "service/http/text.h"

namespace darkroom::http {

std::optional<ByteRange> parse_range(std::string_view header, std::uint64_t size) {
  constexpr std::string_view kUnit = "bytes=";
  if (!header.starts_with(kUnit) || header.find(',') != std::string_view::npos) return std::nullopt;
  const std::string_view range = trimmed(header.substr(kUnit.size()));
  const std::size_t dash = range.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const auto first = whole_number(range.substr(0, dash));
  const auto last = whole_number(range.substr(dash + 1));
  if (dash == 0) {  // the last so many
    if (!last) return std::nullopt;
    const std::uint64_t count = std::min<std::uint64_t>(*last, size);
    return ByteRange{size - count, count};
  }
  const bool is_open = dash + 1 == range.size();
  if (!first || (!last && !is_open) || (last && *last < *first)) return std::nullopt;
  if (*first >= size) return ByteRange{};
  const std::uint64_t end = last ? std::min<std::uint64_t>(*last, size - 1) + 1 : size;
  return ByteRange{*first, end - *first};
}

bool names_etag(std::string_view header, std::string_view etag) {
  for (std::string_view tag : split(header, ',')) {
    tag = trimmed(tag);
    if (tag == "*") return true;
    if (tag.starts_with("W/")) tag.remove_prefix(2);
    if (tag.size() == etag.size() + 2 && tag.front() == '"' && tag.back() == '"' &&
        tag.substr(1, etag.size()) == etag) {
      return true;
    }
  }
  return false;
}

Result<Response> file_response(const Request& request, const FileAnswer& answer) {
  auto file = std::make_shared<const Fd>(::open(answer.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat status {};
  if (!*file || ::fstat(file->get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return fail(ErrorCode::not_found, "the file is not there any more");
  }
  const auto size = static_cast<std::uint64_t>(status.st_size);
  Response response{.status = 200,
                    .headers = {{"Content-Type", answer.content_type},
                                {"ETag", '"' + answer.etag + '"'},
                                {"Cache-Control", answer.cache_control},
                                {"Accept-Ranges", "bytes"}},
                    .body = {}};
  if (names_etag(request.headers.get("If-None-Match"), answer.etag)) {
    response.status = 304;
    return response;
  }
  const std::string_view if_range = request.headers.get("If-Range");
  const bool is_same = if_range.empty() || if_range == '"' + answer.etag + '"';
  const auto range = is_same ? parse_range(request.headers.get("Range"), size) : std::nullopt;
  if (range && range->size == 0) {
    response.status = 416;
    response.headers.add("Content-Range", fmt::format("bytes */{}", size));
    return response;
  }
  if (range) {
    response.status = 206;
    response.headers.add("Content-Range",
                         fmt::format("bytes {}-{}/{}", range->offset, range->offset + range->size - 1, size));
  }
  response.body = range ? FilePart{file, range->offset, range->size} : FilePart{file, 0, size};
  return response;
}

}  // namespace darkroom::http
