// The part of a Connection that reads a request's head and judges it.
#include <algorithm>

#include <boost/beast/http/error.hpp>
#include <fmt/ranges.h>

#include "base/text.h"
#include "service/http/connection.h"
#include "service/http/target.h"
#include "service/http/text.h"

namespace darkroom::http {
namespace {

namespace beast = boost::beast;

constexpr std::size_t kHeadChunk = 4 * 1024;   // bytes read at once
constexpr std::size_t kMostFields = 100;       // of a head
constexpr std::size_t kMostTarget = 8 * 1024;  // bytes
constexpr std::size_t kMostRequestId = 128;

// One that the client gave, if it can stand in a log, else a random one.
std::string request_id_of(std::string_view given) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("-_.:").find(c) != std::string_view::npos;
  };
  if (!given.empty() && given.size() <= kMostRequestId && std::all_of(given.begin(), given.end(), is_plain)) {
    return std::string(given);
  }
  return new_request_id();
}

Problem problem_of_parser(error_code error, std::size_t header_bytes) {
  if (error == beast::http::error::header_limit) {
    return make_problem(431, ErrorCode::invalid_argument, fmt::format("the head has more than {} bytes", header_bytes));
  }
  if (error == beast::http::error::bad_version) {
    return make_problem(505, ErrorCode::unsupported, "only HTTP/1.0 and HTTP/1.1 are spoken here");
  }
  return make_problem(400, ErrorCode::invalid_argument, "not HTTP: " + error.message());
}

// The last hop that is not a trusted proxy; "": there is none.
std::string forwarded_for(std::string_view header, const std::vector<std::string>& trusted) {
  std::vector<std::string_view> hops = split(header, ',');
  std::reverse(hops.begin(), hops.end());
  for (const std::string_view hop : hops) {
    std::string address(trimmed(hop));
    if (!is_address(address)) address = host_name(address);  // with a port
    if (!is_address(address)) return "";
    if (std::find(trusted.begin(), trusted.end(), address) == trusted.end()) return address;
  }
  return "";
}

}  // namespace

asio::awaitable<error_code> Connection::read_more(std::size_t most, Deadline deadline) {
  const Wire::Read read = co_await wire_.read_some(buffer_.prepare(most), deadline);
  buffer_.commit(read.bytes);
  co_return read.error;
}

asio::awaitable<bool> Connection::read_head() {
  const ServerOptions& options = shared_->options;
  request_ = {};
  route_ = nullptr;
  sent_ = 0;
  keep_ = false;
  parser_.emplace();
  parser_->header_limit(static_cast<std::uint32_t>(options.header_bytes));
  parser_->body_limit(boost::none);  // looked at in judge_head() and read_body(), which can answer
  Deadline deadline = within(is_first_ ? options.header_time : options.idle_time);
  is_first_ = false;
  started_ = std::chrono::steady_clock::now();
  idle_ = buffer_.size() == 0;
  while (!parser_->is_header_done()) {
    error_code error;
    if (idle_ || buffer_.size() == 0) {
      if (idle_ && shared_->draining) co_return false;
      error = co_await read_more(kHeadChunk, deadline);
    }
    if (idle_ && !error) {  // the first byte: the clock starts
      idle_ = false;
      started_ = std::chrono::steady_clock::now();
      deadline = within(options.header_time);
    }
    if (!error) {
      buffer_.consume(parser_->put(buffer_.data(), error));
      if (error == beast::http::error::need_more) {
        error = buffer_.size() > options.header_bytes ? beast::http::error::header_limit
                                                      : co_await read_more(kHeadChunk, deadline);
      }
      if (!error) continue;
    }
    if (error.category() != beast::http::make_error_code(beast::http::error::bad_method).category()) {
      const bool began = !idle_;
      idle_ = false;
      if (error != asio::error::timed_out || !began) co_return false;
      co_return co_await refuse(make_problem(408, ErrorCode::timed_out, "the head took too long"));
    }
    co_return co_await refuse(problem_of_parser(error, options.header_bytes));
  }
  std::optional<Problem> problem = take_head();
  if (problem) co_return co_await refuse(std::move(*problem));
  co_return true;
}

std::optional<Problem> Connection::take_head() {
  const auto& head = parser_->get();
  keep_ = parser_->keep_alive();
  request_.method = std::string(head.method_string());
  std::size_t fields = 0;
  for (const auto& field : head) {
    if (++fields > kMostFields) {
      return make_problem(431, ErrorCode::invalid_argument,
                          fmt::format("the head has more than {} fields", kMostFields));
    }
    request_.headers.add(std::string(field.name_string()), std::string(field.value()));
  }
  request_.request_id = request_id_of(request_.headers.get("X-Request-Id"));
  if (std::optional<Problem> problem = take_target(head.target())) return problem;
  const std::size_t hosts = head.count(beast::http::field::host);
  if (hosts > 1 || (hosts == 0 && head.version() >= 11)) {
    return make_problem(400, ErrorCode::invalid_argument, "there must be one Host");
  }
  take_peer_and_url();
  return std::nullopt;
}

std::optional<Problem> Connection::take_target(std::string_view target) {
  if (target.size() > kMostTarget) {
    return make_problem(414, ErrorCode::invalid_argument, fmt::format("the path has more than {} bytes", kMostTarget));
  }
  Result<Target> parsed = parse_target(target);
  if (!parsed) return make_problem(400, ErrorCode::invalid_argument, parsed.error().message);
  request_.path = std::move(parsed->path);
  request_.query = std::move(parsed->query);
  const std::string& prefix = shared_->options.path_prefix;
  if (!prefix.empty() && is_below(request_.path, prefix)) {
    request_.path.erase(0, prefix.size());
    if (request_.path.empty()) request_.path = "/";
  }
  return std::nullopt;
}

void Connection::take_peer_and_url() {
  const ServerOptions& options = shared_->options;
  const std::vector<std::string>& trusted = options.trusted_proxies;
  const bool by_proxy = std::find(trusted.begin(), trusted.end(), ends_.peer) != trusted.end();
  request_.peer = ends_.peer;
  std::string_view host = request_.headers.get("Host");
  std::string_view scheme = wire_.is_tls() ? "https" : "http";
  if (by_proxy) {
    const std::string client = forwarded_for(request_.headers.get("X-Forwarded-For"), trusted);
    if (!client.empty()) request_.peer = client;
    if (same_word(request_.headers.get("X-Forwarded-Proto"), "https")) scheme = "https";
    if (const std::string_view asked = request_.headers.get("X-Forwarded-Host"); !asked.empty()) host = asked;
  }
  request_.base_url = options.public_url;
  if (request_.base_url.empty()) {
    request_.base_url =
        fmt::format("{}://{}{}", scheme, host.empty() ? std::string_view(ends_.local) : host, options.path_prefix);
  }
}

std::optional<Response> Connection::judge_head() {
  const auto refuse_with = [this](int status, const Error& error) {
    return worded(make_problem(status, error.code, error.message));
  };
  // A name that was made to lead here must not even learn which paths there are.
  if (shared_->hooks.is_open() && request_.headers.has("Host")) {
    const Result<void> host = shared_->guard.check_host(request_.headers.get("Host"));
    if (!host) return refuse_with(421, host.error());
  }
  if (const Result<void> origin = shared_->guard.check_origin(request_); !origin) {
    return refuse_with(403, origin.error());
  }
  Router::Match match = shared_->router.find(request_.method, request_.path);
  if (request_.method == "OPTIONS") return shared_->guard.preflight(request_, match.methods);
  if (match.methods.empty()) {
    return refuse_with(404, {ErrorCode::not_found, "there is nothing at " + request_.path.substr(0, 200)});
  }
  if (match.route == nullptr) {
    Problem problem = make_problem(405, ErrorCode::unsupported, request_.path + " has no " + request_.method);
    problem.headers.add("Allow", fmt::format("{}", fmt::join(match.methods, ", ")));
    return worded(problem);
  }
  route_ = match.route;
  request_.parameters = std::move(match.parameters);
  const std::string_view expect = request_.headers.get("Expect");
  if (!expect.empty() && !same_word(expect, "100-continue")) {
    return refuse_with(417, {ErrorCode::unsupported, "the only expectation understood is 100-continue"});
  }
  tl::expected<Principal, Problem> admitted = shared_->hooks.admit(request_, *route_);
  if (!admitted) return worded(admitted.error());
  request_.principal = std::move(*admitted);
  if (parser_->content_length().value_or(0) > shared_->options.body_bytes) {
    return refuse_with(
        413, {ErrorCode::invalid_argument, fmt::format("the body has {} bytes, at most {} are allowed",
                                                       *parser_->content_length(), shared_->options.body_bytes)});
  }
  // A packed body may unpack to any size: none is unpacked.
  const std::string_view packing = request_.headers.get("Content-Encoding");
  if (!packing.empty() && !same_word(packing, "identity")) {
    return refuse_with(415, {ErrorCode::unsupported, fmt::format("the body is packed with {}, it must be sent as it is",
                                                                 packing.substr(0, 60))});
  }
  return std::nullopt;
}

}  // namespace darkroom::http
