// One round of HTTP requests, side by side; libcurl's adapter.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace darkroom {

struct WebhookRequest {
  std::string url;
  std::vector<std::string> headers;  // "name: value"
  std::string body;
};

struct WebhookRound {
  bool allow_private = false;
  std::chrono::seconds patience{10};
  std::function<bool()> broken_off;  // asked several times a second
};

// How a request went.
struct Delivery {
  int status = 0;       // HTTP's; 0: there was no answer
  std::string trouble;  // then: why
};

// Whether an address (text, IPv4 or IPv6) is one that everybody can reach: not of this machine, a private or local
// network, a group, or reserved.
bool is_public_address(const std::string& address);

// Redirects are not followed. One answer a request, in their order.
std::vector<Delivery> post_all(const std::vector<WebhookRequest>& requests, const WebhookRound& round);

// The URL in its parts' terms: error invalid_argument if it is not http or https, or names a user.
Result<void> check_http_url(const std::string& url);

}  // namespace darkroom
