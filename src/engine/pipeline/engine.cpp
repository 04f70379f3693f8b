#include "engine/pipeline/engine.h"

#include <algorithm>
#include <functional>
#include <utility>

#include <unistd.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/ref/ref_backend.h"
#include "engine/pipeline/generate.h"
#include "engine/pipeline/kept_file.h"
#include "engine/pipeline/memory.h"
#include "engine/pipeline/model_cache.h"
#include "engine/pipeline/source_pictures.h"
#include "engine/pipeline/upscale.h"
#include "engine/weights/inspect.h"

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

}  // namespace

struct Engine::State {
  explicit State(const EngineOptions& options)
      : backend(make_backend(options)),
        threads(options.threads),
        // Half of the machine: the other half is for what a job computes with and for the files' pages.
        cache(options.cache_bytes > 0 ? options.cache_bytes : machine_bytes() / 2) {}

  DType compute_type(Precision precision) const {
    switch (precision) {
      case Precision::float32:
        return DType::f32;
      case Precision::bfloat16:
        return DType::bf16;
      case Precision::int8:
        if (backend->has_fast(DType::i8)) return DType::i8;
        throw_failure(ErrorCode::unsupported, "precision int8: this machine has no fast 8-bit products (AVX512-VNNI)");
      case Precision::automatic:
        break;
    }
    return backend->fast_float();
  }

  ComputeTypes compute_types(Precision model, Precision vae) const {
    const DType type = compute_type(model);
    // Text encoders are a moment's work, and a decoder's 8-bit errors are seen: int8 is for the UNet.
    const DType finer = type == DType::i8 ? compute_type(Precision::automatic) : type;
    return {.text = finer, .model = type, .vae = vae == Precision::automatic ? finer : compute_type(vae)};
  }

  // What a model takes once it is laid out. adapted: a LoRA may touch any of it.
  std::uint64_t laid_out_bytes(const ModelSummary& model, DType type, bool adapted = false) const {
    // int8 is for the inner layers; that they are less than this is left to spare.
    const DType compute = backend->activation_type(type);
    std::uint64_t bytes = 0;
    for (const auto& [file, file_bytes] : model.dtypes) {
      const std::size_t one = adapted ? size_of(compute) : backend->weight_bytes(file, compute);
      bytes += file_bytes / size_of(file) * one;
    }
    return bytes + bytes / 16;  // kernels of layers that double a picture are more than the file's, biases are float32
  }

  std::shared_ptr<SdxlModel> checkpoint(const std::filesystem::path& path, const ComputeTypes& types) {
    return get<SdxlModel>({ModelRole::checkpoint, path, types}, types.model, [&] {
      return std::make_shared<SdxlModel>(*backend, value_or_throw(open_checkpoint(path)), types);
    });
  }

  std::shared_ptr<Autoencoder> vae(const std::filesystem::path& path, DType type) {
    return get<Autoencoder>({ModelRole::vae, path, {.text = type, .model = type, .vae = type}}, type, [&] {
      return std::make_shared<Autoencoder>(*backend, value_or_throw(open_vae(path)), type);
    });
  }

  std::shared_ptr<ControlNetModel> controlnet(const std::filesystem::path& path, DType type) {
    return get<ControlNetModel>({ModelRole::controlnet, path, {.text = type, .model = type, .vae = type}}, type, [&] {
      return std::make_shared<ControlNetModel>(*backend, value_or_throw(open_controlnet(path)), type);
    });
  }

  // Null where `model` names no network.
  std::shared_ptr<Upscaler> upscaler(const std::string& model, const ComputeTypes& types) {
    if (model == kLanczosUpscaler || model == kLatentUpscaler) return nullptr;
    const DType type = upscaler_type(types);
    return get<Upscaler>({ModelRole::upscaler, model, {.model = type, .vae = type}}, type, [&] {
      return std::make_shared<Upscaler>(*backend, value_or_throw(open_upscaler(model)), type);
    });
  }

  // Nothing is laid out of it: it takes its own bytes, whatever is computed in.
  std::shared_ptr<KeptFile> file(ModelRole role, const std::filesystem::path& path,
                                 const std::function<void(const KeptFile&)>& check) {
    const auto inspected = inspect(path);
    return cache.get<KeptFile>({role, path, {}}, inspected ? inspected->bytes : 0, [&] {
      auto file = std::make_shared<KeptFile>(role, path);
      check(*file);
      return file;
    });
  }

  // The files that a job binds. Before models_for(): the model that was used last is the one that always stays.
  std::vector<std::shared_ptr<KeptFile>> files_for(const GenerationSpec& spec) {
    std::vector<std::shared_ptr<KeptFile>> files;
    const auto binding_checks = [](const KeptFile&) {};
    for (const LoraUse& use : spec.loras) files.push_back(file(ModelRole::lora, use.model, binding_checks));
    for (const EmbeddingUse& use : spec.embeddings) {
      files.push_back(file(ModelRole::embedding, use.model, binding_checks));
    }
    return files;
  }

  // Everything that a job computes with, in the order in which room is made for it.
  JobModels models_for(const GenerationSpec& spec, const ComputeTypes& types) {
    JobModels models;
    models.base = checkpoint(spec.model, types);
    if (spec.refiner) models.refiner = checkpoint(spec.refiner->model, types);
    if (!spec.vae.empty()) {
      models.vae = vae(spec.vae, types.vae);
    } else {
      models.vae = models.base->vae;
      if (models.vae == nullptr && models.refiner) models.vae = models.refiner->vae;
    }
    for (const ControlNetUse& use : spec.controlnets) models.controlnets.push_back(controlnet(use.model, types.model));
    if (spec.hires) models.hires_upscaler = upscaler(spec.hires->upscaler, types);
    if (spec.upscale) models.upscaler = upscaler(spec.upscale->model, types);
    return models;
  }

  // Of what is not there, or is no model, SDXL's: that it is not, the job says.
  NetworkWidths widths_of(const GenerationSpec& spec) const {
    NetworkWidths widths{.unet = 0, .vae = 0};
    const auto take = [&](const Checkpoint& checkpoint) {
      widths.unet = std::max(widths.unet, checkpoint.unet.config.block_out_channels.front());
      if (checkpoint.vae) widths.vae = std::max(widths.vae, checkpoint.vae->config.block_out_channels.front());
    };
    for (const std::string& path : {spec.model, spec.refiner ? spec.refiner->model : std::string()}) {
      if (path.empty()) continue;
      if (const auto kept = cache.peek(ModelRole::checkpoint, path)) {
        take(static_cast<const SdxlModel&>(*kept).checkpoint);
      } else if (const auto checkpoint = open_checkpoint(path)) {
        take(*checkpoint);
      }
    }
    if (!spec.vae.empty()) {
      if (const auto vae = open_vae(spec.vae))
        widths.vae = std::max(widths.vae, vae->config.block_out_channels.front());
    }
    const NetworkWidths sdxl;
    return {.unet = widths.unet > 0 ? widths.unet : sdxl.unet, .vae = widths.vae > 0 ? widths.vae : sdxl.vae};
  }

  // What the engine knows of a result beside its pictures.
  void complete(GenerationResult& result, const AdapterReport& adapters, const ComputeTypes& types) const {
    result.loaded_loras = adapters.loaded;
    result.warnings.insert(result.warnings.begin(), adapters.warnings.begin(), adapters.warnings.end());
    result.device = backend->name();
    result.compute_type = to_string(types.model);
  }

  // What one job needed must not stay while another size is worked on.
  void trim() {
    cache.trim();
    backend->trim();
  }

  GenerationResult enlarge(const GenerationSpec& spec, ProgressSink& progress, const CancelToken& cancel);

  template <class Model>
  std::shared_ptr<Model> get(const ModelKey& key, DType type, const std::function<std::shared_ptr<Model>()>& make) {
    const auto inspected = inspect(key.path);
    return cache.get<Model>(key, inspected ? laid_out_bytes(*inspected, type) : 0, make);
  }

  std::unique_ptr<Backend> backend;
  int threads;  // as asked for; 0: one a core
  ModelCache cache;
};

Engine::Engine(const EngineOptions& options) : state_(std::make_unique<State>(options)) {}
Engine::~Engine() = default;

GenerationResult Engine::generate(const GenerationSpec& spec, ProgressSink& progress, const CancelToken& cancel) {
  if (only_enlarges(spec)) return state_->enlarge(spec, progress, cancel);
  StageClock clock(progress);
  clock.begin("load");
  cancel.throw_if_cancelled();
  const ComputeTypes types = state_->compute_types(spec.precision, spec.vae_precision);
  GenerationResult result;
  {
    const auto files = state_->files_for(spec);
    JobModels models = state_->models_for(spec, types);
    const AdapterReport adapters =
        models.base->adapters.wear(models.base->adapted_networks(), spec.loras,
                                   {.threads = state_->threads, .before_each = [&] { cancel.throw_if_cancelled(); }});
    models.lora_words = adapters.words;
    result = darkroom::engine::generate(models, spec, clock, cancel);
    state_->complete(result, adapters, types);
  }
  state_->trim();
  return result;
}

std::vector<JointOutcome> Engine::generate_together(std::span<const JointJob> jobs) {
  DR_ASSERT(!jobs.empty());
  std::vector<std::unique_ptr<StageClock>> clocks;
  std::vector<JointGeneration> generations;
  for (const JointJob& job : jobs) {
    clocks.push_back(std::make_unique<StageClock>(job.progress));
    clocks.back()->begin("load");
    generations.push_back({.spec = job.spec, .clock = *clocks.back(), .cancel = job.cancel});
  }
  const GenerationSpec& first = jobs.front().spec;
  const ComputeTypes types = state_->compute_types(first.precision, first.vae_precision);
  std::vector<JointOutcome> outcomes;
  {
    const auto files = state_->files_for(first);
    JobModels models = state_->models_for(first, types);
    const AdapterReport adapters = models.base->adapters.wear(models.base->adapted_networks(), first.loras,
                                                              {.threads = state_->threads, .before_each = [] {}});
    models.lora_words = adapters.words;
    outcomes = darkroom::engine::generate_together(models, generations);
    for (JointOutcome& outcome : outcomes) {
      if (auto* result = std::get_if<GenerationResult>(&outcome)) state_->complete(*result, adapters, types);
    }
  }
  state_->trim();
  return outcomes;
}

// A picture of the client's, without its transparency, made larger.
GenerationResult Engine::State::enlarge(const GenerationSpec& spec, ProgressSink& progress, const CancelToken& cancel) {
  const ComputeTypes types = compute_types(spec.precision, spec.vae_precision);
  GenerationResult result;
  result.device = backend->name();
  result.compute_type = to_string(upscaler_type(types));
  StageClock clock(progress);
  clock.begin("load");
  Image rgb = to_rgb(value_or_throw(read_picture(*spec.init_image)));
  std::shared_ptr<Upscaler> network = upscaler(spec.upscale->model, types);
  result.pictures.push_back({.width = rgb.width, .height = rgb.height, .rgb = std::move(rgb.pixels)});
  clock.begin("upscale");
  upscale_pictures(result.pictures, network.get(), spec.upscale->factor, {}, progress, cancel);
  result.stages = clock.finish();
  network.reset();
  trim();
  return result;
}

void Engine::load(ModelRole role, const std::filesystem::path& path, Precision precision) {
  const ComputeTypes types = state_->compute_types(precision, Precision::automatic);
  switch (role) {
    case ModelRole::checkpoint:
      state_->checkpoint(path, types);
      return;
    case ModelRole::vae:
      state_->vae(path, types.vae);
      return;
    case ModelRole::controlnet:
      state_->controlnet(path, types.model);
      return;
    case ModelRole::upscaler:
      state_->upscaler(path, types);
      return;
    case ModelRole::lora:
    case ModelRole::embedding:
      state_->file(role, path, [](const KeptFile& file) { file.require(); })->read();
      return;
  }
  DR_ASSERT(false);
}

bool Engine::unload(const std::filesystem::path& path) {
  const bool was_loaded = state_->cache.forget(path) > 0;
  state_->backend->trim();
  return was_loaded;
}

std::vector<LoadedModel> Engine::loaded() const {
  std::vector<LoadedModel> loaded;
  for (const ModelCache::Kept& kept : state_->cache.kept()) {
    loaded.push_back({.path = kept.key.path,
                      .kind = std::string(name_of(kept.key.role)),
                      .bytes = kept.bytes,
                      .last_used = kept.last_used});
  }
  return loaded;
}

std::uint64_t Engine::predict_bytes(const GenerationSpec& spec) const {
  const ComputeTypes types = state_->compute_types(spec.precision, spec.vae_precision);
  std::vector<std::pair<std::string, DType>> files;  // that are laid out beside the checkpoint
  if (spec.refiner) files.emplace_back(spec.refiner->model, types.model);
  if (!spec.vae.empty()) files.emplace_back(spec.vae, types.vae);
  for (const ControlNetUse& use : spec.controlnets) files.emplace_back(use.model, types.model);
  // "lanczos" and "latent" are no files: nothing is found under them.
  if (spec.hires) files.emplace_back(spec.hires->upscaler, upscaler_type(types));
  if (spec.upscale) files.emplace_back(spec.upscale->model, upscaler_type(types));
  std::uint64_t bytes = activation_bytes(spec, types, state_->widths_of(spec));
  if (!spec.model.empty()) {
    const auto base = inspect(spec.model);
    if (base) bytes += state_->laid_out_bytes(*base, types.model, /*adapted=*/!spec.loras.empty());
  }
  for (const auto& [path, type] : files) {
    if (const auto inspected = inspect(path)) bytes += state_->laid_out_bytes(*inspected, type);
  }
  for (const LoraUse& use : spec.loras) {
    if (const auto inspected = inspect(use.model)) bytes += inspected->bytes;  // mapped
  }
  return bytes;
}

std::string Engine::device() const { return std::string(state_->backend->name()); }

std::string Engine::compute_type() const { return std::string(to_string(state_->backend->fast_float())); }

bool can_share_passes(const GenerationSpec& a, const GenerationSpec& b) {
  // Second passes and ControlNets would be worked on alone, one behind the other: better as jobs of their own.
  const auto is_plain = [](const GenerationSpec& spec) {
    return !only_enlarges(spec) && !spec.refiner && !spec.hires && !spec.upscale && !spec.freeu &&
           spec.controlnets.empty() && !(spec.pag_scale > 0.0F);
  };
  const auto same_lora = [](const LoraUse& x, const LoraUse& y) {
    return x.model == y.model && x.unet_weight == y.unet_weight && x.text_encoder_weight == y.text_encoder_weight;
  };
  return is_plain(a) && is_plain(b) && a.model == b.model && a.vae == b.vae && a.precision == b.precision &&
         a.vae_precision == b.vae_precision && a.width > 0 && a.height > 0 && a.width == b.width &&
         a.height == b.height && a.tile_x == b.tile_x && a.tile_y == b.tile_y &&
         std::ranges::equal(a.loras, b.loras, same_lora);
}

Result<Size> picture_size(const ImageSource& source) {
  return read_picture(source).map(
      [](const Image& image) { return Size{.width = image.width, .height = image.height}; });
}

}  // namespace darkroom::engine
