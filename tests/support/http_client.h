// A client of the service on this machine, as plain as a load test wants it: one connection, kept open, one request at
// a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"

namespace darkroom {

struct HttpAnswer {
  int status = 0;
  std::string body;
};

class HttpClient {
 public:
  explicit HttpClient(std::uint16_t port) : port_(port) {}

  // Connects where that is needed. Nothing: the connection broke, or nothing came for so long.
  std::optional<HttpAnswer> ask(std::string_view method, std::string_view target, std::string_view body = "",
                                std::string_view headers = "");
  // Reads an answer that may go on for ever until this text comes. Whether it came before the time was over; the
  // connection is closed in any case.
  bool listen(std::string_view target, std::string_view wanted, std::chrono::milliseconds patience);

 private:
  bool connect();
  bool send(std::string_view bytes) const;
  // More bytes into the buffer.
  bool more(std::chrono::milliseconds patience);

  std::uint16_t port_;
  Fd fd_;
  std::string buffer_;
};

}  // namespace darkroom
