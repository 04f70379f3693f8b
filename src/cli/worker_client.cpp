#include "cli/worker_client.h"

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <utility>

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace darkroom {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxLine = 64'000'000;  // bytes of a response
constexpr std::chrono::seconds kPatience(5);  // for a worker that should end

Fd take_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return Fd{::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK)};
}

}  // namespace

Result<fs::path> worker_program() {
  if (const char* path = std::getenv("DARKROOM_WORKER")) return fs::path(path);
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (error) return fail(ErrorCode::internal, "cannot tell where this program lies: {}", error.message());
  return self.parent_path() / "darkroom-worker";
}

Result<WorkerClient> WorkerClient::start(const std::vector<std::string>& arguments) {
  const Result<fs::path> program = worker_program();
  if (!program) return tl::unexpected(program.error());
  Fd signals = take_signals();
  Result<Subprocess> process = Subprocess::start(*program, arguments);
  if (!process) return tl::unexpected(process.error());
  return WorkerClient(std::move(*process), std::move(signals));
}

WorkerClient::WorkerClient(Subprocess process, Fd signals)
    : process_(std::move(process)), signals_(std::move(signals)), reader_(process_.output(), kMaxLine) {}

Result<Response> WorkerClient::ask(const Request& request, const std::function<void(const Event&)>& on_event) {
  LineWriter writer(process_.input());
  if (!writer.write(encode(request))) return tl::unexpected(lost());
  while (true) {
    while (const std::optional<Received> received = reader_.take()) {
      if (received->kind == Received::Kind::end) return tl::unexpected(lost());
      if (received->kind == Received::Kind::too_long) {
        return fail(ErrorCode::worker_lost, "the worker sent a line longer than {} bytes", kMaxLine);
      }
      Result<WorkerMessage> message = decode_worker_message(received->text);
      if (!message) {
        return fail(ErrorCode::worker_lost, "the worker sent what is no message: {}", message.error().message);
      }
      if (const auto* event = std::get_if<Event>(&*message)) {
        on_event(*event);
      } else if (auto& response = std::get<Response>(*message); response.request_id == request.request_id) {
        return std::move(response);
      }
    }
    std::array<pollfd, 2> fds = {pollfd{reader_.fd(), POLLIN, 0}, pollfd{signals_.get(), POLLIN, 0}};
    if (::poll(fds.data(), fds.size(), -1) < 0) continue;  // a stray signal
    if (fds[1].revents != 0) on_signal(request.request_id);
    if (fds[0].revents != 0) reader_.read_some();
  }
}

void WorkerClient::finish() {
  process_.close_input();
  if (!process_.wait(kPatience)) process_.send_signal(SIGKILL);
}

void WorkerClient::on_signal(const std::string& request_id) {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) ++interrupts_;
  if (interrupts_ > 1) {
    process_.send_signal(SIGKILL);
    return;
  }
  LineWriter writer(process_.input());
  // If it is gone, its end of output says so next.
  [[maybe_unused]] const Result<void> sent =
      writer.write(encode(Request{request_id + "-cancel", CancelJob{request_id}}));
}

Error WorkerClient::lost() {
  const std::optional<ExitStatus> status = process_.wait(kPatience);
  if (interrupts_ > 0) return {ErrorCode::cancelled, "cancelled"};
  return {ErrorCode::worker_lost,
          "the worker died before it answered: " + (status ? describe(*status) : "still running")};
}

}  // namespace darkroom
