// One client: reads its requests one after the other, has them answered, writes the answers. Internal to this folder.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "service/http/event_stream.h"
#include "service/http/later.h"
#include "service/http/server.h"
#include "service/http/wire.h"

namespace darkroom::http {

// What all connections of a server share.
struct Shared {
  Shared(ServerOptions chosen, Router routes, ServerHooks asked)
      : options(std::move(chosen)),
        router(std::move(routes)),
        hooks(std::move(asked)),
        guard(options.guard),
        handlers(static_cast<std::size_t>(options.handler_threads)) {}

  const ServerOptions options;
  const Router router;
  const ServerHooks hooks;
  const Guard guard;
  asio::thread_pool handlers;
  std::atomic<std::size_t> buffered = 0;  // bytes of all bodies
  std::atomic<bool> draining = false;     // no request after this one
  std::atomic<bool> finishing = false;    // nobody waits any more
};

// A share of the bytes that all bodies may have together, given back at its end.
class Reservation {
 public:
  Reservation(std::atomic<std::size_t>& total, std::size_t most) : total_(total), most_(most) {}
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  ~Reservation() { total_ -= bytes_; }

  // Whether there was room.
  bool grow_to(std::size_t bytes);

 private:
  std::atomic<std::size_t>& total_;
  std::size_t most_;
  std::size_t bytes_ = 0;
};

// Addresses of both ends.
struct Ends {
  std::string peer;   // "192.0.2.1"
  std::string local;  // with the port: "127.0.0.1:7860"
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Shared> shared, asio::ip::tcp::socket socket, std::shared_ptr<asio::ssl::context> tls,
             Ends ends);

  asio::any_io_executor executor() { return wire_.executor(); }

  // Until the connection ends.
  asio::awaitable<void> run();
  // From any thread: looks anew at what Shared says.
  void wake();
  // From any thread.
  void cut();

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  // Whether to go on with another request.
  asio::awaitable<bool> serve_one();

  // 1. The head: connection_head.cpp. False: the connection is at its end; a problem was told.
  asio::awaitable<bool> read_head();
  asio::awaitable<error_code> read_more(std::size_t most, Deadline deadline);
  std::optional<Problem> take_head();
  std::optional<Problem> take_target(std::string_view target);
  void take_peer_and_url();
  // 2. Whether to answer it at all; what needs no handler is answered here.
  std::optional<Response> judge_head();
  // 3. The body. Nothing: it is there.
  asio::awaitable<std::optional<Problem>> read_body();
  // Whether it is better to take a body that nobody wants than to end the connection.
  bool may_skip_body() const;
  // 4. The handler's answer. Nothing: the client has gone.
  asio::awaitable<std::optional<Response>> call_handler();
  asio::awaitable<std::optional<Response>> wait_for(std::shared_ptr<Later> later);
  template <class Result>
  asio::awaitable<Result> on_handler_thread(std::function<Result()> work);
  // 5. The answer over the wire: connection_send.cpp. Whether all of it went.
  asio::awaitable<bool> send(Response response);
  asio::awaitable<bool> send_text(std::string head, std::string_view body);
  asio::awaitable<bool> send_file(std::string head, FilePart part);
  asio::awaitable<bool> send_events(std::string head, std::shared_ptr<EventStream> stream);
  std::string head_of(const Response& response) const;
  asio::awaitable<bool> refuse(Problem problem);  // and end the connection
  Response worded(const Problem& problem);

  // Until the bell rings or the time comes.
  asio::awaitable<void> wait(Deadline until);
  std::function<void()> ringer();
  // `status` 0: the client went unanswered.
  void report(int status, bool complete);

  std::shared_ptr<Shared> shared_;
  Wire wire_;
  const Ends ends_;
  asio::steady_timer bell_;
  bool rung_ = false;
  bool idle_ = true;      // nothing of a request was read yet
  bool is_first_ = true;  // of the connection's requests

  // Of the request under way.
  boost::beast::flat_buffer buffer_;  // read, not yet parsed; also the beginning of the next request
  std::optional<Parser> parser_;
  std::optional<Reservation> reserved_;
  Request request_;
  const Route* route_ = nullptr;
  Deadline started_;
  bool keep_ = false;       // the connection may serve another request
  std::uint64_t sent_ = 0;  // bytes of the answer's body
};

inline Deadline within(std::chrono::steady_clock::duration time) { return std::chrono::steady_clock::now() + time; }

// 128 random bits, hexadecimal.
std::string new_request_id();

inline Problem make_problem(int status, ErrorCode code, std::string detail) {
  return {.status = status, .code = code, .detail = std::move(detail), .complaints = {}, .headers = {}};
}

}  // namespace darkroom::http
