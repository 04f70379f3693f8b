#include "service/http/wire.h"

#include <array>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <poll.h>

namespace darkroom::http {
namespace {

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

}  // namespace

Wire::Wire(asio::ip::tcp::socket socket, std::shared_ptr<asio::ssl::context> tls)
    : line_(std::make_shared<Line>(std::move(socket))), context_(std::move(tls)) {
  if (context_ != nullptr) {
    tls_ = std::make_unique<asio::ssl::stream<asio::ip::tcp::socket&>>(line_->socket, *context_);
  }
}

void Wire::arm(Deadline deadline) {
  line_->timed_out = false;
  const unsigned turn = ++line_->turn;
  line_->timer.expires_at(deadline);
  line_->timer.async_wait([line = line_, turn](error_code error) {
    if (error || turn != line->turn) return;
    line->timed_out = true;
    error_code ignored;
    line->socket.cancel(ignored);
  });
}

error_code Wire::disarm(error_code error) {
  ++line_->turn;
  line_->timer.cancel();
  return error && line_->timed_out ? asio::error::timed_out : error;
}

asio::awaitable<error_code> Wire::handshake(Deadline deadline) {
  if (tls_ == nullptr) co_return error_code();
  arm(deadline);
  const auto [error] = co_await tls_->async_handshake(asio::ssl::stream_base::server, kTuple);
  co_return disarm(error);
}

asio::awaitable<Wire::Read> Wire::read_some(asio::mutable_buffer buffer, Deadline deadline) {
  arm(deadline);
  Read read;
  if (tls_ != nullptr) {
    const auto [error, bytes] = co_await tls_->async_read_some(buffer, kTuple);
    read = {error, bytes};
  } else {
    const auto [error, bytes] = co_await line_->socket.async_read_some(buffer, kTuple);
    read = {error, bytes};
  }
  read.error = disarm(read.error);
  co_return read;
}

asio::awaitable<error_code> Wire::write(std::string_view bytes, Deadline deadline) {
  arm(deadline);
  const asio::const_buffer buffer(bytes.data(), bytes.size());
  error_code failed;
  if (tls_ != nullptr) {
    const auto [error, written] = co_await asio::async_write(*tls_, buffer, kTuple);
    failed = error;
  } else {
    const auto [error, written] = co_await asio::async_write(line_->socket, buffer, kTuple);
    failed = error;
  }
  co_return disarm(failed);
}

bool Wire::peer_is_gone() {
  pollfd question{.fd = line_->socket.native_handle(), .events = POLLRDHUP, .revents = 0};
  return ::poll(&question, 1, 0) > 0;  // POLLRDHUP, or POLLHUP and POLLERR, which need not be asked for
}

asio::awaitable<void> Wire::close(Deadline deadline, std::size_t most) {
  if (tls_ != nullptr) {
    arm(deadline);
    const auto [error] = co_await tls_->async_shutdown(kTuple);
    (void)disarm(error);  // many clients just hang up
  }
  error_code ignored;
  line_->socket.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  std::array<char, 8192> rest;
  std::size_t taken = 0;
  while (taken < most) {
    arm(deadline);
    const auto [error, bytes] = co_await line_->socket.async_read_some(asio::buffer(rest), kTuple);
    if (disarm(error)) break;
    taken += bytes;
  }
  cut();
}

void Wire::cut() {
  error_code ignored;
  line_->socket.close(ignored);
}

}  // namespace darkroom::http
