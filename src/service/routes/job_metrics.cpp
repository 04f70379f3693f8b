#include "service/routes/job_metrics.h"

namespace darkroom {
namespace {

MetricFamily single(std::string name, std::string help, MetricKind kind, double value) {
  return {std::move(name), std::move(help), kind, {{{}, value}}};
}

// A map's values, each labelled with its key.
template <class Map, class Name>
MetricFamily labelled(std::string name, std::string help, MetricKind kind, const char* label, const Map& values,
                      Name name_of_key) {
  MetricFamily family{std::move(name), std::move(help), kind, {}};
  for (const auto& [key, value] : values) {
    family.samples.push_back({{{label, std::string(name_of_key(key))}}, static_cast<double>(value)});
  }
  return family;
}

void add_total(std::vector<MetricFamily>& families, const std::string& name, const std::string& help,
               const Total& total) {
  families.push_back(single(name + "_seconds_total", help, MetricKind::counter, total.seconds));
  families.push_back(
      single(name + "_total", help + " How many.", MetricKind::counter, static_cast<double>(total.count)));
}

void add_workers(std::vector<MetricFamily>& families, const std::vector<WorkerStats>& workers) {
  MetricFamily states{"darkroom_worker_state", "1 for the state that a worker is in.", MetricKind::gauge, {}};
  MetricFamily memory{"darkroom_worker_memory_bytes", "Resident memory of a worker.", MetricKind::gauge, {}};
  MetricFamily starts{"darkroom_worker_starts_total", "Starts of a worker's process.", MetricKind::counter, {}};
  for (std::size_t i = 0; i < workers.size(); ++i) {
    const MetricLabels labels = {{"worker", std::to_string(i)}};
    MetricLabels with_state = labels;
    with_state["state"] = name_of(workers[i].state);
    states.samples.push_back({std::move(with_state), 1});
    memory.samples.push_back({labels, static_cast<double>(workers[i].memory_used)});
    starts.samples.push_back({labels, static_cast<double>(workers[i].starts)});
  }
  families.push_back(std::move(states));
  families.push_back(std::move(memory));
  families.push_back(std::move(starts));
}

}  // namespace

std::vector<MetricFamily> job_metrics(const JobsStats& stats) {
  using enum MetricKind;
  const auto enumerator = [](auto value) { return name_of(value); };
  std::vector<MetricFamily> families;
  families.push_back(labelled("darkroom_jobs_queued", "Jobs that wait.", gauge, "priority", stats.queued, enumerator));
  families.push_back(single("darkroom_jobs_running", "Jobs that run.", gauge, stats.running));
  families.push_back(single("darkroom_jobs_oldest_queued_seconds", "Age of the job that waits longest.", gauge,
                            stats.oldest_queued_seconds));
  families.push_back(
      labelled("darkroom_jobs_ended_total", "Jobs that ended.", counter, "status", stats.ended, enumerator));
  families.push_back(
      labelled("darkroom_job_failures_total", "Why jobs failed.", counter, "code", stats.failures, enumerator));
  const auto count = [&](std::string name, std::string help, std::uint64_t value) {
    families.push_back(single(std::move(name), std::move(help), counter, static_cast<double>(value)));
  };
  count("darkroom_jobs_admitted_total", "Jobs that were taken.", stats.admitted);
  count("darkroom_jobs_refused_total", "Jobs that were refused because too many wait.", stats.refused);
  count("darkroom_worker_crashes_total", "Workers that died at a job.", stats.crashes);
  count("darkroom_pictures_total", "Pictures made.", stats.pictures);
  count("darkroom_steps_total", "Denoising steps made.", stats.steps);
  count("darkroom_model_loads_total", "Jobs whose model had to be loaded first.", stats.model_loads);
  add_total(families, "darkroom_queue_wait", "Time that jobs waited until they were started.", stats.queue_wait);
  add_total(families, "darkroom_run", "Time that jobs ran.", stats.run);
  MetricFamily seconds{"darkroom_stage_seconds_total", "Time in each stage of a job.", counter, {}};
  MetricFamily times{"darkroom_stages_total", "How often each stage was gone through.", counter, {}};
  for (const auto& [stage, total] : stats.stages) {
    seconds.samples.push_back({{{"stage", stage}}, total.seconds});
    times.samples.push_back({{{"stage", stage}}, static_cast<double>(total.count)});
  }
  families.push_back(std::move(seconds));
  families.push_back(std::move(times));
  families.push_back(
      single("darkroom_picture_bytes", "Of pictures that are kept.", gauge, static_cast<double>(stats.blob_bytes)));
  families.push_back(single("darkroom_webhooks_waiting", "Webhooks that are to be delivered.", gauge,
                            static_cast<double>(stats.webhooks_waiting)));
  add_workers(families, stats.workers);
  return families;
}

}  // namespace darkroom
