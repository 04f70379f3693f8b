#include "service/workers/pipe_channel.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "protocol/line_channel.h"

namespace darkroom {
namespace {

constexpr std::size_t kMaxLine = 64'000'000;              // bytes of a response
constexpr std::size_t kShown = 200;                       // bytes of a line that is no message
constexpr std::chrono::seconds kEnding(2);                // between the end of its output and its own
constexpr std::chrono::milliseconds kLookForSignals(20);  // meanwhile

// Bytes that are no printable ASCII as '?': for a log.
std::string shown(std::string_view line) {
  std::string text(line.substr(0, kShown));
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return line.size() > kShown ? text + "…" : text;
}

WorkerArrival decode(const Received& received) {
  if (received.kind == Received::Kind::too_long) return Garbage{fmt::format("a line of over {} bytes", kMaxLine)};
  Result<WorkerMessage> message = decode_worker_message(received.text);
  if (message) return std::move(*message);
  return Garbage{fmt::format("\"{}\" ({})", shown(received.text), message.error().message)};
}

// All that touches the process happens in one thread; the others leave their wishes and wake it.
class PipeChannel final : public WorkerChannel {
 public:
  PipeChannel(Subprocess process, OnArrival on_arrival)
      : process_(std::move(process)),
        on_arrival_(std::move(on_arrival)),
        reader_(process_.output(), kMaxLine),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    DR_ASSERT(static_cast<bool>(wake_));
    const int flags = ::fcntl(process_.input(), F_GETFL);
    ::fcntl(process_.input(), F_SETFL, flags | O_NONBLOCK);
    thread_ = std::thread([this] { serve(); });
  }
  ~PipeChannel() override {
    kill();
    thread_.join();
  }

  void send(const std::vector<Request>& requests) override {
    std::string lines;
    for (const Request& request : requests) lines += encode(request) + '\n';
    {
      const std::lock_guard lock(mutex_);
      outgoing_.push_back(std::move(lines));
    }
    wake();
  }
  void close() override {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake();
  }
  void terminate() override { signal(SIGTERM); }
  void kill() override { signal(SIGKILL); }

 private:
  void signal(int number) {
    {
      const std::lock_guard lock(mutex_);
      if (signal_ != SIGKILL) signal_ = number;
    }
    wake();
  }
  void wake() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t count = ::write(wake_.get(), &one, sizeof one);
  }

  // --- The thread ---

  void serve() {
    // A write to a worker that is gone must be an error and no signal.
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    for (obey(); !output_ended_; obey()) {
      std::array<pollfd, 3> fds = {pollfd{process_.output(), POLLIN, 0}, pollfd{wake_.get(), POLLIN, 0},
                                   pollfd{writing_.empty() ? -1 : process_.input(), POLLOUT, 0}};
      if (::poll(fds.data(), fds.size(), -1) < 0) continue;
      if (fds[1].revents != 0) {
        std::uint64_t count = 0;
        [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof count);
      }
      if (fds[2].revents != 0) write_some();
      if (fds[0].revents != 0) read_some();
    }
    on_arrival_(wait_for_end());
  }

  // What the others wish.
  void obey() {
    std::optional<int> number;
    bool closing = false;
    {
      const std::lock_guard lock(mutex_);
      number = std::exchange(signal_, std::nullopt);
      for (; !outgoing_.empty(); outgoing_.pop_front()) writing_ += outgoing_.front();
      closing = closing_;
    }
    if (number) process_.send_signal(*number);
    // What it still writes is of no use, and a child of its own may hold the pipe open.
    if (number == SIGKILL) output_ended_ = true;
    if (closing && writing_.empty()) process_.close_input();
  }

  void write_some() {
    const ssize_t count = ::write(process_.input(), writing_.data() + written_, writing_.size() - written_);
    if (count > 0) {
      written_ += static_cast<std::size_t>(count);
    } else if (errno != EAGAIN && errno != EINTR) {
      written_ = writing_.size();  // it does not listen any more; its end says the rest
    }
    if (written_ < writing_.size()) return;
    writing_.clear();
    written_ = 0;
  }

  void read_some() {
    reader_.read_some();
    while (const std::optional<Received> received = reader_.take()) {
      if (received->kind == Received::Kind::end) {
        output_ended_ = true;
        return;
      }
      on_arrival_(decode(*received));
    }
  }

  ExitStatus wait_for_end() {
    const auto deadline = std::chrono::steady_clock::now() + kEnding;
    while (true) {
      if (const std::optional<ExitStatus> status = process_.wait(kLookForSignals)) return *status;
      obey();
      if (std::chrono::steady_clock::now() >= deadline) process_.send_signal(SIGKILL);
    }
  }

  Subprocess process_;
  OnArrival on_arrival_;
  LineReader reader_;
  std::string writing_;
  std::size_t written_ = 0;  // bytes of it
  bool output_ended_ = false;
  Fd wake_;  // an eventfd

  std::mutex mutex_;  // guards what follows
  std::deque<std::string> outgoing_;
  std::optional<int> signal_;
  bool closing_ = false;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

Result<std::unique_ptr<WorkerChannel>> start_child(const std::filesystem::path& program,
                                                   const std::vector<std::string>& arguments, OnArrival on_arrival) {
  Result<Subprocess> process = Subprocess::start(program, arguments);
  if (!process) return tl::unexpected(process.error());
  return std::make_unique<PipeChannel>(std::move(*process), std::move(on_arrival));
}

}  // namespace darkroom
