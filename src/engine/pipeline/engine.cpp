#include "engine/pipeline/engine.h"

#include <algorithm>
#include <chrono>
#include <list>

#include <unistd.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/ref/ref_backend.h"
#include "engine/pipeline/generate.h"
#include "engine/weights/inspect.h"
#include "spec/scheduler_names.h"

namespace darkroom::engine {
namespace {

std::unique_ptr<Backend> make_backend(const EngineOptions& options) {
  if (options.device == "cpu") return make_cpu_backend({.threads = options.threads, .instruction_set = ""});
  if (options.device == "ref") return make_ref_backend();
  throw_failure(ErrorCode::invalid_argument, "device {}: there is cpu, and ref for tests", options.device);
}

std::uint64_t machine_bytes() {
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

struct CachedModel {
  std::filesystem::path path;
  ComputeTypes types;
  std::unique_ptr<SdxlModel> model;
  double last_used = 0;
};

}  // namespace

struct Engine::State {
  explicit State(const EngineOptions& options)
      : backend(make_backend(options)),
        // Half of the machine: the other half is for what a job computes with and for the files' pages.
        cache_bytes(options.cache_bytes > 0 ? options.cache_bytes : machine_bytes() / 2) {}

  DType compute_type(Precision precision) const {
    switch (precision) {
      case Precision::float32:
        return DType::f32;
      case Precision::bfloat16:
        return DType::bf16;
      case Precision::int8:
        return DType::i8;
      case Precision::automatic:
        break;
    }
    return backend->has_fast(DType::bf16) ? DType::bf16 : DType::f32;
  }

  ComputeTypes compute_types(Precision model, Precision vae) const {
    const DType type = compute_type(model);
    return {.model = type, .vae = vae == Precision::automatic ? type : compute_type(vae)};
  }

  // Laid-out bytes of a checkpoint whose weights take `file_bytes` on disk, nearly always in two bytes each.
  static std::uint64_t laid_out_bytes(std::uint64_t file_bytes, DType type) {
    return type == DType::f32 ? 2 * file_bytes : file_bytes;
  }

  SdxlModel& model(const std::filesystem::path& path, const ComputeTypes& types) {
    const auto found = std::ranges::find_if(
        models, [&](const CachedModel& cached) { return cached.path == path && cached.types == types; });
    if (found != models.end()) {
      found->last_used = now_seconds();
      models.splice(models.begin(), models, found);
      return *models.front().model;
    }
    Checkpoint checkpoint = value_or_throw(open_checkpoint(path));
    make_room(laid_out_bytes(checkpoint.bytes, types.model));
    models.push_front({.path = path,
                       .types = types,
                       .model = std::make_unique<SdxlModel>(*backend, std::move(checkpoint), types),
                       .last_used = now_seconds()});
    return *models.front().model;
  }

  // The least recently used models go until `bytes` more fit.
  void make_room(std::uint64_t bytes) {
    std::uint64_t used = bytes;
    for (const CachedModel& cached : models) used += cached.model->bytes();
    while (used > cache_bytes && !models.empty()) {
      used -= models.back().model->bytes();
      models.pop_back();
    }
  }

  std::unique_ptr<Backend> backend;
  std::uint64_t cache_bytes;
  std::list<CachedModel> models;  // the most recently used first
};

Engine::Engine(const EngineOptions& options) : state_(std::make_unique<State>(options)) {}
Engine::~Engine() = default;

GenerationResult Engine::generate(const GenerationSpec& spec, ProgressSink& progress, const CancelToken& cancel) {
  refuse_what_is_missing(spec);
  StageClock clock(progress);
  clock.begin("load");
  cancel.throw_if_cancelled();
  const ComputeTypes types = state_->compute_types(spec.precision, spec.vae_precision);
  SdxlModel& model = state_->model(spec.model, types);
  GenerationResult result = darkroom::engine::generate(model, spec, clock, cancel);
  result.device = device();
  result.compute_type = to_string(types.model);
  // What one job needed must not stay while another size is worked on.
  state_->backend->trim();
  return result;
}

void Engine::load(const std::filesystem::path& path, Precision precision) {
  state_->model(path, state_->compute_types(precision, Precision::automatic));
}

bool Engine::unload(const std::filesystem::path& path) {
  return state_->models.remove_if([&](const CachedModel& cached) { return cached.path == path; }) > 0;
}

std::vector<LoadedModel> Engine::loaded() const {
  std::vector<LoadedModel> loaded;
  for (const CachedModel& cached : state_->models) {
    loaded.push_back(
        {.path = cached.path, .kind = "checkpoint", .bytes = cached.model->bytes(), .last_used = cached.last_used});
  }
  return loaded;
}

std::uint64_t Engine::predict_bytes(const GenerationSpec& spec) const {
  const ComputeTypes types = state_->compute_types(spec.precision, spec.vae_precision);
  const auto inspected = inspect(spec.model);
  const std::uint64_t weights = inspected ? State::laid_out_bytes(inspected->bytes, types.model) : 0;
  return weights + activation_bytes(spec, types);
}

std::string Engine::device() const { return std::string(state_->backend->name()); }

std::vector<std::string> scheduler_names() {
  std::vector<std::string> names;
  for (const SchedulerEntry& entry : known_schedulers()) names.emplace_back(entry.title);
  return names;
}

}  // namespace darkroom::engine
