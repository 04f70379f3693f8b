#include "cli/service_client.h"

#include <array>
#include <utility>

#include "base/curl_handles.h"
#include "base/text.h"

namespace darkroom {
namespace {

using json = nlohmann::ordered_json;

constexpr std::size_t kLargestAnswer = 64'000'000;  // bytes
constexpr long kConnectTime = 10;                   // seconds
constexpr long kAnswerTime = 120;                   // seconds

// Less than it was given ends the transfer.
std::size_t append(char* bytes, std::size_t size, std::size_t count, void* text) {
  auto& answer = *static_cast<std::string*>(text);
  if (answer.size() + size * count > kLargestAnswer) return 0;
  answer.append(bytes, size * count);
  return size * count;
}

bool is_of_this_machine(const std::string& url) {
  for (const char* host : {"://127.", "://localhost", "://[::1]"}) {
    if (url.find(host) != std::string::npos) return true;
  }
  return false;
}

Refusal refused(Error error) { return {std::move(error), {}}; }

// RFC 9457, or whatever stands between us and the service.
Refusal refusal_of(long status, const json& problem) {
  Refusal refusal{{ErrorCode::internal, fmt::format("the service answers {}", status)}, {}};
  if (!problem.is_object()) return refusal;
  if (problem.contains("detail") && problem["detail"].is_string()) refusal.error.message = problem["detail"];
  if (problem.contains("code") && problem["code"].is_string()) {
    refusal.error.code = value_of<ErrorCode>(problem["code"].get<std::string>()).value_or(ErrorCode::internal);
  }
  if (!problem.contains("errors") || !problem["errors"].is_array()) return refusal;
  for (const json& one : problem["errors"]) {
    if (one.is_object()) refusal.complaints.push_back({one.value("pointer", ""), one.value("detail", "")});
  }
  return refusal;
}

}  // namespace

std::string url_of(const HttpConfig& config) {
  if (!config.public_url.empty()) return config.public_url;
  std::string listen = config.listen;
  // Listening everywhere is listening here too.
  for (const auto& [everywhere, here] : {std::pair("0.0.0.0:", "127.0.0.1:"), {"[::]:", "[::1]:"}}) {
    if (listen.starts_with(everywhere)) listen.replace(0, std::string_view(everywhere).size(), here);
  }
  return fmt::format("{}://{}{}", config.tls_certificate.empty() ? "http" : "https", listen, config.path_prefix);
}

std::string as_path_part(const std::string& text) {
  const CurlEasy handle = new_curl_easy();
  const CurlText escaped(::curl_easy_escape(handle.get(), text.c_str(), static_cast<int>(text.size())));
  DR_ASSERT(escaped != nullptr);
  return escaped.get();
}

tl::expected<json, Refusal> ServiceClient::ask(const std::string& method, const std::string& target) const {
  const CurlEasy handle = new_curl_easy();
  const auto set = [&](CURLoption option, auto value) {
    DR_ASSERT(::curl_easy_setopt(handle.get(), option, value) == CURLE_OK);
  };
  std::string answer;
  std::array<char, CURL_ERROR_SIZE> trouble{};
  CurlList headers;
  const std::string url = address_.url + target;
  set(CURLOPT_ERRORBUFFER, trouble.data());
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_CUSTOMREQUEST, method.c_str());
  set(CURLOPT_FOLLOWLOCATION, 0L);  // a key is for who it was meant for
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_CONNECTTIMEOUT, kConnectTime);
  set(CURLOPT_TIMEOUT, kAnswerTime);
  set(CURLOPT_USERAGENT, "darkroom/" DARKROOM_VERSION);
  set(CURLOPT_WRITEFUNCTION, &append);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&answer));
  if (is_of_this_machine(url)) set(CURLOPT_PROXY, "");
  if (!address_.ca_file.empty()) set(CURLOPT_CAINFO, address_.ca_file.c_str());
  if (!address_.key.empty()) {
    headers.reset(::curl_slist_append(nullptr, ("Authorization: Bearer " + address_.key).c_str()));
    set(CURLOPT_HTTPHEADER, headers.get());
  }
  if (const CURLcode code = ::curl_easy_perform(handle.get()); code != CURLE_OK) {
    const char* const why = trouble[0] != '\0' ? trouble.data() : ::curl_easy_strerror(code);
    return tl::unexpected(
        refused({ErrorCode::not_found, fmt::format("no service answers at {}: {}", address_.url, why)}));
  }
  long status = 0;
  ::curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &status);
  json body = answer.empty() ? json(nullptr) : json::parse(answer, nullptr, false);
  const bool is_good = status / 100 == 2;
  if (!is_good) return tl::unexpected(refusal_of(status, body));
  if (body.is_discarded()) {
    return tl::unexpected(
        refused({ErrorCode::internal, address_.url + " answers with what is no JSON; is it a Darkroom?"}));
  }
  return body;
}

}  // namespace darkroom
