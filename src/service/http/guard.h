// What browsers must not be able to do to a service on somebody's machine: reach it under a foreign name (DNS
// rebinding), or from a foreign page (cross-site requests).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "service/http/message.h"

namespace darkroom::http {

struct GuardOptions {
  std::vector<std::string> hosts;    // names beside localhost under which the service may be asked, without a port
  std::vector<std::string> origins;  // pages that may use it: "https://lite.koboldai.net", "null"
};

class Guard {
 public:
  explicit Guard(GuardOptions options) : options_(std::move(options)) {}

  // An address, localhost, or a configured name: an address cannot be rebound to another. Only an HTTP/1.0 client may
  // have none. Error invalid_argument.
  Result<void> check_host(std::string_view host) const;
  // No Origin, the page of the service itself, or a configured one; or a method that changes nothing: a foreign page
  // may ask then, but not read the answer. Error unsupported.
  Result<void> check_origin(const Request& request) const;

  // The headers that let a configured page read the answer, none for others.
  Headers cors_headers(const Request& request) const;
  // The answer to a browser that asks what a page may do.
  Response preflight(const Request& request, const std::vector<std::string>& methods) const;

 private:
  bool is_configured(std::string_view origin) const;

  GuardOptions options_;
};

// "example.org" of "Example.org:80", "::1" of "[::1]:80", lower case.
std::string host_name(std::string_view host);
bool is_address(std::string_view name);
bool is_loopback_address(std::string_view name);

}  // namespace darkroom::http
