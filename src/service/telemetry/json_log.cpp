#include "service/telemetry/json_log.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>

#include <fmt/format.h>
#include <unistd.h>

namespace darkroom {
namespace {

std::string time_now() {
  using std::chrono::milliseconds;
  const auto since_1970 =
      std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  const std::time_t seconds = since_1970 / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  return fmt::format("{}.{:03}Z", std::string_view(text.data(), length), since_1970 % 1000);
}

}  // namespace

void JsonLog::write(LogLevel level, std::string_view event, const nlohmann::ordered_json& fields) const {
  if (level < least_) return;
  nlohmann::ordered_json line = {{"time", time_now()}, {"level", name_of(level)}, {"event", event}};
  line.update(fields);
  // A stranger's bytes need not be UTF-8; the log is.
  const std::string text = line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t written = ::write(fd_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return;
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace darkroom
