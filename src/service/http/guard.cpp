#include "service/http/guard.h"

#include <algorithm>
#include <array>

#include <arpa/inet.h>
#include <fmt/ranges.h>

#include "base/text.h"
#include "service/http/text.h"

namespace darkroom::http {
namespace {

// What a page may send beside what browsers always allow. OpenAI's own client sends the x-stainless ones.
constexpr std::string_view kAllowedHeaders =
    "Authorization, Content-Type, Accept, Prefer, Idempotency-Key, Last-Event-ID, Range, If-None-Match, X-Request-Id, "
    "Api-Key, X-Api-Key, OpenAI-Organization, OpenAI-Project, X-Stainless-Arch, X-Stainless-Async, "
    "X-Stainless-Custom-Poll-Interval, X-Stainless-Helper-Method, X-Stainless-Lang, X-Stainless-OS, "
    "X-Stainless-Package-Version, X-Stainless-Poll-Helper, X-Stainless-Raw-Response, X-Stainless-Read-Timeout, "
    "X-Stainless-Retry-Count, X-Stainless-Runtime, X-Stainless-Runtime-Version, X-Stainless-Stream-Helper, "
    "X-Stainless-Timeout";
constexpr std::string_view kExposedHeaders =
    "Location, Retry-After, X-Request-Id, ETag, Content-Range, Warning, Preference-Applied";

bool changes_nothing(std::string_view method) { return method == "GET" || method == "HEAD" || method == "OPTIONS"; }

}  // namespace

std::string host_name(std::string_view host) {
  if (host.starts_with('[')) {
    const std::size_t end = host.find(']');
    return end == std::string_view::npos ? "" : to_lower(host.substr(1, end - 1));
  }
  return to_lower(host.substr(0, host.rfind(':')));
}

bool is_address(std::string_view name) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  const std::string text(name);
  return ::inet_pton(AF_INET, text.c_str(), bytes.data()) == 1 ||
         ::inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1;
}

bool is_loopback_address(std::string_view name) {
  in_addr four{};
  in6_addr six{};
  const std::string text(name);
  if (::inet_pton(AF_INET, text.c_str(), &four) == 1) return (ntohl(four.s_addr) >> 24) == 127;
  return ::inet_pton(AF_INET6, text.c_str(), &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

Result<void> Guard::check_host(std::string_view host) const {
  const std::string name = host_name(host);
  const auto is_this = [&](const std::string& allowed) { return to_lower(allowed) == name; };
  if (is_address(name) || name == "localhost" || name.ends_with(".localhost") ||
      std::any_of(options_.hosts.begin(), options_.hosts.end(), is_this)) {
    return {};
  }
  return fail(ErrorCode::invalid_argument, "this service is not known as {}; name it in http.hosts if it is",
              name.substr(0, 100));
}

bool Guard::is_configured(std::string_view origin) const {
  return std::find(options_.origins.begin(), options_.origins.end(), origin) != options_.origins.end();
}

Result<void> Guard::check_origin(const Request& request) const {
  const std::string_view origin = request.headers.get("Origin");
  if (origin.empty() || changes_nothing(request.method) || is_configured(origin)) return {};
  const std::size_t host = origin.find("://");
  if (host != std::string_view::npos && same_word(origin.substr(host + 3), request.headers.get("Host"))) return {};
  return fail(ErrorCode::unsupported,
              "pages of {} may not use this service; name them in http.cors_origins if they may",
              origin.substr(0, 100));
}

Headers Guard::cors_headers(const Request& request) const {
  Headers headers;
  const std::string_view origin = request.headers.get("Origin");
  if (origin.empty()) return headers;
  headers.add("Vary", "Origin");
  if (!is_configured(origin)) return headers;
  headers.add("Access-Control-Allow-Origin", std::string(origin));
  headers.add("Access-Control-Expose-Headers", std::string(kExposedHeaders));
  return headers;
}

Response Guard::preflight(const Request& request, const std::vector<std::string>& methods) const {
  std::vector<std::string> allowed = methods;
  if (std::find(methods.begin(), methods.end(), "GET") != methods.end()) allowed.emplace_back("HEAD");
  allowed.emplace_back("OPTIONS");
  const std::string list = fmt::format("{}", fmt::join(allowed, ", "));
  Response response{.status = 204, .headers = {{"Allow", list}}, .body = {}};
  if (is_configured(request.headers.get("Origin")) && request.headers.has("Access-Control-Request-Method")) {
    response.headers.add("Access-Control-Allow-Methods", list);
    response.headers.add("Access-Control-Allow-Headers", std::string(kAllowedHeaders));
    response.headers.add("Access-Control-Max-Age", "600");
  }
  return response;
}

}  // namespace darkroom::http
