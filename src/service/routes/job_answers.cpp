#include "service/routes/job_answers.h"

#include <array>
#include <ctime>

#include <fmt/format.h>

#include "base/text.h"

namespace darkroom {
namespace {

using json = nlohmann::ordered_json;

// "storing" is a moment of the service's own, not a state that a client could act on.
std::string_view public_status(JobStatus status) {
  return name_of(status == JobStatus::storing ? JobStatus::running : status);
}

json progress_json(const Progress& progress) {
  json out = {{"stage", progress.stage}, {"step", progress.step}, {"steps", progress.steps}};
  if (progress.steps > 0) out["seconds_left"] = progress.seconds_left;
  return out;
}

json error_json(const Refusal& refusal) {
  json out = {{"code", name_of(refusal.error.code)}, {"message", refusal.error.message}};
  if (!refusal.complaints.empty()) {
    json& errors = out["errors"] = json::array();
    for (const Complaint& complaint : refusal.complaints) {
      errors.push_back({{"pointer", complaint.pointer}, {"detail", complaint.message}});
    }
  }
  return out;
}

json picture_json(const Picture& picture, const std::string& url) {
  json out = {{"url", url},
              {"seed", picture.seed},
              {"width", picture.width},
              {"height", picture.height},
              {"format", name_of(picture.format)},
              {"bytes", picture.bytes},
              {"sha256", picture.sha256}};
  if (!picture.saved.empty()) out["saved"] = picture.saved;
  return out;
}

json metrics_json(const ProcessingMetrics& metrics) {
  json stages = json::object();
  for (const StageSeconds& stage : metrics.stages) stages[stage.name] = stage.seconds;
  return {{"total_time", metrics.total_time},  {"inference_time", metrics.inference_time},
          {"device", metrics.device_name},     {"compute_type", metrics.compute_type},
          {"scheduler", metrics.scheduler},    {"memory_peak", metrics.memory_peak},
          {"stage_seconds", std::move(stages)}};
}

}  // namespace

std::string rfc3339(WallTime time) {
  const auto since_1970 = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  const std::time_t seconds = since_1970 / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  return fmt::format("{}.{:03}Z", std::string_view(text.data(), length), since_1970 % 1000);
}

json job_json(const JobView& job, const std::string& base_url) {
  const std::string self = fmt::format("{}/v1/jobs/{}", base_url, job.id);
  json out = {{"id", job.id},
              {"status", public_status(job.status)},
              {"url", self},
              {"model", job.model},
              {"seed", job.seed},
              {"priority", name_of(job.options.priority)},
              {"tags", job.options.tags},
              {"attempt", job.attempt},
              {"created_at", rfc3339(job.created)}};
  if (job.started) out["started_at"] = rfc3339(*job.started);
  if (job.finished) out["finished_at"] = rfc3339(*job.finished);
  if (job.position) out["position"] = *job.position;
  if (job.cancel_asked && !is_finished(job.status)) out["cancelling"] = true;
  if (public_status(job.status) == name_of(JobStatus::running)) out["progress"] = progress_json(job.progress);
  if (!job.warnings.empty()) out["warnings"] = job.warnings;
  if (job.failure) out["error"] = error_json(*job.failure);
  if (job.status == JobStatus::succeeded) {
    json& images = out["images"] = json::array();
    for (std::size_t i = 0; i < job.pictures.size(); ++i) {
      images.push_back(picture_json(job.pictures[i], fmt::format("{}/images/{}", self, i)));
    }
    out["metrics"] = metrics_json(job.metrics);
  }
  return out;
}

http::ServerEvent job_event(const JobEvent& event, const std::string& base_url) {
  http::ServerEvent out{.id = event.id, .name = std::string(name_of(event.kind)), .data = {}};
  json data;
  if (event.kind == JobEventKind::progress) {
    data = progress_json(event.job.progress);
    out.delivery = http::Delivery::best_effort;
  } else if (event.kind == JobEventKind::preview) {
    data = {{"format", "jpeg"}, {"data", encode_base64(event.preview)}};
    out.delivery = http::Delivery::best_effort;
  } else {
    data = job_json(event.job, base_url);
  }
  out.data = data.dump();
  return out;
}

}  // namespace darkroom
