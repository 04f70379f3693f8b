// One connection's bytes, plain or under TLS, with a deadline for each read and write. Internal to this folder: the
// only headers with Boost's types are this one and connection.h.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>

namespace darkroom::http {

namespace asio = boost::asio;
using boost::system::error_code;
using Deadline = std::chrono::steady_clock::time_point;

// Everything but the constructor runs on the socket's strand.
class Wire {
 public:
  // No context: no TLS.
  Wire(asio::ip::tcp::socket socket, std::shared_ptr<asio::ssl::context> tls);

  bool is_tls() const { return tls_ != nullptr; }
  asio::any_io_executor executor() { return line_->socket.get_executor(); }

  // A read or write that is not done by its deadline ends with asio::error::timed_out, and others may follow.
  asio::awaitable<error_code> handshake(Deadline deadline);
  struct Read {
    error_code error;
    std::size_t bytes = 0;
  };
  asio::awaitable<Read> read_some(asio::mutable_buffer buffer, Deadline deadline);
  asio::awaitable<error_code> write(std::string_view bytes, Deadline deadline);

  // Whether the client has closed its side: it will not read any more, or is gone altogether.
  bool peer_is_gone();
  // Says goodbye, then takes up to `most` bytes that the client still sends, so that our last words are not lost to a
  // reset.
  asio::awaitable<void> close(Deadline deadline, std::size_t most);
  // At once; what is being read or written ends with an error.
  void cut();

 private:
  // Shared with the timer's handler, which may come when the wire is gone.
  struct Line {
    explicit Line(asio::ip::tcp::socket taken) : socket(std::move(taken)), timer(socket.get_executor()) {}
    asio::ip::tcp::socket socket;
    asio::steady_timer timer;
    bool timed_out = false;
    unsigned turn = 0;  // of the timer
  };
  void arm(Deadline deadline);
  error_code disarm(error_code error);

  std::shared_ptr<Line> line_;
  std::shared_ptr<asio::ssl::context> context_;  // outlives tls_
  std::unique_ptr<asio::ssl::stream<asio::ip::tcp::socket&>> tls_;
};

}  // namespace darkroom::http
