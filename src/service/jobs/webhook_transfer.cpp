#include "service/jobs/webhook_transfer.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/curl_handles.h"

namespace darkroom {
namespace {

constexpr int kPollMs = 100;

struct FreeMulti {
  void operator()(CURLM* handle) const { ::curl_multi_cleanup(handle); }
};
struct FreeUrl {
  void operator()(CURLU* url) const { ::curl_url_cleanup(url); }
};

// The first `bits` bits of an address and of a network are the same.
bool in_network(std::span<const std::uint8_t> address, std::span<const std::uint8_t> network, unsigned bits) {
  for (unsigned i = 0; i < bits; ++i) {
    const unsigned mask = 0x80U >> (i % 8);
    if ((address[i / 8] & mask) != (network[i / 8] & mask)) return false;
  }
  return true;
}

struct Network4 {
  std::array<std::uint8_t, 4> address;
  unsigned bits;
};

// IANA's special-purpose registry, and groups (224/4), reserved (240/4).
constexpr Network4 kSpecial4[] = {
    {{0, 0, 0, 0}, 8},      {{10, 0, 0, 0}, 8},     {{100, 64, 0, 0}, 10}, {{127, 0, 0, 0}, 8},
    {{169, 254, 0, 0}, 16}, {{172, 16, 0, 0}, 12},  {{192, 0, 0, 0}, 24},  {{192, 0, 2, 0}, 24},
    {{192, 88, 99, 0}, 24}, {{192, 168, 0, 0}, 16}, {{198, 18, 0, 0}, 15}, {{198, 51, 100, 0}, 24},
    {{203, 0, 113, 0}, 24}, {{224, 0, 0, 0}, 4},    {{240, 0, 0, 0}, 4},
};

bool is_public(const std::array<std::uint8_t, 4>& address) {
  return std::none_of(std::begin(kSpecial4), std::end(kSpecial4),
                      [&](const Network4& network) { return in_network(address, network.address, network.bits); });
}

bool is_public(const std::array<std::uint8_t, 16>& address) {
  constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};  // ::ffff:0:0/96
  constexpr std::array<std::uint8_t, 12> kTranslated = {0, 0x64, 0xff, 0x9b};                   // 64:ff9b::/96
  constexpr std::array<std::uint8_t, 4> kDocumentation = {0x20, 0x01, 0x0d, 0xb8};              // 2001:db8::/32
  constexpr std::array<std::uint8_t, 4> kTeredo = {0x20, 0x01, 0, 0};                           // 2001::/32
  constexpr std::array<std::uint8_t, 2> k6to4 = {0x20, 0x02};                                   // 2002::/16
  constexpr std::array<std::uint8_t, 1> kGlobal = {0x20};                                       // 2000::/3
  if (in_network(address, kMapped, 96) || in_network(address, kTranslated, 96)) {
    return is_public(std::array<std::uint8_t, 4>{address[12], address[13], address[14], address[15]});
  }
  return in_network(address, kGlobal, 3) && !in_network(address, kDocumentation, 32) &&
         !in_network(address, kTeredo, 32) && !in_network(address, k6to4, 16);
}

// The socket is opened only for an address that may be reached: the one that is really used, whatever the name was
// resolved to before.
curl_socket_t open_socket(void* allow_private, curlsocktype, curl_sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* bytes = nullptr;
  if (address->family == AF_INET) bytes = &reinterpret_cast<sockaddr_in*>(&address->addr)->sin_addr;
  if (address->family == AF_INET6) bytes = &reinterpret_cast<sockaddr_in6*>(&address->addr)->sin6_addr;
  if (bytes == nullptr) return CURL_SOCKET_BAD;
  ::inet_ntop(address->family, bytes, text.data(), text.size());
  if (!*static_cast<const bool*>(allow_private) && !is_public_address(text.data())) return CURL_SOCKET_BAD;
  return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

std::size_t ignore(char*, std::size_t size, std::size_t count, void*) { return size * count; }

class Transfer {
 public:
  Transfer(const WebhookRequest& request, const WebhookRound& round) : easy_(new_curl_easy()) {
    for (const std::string& header : request.headers) {
      headers_.reset(::curl_slist_append(headers_.release(), header.c_str()));
    }
    set(CURLOPT_URL, request.url.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_PROXY, "");  // the address that is looked at must be the receiver's
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_TIMEOUT, static_cast<long>(round.patience.count()));
    set(CURLOPT_HTTPHEADER, headers_.get());
    set(CURLOPT_USERAGENT, "darkroom/" DARKROOM_VERSION);
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    set(CURLOPT_POSTFIELDS, request.body.data());
    set(CURLOPT_WRITEFUNCTION, &ignore);
    set(CURLOPT_OPENSOCKETFUNCTION, &open_socket);
    set(CURLOPT_OPENSOCKETDATA, &round.allow_private);
    set(CURLOPT_ERRORBUFFER, trouble_.data());
  }

  CURL* handle() { return easy_.get(); }
  void end(CURLcode code) {
    if (code == CURLE_OK) {
      long status = 0;
      ::curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status);
      delivery_ = {.status = static_cast<int>(status), .trouble = {}};
    } else {
      delivery_ = {.status = 0, .trouble = trouble_[0] != '\0' ? trouble_.data() : ::curl_easy_strerror(code)};
    }
  }
  const Delivery& delivery() const { return delivery_; }

 private:
  template <class T>
  void set(CURLoption option, T value) {
    DR_ASSERT(::curl_easy_setopt(easy_.get(), option, value) == CURLE_OK);
  }

  CurlEasy easy_;
  CurlList headers_;
  std::array<char, CURL_ERROR_SIZE> trouble_{};
  Delivery delivery_{.status = 0, .trouble = "broken off"};
};

}  // namespace

bool is_public_address(const std::string& address) {
  std::array<std::uint8_t, 4> four{};
  if (::inet_pton(AF_INET, address.c_str(), four.data()) == 1) return is_public(four);
  std::array<std::uint8_t, 16> sixteen{};
  return ::inet_pton(AF_INET6, address.c_str(), sixteen.data()) == 1 && is_public(sixteen);
}

std::vector<Delivery> post_all(const std::vector<WebhookRequest>& requests, const WebhookRound& round) {
  start_curl();
  const std::unique_ptr<CURLM, FreeMulti> multi(::curl_multi_init());
  DR_ASSERT(multi != nullptr);
  std::vector<std::unique_ptr<Transfer>> transfers;
  for (const WebhookRequest& request : requests) {
    transfers.push_back(std::make_unique<Transfer>(request, round));
    ::curl_multi_add_handle(multi.get(), transfers.back()->handle());
  }
  int running = 1;
  while (running > 0 && !round.broken_off()) {
    ::curl_multi_perform(multi.get(), &running);
    int left = 0;
    while (const CURLMsg* message = ::curl_multi_info_read(multi.get(), &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      const auto done = std::find_if(transfers.begin(), transfers.end(),
                                     [&](const auto& transfer) { return transfer->handle() == message->easy_handle; });
      (*done)->end(message->data.result);
    }
    if (running > 0) ::curl_multi_poll(multi.get(), nullptr, 0, kPollMs, nullptr);
  }
  std::vector<Delivery> deliveries;
  for (const std::unique_ptr<Transfer>& transfer : transfers) {
    ::curl_multi_remove_handle(multi.get(), transfer->handle());
    deliveries.push_back(transfer->delivery());
  }
  return deliveries;
}

Result<void> check_http_url(const std::string& url) {
  const std::unique_ptr<CURLU, FreeUrl> parts(::curl_url());
  DR_ASSERT(parts != nullptr);
  if (const CURLUcode code = ::curl_url_set(parts.get(), CURLUPART_URL, url.c_str(), CURLU_NON_SUPPORT_SCHEME);
      code != CURLUE_OK) {
    return fail(ErrorCode::invalid_argument, "the webhook \"{}\" is no URL: {}", url, ::curl_url_strerror(code));
  }
  const auto part = [&](CURLUPart which) {
    char* text = nullptr;
    if (::curl_url_get(parts.get(), which, &text, 0) != CURLUE_OK) return std::string();
    const CurlText owner(text);
    return std::string(text);
  };
  const std::string scheme = part(CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") {
    return fail(ErrorCode::invalid_argument, "the webhook \"{}\" must begin with http:// or https://", url);
  }
  if (!part(CURLUPART_USER).empty() || !part(CURLUPART_PASSWORD).empty()) {
    return fail(ErrorCode::invalid_argument, "the webhook must not have a user name or a password in its URL");
  }
  return {};
}

}  // namespace darkroom
