#include "worker/job_runner.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>
#include <utility>

#include "base/overloaded.h"
#include "spec/generation_spec.h"
#include "worker/detect.h"
#include "worker/memory.h"

namespace darkroom {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// What the work throws becomes the response's refusal.
template <class Work>
void answer_failures(Response& response, const Work& work) {
  try {
    work();
  } catch (const Failure& failure) {
    response.refusal = Refusal{failure.error(), {}};
  } catch (const std::bad_alloc&) {
    response.refusal = Refusal{{ErrorCode::out_of_memory, "the machine's memory does not suffice for this job"}, {}};
  } catch (const std::exception& error) {
    response.refusal = Refusal{{ErrorCode::internal, error.what()}, {}};
  }
}

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
  const bool enlarges = only_enlarges(spec);
  if (!enlarges && spec.width > 0 && spec.height > 0) return {};
  DR_ASSERT(spec.init_image.has_value());
  const Result<Size> given = engine::picture_size(*spec.init_image);
  if (!given) return fail(given.error().code, "init_image: {}", given.error().message);
  if (enlarges) {
    spec.width = given->width;
    spec.height = given->height;
    return {};
  }
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

bool may_share(const GenerationRequest& a, const GenerationRequest& b) {
  return engine::can_share_passes(a.spec, b.spec);
}

Response JobRunner::run(const std::string& request_id, const Job& job, engine::ProgressSink& progress,
                        const engine::CancelToken& cancel) {
  const Clock::time_point start = Clock::now();
  Response response;
  response.request_id = request_id;
  answer_failures(response, [&] {
    std::visit(Overloaded{[&](const GenerationRequest& request) { generate(request, response, progress, cancel); },
                          [&](const LoadModel& model) { load(model, response); },
                          [&](const UnloadModel& model) { unload(model, response); }},
               job);
  });
  response.execution_time = seconds_since(start);
  return response;
}

// Everything that can be wrong with the request, before any work.
std::optional<JobRunner::Prepared> JobRunner::prepare(const GenerationRequest& request, Response& response) const {
  response.warnings = request.warnings;
  auto spec = resolve_files(request.spec, models_, outputs_);
  if (!spec) {
    response.refusal = std::move(spec.error());
    return std::nullopt;
  }
  if (Result<void> settled = settle_size(*spec, limits_); !settled) throw Failure(settled.error());
  std::vector<std::filesystem::path> paths = value_or_throw(outputs_.plan(*spec, response.request_id));
  const std::uint64_t predicted = only_preprocesses(*spec) ? 0 : check_memory(*spec);
  return Prepared{std::move(*spec), std::move(paths), predicted};
}

void JobRunner::generate(const GenerationRequest& request, Response& response, engine::ProgressSink& progress,
                         const engine::CancelToken& cancel) {
  const Clock::time_point start = Clock::now();
  const std::optional<Prepared> prepared = prepare(request, response);
  if (!prepared) return;
  const Clock::time_point inference_start = Clock::now();
  engine::GenerationResult result = only_preprocesses(prepared->spec)
                                        ? detect(prepared->spec, progress)
                                        : engine_.generate(prepared->spec, progress, cancel);
  const double inference_time = seconds_since(inference_start);
  progress.stage("write");
  cancel.throw_if_cancelled();
  write(request, *prepared, std::move(result), response);
  auto& metrics = std::get<Generated>(response.data).processing_metrics;
  metrics.inference_time = inference_time;
  metrics.total_time = seconds_since(start);
}

// The pictures, and what is said of them.
void JobRunner::write(const GenerationRequest& request, const Prepared& prepared, engine::GenerationResult result,
                      Response& response) {
  const auto& [spec, paths, predicted] = prepared;
  Generated generated;
  Artifacts artifacts = value_or_throw(write_artifacts(paths, spec, result, hashes_));
  generated.generated_images = std::move(artifacts.pictures);
  generated.control_maps = std::move(artifacts.control_maps);
  generated.tags = request.job.tags;

  ProcessingMetrics& metrics = generated.processing_metrics;
  metrics.device_name = result.device;
  metrics.memory_used = resident_bytes();
  metrics.memory_peak = peak_resident_bytes();
  metrics.memory_predicted = predicted;
  metrics.model_info = {.base_model = request.spec.model,
                        .refiner_model = request.spec.refiner ? request.spec.refiner->model : "",
                        .loaded_loras = std::move(result.loaded_loras),
                        .device = result.device,
                        .memory_usage = metrics.memory_used};
  metrics.compute_type = result.compute_type;
  metrics.scheduler = result.scheduler;
  for (engine::StageTime& stage : result.stages) metrics.stages.push_back({std::move(stage.name), stage.seconds});
  response.warnings.insert(response.warnings.end(), result.warnings.begin(), result.warnings.end());
  response.data = std::move(generated);
}

// --- Several jobs at once ---

void JobRunner::run_together(std::span<const Member> members,
                             const std::function<void(std::size_t first, std::size_t count)>& on_start,
                             const std::function<void(std::size_t member, Response response)>& on_end) {
  for (std::size_t first = 0; first < members.size();) {
    const std::size_t count = fitting(members.subspan(first));
    on_start(first, count);
    generate_part(members.subspan(first, count), first, on_end);
    first += count;
  }
}

// How many of them, from the first on, the memory suffices for; 1 where it does not for one, which is then refused.
std::size_t JobRunner::fitting(std::span<const Member> members) const {
  const std::uint64_t allowed = allowed_bytes();
  const auto found = resolve_files(members.front().request.spec, models_, outputs_);
  if (!found) return 1;
  GenerationSpec all = *found;
  all.batch_parallel = true;
  std::size_t count = 1;
  for (; count < members.size(); ++count) {
    const GenerationSpec& next = members[count].request.spec;
    all.batch_size += next.batch_size;
    all.guidance_scale =
        std::max(all.guidance_scale, next.guidance_scale);  // which decides how many rows a picture has
    if (engine_.predict_bytes(all) > allowed) break;
  }
  return count;
}

void JobRunner::generate_part(std::span<const Member> members, std::size_t first,
                              const std::function<void(std::size_t member, Response response)>& on_end) {
  const Clock::time_point start = Clock::now();
  std::vector<Response> responses(members.size());
  std::vector<std::optional<Prepared>> prepared(members.size());
  std::vector<engine::JointJob> jobs;
  std::vector<std::size_t> ready;  // the members that the jobs are of
  for (std::size_t i = 0; i < members.size(); ++i) {
    responses[i].request_id = members[i].request_id;
    answer_failures(responses[i], [&] {
      members[i].cancel.throw_if_cancelled();
      prepared[i] = prepare(members[i].request, responses[i]);
    });
    if (!prepared[i]) continue;
    jobs.push_back({.spec = prepared[i]->spec, .progress = members[i].progress, .cancel = members[i].cancel});
    ready.push_back(i);
  }
  const Clock::time_point inference_start = Clock::now();
  std::vector<engine::JointOutcome> outcomes;
  if (!jobs.empty()) {
    Response all;  // what ends all of them
    answer_failures(all, [&] { outcomes = engine_.generate_together(jobs); });
    if (all.refusal) {
      for (const std::size_t i : ready) responses[i].refusal = all.refusal;
    }
  }
  // Each took its part of the time.
  const double inference_time =
      seconds_since(inference_start) / static_cast<double>(std::max<std::size_t>(1, jobs.size()));
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const std::size_t at = ready[i];
    const Member& member = members[at];
    answer_failures(responses[at], [&] {
      if (const auto* thrown = std::get_if<std::exception_ptr>(&outcomes[i])) std::rethrow_exception(*thrown);
      member.progress.stage("write");
      member.cancel.throw_if_cancelled();
      write(member.request, *prepared[at], std::move(std::get<engine::GenerationResult>(outcomes[i])), responses[at]);
      auto& metrics = std::get<Generated>(responses[at].data).processing_metrics;
      metrics.inference_time = inference_time;
      metrics.total_time = seconds_since(start);
    });
  }
  for (std::size_t i = 0; i < members.size(); ++i) {
    responses[i].execution_time = seconds_since(start);
    on_end(first + i, std::move(responses[i]));
  }
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

std::uint64_t JobRunner::allowed_bytes() const {
  // What is resident counts as free: models that the job does not need make room for it.
  return config_.memory_bytes > 0 ? config_.memory_bytes : available_bytes() + resident_bytes();
}

std::uint64_t JobRunner::check_memory(const GenerationSpec& spec) const {
  const std::uint64_t needed = engine_.predict_bytes(spec);
  const std::uint64_t allowed = allowed_bytes();
  if (needed > allowed) {
    throw_failure(ErrorCode::out_of_memory, "the job needs {} MB of memory, {} MB are {}", needed / 1'000'000,
                  allowed / 1'000'000, config_.memory_bytes > 0 ? "allowed (worker.memory_bytes)" : "free");
  }
  return needed;
}

}  // namespace darkroom
