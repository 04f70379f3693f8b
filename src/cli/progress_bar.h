// How far a generation is: one line, redrawn, on a terminal; nothing elsewhere.
#pragma once

#include <string>

#include "protocol/messages.h"

namespace darkroom {

class ProgressBar {
 public:
  explicit ProgressBar(int fd);
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void show(const Progress& progress);
  void clear();

 private:
  void draw(const std::string& line) const;
  int fd_;
  bool is_terminal_;
};

// "denoise  [##########··········] 5/10, 3.2 s left"
std::string progress_line(const Progress& progress);

}  // namespace darkroom
