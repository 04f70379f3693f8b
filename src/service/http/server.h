// The HTTP server: HTTP/1.0 and 1.1, plain or under TLS, that trusts no client. Input and output on a few threads,
// handlers on a few more; who waits for a job or listens to its events occupies none.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "base/error.h"
#include "service/http/guard.h"
#include "service/http/router.h"

namespace darkroom::http {

struct TlsFiles {
  std::string certificate;  // PEM, the chain; "": no TLS
  std::string key;          // PEM
};

struct ServerOptions {
  std::string address = "127.0.0.1";
  std::uint16_t port = 0;  // 0: any that is free
  TlsFiles tls;
  std::string path_prefix;  // "/darkroom"; "": none. Paths without it are served too.
  std::string public_url;   // what absolute links begin with; "": as the client names us
  GuardOptions guard;
  std::vector<std::string> trusted_proxies;  // addresses whose X-Forwarded-* headers count

  std::size_t header_bytes = 32 * 1024;
  std::size_t body_bytes = 64 * 1024 * 1024;
  std::size_t buffered_bytes = 1024 * 1024 * 1024;  // of all bodies at once
  int connections = 1024;
  int connections_per_address = 128;  // not of this machine and of trusted proxies

  std::chrono::seconds header_time{10};         // for a request's head, and for the TLS handshake
  std::chrono::seconds body_time{120};          // for a request's body
  std::chrono::seconds write_time{30};          // for each 64 KiB of an answer
  std::chrono::seconds idle_time{75};           // between two requests
  std::chrono::seconds event_comment_time{15};  // of silence in an event stream, until a comment shows that we live

  int io_threads = 2;
  int handler_threads = 8;
};

// A request and what became of it.
struct Exchange {
  const Request& request;
  std::string_view route;   // the pattern; "": none
  int status = 0;           // 0: the client went before it was answered
  bool complete = false;    // all of the answer was written
  std::uint64_t bytes = 0;  // of the answer's body
  double seconds = 0.0;     // from the first byte read to the last one written
};

// What the server asks the rest of the service, from any thread.
struct ServerHooks {
  // Who asks and whether he may.
  std::function<tl::expected<Principal, Problem>(const Request&, const Route&)> admit;
  // Whether somebody without a key is served: the host is then looked at.
  std::function<bool()> is_open;
  std::function<void(const Exchange&)> finished;
};

class Server {
 public:
  // Listens and serves. Errors: invalid_argument (the address, a certificate), conflict (the port is taken).
  static Result<std::unique_ptr<Server>> start(ServerOptions options, Router router, ServerHooks hooks);
  ~Server();  // as finish() without patience
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::uint16_t port() const;
  int connections() const;
  // Connections that were turned away because there were too many.
  std::uint64_t refused_connections() const;
  // Reads the certificate and key again, for connections to come. Where they are no good the old ones stay.
  Result<void> reload_tls();

  // Takes no more connections and ends those that wait for a request. Requests under way go on.
  void drain();
  // After drain(): ends event streams, has those who wait answered with what there is, and cuts what has not come to an
  // end after `patience`. Waits for handlers.
  void finish(std::chrono::milliseconds patience);

 private:
  class Listener;
  explicit Server(std::unique_ptr<Listener> listener);
  std::unique_ptr<Listener> listener_;
};

}  // namespace darkroom::http
