// The service's log: one JSON object a line. Whoever writes decides what may stand there; keys and passwords may not.
#pragma once

#include <string_view>

#include <nlohmann/json.hpp>

#include "protocol/messages.h"

namespace darkroom {

class JsonLog {
 public:
  // The descriptor stays the caller's. Lines below `least` are not written.
  explicit JsonLog(int fd, LogLevel least = LogLevel::info) : fd_(fd), least_(least) {}
  JsonLog(const JsonLog&) = delete;
  JsonLog& operator=(const JsonLog&) = delete;

  // {"time": "2026-01-31T12:00:00.123Z", "level": "info", "event": "request", fields...}, whole, from any thread.
  // What cannot be written is dropped: a service does not stand still because nobody reads its log.
  void write(LogLevel level, std::string_view event,
             const nlohmann::ordered_json& fields = nlohmann::ordered_json::object()) const;

 private:
  int fd_;
  LogLevel least_;
};

}  // namespace darkroom
