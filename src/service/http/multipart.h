// multipart/form-data (RFC 7578) of a body that is there as a whole. A stranger's bytes: every length is bounded.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace darkroom::http {

struct FormPart {
  std::string name;
  std::string filename;      // "": not a file
  std::string content_type;  // "": text/plain
  std::string_view data;     // into the body
};

struct MultipartLimits {
  std::size_t parts = 100;
  std::size_t header_bytes = 8192;  // of one part
};

// The parts in order; names may stand more than once. Error invalid_argument: what is no form, and where.
Result<std::vector<FormPart>> parse_multipart(std::string_view content_type, std::string_view body,
                                              const MultipartLimits& limits = {});

// The value of a parameter in "form-data; name=\"x\"", unquoted; nothing: it is not there or malformed.
std::optional<std::string> header_parameter(std::string_view value, std::string_view name);

}  // namespace darkroom::http
