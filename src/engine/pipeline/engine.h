// The engine's one door: a GenerationSpec goes in, pictures come out. One job at a time; cancel from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"
#include "engine/image/image.h"
#include "spec/generation_spec.h"
#include "spec/model_role.h"

namespace darkroom::engine {

struct StepProgress {
  int step = 0;   // done
  int steps = 0;  // in all
  int picture_count = 1;
  double seconds_per_step = 0;
  std::span<const float> latents;  // [N, H, W, 4] after this step, unscaled; valid during the call
  int latent_height = 0;
  int latent_width = 0;
};

class ProgressSink {
 public:
  virtual ~ProgressSink() = default;
  // A new stage begins: "load", "text", "denoise", "decode", …
  virtual void stage(std::string_view name) = 0;
  virtual void step(const StepProgress& progress) = 0;
};

// Asked between steps and layers of work; set from another thread.
class CancelToken {
 public:
  // Only the first call's reason counts: cancelled or timed_out.
  void cancel(ErrorCode why) {
    int none = 0;
    reason_.compare_exchange_strong(none, 1 + static_cast<int>(why));
  }
  bool cancelled() const { return reason_.load() != 0; }
  void throw_if_cancelled() const {
    const int reason = reason_.load();
    if (reason == 0) return;
    const auto code = static_cast<ErrorCode>(reason - 1);
    throw_failure(code, "the job was {}", code == ErrorCode::timed_out ? "stopped at its time limit" : "cancelled");
  }

 private:
  std::atomic<int> reason_{0};
};

struct StageTime {
  std::string name;
  double seconds = 0;
};

struct GeneratedPicture {
  std::uint64_t seed = 0;
  int width = 0;
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
  std::vector<Image> control_maps;  // RGB, one a ControlNet: its picture as preprocessed
};

// A job that shares its passes with others. All that is given by reference outlives the call.
struct JointJob {
  const GenerationSpec& spec;  // paths in it are resolved
  ProgressSink& progress;
  const CancelToken& cancel;
};

// What came of it: pictures, or what it threw.
using JointOutcome = std::variant<GenerationResult, std::exception_ptr>;

// Whether two jobs can share passes: they ask for the same models, adapters, types and size, and for nothing that a
// pass must know of one row and not of another. Paths in both are resolved.
bool can_share_passes(const GenerationSpec& a, const GenerationSpec& b);

struct EngineOptions {
  std::string device = "cpu";     // or "ref"
  int threads = 0;                // 0: one a core
  std::uint64_t cache_bytes = 0;  // of laid-out models kept; 0: chosen from the machine's memory
};

struct LoadedModel {
  std::filesystem::path path;
  std::string kind;
  std::uint64_t bytes = 0;
  double last_used = 0;  // seconds since the epoch
};

// Pixels of an encoded picture, turned upright. Errors: those of reading and decoding it.
Result<Size> picture_size(const ImageSource& source);

class Engine {
 public:
  // Throws Failure{invalid_argument} for a device that does not exist.
  explicit Engine(const EngineOptions& options);
  ~Engine();

  // Paths in `spec` are resolved. Throws Failure.
  GenerationResult generate(const GenerationSpec& spec, ProgressSink& progress, const CancelToken& cancel);
  // Jobs of which each can share passes with the first. Their pictures are the same bytes as alone; one that fails or
  // is cancelled ends alone. Throws Failure if the models, which all of them need, cannot be had.
  std::vector<JointOutcome> generate_together(std::span<const JointJob> jobs);

  // Lays a model out, so that the next job finds it. A LoRA or a textual inversion is opened, checked and read; what it
  // changes shows when a job binds it to its model. Throws Failure.
  void load(ModelRole role, const std::filesystem::path& path, Precision precision);
  bool unload(const std::filesystem::path& path);  // whether it was loaded
  std::vector<LoadedModel> loaded() const;
  // Memory that the job takes at its highest, models included, in bytes; of one that only enlarges, width and height
  // are the picture's.
  std::uint64_t predict_bytes(const GenerationSpec& spec) const;
  std::string device() const;
  // What Precision::automatic means on this machine: "float32" or "bfloat16".
  std::string compute_type() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace darkroom::engine
