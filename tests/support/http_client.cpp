#include "tests/support/http_client.h"

#include <array>
#include <charconv>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

namespace darkroom {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience(30);
constexpr std::string_view kHeadEnd = "\r\n\r\n";

// The value of a header that the service writes itself, in this spelling.
std::string_view header(std::string_view head, std::string_view name) {
  const std::size_t at = head.find(name);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = head.substr(at + name.size());
  return rest.substr(0, rest.find('\r'));
}

}  // namespace

bool HttpClient::connect() {
  buffer_.clear();
  fd_ = Fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!fd_) return false;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port_);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int one = 1;
  ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return true;
  fd_.reset();
  return false;
}

bool HttpClient::send(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool HttpClient::more(std::chrono::milliseconds patience) {
  pollfd waiting{fd_.get(), POLLIN, 0};
  if (::poll(&waiting, 1, static_cast<int>(patience.count())) <= 0) return false;
  std::array<char, 16384> chunk;
  const ssize_t got = ::recv(fd_.get(), chunk.data(), chunk.size(), 0);
  if (got <= 0) return false;
  buffer_.append(chunk.data(), static_cast<std::size_t>(got));
  return true;
}

std::optional<HttpAnswer> HttpClient::ask(std::string_view method, std::string_view target, std::string_view body,
                                          std::string_view headers) {
  if (!fd_ && !connect()) return std::nullopt;
  const std::string request =
      fmt::format("{} {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{}{}Content-Length: {}\r\n\r\n{}", method, target, port_,
                  body.empty() ? "" : "Content-Type: application/json\r\n", headers, body.size(), body);
  const auto lost = [this]() -> std::optional<HttpAnswer> {
    fd_.reset();
    return std::nullopt;
  };
  if (!send(request)) return lost();
  std::size_t head_end = 0;
  while ((head_end = buffer_.find(kHeadEnd)) == std::string::npos) {
    if (!more(kPatience)) return lost();
  }
  const std::string head = buffer_.substr(0, head_end + 2);
  HttpAnswer answer;
  const std::string_view status = std::string_view(head).substr(head.find(' ') + 1, 3);
  std::from_chars(status.data(), status.data() + status.size(), answer.status);
  std::size_t length = 0;
  const std::string_view given = header(head, "Content-Length: ");
  std::from_chars(given.data(), given.data() + given.size(), length);
  const std::size_t begin = head_end + kHeadEnd.size();
  while (buffer_.size() < begin + length) {
    if (!more(kPatience)) return lost();
  }
  answer.body = buffer_.substr(begin, length);
  buffer_.erase(0, begin + length);
  if (header(head, "Connection: ") == "close") fd_.reset();
  return answer;
}

bool HttpClient::listen(std::string_view target, std::string_view wanted, std::chrono::milliseconds patience) {
  const auto deadline = steady_clock::now() + patience;
  if (!fd_ && !connect()) return false;
  bool came = false;
  if (send(fmt::format("GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", target, port_))) {
    while (true) {
      came = buffer_.find(wanted) != std::string::npos;
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - steady_clock::now());
      if (came || left.count() <= 0 || !more(left)) break;
    }
  }
  fd_.reset();
  return came;
}

}  // namespace darkroom
