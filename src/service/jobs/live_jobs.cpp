#include "service/jobs/live_jobs.h"

namespace darkroom {
namespace {

std::string id_of(JobEventKind kind, const JobView& view) {
  switch (kind) {
    case JobEventKind::queued:
      return fmt::format("queued-{}-{}", view.attempt, view.position.value_or(0));
    case JobEventKind::started:
      return fmt::format("started-{}", view.attempt);
    case JobEventKind::progress:
      return fmt::format("progress-{}-{}-{}", view.attempt, view.progress.stage, view.progress.step);
    case JobEventKind::preview:
      return fmt::format("preview-{}-{}", view.attempt, view.progress.step);
    case JobEventKind::ended:
      return "ended";
  }
  DR_ASSERT(false);
}

}  // namespace

void LiveJobs::set(const std::string& job, int attempt, const Progress& progress) {
  const std::lock_guard lock(mutex_);
  jobs_[job] = {.attempt = attempt, .progress = progress, .storing = false};
}

void LiveJobs::set_storing(const std::string& job) {
  const std::lock_guard lock(mutex_);
  jobs_[job].storing = true;
}

void LiveJobs::erase(const std::string& job) {
  const std::lock_guard lock(mutex_);
  jobs_.erase(job);
}

void LiveJobs::complete(JobView& view) const {
  if (view.status != JobStatus::running) return;
  const std::lock_guard lock(mutex_);
  const auto live = jobs_.find(view.id);
  if (live == jobs_.end() || live->second.attempt != view.attempt) return;
  view.progress = live->second.progress;
  if (live->second.storing) view.status = JobStatus::storing;
}

JobEvent event_of(JobEventKind kind, const JobView& view) {
  return {.id = id_of(kind, view), .kind = kind, .job = view, .preview = {}};
}

JobEvent snapshot_of(const JobView& view) {
  if (is_finished(view.status)) return event_of(JobEventKind::ended, view);
  if (view.status == JobStatus::queued) return event_of(JobEventKind::queued, view);
  return event_of(view.progress.stage.empty() ? JobEventKind::started : JobEventKind::progress, view);
}

}  // namespace darkroom
