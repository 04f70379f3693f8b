#include "service/http/server.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "service/http/connection.h"

namespace darkroom::http {
namespace {

using asio::ip::tcp;

constexpr std::string_view kTooMany =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n";
constexpr std::chrono::milliseconds kAcceptPause(100);  // when there are no file descriptors left

Result<std::shared_ptr<asio::ssl::context>> load_tls(const TlsFiles& files) {
  auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
  error_code error;
  context->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                           asio::ssl::context::no_tlsv1_1 | asio::ssl::context::no_compression |
                           asio::ssl::context::single_dh_use,
                       error);
  if (!error) context->use_certificate_chain_file(files.certificate, error);
  if (error) {
    return fail(ErrorCode::invalid_argument, "cannot use the certificate {}: {}", files.certificate, error.message());
  }
  context->use_private_key_file(files.key, asio::ssl::context::pem, error);
  if (error || SSL_CTX_check_private_key(context->native_handle()) != 1) {
    return fail(ErrorCode::invalid_argument, "the key {} cannot be read or does not belong to {}", files.key,
                files.certificate);
  }
  return context;
}

std::string text_of(asio::ip::address address) {
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
  }
  return address.to_string();
}

Ends ends_of(const tcp::socket& socket) {
  error_code error;
  const tcp::endpoint peer = socket.remote_endpoint(error);
  const tcp::endpoint local = socket.local_endpoint(error);
  std::string host = local.address().to_string();
  if (local.address().is_v6()) host = '[' + host + ']';
  return {text_of(peer.address()), fmt::format("{}:{}", host, local.port())};
}

}  // namespace

class Server::Listener {
 public:
  Listener(ServerOptions options, Router router, ServerHooks hooks)
      : shared_(std::make_shared<Shared>(std::move(options), std::move(router), std::move(hooks))),
        io_(shared_->options.io_threads),
        acceptor_(asio::make_strand(io_)) {}

  ~Listener() {
    drain();
    finish(std::chrono::milliseconds(0));
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  Result<void> start() {
    if (!shared_->options.tls.certificate.empty()) {
      if (Result<void> loaded = reload_tls(); !loaded) return loaded;
    }
    if (Result<void> bound = bind(); !bound) return bound;
    accepting_ = true;
    asio::co_spawn(acceptor_.get_executor(), accept_all(), [](const std::exception_ptr&) {});
    for (int i = 0; i < shared_->options.io_threads; ++i) threads_.emplace_back([this] { io_.run(); });
    return {};
  }

  Result<void> reload_tls() {
    Result<std::shared_ptr<asio::ssl::context>> loaded = load_tls(shared_->options.tls);
    if (!loaded) return tl::unexpected(loaded.error());
    const std::lock_guard lock(mutex_);
    tls_ = std::move(*loaded);
    return {};
  }

  std::uint16_t port() const { return port_; }
  int connections() const {
    const std::lock_guard lock(mutex_);
    return static_cast<int>(connections_.size());
  }
  std::uint64_t refused() const { return refused_; }

  void drain() {
    if (shared_->draining.exchange(true)) return;
    asio::post(acceptor_.get_executor(), [this] {
      error_code ignored;
      acceptor_.close(ignored);
    });
    for_each_connection([](Connection& connection) { connection.wake(); });
  }

  void finish(std::chrono::milliseconds patience) {
    if (shared_->finishing.exchange(true)) return;
    for_each_connection([](Connection& connection) { connection.wake(); });
    {
      std::unique_lock lock(mutex_);
      nobody_.wait_for(lock, patience, [this] { return connections_.empty(); });
    }
    for_each_connection([](Connection& connection) { connection.cut(); });
    {
      std::unique_lock lock(mutex_);  // for as long as a handler takes
      nobody_.wait(lock, [this] { return connections_.empty() && !accepting_; });
    }
    for (std::thread& thread : threads_) thread.join();
    shared_->handlers.join();
  }

 private:
  Result<void> bind() {
    const ServerOptions& options = shared_->options;
    error_code error;
    const asio::ip::address address = asio::ip::make_address(options.address, error);
    if (error) return fail(ErrorCode::invalid_argument, "{} is no address to listen at", options.address);
    const tcp::endpoint endpoint(address, options.port);
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) {
      const bool is_taken = error == asio::error::address_in_use;
      return fail(is_taken ? ErrorCode::conflict : ErrorCode::invalid_argument, "cannot listen at {} port {}: {}",
                  options.address, options.port, error.message());
    }
    port_ = acceptor_.local_endpoint().port();
    return {};
  }

  asio::awaitable<void> accept_all() {
    asio::steady_timer pause(acceptor_.get_executor());
    while (acceptor_.is_open() && !shared_->draining) {
      // Each connection has a strand of its own.
      auto [error, socket] =
          co_await acceptor_.async_accept(asio::make_strand(io_), asio::as_tuple(asio::use_awaitable));
      if (error == asio::error::operation_aborted) break;
      if (error) {
        pause.expires_after(kAcceptPause);
        co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
        continue;
      }
      take(tcp::socket(std::move(socket)));
    }
    const std::lock_guard lock(mutex_);
    accepting_ = false;
    nobody_.notify_all();
  }

  void take(tcp::socket socket) {
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    const Ends ends = ends_of(socket);
    std::shared_ptr<Connection> connection;
    {
      const std::lock_guard lock(mutex_);
      if (is_full(ends.peer)) {
        ++refused_;
        return turn_away(socket);
      }
      connection = std::make_shared<Connection>(shared_, std::move(socket), tls_, ends);
      connections_.insert(connection);
      ++per_address_[ends.peer];
    }
    asio::co_spawn(
        connection->executor(), [connection]() { return connection->run(); },
        // An exception (no memory) ends this connection alone.
        [this, connection, peer = ends.peer](const std::exception_ptr&) { forget(connection, peer); });
  }

  // Says so, if it can be said at once.
  void turn_away(tcp::socket& socket) const {
    error_code ignored;
    socket.non_blocking(true, ignored);
    if (shared_->options.tls.certificate.empty()) socket.send(asio::buffer(kTooMany), 0, ignored);
  }

  bool is_full(const std::string& peer) const {
    const ServerOptions& options = shared_->options;
    if (static_cast<int>(connections_.size()) >= options.connections) return true;
    const auto& trusted = options.trusted_proxies;
    if (is_loopback_address(peer) || std::find(trusted.begin(), trusted.end(), peer) != trusted.end()) return false;
    const auto from_there = per_address_.find(peer);
    return from_there != per_address_.end() && from_there->second >= options.connections_per_address;
  }

  void forget(const std::shared_ptr<Connection>& connection, const std::string& peer) {
    const std::lock_guard lock(mutex_);
    connections_.erase(connection);
    if (--per_address_[peer] == 0) per_address_.erase(peer);
    nobody_.notify_all();
  }

  void for_each_connection(void (*visit)(Connection&)) {
    const std::lock_guard lock(mutex_);
    for (const auto& connection : connections_) visit(*connection);
  }

  std::shared_ptr<Shared> shared_;
  asio::io_context io_;
  tcp::acceptor acceptor_;
  std::vector<std::thread> threads_;
  std::uint16_t port_ = 0;
  std::atomic<std::uint64_t> refused_ = 0;

  mutable std::mutex mutex_;  // over what follows
  std::condition_variable nobody_;
  bool accepting_ = false;
  std::set<std::shared_ptr<Connection>> connections_;
  std::map<std::string, int> per_address_;
  std::shared_ptr<asio::ssl::context> tls_;  // null: none
};

Server::Server(std::unique_ptr<Listener> listener) : listener_(std::move(listener)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::start(ServerOptions options, Router router, ServerHooks hooks) {
  auto listener = std::make_unique<Listener>(std::move(options), std::move(router), std::move(hooks));
  if (const Result<void> started = listener->start(); !started) return tl::unexpected(started.error());
  return std::unique_ptr<Server>(new Server(std::move(listener)));
}

std::uint16_t Server::port() const { return listener_->port(); }
int Server::connections() const { return listener_->connections(); }
std::uint64_t Server::refused_connections() const { return listener_->refused(); }
Result<void> Server::reload_tls() { return listener_->reload_tls(); }
void Server::drain() { listener_->drain(); }
void Server::finish(std::chrono::milliseconds patience) { listener_->finish(patience); }

}  // namespace darkroom::http
