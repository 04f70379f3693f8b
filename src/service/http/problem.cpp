#include "service/http/problem.h"

#include <array>

#include <nlohmann/json.hpp>

namespace darkroom::http {

int status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return 400;
    case ErrorCode::not_found:
      return 404;
    case ErrorCode::conflict:
      return 409;
    case ErrorCode::overloaded:
      return 429;
    case ErrorCode::unsupported:
    case ErrorCode::corrupt_data:
      return 422;
    case ErrorCode::cancelled:
      return 409;
    case ErrorCode::timed_out:
      return 504;
    case ErrorCode::out_of_memory:
    case ErrorCode::worker_lost:
      return 503;
    case ErrorCode::internal:
      return 500;
  }
  DR_ASSERT(false);
}

Problem problem_of(const Error& error) {
  Problem problem{.status = status_of(error.code), .code = error.code, .detail = error.message, .complaints = {}};
  if (problem.status == 429) problem.headers.add("Retry-After", "5");
  return problem;
}

Problem problem_of(const std::vector<Complaint>& complaints) {
  Problem problem = problem_of(as_error(complaints));
  problem.complaints = complaints;
  return problem;
}

Response problem_json(const Problem& problem, const Request& request) {
  nlohmann::ordered_json body = {{"type", "about:blank"},         {"title", reason_phrase(problem.status)},
                                 {"status", problem.status},      {"detail", problem.detail},
                                 {"code", name_of(problem.code)}, {"request_id", request.request_id}};
  if (!problem.complaints.empty()) {
    nlohmann::ordered_json errors = nlohmann::ordered_json::array();
    for (const Complaint& complaint : problem.complaints) {
      errors.push_back({{"pointer", complaint.pointer}, {"detail", complaint.message}});
    }
    body["errors"] = std::move(errors);
  }
  Response response = text_response(problem.status, "application/problem+json",
                                    body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  for (const auto& [name, value] : problem.headers) response.headers.add(name, value);
  return response;
}

std::string_view reason_phrase(int status) {
  struct Phrase {
    int status;
    std::string_view words;
  };
  static constexpr auto kPhrases = std::to_array<Phrase>({{200, "OK"},
                                                          {201, "Created"},
                                                          {202, "Accepted"},
                                                          {204, "No Content"},
                                                          {206, "Partial Content"},
                                                          {304, "Not Modified"},
                                                          {400, "Bad Request"},
                                                          {401, "Unauthorized"},
                                                          {403, "Forbidden"},
                                                          {404, "Not Found"},
                                                          {405, "Method Not Allowed"},
                                                          {408, "Request Timeout"},
                                                          {409, "Conflict"},
                                                          {411, "Length Required"},
                                                          {412, "Precondition Failed"},
                                                          {413, "Content Too Large"},
                                                          {414, "URI Too Long"},
                                                          {415, "Unsupported Media Type"},
                                                          {416, "Range Not Satisfiable"},
                                                          {417, "Expectation Failed"},
                                                          {421, "Misdirected Request"},
                                                          {422, "Unprocessable Content"},
                                                          {429, "Too Many Requests"},
                                                          {431, "Request Header Fields Too Large"},
                                                          {500, "Internal Server Error"},
                                                          {501, "Not Implemented"},
                                                          {503, "Service Unavailable"},
                                                          {504, "Gateway Timeout"},
                                                          {505, "HTTP Version Not Supported"}});
  for (const Phrase& phrase : kPhrases) {
    if (phrase.status == status) return phrase.words;
  }
  return "Unknown";
}

}  // namespace darkroom::http
