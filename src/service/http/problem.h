// What went wrong, and how it is told: as application/problem+json (RFC 9457) unless a path has a form of its own.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/json_reader.h"
#include "service/http/message.h"

namespace darkroom::http {

struct Problem {
  int status = 500;
  ErrorCode code = ErrorCode::internal;
  std::string detail;                 // all of it in one text
  std::vector<Complaint> complaints;  // each mistake of a body, with its pointer
  Headers headers;                    // Allow, Retry-After, WWW-Authenticate, …
};

// The status that a code stands for.
int status_of(ErrorCode code);
Problem problem_of(const Error& error);
Problem problem_of(const std::vector<Complaint>& complaints);  // 400; there must be one

// How a family of paths words its errors; `request` has no body yet where it was refused for its head.
using ProblemFormat = std::function<Response(const Problem&, const Request& request)>;

// {"type", "title", "status", "detail", "code", "request_id", "errors": [{"pointer", "detail"}]}
Response problem_json(const Problem& problem, const Request& request);

std::string_view reason_phrase(int status);

}  // namespace darkroom::http
