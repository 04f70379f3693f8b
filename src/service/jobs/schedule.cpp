#include "service/jobs/schedule.h"

#include <algorithm>

namespace darkroom {
namespace {

// Part of the workers that may load at the same time.
constexpr std::size_t kLoadingPart = 4;

// A job that needs no model, "", is at home everywhere.
bool is_warm(const WorkerSight& worker, const std::string& model) {
  return model.empty() || std::find(worker.warm.begin(), worker.warm.end(), model) != worker.warm.end();
}

struct Copies {
  std::size_t warm = 0;
  std::size_t loading = 0;
};

Copies copies_of(const std::string& model, const std::vector<WorkerSight>& workers) {
  Copies copies;
  for (const WorkerSight& worker : workers) {
    if (!model.empty() && worker.loading == model) {
      ++copies.loading;
    } else if (is_warm(worker, model)) {
      ++copies.warm;
    }
  }
  return copies;
}

bool nobody_has(const std::string& model, const std::vector<WorkerSight>& workers) {
  const Copies copies = copies_of(model, workers);
  return copies.warm + copies.loading == 0;
}

// Rule 3.
std::optional<std::string> most_behind(const Scheduling& scheduling) {
  const ModelQueue* most = nullptr;
  double most_seconds = scheduling.load_seconds;
  for (const ModelQueue& queue : scheduling.queues) {
    const Copies copies = copies_of(queue.model, scheduling.workers);
    if (copies.loading > 0 || copies.warm == 0) continue;
    const double seconds = queue.backlog / static_cast<double>(copies.warm);
    if (seconds <= most_seconds) continue;
    most = &queue;
    most_seconds = seconds;
  }
  return most == nullptr ? std::nullopt : std::optional(most->model);
}

}  // namespace

int batch_for(const Scheduling& scheduling, const std::string& model, int most) {
  const auto queue = std::find_if(scheduling.queues.begin(), scheduling.queues.end(),
                                  [&](const ModelQueue& one) { return one.model == model; });
  const auto idle = static_cast<int>(std::count_if(scheduling.workers.begin(), scheduling.workers.end(),
                                                   [](const WorkerSight& sight) { return sight.idle; }));
  if (queue == scheduling.queues.end() || idle == 0) return 1;
  return std::clamp((queue->jobs + idle - 1) / idle, 1, most);
}

std::optional<std::string> choose_model(const Scheduling& scheduling, std::size_t worker) {
  const std::vector<ModelQueue>& queues = scheduling.queues;
  const WorkerSight& self = scheduling.workers[worker];
  if (queues.empty()) return std::nullopt;

  const std::string& first = queues.front().model;
  if (self.seconds_since_load >= kLoadEvery * scheduling.load_seconds && nobody_has(first, scheduling.workers)) {
    return first;
  }
  for (const ModelQueue& queue : queues) {
    if (is_warm(self, queue.model)) return queue.model;
  }
  const auto loading =
      static_cast<std::size_t>(std::count_if(scheduling.workers.begin(), scheduling.workers.end(),
                                             [](const WorkerSight& sight) { return !sight.loading.empty(); }));
  if (loading * kLoadingPart < scheduling.workers.size()) {
    for (const ModelQueue& queue : queues) {
      if (nobody_has(queue.model, scheduling.workers)) return queue.model;
    }
  }
  return most_behind(scheduling);
}

}  // namespace darkroom
