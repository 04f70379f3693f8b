#include "tests/support/raw_client.h"

#include <algorithm>
#include <array>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/text.h"

namespace darkroom {
namespace {

constexpr int kPatience = 60;  // seconds, until a test that would hang fails

}  // namespace

std::string RawResponse::header(std::string_view name) const {
  for (std::string_view line : split(head, '\n')) {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || to_lower(line.substr(0, colon)) != to_lower(name)) continue;
    line.remove_prefix(colon + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return std::string(trimmed(line));
  }
  return "";
}

RawClient::RawClient(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const timeval patience{.tv_sec = kPatience, .tv_usec = 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
}

bool RawClient::send(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool RawClient::more() {
  std::array<char, 65536> chunk;
  const ssize_t got = ::recv(fd_.get(), chunk.data(), chunk.size(), 0);
  if (got <= 0) return false;
  buffer_.append(chunk.data(), static_cast<std::size_t>(got));
  return true;
}

std::string RawClient::take(std::size_t bytes) {
  while (buffer_.size() < bytes && more()) {
  }
  std::string taken = buffer_.substr(0, bytes);
  buffer_.erase(0, bytes);
  return taken;
}

std::string RawClient::read_until(std::string_view end) {
  std::size_t found = std::string::npos;
  while ((found = buffer_.find(end)) == std::string::npos && more()) {
  }
  return take(found == std::string::npos ? buffer_.size() : found + end.size());
}

RawResponse RawClient::read_head() {
  RawResponse response;
  response.head = read_until("\r\n\r\n");
  if (response.head.starts_with("HTTP/1.1 ")) response.status = std::atoi(response.head.c_str() + 9);
  return response;
}

RawResponse RawClient::read() {
  RawResponse response = read_head();
  if (response.status == 0 || response.status == 204 || response.status == 304 || response.status == 100)
    return response;
  if (response.header("Transfer-Encoding") == "chunked") {
    while (true) {
      const std::size_t size = std::strtoull(read_until("\r\n").c_str(), nullptr, 16);
      response.body += take(size);
      take(2);
      if (size == 0) return response;
    }
  }
  const std::string length = response.header("Content-Length");
  if (!length.empty()) {
    response.body = take(std::strtoull(length.c_str(), nullptr, 10));
  } else {
    while (more()) {
    }
    response.body = take(buffer_.size());
  }
  return response;
}

bool RawClient::is_closed() { return buffer_.empty() && !more(); }

RawResponse request(std::uint16_t port, std::string_view method, std::string_view target, std::string_view headers,
                    std::string_view body) {
  RawClient client(port);
  const std::string length = body.empty() ? "" : fmt::format("Content-Length: {}\r\n", body.size());
  client.send(fmt::format("{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{}{}\r\n{}", method, target,
                          headers, length, body));
  return method == "HEAD" ? client.read_head() : client.read();
}

}  // namespace darkroom
