// A file as an answer: whole, a range of it (RFC 9110, 14), or the news that the client has it already.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "service/http/message.h"

namespace darkroom::http {

struct FileAnswer {
  std::filesystem::path path;
  std::string content_type;
  std::string etag;           // without quotes; must change whenever the bytes do
  std::string cache_control;  // "private, max-age=31536000, immutable"
};

// 200, 206, 304 or 416, as If-None-Match, Range and If-Range ask. Error not_found: there is no such regular file.
Result<Response> file_response(const Request& request, const FileAnswer& answer);

// "bytes=0-9", "bytes=10-", "bytes=-5" of `size` bytes. Nothing: no range, several, or another unit, all of which mean
// the whole. size 0 in the answer: the range lies outside.
struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};
std::optional<ByteRange> parse_range(std::string_view header, std::uint64_t size);

// Whether one of the tags of an If-None-Match is this one, weak or not, or *.
bool names_etag(std::string_view header, std::string_view etag);

}  // namespace darkroom::http
