// The engine's door: what the worker calls. One engine a process; generate, load, unload and loaded are called by one
// thread at a time, a CancelToken and device() by any.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

struct StepProgress {
  int step = 0;  // 1…steps: the one just finished
  int steps = 0;
  int picture_count = 1;
  double seconds_per_step = 0.0;
};

class ProgressSink {
 public:
  virtual ~ProgressSink() = default;
  virtual void stage(std::string_view name) = 0;  // one begins: "load", "encode", "denoise", "decode", …
  virtual void step(const StepProgress& progress) = 0;
};

// Asks a running job to end. Any thread may cancel; the first reason counts.
class CancelToken {
 public:
  void cancel(ErrorCode why) {
    ErrorCode expected = kRunning;
    why_.compare_exchange_strong(expected, why);
  }
  bool cancelled() const { return why_ != kRunning; }
  void throw_if_cancelled() const {
    const ErrorCode why = why_;
    if (why == ErrorCode::timed_out) throw_failure(why, "the time limit passed");
    if (why != kRunning) throw_failure(why, "the job was cancelled");
  }

 private:
  static constexpr ErrorCode kRunning = ErrorCode::internal;  // never a reason to cancel
  std::atomic<ErrorCode> why_ = kRunning;
};

struct StageTime {
  std::string name;
  double seconds = 0.0;
};

struct GeneratedPicture {
  std::uint64_t seed = 0;
  int width = 0;  // pixels
  int height = 0;
  std::vector<std::uint8_t> rgb;  // [height, width, 3]
};

struct GenerationResult {
  std::vector<GeneratedPicture> pictures;
  std::vector<StageTime> stages;
  std::string device;
  std::string compute_type;
  std::string scheduler;
  std::vector<std::string> warnings;
  std::vector<std::string> loaded_loras;
};

struct EngineOptions {
  std::string device = "cpu";   // "cpu" or "ref"
  int threads = 0;              // 0: one a core
  std::size_t cache_bytes = 0;  // 0: the engine chooses
};

struct LoadedModel {
  std::string path;
  std::string kind;
  std::size_t bytes = 0;
  std::chrono::system_clock::time_point last_used;
};

// Every scheduler that a spec may name, by diffusers' class name.
std::vector<std::string> scheduler_names();

class Engine {
 public:
  // Throws Failure(unsupported) for a device that this build has not.
  explicit Engine(EngineOptions options);
  ~Engine();

  // The spec's models are absolute paths. Throws Failure.
  GenerationResult generate(const GenerationSpec& spec, ProgressSink& progress, const CancelToken& cancel);
  void load(const std::filesystem::path& path, Precision precision);
  // Whether it was loaded.
  bool unload(const std::filesystem::path& path);
  std::vector<LoadedModel> loaded() const;
  // Memory that the job would need beside what is loaded already, in bytes.
  std::uint64_t predict_bytes(const GenerationSpec& spec) const;
  std::string device() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace darkroom::engine
