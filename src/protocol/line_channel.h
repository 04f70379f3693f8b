// Lines over file descriptors, with a limit: what a stranger sends can never take more memory than that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace darkroom {

// What came of reading.
struct Received {
  enum class Kind : std::uint8_t {
    line,      // `text` is one, without its newline
    too_long,  // a line passed the limit; it was dropped, and reading goes on after its newline
    end,       // of input; a last line without a newline was delivered before
  };
  Kind kind = Kind::line;
  std::string text;
};

class LineReader {
 public:
  // `fd` is not owned.
  LineReader(int fd, std::size_t limit) : fd_(fd), limit_(limit) {}

  int fd() const { return fd_; }
  // Reads once, what is there; blocks only if nothing is (poll first). A read error counts as the end.
  void read_some();
  // The next thing that was received, if it is complete.
  std::optional<Received> take();

 private:
  int fd_;
  std::size_t limit_;
  std::string buffer_;        // received, not yet taken
  std::size_t searched_ = 0;  // bytes of it known to hold no newline
  bool dropping_ = false;     // inside a line that passed the limit
  bool ended_ = false;
};

class LineWriter {
 public:
  // `fd` is not owned.
  explicit LineWriter(int fd) : fd_(fd) {}

  // The line and a newline, whole: any thread may call. Error worker_lost once the other side is gone.
  Result<void> write(std::string_view line);

 private:
  std::mutex mutex_;
  int fd_;
  bool broken_ = false;
};

}  // namespace darkroom
