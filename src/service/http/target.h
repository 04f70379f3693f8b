// The target of a request line: path and query, decoded and free of anything that could mean another path.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace darkroom::http {

struct Target {
  std::string path;                                        // "/v1/jobs/x"; "*" of OPTIONS
  std::vector<std::pair<std::string, std::string>> query;  // in order
};

// "/a/b%20c?d=e+f", or the absolute form, whose scheme and host are dropped. A last slash and a bare '?' mean nothing.
// Error invalid_argument: a path that does not start with a slash; "." or ".." as a part; an escape that is malformed
// or stands for a slash, a backslash or a control character; text that is not UTF-8.
Result<Target> parse_target(std::string_view target);

// %41 decoded; error invalid_argument with the offset.
Result<std::string> percent_decoded(std::string_view text);

}  // namespace darkroom::http
