// A client that sends what a test says, byte for byte, and reads what comes back.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"

namespace darkroom {

struct RawResponse {
  int status = 0;  // 0: the connection ended before one came
  std::string head;
  std::string body;  // without its chunks

  std::string header(std::string_view name) const;  // "" where there is none
};

class RawClient {
 public:
  // To 127.0.0.1.
  explicit RawClient(std::uint16_t port);

  // Whether all of it went.
  bool send(std::string_view bytes) const;
  void hang_up() { fd_.reset(); }

  // The next response, whose body ends by its length, its last chunk, or the connection's end.
  RawResponse read();
  // The same after a HEAD.
  RawResponse read_head();
  // The body's next bytes, as they come, up to and with `end`; all there is if the connection ends.
  std::string read_until(std::string_view end);
  // Whether the server has closed the connection; waits for it.
  bool is_closed();

 private:
  bool more();
  std::string take(std::size_t bytes);

  Fd fd_;
  std::string buffer_;
};

// One request on a connection of its own, "Connection: close" added.
RawResponse request(std::uint16_t port, std::string_view method, std::string_view target, std::string_view headers = "",
                    std::string_view body = "");

}  // namespace darkroom
