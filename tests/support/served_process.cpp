#include "tests/support/served_process.h"

#include <charconv>
#include <csignal>
#include <fstream>
#include <sstream>
#include <thread>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/random.h"
#include "tests/support/http_client.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto kPatience = 60s;
constexpr auto kLook = 2ms;

int parent_of(const fs::path& process) {
  std::ifstream file(process / "stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  // "pid (name) state parent …": the name may hold anything.
  std::istringstream rest(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  std::string state;
  int parent = 0;
  rest >> state >> parent;
  return parent;
}

}  // namespace

std::uint16_t free_port() {
  constexpr std::uint64_t kFirst = 10'000;
  constexpr std::uint64_t kPorts = 20'000;  // Linux gives clients those from 32768 on
  for (int attempt = 0; attempt < 100; ++attempt) {
    const auto port = static_cast<std::uint16_t>(kFirst + random_u64() % kPorts);
    const Fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return port;
  }
  return 0;
}

ServedProcess::ServedProcess(ServedOptions options) : options_(std::move(options)), port_(free_port()) {
  if (!options_.models.empty()) return;
  options_.models = options_.folder / "models";
  const fs::path model = options_.models / "checkpoints" / "sdxl" / "model_index.json";
  fs::create_directories(model.parent_path());
  std::ofstream(model) << R"({"_class_name": "StableDiffusionXLPipeline"})";
}

Result<void> ServedProcess::start() {
  const auto set = [](const std::string& name, const std::string& value) { ::setenv(name.c_str(), value.c_str(), 1); };
  set("DARKROOM_WORKER", (options_.programs / options_.worker).string());
  set("DARKROOM_OUTPUTS__DIRECTORY", (options_.folder / "outputs").string());
  set("DARKROOM_HTTP__LOG_LEVEL", "error");
  for (const auto& [name, value] : options_.settings) set(name, value);
  Result<Subprocess> process = Subprocess::start(
      options_.programs / "darkroom", {"serve", "--listen", fmt::format("127.0.0.1:{}", port_), "--data",
                                       (options_.folder / "data").string(), "--models", options_.models.string()});
  if (!process) return tl::unexpected(process.error());
  process_.emplace(std::move(*process));
  for (const auto deadline = steady_clock::now() + kPatience; steady_clock::now() < deadline;) {
    if (const auto answer = HttpClient(port_).ask("GET", "/healthz"); answer && answer->status == 200) return {};
    if (const auto status = process_->wait(kLook)) {
      process_.reset();
      return fail(ErrorCode::internal, "darkroom serve has ended: {}", describe(*status));
    }
  }
  return fail(ErrorCode::timed_out, "darkroom serve does not answer");
}

Result<void> ServedProcess::wait_until_ready() const {
  HttpClient client(port_);
  for (const auto deadline = steady_clock::now() + kPatience; steady_clock::now() < deadline;) {
    if (const auto answer = client.ask("GET", "/readyz"); answer && answer->status == 200) return {};
    std::this_thread::sleep_for(kLook);
  }
  return fail(ErrorCode::timed_out, "no worker of darkroom serve gets ready");
}

void ServedProcess::kill() { process_.reset(); }

bool ServedProcess::stop(std::chrono::seconds patience) {
  process_->send_signal(SIGTERM);
  const std::optional<ExitStatus> status = process_->wait(patience);
  process_.reset();
  return status && status->code == 0 && status->signal == 0;
}

int ServedProcess::pid() const { return process_ ? process_->pid() : 0; }

std::vector<int> ServedProcess::worker_pids() const {
  std::vector<int> pids;
  const int service = pid();
  if (service == 0) return pids;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    int pid = 0;
    const auto [end, wrong] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (wrong == std::errc() && end == name.data() + name.size() && parent_of(entry.path()) == service) {
      pids.push_back(pid);
    }
  }
  return pids;
}

std::uint64_t ServedProcess::resident_bytes() const {
  std::ifstream file(fmt::format("/proc/{}/statm", pid()));
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  file >> size >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace darkroom
