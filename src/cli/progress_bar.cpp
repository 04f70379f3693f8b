#include "cli/progress_bar.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>
#include <unistd.h>

namespace darkroom {

std::string progress_line(const Progress& progress) {
  constexpr int kWidth = 30;  // characters
  if (progress.steps <= 0) return progress.stage;
  const int done = std::clamp(kWidth * progress.step / progress.steps, 0, kWidth);
  std::string line = fmt::format("{:<8} [{:#<{}}{:.<{}}] {}/{}", progress.stage, "", done, "", kWidth - done,
                                 progress.step, progress.steps);
  if (progress.seconds_left > 0.0) line += fmt::format(", {:.1f} s left", progress.seconds_left);
  return line;
}

ProgressBar::ProgressBar(int fd) : fd_(fd), is_terminal_(::isatty(fd) == 1) {}

void ProgressBar::show(const Progress& progress) {
  if (is_terminal_) draw(progress_line(progress));
}

void ProgressBar::clear() {
  if (is_terminal_) draw("");
}

void ProgressBar::draw(const std::string& line) const {
  const std::string text = "\r\033[2K" + line;
  [[maybe_unused]] const ssize_t written = ::write(fd_, text.data(), text.size());
}

}  // namespace darkroom
