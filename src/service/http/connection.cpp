#include "service/http/connection.h"

#include <exception>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/random.h"

namespace darkroom::http {
namespace {

constexpr std::size_t kBodyChunk = 64 * 1024;          // bytes read at once
constexpr std::size_t kMostUnwantedBody = 64 * 1024;   // bytes read of a refused request, so that the connection stays
constexpr std::size_t kMostAfterGoodbye = 256 * 1024;  // bytes taken from a client that was told to go
constexpr std::chrono::seconds kGoodbyeTime(2);
constexpr std::chrono::seconds kLookTime(1);  // between two looks whether a client that waits is still there

}  // namespace

std::string new_request_id() { return fmt::format("{:016x}{:016x}", random_u64(), random_u64()); }

bool Reservation::grow_to(std::size_t bytes) {
  if (bytes <= bytes_) return true;
  const std::size_t more = bytes - bytes_;
  if (total_.fetch_add(more) + more > most_) {
    total_ -= more;
    return false;
  }
  bytes_ = bytes;
  return true;
}

Connection::Connection(std::shared_ptr<Shared> shared, asio::ip::tcp::socket socket,
                       std::shared_ptr<asio::ssl::context> tls, Ends ends)
    : shared_(std::move(shared)),
      wire_(std::move(socket), std::move(tls)),
      ends_(std::move(ends)),
      bell_(wire_.executor()) {}

asio::awaitable<void> Connection::run() {
  if (co_await wire_.handshake(within(shared_->options.header_time))) {
    wire_.cut();
    co_return;
  }
  bool more = true;
  while (more) more = co_await serve_one();
  const bool sends_more = !parser_->is_done();
  co_await wire_.close(within(kGoodbyeTime), sends_more ? kMostAfterGoodbye : 0);
}

void Connection::wake() {
  asio::post(wire_.executor(), [self = shared_from_this()] {
    self->rung_ = true;
    self->bell_.cancel();
    if (self->idle_ && self->shared_->draining) self->wire_.cut();
  });
}

void Connection::cut() {
  asio::post(wire_.executor(), [self = shared_from_this()] { self->wire_.cut(); });
}

asio::awaitable<bool> Connection::serve_one() {
  const bool has_head = co_await read_head();
  if (!has_head) co_return false;

  std::optional<Response> response = judge_head();
  const bool was_refused = response.has_value();
  if (!was_refused || may_skip_body()) {
    std::optional<Problem> problem = co_await read_body();
    if (problem) {
      keep_ = false;
      response = worded(*problem);
    }
  } else {
    keep_ = false;  // it is not worth reading what nobody wants
  }
  if (!response) response = co_await call_handler();
  if (!response) {
    report(0, false);
    wire_.cut();
    co_return false;
  }
  const int status = response->status;
  const bool all_sent = co_await send(std::move(*response));
  report(status, all_sent);
  request_ = {};
  reserved_.reset();
  co_return all_sent&& keep_ && !shared_->draining;
}

bool Connection::may_skip_body() const {
  if (parser_->is_done()) return true;
  if (request_.headers.has("Expect")) return false;  // the client waits for our word before it sends
  return !parser_->chunked() && parser_->content_length().value_or(0) <= kMostUnwantedBody;
}

asio::awaitable<std::optional<Problem>> Connection::read_body() {
  const std::size_t most = shared_->options.body_bytes;
  const Deadline deadline = within(shared_->options.body_time);
  const bool has_more = !parser_->is_done();
  if (has_more && request_.headers.get("Expect") == "100-continue" && buffer_.size() == 0) {
    const error_code error = co_await wire_.write("HTTP/1.1 100 Continue\r\n\r\n", deadline);
    if (error) co_return make_problem(400, ErrorCode::invalid_argument, "the connection broke");
  }
  reserved_.emplace(shared_->buffered, shared_->options.buffered_bytes);
  parser_->eager(true);
  while (!parser_->is_done()) {
    error_code error;
    if (buffer_.size() > 0) buffer_.consume(parser_->put(buffer_.data(), error));
    const std::size_t size = parser_->get().body().size();
    if (size > most) {
      co_return make_problem(413, ErrorCode::invalid_argument, fmt::format("the body has more than {} bytes", most));
    }
    if (!reserved_->grow_to(size)) {
      Problem busy = make_problem(503, ErrorCode::overloaded, "too many large requests at once");
      busy.headers.add("Retry-After", "5");
      co_return busy;
    }
    if (error && error != boost::beast::http::error::need_more) {
      co_return make_problem(400, ErrorCode::invalid_argument, "the body is malformed: " + error.message());
    }
    if (parser_->is_done() || (!error && buffer_.size() > 0)) continue;
    error = co_await read_more(kBodyChunk, deadline);
    if (error == asio::error::timed_out) {
      co_return make_problem(408, ErrorCode::timed_out, "the body took too long");
    }
    if (error) co_return make_problem(400, ErrorCode::invalid_argument, "the body ended before its time");
  }
  request_.body = std::move(parser_->get().body());
  co_return std::nullopt;
}

template <class Result>
asio::awaitable<Result> Connection::on_handler_thread(std::function<Result()> work) {
  auto task = [work = std::move(work)]() -> asio::awaitable<Result> { co_return work(); };
  co_return co_await asio::co_spawn(shared_->handlers, std::move(task), asio::use_awaitable);
}

asio::awaitable<std::optional<Response>> Connection::call_handler() {
  std::function<Answer()> work = [this]() -> Answer {
    try {
      return route_->handler(request_);
    } catch (const std::exception& error) {  // out of memory, say: this request ends, the service does not
      return worded(make_problem(500, ErrorCode::internal, error.what()));
    }
  };
  Answer answer = co_await on_handler_thread<Answer>(std::move(work));
  if (auto* response = std::get_if<Response>(&answer)) co_return std::move(*response);
  std::shared_ptr<Later> later = std::get<std::shared_ptr<Later>>(answer);
  co_return co_await wait_for(std::move(later));
}

asio::awaitable<std::optional<Response>> Connection::wait_for(std::shared_ptr<Later> later) {
  bool is_gone = false;
  {
    const Listening listening(later->bell(), ringer());
    while (!later->bell().has_rung() && !shared_->finishing && !is_gone &&
           std::chrono::steady_clock::now() < later->deadline()) {
      co_await wait(std::min(later->deadline(), within(kLookTime)));
      is_gone = wire_.peer_is_gone();
    }
  }
  std::function<std::optional<Response>()> work = [this, later, is_gone]() -> std::optional<Response> {
    later->let_go();
    try {
      if (!is_gone) return later->respond();
      later->client_is_gone();
      return std::nullopt;
    } catch (const std::exception& error) {
      return worded(make_problem(500, ErrorCode::internal, error.what()));
    }
  };
  co_return co_await on_handler_thread<std::optional<Response>>(std::move(work));
}

asio::awaitable<void> Connection::wait(Deadline until) {
  if (!rung_) {
    bell_.expires_at(until);
    co_await bell_.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  rung_ = false;
}

std::function<void()> Connection::ringer() {
  return [this] { wake(); };
}

asio::awaitable<bool> Connection::refuse(Problem problem) {
  keep_ = false;
  const int status = problem.status;
  const bool all_sent = co_await send(worded(problem));
  report(status, all_sent);
  co_return false;
}

Response Connection::worded(const Problem& problem) {
  if (request_.request_id.empty()) request_.request_id = new_request_id();
  return shared_->router.problem_format(request_.path)(problem, request_);
}

void Connection::report(int status, bool complete) {
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - started_;
  shared_->hooks.finished({.request = request_,
                           .route = route_ == nullptr ? std::string_view() : route_->pattern,
                           .status = status,
                           .complete = complete,
                           .bytes = sent_,
                           .seconds = time.count()});
}

}  // namespace darkroom::http
