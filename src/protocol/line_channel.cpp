#include "protocol/line_channel.h"

#include <array>
#include <cerrno>
#include <system_error>

#include <unistd.h>

namespace darkroom {

void LineReader::read_some() {
  std::array<char, 65536> chunk;
  ssize_t count = 0;
  do {
    count = ::read(fd_, chunk.data(), chunk.size());
  } while (count < 0 && errno == EINTR);
  if (count <= 0) {
    ended_ = true;
  } else {
    buffer_.append(chunk.data(), static_cast<std::size_t>(count));
  }
}

std::optional<Received> LineReader::take() {
  const std::size_t newline = buffer_.find('\n', searched_);
  const bool complete = newline != std::string::npos;
  if (dropping_) {
    buffer_.erase(0, complete ? newline + 1 : buffer_.size());
    searched_ = 0;
    if (!complete) return ended_ ? std::optional(Received{Received::Kind::end, ""}) : std::nullopt;
    dropping_ = false;
    return take();
  }
  const std::size_t length = complete ? newline : buffer_.size();
  if (length > limit_) {
    dropping_ = !complete;
    buffer_.erase(0, complete ? newline + 1 : buffer_.size());
    buffer_.shrink_to_fit();
    searched_ = 0;
    return Received{Received::Kind::too_long, ""};
  }
  if (complete || (ended_ && length > 0)) {
    Received line{Received::Kind::line, buffer_.substr(0, length)};
    buffer_.erase(0, complete ? newline + 1 : length);
    searched_ = 0;
    return line;
  }
  searched_ = length;
  return ended_ ? std::optional(Received{Received::Kind::end, ""}) : std::nullopt;
}

Result<void> LineWriter::write(std::string_view line) {
  std::string text(line);
  text += '\n';
  const std::lock_guard lock(mutex_);
  std::string_view rest = text;
  while (!broken_ && !rest.empty()) {
    const ssize_t count = ::write(fd_, rest.data(), rest.size());
    if (count >= 0) {
      rest.remove_prefix(static_cast<std::size_t>(count));
    } else if (errno != EINTR) {
      broken_ = true;
    }
  }
  if (broken_) return fail(ErrorCode::worker_lost, "the other side does not listen any more");
  return {};
}

}  // namespace darkroom
