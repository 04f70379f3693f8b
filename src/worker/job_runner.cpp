#include "worker/job_runner.h"

#include <chrono>
#include <new>
#include <utility>

#include "base/overloaded.h"
#include "spec/only_preprocesses.h"
#include "worker/detect.h"
#include "worker/memory.h"

namespace darkroom {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

tl::expected<GenerationSpec, Refusal> resolve_files(const GenerationSpec& spec, const ModelDirectories& models,
                                                    const OutputDirectory& outputs) {
  GenerationSpec found = spec;
  std::vector<Complaint> complaints;
  ErrorCode code = ErrorCode::not_found;
  const auto settle = [&](std::string& name, const std::string& pointer, const Result<std::filesystem::path>& path) {
    if (path) {
      name = path->string();
      return;
    }
    complaints.push_back({"/data" + pointer, path.error().message});
    if (path.error().code != ErrorCode::not_found) code = path.error().code;
  };
  const auto model = [&](ModelRole role, std::string& name, const std::string& pointer) {
    settle(name, pointer, models.find(role, name));
  };
  const auto picture = [&](ImageSource& image, const std::string& pointer) {
    if (!image.path.empty()) settle(image.path, pointer, outputs.find_input(image.path));
  };

  const bool preprocesses = only_preprocesses(found);
  if (!only_enlarges(found) && !preprocesses) model(ModelRole::checkpoint, found.model, "/models/base");
  if (found.refiner) model(ModelRole::checkpoint, found.refiner->model, "/models/refiner");
  if (!found.vae.empty()) model(ModelRole::vae, found.vae, "/models/vae");
  for (std::size_t i = 0; i < found.loras.size(); ++i) {
    model(ModelRole::lora, found.loras[i].model, fmt::format("/lora/models/{}/name", i));
  }
  for (std::size_t i = 0; i < found.controlnets.size(); ++i) {
    ControlNetUse& use = found.controlnets[i];
    if (preprocesses) {
      // There is no net to find.
    } else if (use.model.empty()) {
      settle(use.model, fmt::format("/controlnet/{}/type", i), models.find_by_word(ModelRole::controlnet, use.type));
    } else {
      model(ModelRole::controlnet, use.model, fmt::format("/controlnet/{}/model", i));
    }
    picture(use.image, fmt::format("/controlnet/{}/control_image", i));
  }
  for (std::size_t i = 0; i < found.embeddings.size(); ++i) {
    model(ModelRole::embedding, found.embeddings[i].model, fmt::format("/embeddings/{}/model", i));
  }
  if (found.init_image) picture(*found.init_image, "/init_image");
  if (found.mask_image) picture(*found.mask_image, "/mask_image");
  const auto upscaler = [&](std::string& name, const std::string& pointer) {
    // The specification's methods are words ("realesrgan"), not names of files.
    Result<std::filesystem::path> path = models.find(ModelRole::upscaler, name);
    if (!path) {
      if (const auto by_word = models.find_by_word(ModelRole::upscaler, name)) path = by_word;
    }
    settle(name, pointer, path);
  };
  if (found.upscale && found.upscale->model != kLanczosUpscaler)
    upscaler(found.upscale->model, "/output/upscale/method");
  if (found.hires && found.hires->upscaler != kLanczosUpscaler && found.hires->upscaler != kLatentUpscaler) {
    upscaler(found.hires->upscaler, "/hires/upscaler");
  }
  if (complaints.empty()) return found;
  Refusal refusal{as_error(complaints), std::move(complaints)};
  refusal.error.code = code;
  return tl::unexpected(std::move(refusal));
}

Result<void> settle_size(GenerationSpec& spec, const Limits& limits) {
  if (spec.width > 0 && spec.height > 0) return {};
  DR_ASSERT(spec.init_image.has_value());
  const Result<Size> given = engine::picture_size(*spec.init_image);
  if (!given) return fail(given.error().code, "init_image: {}", given.error().message);
  const auto settle = [&](int& side, int own_side, int added, const char* direction) -> Result<void> {
    const int own = own_side + added;
    if (side > 0) return {};
    if (own < limits.min_side || own > limits.max_side || own % limits.side_multiple != 0) {
      return fail(ErrorCode::invalid_argument,
                  "init_image is {} pixels {}, extended {}; sides must be multiples of {} from {} to {}: give width "
                  "and height, and a resize_mode",
                  own_side, direction, own, limits.side_multiple, limits.min_side, limits.max_side);
    }
    side = own;
    return {};
  };
  if (Result<void> done = settle(spec.width, given->width, spec.extend.left + spec.extend.right, "wide"); !done) {
    return done;
  }
  return settle(spec.height, given->height, spec.extend.top + spec.extend.bottom, "high");
}

Response JobRunner::run(const std::string& request_id, const Job& job, engine::ProgressSink& progress,
                        const engine::CancelToken& cancel) {
  const Clock::time_point start = Clock::now();
  Response response;
  response.request_id = request_id;
  try {
    std::visit(Overloaded{[&](const GenerationRequest& request) { generate(request, response, progress, cancel); },
                          [&](const LoadModel& model) { load(model, response); },
                          [&](const UnloadModel& model) { unload(model, response); }},
               job);
  } catch (const Failure& failure) {
    response.refusal = Refusal{failure.error(), {}};
  } catch (const std::bad_alloc&) {
    response.refusal = Refusal{{ErrorCode::out_of_memory, "the machine's memory does not suffice for this job"}, {}};
  } catch (const std::exception& error) {
    response.refusal = Refusal{{ErrorCode::internal, error.what()}, {}};
  }
  response.execution_time = seconds_since(start);
  return response;
}

void JobRunner::generate(const GenerationRequest& request, Response& response, engine::ProgressSink& progress,
                         const engine::CancelToken& cancel) {
  const Clock::time_point start = Clock::now();
  response.warnings = request.warnings;

  // 1. Everything that can be wrong with the request, before any work.
  auto spec = resolve_files(request.spec, models_, outputs_);
  if (!spec) {
    response.refusal = std::move(spec.error());
    return;
  }
  if (Result<void> settled = settle_size(*spec, limits_); !settled) throw Failure(settled.error());
  const std::vector<std::filesystem::path> paths = value_or_throw(outputs_.plan(*spec, response.request_id));
  const bool preprocesses = only_preprocesses(*spec);
  if (!preprocesses) check_memory(*spec);

  // 2. The work.
  const Clock::time_point inference_start = Clock::now();
  engine::GenerationResult result = preprocesses ? detect(*spec, progress) : engine_.generate(*spec, progress, cancel);
  const double inference_time = seconds_since(inference_start);

  // 3. The pictures.
  progress.stage("write");
  cancel.throw_if_cancelled();
  Generated generated;
  generated.generated_images = value_or_throw(write_pictures(paths, *spec, result, hashes_));
  if (spec->output.save_control_maps) {
    generated.control_maps = value_or_throw(write_control_maps(paths.front(), *spec, result));
  }
  generated.tags = request.job.tags;

  ProcessingMetrics& metrics = generated.processing_metrics;
  metrics.inference_time = inference_time;
  metrics.device_name = result.device;
  metrics.memory_used = resident_bytes();
  metrics.memory_peak = peak_resident_bytes();
  metrics.model_info = {.base_model = request.spec.model,
                        .refiner_model = request.spec.refiner ? request.spec.refiner->model : "",
                        .loaded_loras = std::move(result.loaded_loras),
                        .device = result.device,
                        .memory_usage = metrics.memory_used};
  metrics.compute_type = result.compute_type;
  metrics.scheduler = result.scheduler;
  for (engine::StageTime& stage : result.stages) metrics.stages.push_back({std::move(stage.name), stage.seconds});
  metrics.total_time = seconds_since(start);
  response.warnings.insert(response.warnings.end(), result.warnings.begin(), result.warnings.end());
  response.data = std::move(generated);
}

void JobRunner::load(const LoadModel& load, Response& response) {
  engine_.load(load.role, value_or_throw(models_.find(load.role, load.model)), load.precision);
  response.data = ModelLoaded{load.model};
}

void JobRunner::unload(const UnloadModel& unload, Response& response) {
  if (!engine_.unload(value_or_throw(models_.find(unload.role, unload.model)))) {
    throw_failure(ErrorCode::not_found, "the {} \"{}\" is not loaded", name_of(unload.role), unload.model);
  }
  response.data = ModelUnloaded{unload.model};
}

void JobRunner::check_memory(const GenerationSpec& spec) const {
  // What is resident counts as free: models that the job does not need make room for it.
  const std::uint64_t needed = engine_.predict_bytes(spec);
  const std::uint64_t allowed = config_.memory_bytes > 0 ? config_.memory_bytes : available_bytes() + resident_bytes();
  if (needed > allowed) {
    throw_failure(ErrorCode::out_of_memory, "the job needs {} MB of memory, {} MB are {}", needed / 1'000'000,
                  allowed / 1'000'000, config_.memory_bytes > 0 ? "allowed (worker.memory_bytes)" : "free");
  }
}

}  // namespace darkroom
