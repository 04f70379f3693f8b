#include "base/subprocess.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace darkroom {
namespace {

struct Pipe {
  Fd read_end;
  Fd write_end;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return fail(ErrorCode::internal, "cannot make a pipe: {}", std::generic_category().message(errno));
  }
  return Pipe{Fd{ends[0]}, Fd{ends[1]}};
}

}  // namespace

std::string describe(const ExitStatus& status) {
  if (status.signal != 0) return fmt::format("signal {} ({})", status.signal, ::strsignal(status.signal));
  return fmt::format("exit status {}", status.code);
}

Result<Subprocess> Subprocess::start(const std::filesystem::path& program, const std::vector<std::string>& arguments) {
  Result<Pipe> input = make_pipe();
  if (!input) return tl::unexpected(input.error());
  Result<Pipe> output = make_pipe();
  if (!output) return tl::unexpected(output.error());

  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_adddup2(&files, input->read_end.get(), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&files, output->write_end.get(), STDOUT_FILENO);
  // Not everything that is open was opened by us with O_CLOEXEC: a listening socket in a child keeps its port after us.
  ::posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);

  // Signals that we block or ignore must not stay so in the child.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t signals;
  sigemptyset(&signals);
  ::posix_spawnattr_setsigmask(&attributes, &signals);
  for (const int signal : {SIGPIPE, SIGINT, SIGTERM}) sigaddset(&signals, signal);
  ::posix_spawnattr_setsigdefault(&attributes, &signals);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);

  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, program.c_str(), &files, &attributes, argv.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  if (error != 0) {
    return fail(error == ENOENT ? ErrorCode::not_found : ErrorCode::internal, "cannot start {}: {}", program.string(),
                std::generic_category().message(error));
  }
  return Subprocess(pid, std::move(input->write_end), std::move(output->read_end));
}

Subprocess::~Subprocess() {
  if (pid_ == 0) return;
  send_signal(SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
}

void Subprocess::send_signal(int signal) const {
  if (pid_ != 0) ::kill(pid_, signal);
}

std::optional<ExitStatus> Subprocess::wait(std::chrono::milliseconds patience) {
  DR_ASSERT(pid_ != 0);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (true) {
    int status = 0;
    const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
    if (ended == pid_) {
      pid_ = 0;
      if (WIFSIGNALED(status)) return ExitStatus{.code = 0, .signal = WTERMSIG(status)};
      return ExitStatus{.code = WEXITSTATUS(status), .signal = 0};
    }
    if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

}  // namespace darkroom
