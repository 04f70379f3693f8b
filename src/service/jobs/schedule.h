// Which waiting model an idle worker takes its next job from. Pure, so that tables and simulations can try it.
//   1 the best job whose model the worker has warm;
//   2 else, while fewer than a quarter of the workers are loading, the best job whose model nobody has warm or is
//     loading;
//   3 else the model with the largest backlog per copy, if that exceeds one load time, one load of it at a time;
//   4 else none.
// Before all of these: a model that nobody has is not passed over for ever by those that are warm. If it is the first
// of all, a worker that has worked for kLoadEvery load times since its last load takes it, which bounds the share of
// time that is spent on loading.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "service/store/job_store.h"
#include "service/workers/worker_pool.h"

namespace darkroom {

inline constexpr double kLoadEvery = 4.0;

struct Scheduling {
  std::vector<ModelQueue> queues;  // by (band, start tag)
  std::vector<WorkerSight> workers;
  double load_seconds = 0.0;  // that loading a model takes, as measured
};

// How many jobs of the model a worker takes at once: an even share of those that wait, while others are idle too, and
// never more than `most`.
int batch_for(const Scheduling& scheduling, const std::string& model, int most);

// The model for the worker with this index.
std::optional<std::string> choose_model(const Scheduling& scheduling, std::size_t worker);

}  // namespace darkroom
