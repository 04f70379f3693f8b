// A child process with pipes to its standard input and output; its standard error is ours.
// It runs in a process group of its own, so that a Ctrl-C at the terminal reaches only us and we decide what to do.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "base/error.h"
#include "base/fd.h"

namespace darkroom {

struct ExitStatus {
  int code = 0;    // of exit(), or
  int signal = 0;  // the signal that ended it; 0: none did
};

// "exit status 3", "signal 9 (Killed)"
std::string describe(const ExitStatus& status);

class Subprocess {
 public:
  // Error not_found or internal with the system's words.
  static Result<Subprocess> start(const std::filesystem::path& program, const std::vector<std::string>& arguments);

  Subprocess(Subprocess&& other) noexcept
      : pid_(std::exchange(other.pid_, 0)), input_(std::move(other.input_)), output_(std::move(other.output_)) {}
  Subprocess& operator=(Subprocess&&) = delete;
  // Kills the child if it still runs, and always reaps it.
  ~Subprocess();

  int pid() const { return pid_; }
  int input() const { return input_.get(); }    // write here what the child reads
  int output() const { return output_.get(); }  // read here what the child writes
  void close_input() { input_.reset(); }

  void send_signal(int signal) const;
  // How it ended, or nothing if it still runs after `patience`. Once it answered, the child is gone and pid-less.
  std::optional<ExitStatus> wait(std::chrono::milliseconds patience);

 private:
  Subprocess(pid_t pid, Fd input, Fd output) : pid_(pid), input_(std::move(input)), output_(std::move(output)) {}

  pid_t pid_ = 0;  // 0: reaped or moved from
  Fd input_;
  Fd output_;
};

}  // namespace darkroom
