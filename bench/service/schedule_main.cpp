// Prints docs/scheduling.md: shares and warm models as the real scheduler has them.
#include <cstdio>
#include <filesystem>
#include <string>

#include <fmt/format.h>

#include "tests/support/fast_directory.h"
#include "tests/support/simulation.h"

namespace darkroom {
namespace {

int say(const Error& error) {
  fmt::print(stderr, "{}\n", error.message);
  return 1;
}

int run() {
  const std::filesystem::path folder = fast_directory("schedule");
  fmt::print(
      "# Scheduling, simulated\n\nWritten by `./dev schedule`: the store and the rule are the service's own, the "
      "workers and the clock are not.\n\n## Shares\n\n"
      "600 jobs of one key wait; then keys of weight 1 and 3 submit. Of the next 150 claims each gets:\n\n"
      "| the flood's key, weight 1 | a key of weight 1 | a key of weight 3 |\n|---|---|---|\n");
  const auto flood = simulate_flood(600, 150, folder);
  if (!flood) return say(flood.error());
  fmt::print("| {} | {} | {} |\n\n", flood->at("flood"), flood->at("one"), flood->at("three"));
  fmt::print(
      "A key comes back after a pause in which another has done a hundred jobs. Of the next 100 claims it gets:\n\n"
      "| the other's jobs are queued | one runs, none is queued | none is there |\n|---|---|---|\n|");
  for (const Meanwhile meanwhile : {Meanwhile::queued, Meanwhile::running, Meanwhile::idle}) {
    const auto shares = simulate_pause(meanwhile, folder);
    if (!shares) return say(shares.error());
    fmt::print(" {} |", shares->at("back"));
  }
  const WarmModelsCase usual;
  fmt::print(
      "\n\n## Warm models\n\n{} workers that keep {} models each, {} models asked for by Zipf's law with {}, a job "
      "takes "
      "{:.0f} s, a load {:.0f} s; {} jobs arrive at random moments.\n\n"
      "| load | model loads a job | mean wait |\n|---|---|---|\n",
      usual.workers, usual.warm, usual.models, usual.zipf, usual.job_seconds, usual.load_seconds, usual.jobs);
  for (const double load : {0.3, 0.6, 0.8, 0.9}) {
    WarmModelsCase asked = usual;
    asked.load = load;
    const Result<WarmModelsResult> result = simulate_warm_models(asked, folder);
    if (!result) return say(result.error());
    fmt::print("| {} | {:.3f} | {:.1f} s |\n", load, result->loads_per_job, result->mean_wait);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace darkroom

int main() { return darkroom::run(); }
