// A worker that speaks the protocol, makes files that are no pictures, and misbehaves on the wire as words of the
// prompt ask; what goes wrong inside of a worker is fake_engine's.
//   slow      20 ms a step, with progress          garbage  writes lines that are no messages
//   twice     answers twice                        stray    answers a request that nobody made
//   deaf      stops, as a process, for ever        stubborn neither cancels nor obeys SIGTERM, for ever
//   exit      dies, at every attempt               exitonce dies at the first attempt
//   link      a picture that is a symbolic link    nofile   a picture that is not there
//   leave     ends itself as if told to            short    a picture that has fewer bytes than it says
// A picture's bytes are the seed and the prompt. Every start of a job is a line of the file "starts" two
// folders above the outputs.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "base/overloaded.h"
#include "base/text.h"
#include "protocol/codec.h"
#include "protocol/line_channel.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxLine = 64'000'000;

class RogueWorker {
 public:
  explicit RogueWorker(fs::path outputs)
      : outputs_(std::move(outputs)), writer_(STDOUT_FILENO), thread_([this] { run_jobs(); }) {}
  ~RogueWorker() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  RogueWorker(const RogueWorker&) = delete;
  RogueWorker& operator=(const RogueWorker&) = delete;

  void serve() {
    send(encode(Event{"", Ready{.version = "0", .device = "rogue", .pid = ::getpid(), .compute_type = "float32"}}));
    LineReader reader(STDIN_FILENO, kMaxLine);
    while (true) {
      reader.read_some();
      while (const auto received = reader.take()) {
        if (received->kind == Received::Kind::end) return;
        auto request = decode_request(received->text, {});
        if (request) {
          handle(std::move(*request));
        } else {
          send(encode(request.error()));
        }
      }
    }
  }

 private:
  void handle(Request request) {
    const std::string id = request.request_id;
    std::visit(Overloaded{[&](GenerationRequest& body) { start(id, std::move(body)); },
                          [&](const CancelJob& body) {
                            cancel(body.target);
                            answer(id, JobCancelled{body.target});
                          },
                          [&](const ListModels&) {
                            answer(id, ModelList{{{.name = "one", .path = "/models/one", .format = "safetensors"}}});
                          },
                          [&](const ListSchedulers&) { answer(id, SchedulerList{{"EulerDiscreteScheduler"}}); },
                          [&](const auto&) { answer(id, status()); }},
               request.body);
  }

  ResponseData status() {
    Status status{.orchestrator_status = "running", .device = "rogue", .memory_used = 1000, .memory_peak = 2000};
    if (did_something_) status.loaded_models.push_back({.path = "/m", .kind = "checkpoint", .bytes = 1});
    return status;
  }

  void start(const std::string& id, GenerationRequest request) {
    {
      const std::lock_guard lock(mutex_);
      queue_.emplace_back(id, std::move(request.spec));
    }
    changed_.notify_one();
  }

  void cancel(const std::string& id) {
    const std::lock_guard lock(mutex_);
    cancelled_.insert(id);
  }
  bool is_cancelled(const std::string& id) {
    const std::lock_guard lock(mutex_);
    return cancelled_.contains(id);
  }

  void run_jobs() {
    while (true) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return ending_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const auto [id, spec] = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      run(id, spec);
    }
  }

  void run(const std::string& id, const GenerationSpec& spec) {
    const auto asks = [&](const char* word) {
      return (" " + spec.prompt + " ").find(fmt::format(" {} ", word)) != std::string::npos;
    };
    const fs::path starts = outputs_.parent_path().parent_path() / "starts";
    std::ofstream(starts, std::ios::app) << spec.prompt << "\n" << std::flush;
    if (asks("exit") || (asks("exitonce") && id.ends_with("-1"))) ::_exit(3);
    if (asks("leave")) return fail_job(id, {ErrorCode::cancelled, "told to end"});
    if (asks("deaf")) ::raise(SIGSTOP);
    if (asks("stubborn")) {
      std::signal(SIGTERM, SIG_IGN);
      while (true) std::this_thread::sleep_for(std::chrono::seconds(1));
    }
    if (asks("garbage")) {
      send("this is no message \x01\xff");
      send("{\"json\": true}");
      send("");
    }
    if (asks("stray")) answer("nobody", ShutDown{});
    for (int step = 1; step <= spec.steps; ++step) {
      if (is_cancelled(id)) return fail_job(id, {ErrorCode::cancelled, "the job was cancelled"});
      if (asks("slow")) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      Progress progress{.stage = "denoise", .step = step, .steps = spec.steps, .seconds_left = 1.0};
      if (spec.output.preview_every > 0) {
        progress.preview = "data:image/jpeg;base64," + encode_base64(fmt::format("after step {}", step));
      }
      send(encode(Event{id, progress}));
    }
    const Generated generated = write(spec, asks("nofile"), asks("link"), asks("short"));
    did_something_ = true;
    answer(id, generated);
    if (asks("twice")) answer(id, generated);
  }

  Generated write(const GenerationSpec& spec, bool nowhere, bool as_link, bool short_of_it) {
    Generated generated;
    generated.processing_metrics.device_name = "rogue";
    generated.processing_metrics.inference_time = 0.01;
    generated.processing_metrics.stages = {{"load", 0.001}, {"denoise", 0.01}};
    const fs::path first = outputs_ / spec.output.path;
    fs::create_directories(first.parent_path());
    for (int i = 0; i < spec.batch_size; ++i) {
      const fs::path path = first.parent_path() / fmt::format("{}{}", i, first.extension().string());
      const std::string bytes = fmt::format("{} {}", spec.seed + static_cast<std::uint64_t>(i), spec.prompt);
      if (short_of_it) {
        std::ofstream(path) << bytes.substr(1);
      } else if (as_link) {
        fs::create_symlink("/etc/passwd", path);
      } else if (!nowhere) {
        std::ofstream(path) << bytes;
      }
      generated.generated_images.push_back({.path = path.string(),
                                            .filename = path.filename().string(),
                                            .seed = spec.seed + static_cast<std::uint64_t>(i),
                                            .width = spec.width,
                                            .height = spec.height,
                                            .format = spec.output.format,
                                            .bytes = bytes.size()});
    }
    if (spec.output.save_control_maps) {
      const fs::path path = first.parent_path() / "control.png";
      std::ofstream(path) << "a map";
      generated.control_maps.push_back(path.string());
    }
    return generated;
  }

  void answer(const std::string& id, ResponseData data) {
    Response response;
    response.request_id = id;
    response.data = std::move(data);
    send(encode(response));
  }
  void fail_job(const std::string& id, Error error) {
    Response response;
    response.request_id = id;
    response.refusal = Refusal{std::move(error), {}};
    send(encode(response));
  }
  void send(const std::string& line) { [[maybe_unused]] const Result<void> sent = writer_.write(line); }

  fs::path outputs_;
  LineWriter writer_;
  std::atomic<bool> did_something_ = false;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<std::pair<std::string, GenerationSpec>> queue_;
  std::set<std::string> cancelled_;
  bool ending_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace
}  // namespace darkroom

// rogue-worker … --outputs DIR
int main(int argc, char** argv) {
  std::filesystem::path outputs;
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::string(argv[i]) == "--outputs") outputs = argv[i + 1];
    if (std::string(argv[i]) == "--broken") return 7;
  }
  std::signal(SIGPIPE, SIG_IGN);
  darkroom::RogueWorker(outputs).serve();
  return 0;
}
