// A text that lets whoever has it read one thing until a time: signed, so that nobody else can make one.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"

namespace darkroom {

class TicketOffice {
 public:
  using Time = std::chrono::system_clock::time_point;

  // The secret lies in a file that only its owner may read; it is made if it is missing.
  static Result<TicketOffice> open(const std::filesystem::path& secret_file);

  // "1700000000.3f…": of URL-safe characters.
  std::string issue(std::string_view thing, Time expires) const;
  bool accepts(std::string_view thing, std::string_view ticket, Time now) const;

 private:
  explicit TicketOffice(std::string secret) : secret_(std::move(secret)) {}

  std::string secret_;
};

}  // namespace darkroom
