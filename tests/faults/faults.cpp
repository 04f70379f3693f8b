#include "tests/faults/faults.h"

#include <atomic>
#include <csignal>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>

#include "tests/support/http_client.h"
#include "tests/support/served_process.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using namespace std::chrono_literals;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr auto kPatience = 120s;  // for a job's end
constexpr auto kPause = 5ms;

struct Job {
  std::string prompt;
  std::uint64_t seed = 0;
  bool fails = false;     // it is meant to
  bool may_fail = false;  // it may, if it says so
  std::string id;
};

// What one run of faults asks for, and what must have come of it.
class Bench {
 public:
  Bench(FaultResult& result, ServedOptions options)
      : result_(result), options_(std::move(options)), served_(options_) {}

  ServedProcess& served() { return served_; }
  // The picture that the job must have; the rogue worker's unless told otherwise.
  std::function<std::string(const Job&)> expected = [](const Job& job) {
    return fmt::format("{} {}", job.seed, job.prompt);
  };
  json more = json::object();  // into every request

  Result<void> start() {
    Result<void> started = served_.start();
    return started ? served_.wait_until_ready() : started;
  }

  // Asks until it is told that the job is kept, however often the service dies in between.
  void submit(Job job) {
    json body = {{"prompt", job.prompt}, {"model_name", "sdxl"},      {"width", 256},
                 {"height", 256},        {"num_inference_steps", 10}, {"seed", job.seed}};
    body.merge_patch(more);
    const std::string token = fmt::format("Idempotency-Key: {}\r\n", ++tokens_);
    const std::string text = body.dump();
    for (const auto deadline = steady_clock::now() + kPatience; steady_clock::now() < deadline;) {
      HttpClient client(served_.port());
      const auto answer = client.ask("POST", "/v1/jobs", text, token);
      if (answer && (answer->status == 200 || answer->status == 202)) {
        job.id = json::parse(answer->body)["id"];
        const std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(job));
        ++result_.jobs;
        return;
      }
      std::this_thread::sleep_for(kPause);
    }
    ++result_.lost;
  }

  // Every job submitted since the last check.
  void check() {
    std::vector<Job> jobs;
    {
      const std::lock_guard lock(mutex_);
      jobs.swap(jobs_);
    }
    for (const Job& job : jobs) check(job);
    submitted_ += static_cast<int>(jobs.size());
  }

  // At the end: as many jobs as were submitted, as many files as pictures.
  Result<void> check_totals() {
    served_.stop(30s);
    if (Result<void> started = served_.start(); !started) return started;
    int jobs = 0;
    HttpClient client(served_.port());
    for (std::string cursor;;) {
      const auto answer = client.ask("GET", "/v1/jobs?limit=200" + (cursor.empty() ? "" : "&cursor=" + cursor));
      if (!answer || answer->status != 200) return fail(ErrorCode::internal, "the jobs are not listed");
      const json page = json::parse(answer->body);
      jobs += static_cast<int>(page["jobs"].size());
      if (!page.contains("next")) break;
      cursor = page["next"];
    }
    int files = 0;
    for (const auto& entry : fs::recursive_directory_iterator(options_.folder / "data" / "pictures")) {
      files += entry.is_regular_file() ? 1 : 0;
    }
    result_.doubled += std::max(0, jobs - submitted_) + std::max(0, files - pictures_);
    result_.lost += std::max(0, submitted_ - jobs) + std::max(0, pictures_ - files);
    served_.stop(30s);
    return {};
  }

 private:
  void check(const Job& job) {
    HttpClient client(served_.port());
    std::optional<json> view;
    for (const auto deadline = steady_clock::now() + kPatience; steady_clock::now() < deadline;) {
      const auto answer = client.ask("GET", "/v1/jobs/" + job.id);
      if (answer && answer->status == 404) break;
      if (answer && answer->status == 200) {
        json now = json::parse(answer->body);
        if (now.contains("finished_at")) {
          view = std::move(now);
          break;
        }
      }
      std::this_thread::sleep_for(kPause);
    }
    const bool failed = view && (*view)["status"] == "failed";
    if (failed && job.may_fail) return;
    if (!view || failed != job.fails) {
      fmt::print(stderr, "{}: job {} \"{}\": {}\n", result_.fault, job.id, job.prompt, view ? view->dump() : "lost");
      ++result_.lost;
      return;
    }
    if ((*view)["attempt"] > 1) ++result_.interrupted;
    if (job.fails) return;
    const std::size_t pictures = (*view)["images"].size();
    result_.lost += pictures < 1 ? 1 : 0;
    result_.doubled += pictures > 1 ? 1 : 0;
    pictures_ += static_cast<int>(pictures);
    const auto picture = client.ask("GET", fmt::format("/v1/jobs/{}/images/0", job.id));
    if (!picture || picture->status != 200 || picture->body != expected(job)) ++result_.other_bytes;
  }

  FaultResult& result_;
  ServedOptions options_;
  ServedProcess served_;
  std::atomic<int> tokens_ = 0;
  int submitted_ = 0;
  int pictures_ = 0;
  std::mutex mutex_;  // guards what follows
  std::vector<Job> jobs_;
};

ServedOptions served_options(const FaultOptions& options, const char* folder, const char* worker) {
  const fs::path own = options.folder / folder;
  std::error_code ignored;
  fs::remove_all(own, ignored);
  fs::create_directories(own);
  return {.programs = options.programs,
          .worker = worker,
          .folder = own,
          .models = {},
          .settings = {{"DARKROOM_SERVICE__WORKERS", "2"}, {"DARKROOM_SERVICE__HEARTBEAT", "10"}}};
}

// Kills while one thread submits; the moment is up to `most` after it began.
Result<void> kill_once(Bench& bench, Victim victim, milliseconds moment, const std::function<void()>& submit_all) {
  std::thread submitting(submit_all);
  std::this_thread::sleep_for(moment);
  const std::vector<int> workers = bench.served().worker_pids();
  // One of them: a job that goes from a killed worker to the next one that is killed would rightly end as poisonous.
  if (victim != Victim::service && !workers.empty()) {
    ::kill(workers[static_cast<std::size_t>(moment.count()) % workers.size()], SIGKILL);
  }
  Result<void> started;
  if (victim != Victim::worker) {
    bench.served().kill();
    started = bench.served().start();
  }
  submitting.join();
  return started;
}

}  // namespace

Result<FaultResult> kill_at_random(const FaultOptions& options, Victim victim, int runs) {
  constexpr const char* kNames[] = {"the service is killed", "a worker is killed",
                                    "a worker and the service are killed"};
  FaultResult result{.fault = kNames[static_cast<int>(victim)]};
  Bench bench(result, served_options(options, "kill", "rogue-worker"));
  if (Result<void> started = bench.start(); !started) return tl::unexpected(started.error());
  std::mt19937_64 random(options.seed + static_cast<std::uint64_t>(victim));
  for (; result.runs < runs; ++result.runs) {
    const milliseconds moment(random() % 300);
    const Result<void> killed = kill_once(bench, victim, moment, [&] {
      for (int i = 0; i < 6; ++i) {
        bench.submit(
            {.prompt = i % 2 == 0 ? "slow" : "a lake", .seed = static_cast<std::uint64_t>(result.runs * 10 + i)});
      }
    });
    if (!killed) return tl::unexpected(killed.error());
    bench.check();
  }
  if (Result<void> checked = bench.check_totals(); !checked) return tl::unexpected(checked.error());
  return result;
}

Result<FaultResult> kill_real_worker(const FaultOptions& options, int runs) {
  FaultResult result{.fault = "the same with the real worker"};
  ServedOptions served = served_options(options, "real", "darkroom-worker");
  served.models = options.models;
  served.settings["DARKROOM_SERVICE__WORKERS"] = "1";
  Bench bench(result, served);
  bench.more = {{"model_name", "model"}, {"num_inference_steps", 3}};
  // The first picture of each seed is the one that all others must equal: none of these runs is disturbed.
  std::map<std::uint64_t, std::string> pictures;
  if (Result<void> started = bench.start(); !started) return tl::unexpected(started.error());
  HttpClient client(bench.served().port());
  FaultResult undisturbed;
  constexpr std::uint64_t kSeeds = 4;
  bench.expected = [&](const Job& job) {
    const auto known = pictures.find(job.seed);
    if (known != pictures.end()) return known->second;
    const auto picture = client.ask("GET", fmt::format("/v1/jobs/{}/images/0", job.id));
    return pictures[job.seed] = picture ? picture->body : "";
  };
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) bench.submit({.prompt = "a lake", .seed = seed});
  bench.check();
  std::mt19937_64 random(options.seed);
  for (; result.runs < runs; ++result.runs) {
    const auto victim = static_cast<Victim>(result.runs % 3);
    const milliseconds moment(random() % 1500);
    const Result<void> killed = kill_once(bench, victim, moment, [&] {
      for (std::uint64_t seed = 0; seed < kSeeds; ++seed) bench.submit({.prompt = "a lake", .seed = seed});
    });
    if (!killed) return tl::unexpected(killed.error());
    bench.check();
  }
  if (Result<void> checked = bench.check_totals(); !checked) return tl::unexpected(checked.error());
  return result;
}

Result<FaultResult> misbehave(const FaultOptions& options, int runs) {
  FaultResult result{.fault =
                         "a worker hangs, prints garbage, answers twice or unasked, dies, makes no file or a link"};
  ServedOptions served = served_options(options, "misbehave", "rogue-worker");
  served.settings["DARKROOM_SERVICE__HEARTBEAT"] = "1";
  Bench bench(result, served);
  if (Result<void> started = bench.start(); !started) return tl::unexpected(started.error());
  struct Deed {
    const char* prompt;
    bool fails;
  };
  constexpr Deed kDeeds[] = {{"garbage", false},  {"twice", false}, {"stray", false},
                             {"exitonce", false}, {"exit", true},   {"nofile", true},
                             {"link", true},      {"deaf", true},   {"leave", true}};
  for (; result.runs < runs; ++result.runs) {
    const Deed& deed = kDeeds[static_cast<std::size_t>(result.runs) % std::size(kDeeds)];
    const auto seed = static_cast<std::uint64_t>(result.runs * 10);
    bench.submit({.prompt = deed.prompt, .seed = seed, .fails = deed.fails});
    for (std::uint64_t i = 1; i < 4; ++i) bench.submit({.prompt = "a lake", .seed = seed + i});
    bench.check();
  }
  if (Result<void> checked = bench.check_totals(); !checked) return tl::unexpected(checked.error());
  return result;
}

Result<FaultResult> lock_database(const FaultOptions& options, int runs) {
  FaultResult result{.fault = "another process locks the database for 7 s"};
  const ServedOptions served = served_options(options, "lock", "rogue-worker");
  Bench bench(result, served);
  if (Result<void> started = bench.start(); !started) return tl::unexpected(started.error());
  for (; result.runs < runs; ++result.runs) {
    const auto seed = static_cast<std::uint64_t>(result.runs * 10);
    for (std::uint64_t i = 0; i < 3; ++i) bench.submit({.prompt = "slow", .seed = seed + i});
    sqlite3* other = nullptr;
    const std::string file = (served.folder / "data" / "jobs.db").string();
    const bool locked =
        sqlite3_open(file.c_str(), &other) == SQLITE_OK &&
        sqlite3_exec(other, "PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE", nullptr, nullptr, nullptr) == SQLITE_OK;
    std::thread submitting([&] { bench.submit({.prompt = "a lake", .seed = seed + 5}); });
    std::this_thread::sleep_for(7s);
    sqlite3_close(other);
    submitting.join();
    if (!locked) return fail(ErrorCode::internal, "the database cannot be locked");
    bench.check();
  }
  if (Result<void> checked = bench.check_totals(); !checked) return tl::unexpected(checked.error());
  return result;
}

Result<FaultResult> fill_disk(const FaultOptions& options, int runs) {
  FaultResult result{.fault = "the disk is full"};
  const ServedOptions served = served_options(options, "full", "rogue-worker");
  // A small disk of our own, which goes with this process.
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("tmpfs", served.folder.c_str(), "tmpfs", 0, "size=8m") != 0) {
    result.skipped = "mounting a small disk takes root";
    return result;
  }
  Bench bench(result, ServedOptions(served));
  if (Result<void> started = bench.start(); !started) return tl::unexpected(started.error());
  for (; result.runs < runs; ++result.runs) {
    const auto seed = static_cast<std::uint64_t>(result.runs * 10);
    bench.submit({.prompt = "slow", .seed = seed, .may_fail = true});
    {
      std::ofstream filler(served.folder / "filler", std::ios::binary);
      const std::vector<char> megabyte(1 << 20, 'x');
      while (filler.write(megabyte.data(), static_cast<std::streamsize>(megabyte.size())).flush()) {
      }
    }
    // Ends when there is room again.
    std::thread submitting([&] { bench.submit({.prompt = "a lake", .seed = seed + 1, .may_fail = true}); });
    std::this_thread::sleep_for(2s);
    fs::remove(served.folder / "filler");
    submitting.join();
    bench.check();
  }
  if (Result<void> checked = bench.check_totals(); !checked) return tl::unexpected(checked.error());
  ::umount2(served.folder.c_str(), MNT_DETACH);
  return result;
}

Result<FaultResult> jump_clock(const FaultOptions& options, int runs) {
  FaultResult result{.fault = "the clock jumps, up to 60 days forward and 20 back"};
  const ServedOptions served = served_options(options, "clock", "rogue-worker");
  const fs::path shift = served.folder / "shift";  // seconds, read by the library at each look at the clock
  const auto set = [&](long seconds) {
    std::ofstream(shift.string() + ".new") << seconds;
    fs::rename(shift.string() + ".new", shift);
  };
  set(0);
  ::setenv("DARKROOM_TEST_CLOCK", shift.c_str(), 1);
  ::setenv("LD_PRELOAD", options.clock.c_str(), 1);
  Bench bench(result, served);
  const Result<void> started = bench.start();
  ::unsetenv("LD_PRELOAD");
  if (!started) return tl::unexpected(started.error());
  std::mt19937_64 random(options.seed);
  constexpr long kDay = 86'400;
  for (; result.runs < runs; ++result.runs) {
    const auto seed = static_cast<std::uint64_t>(result.runs * 10);
    for (std::uint64_t i = 0; i < 4; ++i) bench.submit({.prompt = i % 2 == 0 ? "slow" : "a lake", .seed = seed + i});
    set((static_cast<long>(random() % 81) - 20) * kDay);
    for (std::uint64_t i = 4; i < 6; ++i) bench.submit({.prompt = "a lake", .seed = seed + i});
    bench.check();
  }
  if (Result<void> checked = bench.check_totals(); !checked) return tl::unexpected(checked.error());
  return result;
}

}  // namespace darkroom
