// `darkroom serve` with the fake worker under many clients, and what it costs beside the work. Prints docs/load.md.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "tests/support/http_client.h"
#include "tests/support/served_process.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

struct Settings {
  int clients = 500;
  int seconds = 120;
  int pause = 1000;  // milliseconds between two requests of a client, in the mean
  int queued = 10'000;
  int jobs = 200;  // of which the overhead is measured
  fs::path programs;
  fs::path folder;
  std::vector<std::string> only;
};

std::string job_text(const std::string& prompt, std::uint64_t seed) {
  return json{{"prompt", prompt}, {"model_name", "sdxl"},     {"width", 256},
              {"height", 256},    {"num_inference_steps", 4}, {"seed", seed}}
      .dump();
}

// A table of descriptors that grows under many threads makes all of them wait for the kernel: it grows before.
void make_room_for_descriptors(int count) {
  const int high = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, count);
  if (high >= 0) ::close(high);
}

double load_average() {
  std::array<double, 1> load{};
  return ::getloadavg(load.data(), 1) == 1 ? load[0] : 0.0;
}

double part(const std::vector<double>& sorted, double quantile) {
  if (sorted.empty()) return 0.0;
  return sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(quantile * static_cast<double>(sorted.size())))];
}

// --- Many clients ---

struct Kind {
  std::vector<double> seconds;
  int busy = 0;              // 429, which is a stated answer
  std::map<int, int> wrong;  // by status; 0: none came
};

class Notes {
 public:
  void add(const std::string& kind, double seconds, int status, bool right) {
    const std::lock_guard lock(mutex_);
    Kind& one = kinds_[kind];
    if (status == 429) {
      ++one.busy;
    } else if (!right) {
      ++one.wrong[status];
    }
    one.seconds.push_back(seconds);
  }
  std::map<std::string, Kind> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(kinds_, {});
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Kind> kinds_;
};

// How late the machine wakes somebody who only sleeps: what no service can be better than.
class Sleeper {
 public:
  Sleeper() : thread_([this] { run(); }) {}
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;
  ~Sleeper() { finish(); }
  // Seconds, sorted.
  std::vector<double> finish() {
    ending_ = true;
    if (thread_.joinable()) thread_.join();
    std::sort(late_.begin(), late_.end());
    return late_;
  }

 private:
  void run() {
    constexpr milliseconds kNap(5);
    while (!ending_) {
      const auto due = steady_clock::now() + kNap;
      std::this_thread::sleep_until(due);
      late_.push_back(Seconds(steady_clock::now() - due).count());
    }
  }

  std::atomic<bool> ending_ = false;
  std::vector<double> late_;
  std::thread thread_;  // last: it uses all of the above
};

class Client {
 public:
  Client(std::uint16_t port, const Settings& settings, Notes& notes, int number)
      : settings_(settings), notes_(notes), http_(port), streams_(port), random_(static_cast<unsigned>(number)) {}

  void run(const std::atomic<bool>& ending) {
    pause(1.0);  // they do not come all at once
    while (!ending) {
      const std::optional<HttpAnswer> made = timed("submit", "POST", "/v1/jobs", job_text("a lake", random_()), {202});
      if (!made || made->status != 202) {
        pause(1.0);
        continue;
      }
      const std::string id = json::parse(made->body)["id"];
      const unsigned wish = random_() % 20;
      pause(0.5);
      if (wish < 10) {
        poll(id, ending);
      } else if (wish < 14) {
        listen(id);
      } else if (wish < 17) {
        timed("cancel", "DELETE", "/v1/jobs/" + id, "", {200, 202});
      } else {
        timed("list", "GET", "/v1/jobs?limit=10", "", {200});
      }
      pause(1.0);
    }
  }

 private:
  void pause(double factor) {
    const double part = std::uniform_real_distribution<double>(0.5, 1.5)(random_);
    std::this_thread::sleep_for(Seconds(part * factor * settings_.pause / 1000.0));
  }
  std::optional<HttpAnswer> timed(const char* kind, const char* method, const std::string& target,
                                  const std::string& body, const std::vector<int>& right) {
    const auto start = steady_clock::now();
    std::optional<HttpAnswer> answer = http_.ask(method, target, body);
    const int status = answer ? answer->status : 0;
    notes_.add(kind, Seconds(steady_clock::now() - start).count(), status,
               std::find(right.begin(), right.end(), status) != right.end());
    return answer;
  }
  void poll(const std::string& id, const std::atomic<bool>& ending) {
    for (int i = 0; i < 3 && !ending; ++i) {
      const std::optional<HttpAnswer> job = timed("poll", "GET", "/v1/jobs/" + id, "", {200});
      if (!job || job->body.find("\"succeeded\"") != std::string::npos) return;
      pause(0.5);
    }
  }
  // Until the first event: the end may be a long queue away.
  void listen(const std::string& id) {
    const auto start = steady_clock::now();
    const bool came = streams_.listen(fmt::format("/v1/jobs/{}/events", id), "event: ", milliseconds(30'000));
    notes_.add("events", Seconds(steady_clock::now() - start).count(), came ? 200 : 0, came);
  }

  const Settings& settings_;
  Notes& notes_;
  HttpClient http_;
  HttpClient streams_;
  std::minstd_rand random_;
};

Result<void> load(const Settings& settings) {
  ServedProcess served({.programs = settings.programs, .folder = settings.folder / "load", .models = {}});
  if (Result<void> started = served.start(); !started) return started;
  if (Result<void> ready = served.wait_until_ready(); !ready) return ready;
  make_room_for_descriptors(2 * settings.clients + 100);
  Notes notes;
  std::atomic<bool> ending = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < settings.clients; ++i) {
    threads.emplace_back([&, i] { Client(served.port(), settings, notes, i).run(ending); });
  }
  // Memory is looked at once everybody is connected, then after each tenth of the time.
  Sleeper sleeper;
  const auto tenth = Seconds(settings.seconds / 10.0);
  std::vector<std::uint64_t> resident;
  for (int i = 0; i < 10; ++i) {
    std::this_thread::sleep_for(tenth);
    resident.push_back(served.resident_bytes());
  }
  ending = true;
  for (std::thread& thread : threads) thread.join();
  const std::vector<double> late = sleeper.finish();
  const double busy = load_average();

  fmt::print(
      "## Many clients\n\n{} clients for {} s, each with a request every {} ms in the mean, on {} cores that they and "
      "the "
      "workers share with the service (load average at the end {:.1f}).\n\n"
      "| request | number | median | 99th percentile | slowest | 429 | other errors |\n|---|---|---|---|---|---|---|\n",
      settings.clients, settings.seconds, settings.pause, std::thread::hardware_concurrency(), busy);
  for (auto& [name, kind] : notes.take()) {
    std::sort(kind.seconds.begin(), kind.seconds.end());
    int wrong = 0;
    std::string which;
    for (const auto& [status, count] : kind.wrong) {
      wrong += count;
      which += fmt::format(" {}×{}", count, status);
    }
    fmt::print("| {} | {} | {:.1f} ms | {:.1f} ms | {:.1f} ms | {} | {}{} |\n", name, kind.seconds.size(),
               1e3 * part(kind.seconds, 0.5), 1e3 * part(kind.seconds, 0.99), 1e3 * kind.seconds.back(), kind.busy,
               wrong, which);
  }
  fmt::print(
      "\nMeanwhile a thread that only slept was woken late by {:.1f} ms in the 99th percentile and {:.1f} ms at worst: "
      "so "
      "much of the above is the machine's.\n",
      1e3 * part(late, 0.99), 1e3 * late.back());
  fmt::print("\nThe service's memory after each tenth of the time, in MB:");
  for (const std::uint64_t bytes : resident) fmt::print(" {:.1f}", static_cast<double>(bytes) / 1e6);
  fmt::print(".\n\n");
  std::fflush(stdout);
  served.kill();
  return {};
}

// --- A long queue ---

Result<void> restart(const Settings& settings) {
  // A worker that never ends leaves the queue as it is.
  ServedProcess served({.programs = settings.programs,
                        .folder = settings.folder / "restart",
                        .models = {},
                        .settings = {{"DARKROOM_SERVICE__QUEUE", fmt::format("{}", settings.queued + 1)}}});
  if (Result<void> started = served.start(); !started) return started;
  if (Result<void> ready = served.wait_until_ready(); !ready) return ready;
  if (!HttpClient(served.port()).ask("POST", "/v1/jobs", job_text("hang", 1)))
    return fail(ErrorCode::internal, "no answer");
  std::vector<std::thread> threads;
  std::atomic<int> left = settings.queued;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&] {
      HttpClient client(served.port());
      while (left-- > 0) {
        const auto made = client.ask("POST", "/v1/jobs", job_text("a lake", 2));
        if (!made || made->status != 202) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (wrong > 0) return fail(ErrorCode::internal, "{} jobs were not taken", wrong.load());
  served.kill();
  const auto start = steady_clock::now();
  if (Result<void> started = served.start(); !started) return started;
  const double answers = Seconds(steady_clock::now() - start).count();
  if (Result<void> ready = served.wait_until_ready(); !ready) return ready;
  const double works = Seconds(steady_clock::now() - start).count();
  // The last of them is there and has all others before it, but for the one that runs.
  const auto last = HttpClient(served.port()).ask("GET", "/v1/jobs?status=queued&limit=1");
  if (!last || last->status != 200) return fail(ErrorCode::internal, "the jobs are not listed");
  const json jobs = json::parse(last->body)["jobs"];
  const auto view = jobs.empty() ? std::nullopt
                                 : HttpClient(served.port()).ask("GET", "/v1/jobs/" + jobs[0]["id"].get<std::string>());
  const int before = view ? json::parse(view->body).value("position", 0) : 0;
  if (before < settings.queued - 1) return fail(ErrorCode::internal, "the last job has {} before it", before);
  fmt::print(
      "## A long queue\n\nKilled with {} jobs queued and one running, the service answers {:.2f} s after its start, "
      "and has "
      "a worker after {:.2f} s (load average {:.1f}).\n\n",
      settings.queued, answers, works, load_average());
  std::fflush(stdout);
  served.kill();
  return {};
}

// --- What a job costs beside its work ---

Result<void> overhead(const Settings& settings) {
  ServedProcess served({.programs = settings.programs, .folder = settings.folder / "overhead", .models = {}});
  if (Result<void> started = served.start(); !started) return started;
  if (Result<void> ready = served.wait_until_ready(); !ready) return ready;
  HttpClient client(served.port());
  std::vector<double> whole;
  std::vector<double> beside;
  for (int i = 0; i < settings.jobs + 5; ++i) {
    const auto start = steady_clock::now();
    const auto done =
        client.ask("POST", "/v1/jobs", job_text("a lake", static_cast<std::uint64_t>(i)), "Prefer: wait=30\r\n");
    const double seconds = Seconds(steady_clock::now() - start).count();
    if (!done || done->status != 200) return fail(ErrorCode::internal, "a job was not done");
    if (i < 5) continue;  // the first ones load the model
    const json job = json::parse(done->body);
    whole.push_back(seconds);
    beside.push_back(seconds - job["metrics"]["total_time"].get<double>());
  }
  std::sort(whole.begin(), whole.end());
  std::sort(beside.begin(), beside.end());
  fmt::print(
      "## Beside the work\n\n{} jobs of 256×256 one after the other over HTTP, each waited for: {:.1f} ms a job in the "
      "median, of which {:.1f} ms are not the worker's own time (90th percentile {:.1f} ms; load average {:.1f}).\n",
      settings.jobs, 1e3 * part(whole, 0.5), 1e3 * part(beside, 0.5), 1e3 * part(beside, 0.9), load_average());
  served.kill();
  return {};
}

int run(const Settings& settings) {
  const auto wanted = [&](const char* name) {
    return settings.only.empty() || std::find(settings.only.begin(), settings.only.end(), name) != settings.only.end();
  };
  std::error_code ignored;
  fs::remove_all(settings.folder, ignored);
  fs::create_directories(settings.folder, ignored);
  fmt::print(
      "# The service under load\n\nWritten by `./dev load`, with the fake worker, which makes plain pictures.\n\n");
  Result<void> done;
  if (wanted("clients")) done = load(settings);
  if (done && wanted("restart")) done = restart(settings);
  if (done && wanted("overhead")) done = overhead(settings);
  if (!done) fmt::print(stderr, "{}\n", done.error().message);
  fs::remove_all(settings.folder, ignored);
  return done ? 0 : 1;
}

}  // namespace
}  // namespace darkroom

int main(int argc, char** argv) {
  using namespace darkroom;
  Settings settings;
  settings.programs = std::filesystem::path(DARKROOM_BINARY_DIR) / "bin";
  settings.folder = std::filesystem::path(DARKROOM_BINARY_DIR) / "load";
  CLI::App app("The service under load.");
  app.add_option("--clients", settings.clients, "clients at once");
  app.add_option("--seconds", settings.seconds, "for so long");
  app.add_option("--pause", settings.pause, "milliseconds between two requests of a client");
  app.add_option("--queued", settings.queued, "jobs that wait when the service is killed");
  app.add_option("--jobs", settings.jobs, "jobs whose overhead is measured");
  app.add_option("--folder", settings.folder, "where the service keeps its data; is emptied");
  app.add_option("parts", settings.only, "clients, restart, overhead; all of them unless given");
  CLI11_PARSE(app, argc, argv);
  return run(settings);
}
