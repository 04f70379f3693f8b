// Prints docs/faults.md: what was done to the service, and what came of it.
#include <cstdio>
#include <filesystem>
#include <functional>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tests/faults/faults.h"

int main(int argc, char** argv) {
  using namespace darkroom;
  namespace fs = std::filesystem;
  FaultOptions options{.programs = fs::path(DARKROOM_BINARY_DIR) / "bin",
                       .clock = DARKROOM_SHIFTED_CLOCK,
                       .models = fs::path(DARKROOM_SOURCE_DIR) / "demo",
                       .folder = fs::path(DARKROOM_BINARY_DIR) / "faults"};
  int kills = 200;
  CLI::App app("The service with everything going wrong around it.");
  app.add_option("kills", kills, "kill -9 at so many random moments");
  app.add_option("--seed", options.seed, "of the random moments");
  app.add_option("--folder", options.folder, "where the service keeps its data; is emptied");
  CLI11_PARSE(app, argc, argv);

  fmt::print(
      "# Faults\n\nWritten by `./dev faults`: `darkroom serve` as a process, jobs submitted over HTTP with idempotency "
      "keys and repeated until they are taken. Afterwards every job must have ended once and as it should, each with "
      "its "
      "one picture and the bytes that its seed has, and neither the database nor the disk may hold anything more.\n\n"
      "| fault | times | jobs | begun again | lost | doubled | other bytes |\n|---|---|---|---|---|---|---|\n");
  const int real = kills / 10;
  const int each = (kills - real) / 3;
  const std::vector<std::function<Result<FaultResult>()>> faults = {
      [&] { return kill_at_random(options, Victim::service, kills - real - 2 * each); },
      [&] { return kill_at_random(options, Victim::worker, each); },
      [&] { return kill_at_random(options, Victim::both, each); },
      [&] { return kill_real_worker(options, real); },
      [&] { return misbehave(options, 18); },
      [&] { return lock_database(options, 3); },
      [&] { return jump_clock(options, 20); },
      [&] { return fill_disk(options, 5); }};
  bool clean = true;
  for (const auto& fault : faults) {
    const Result<FaultResult> result = fault();
    if (!result) {
      fmt::print(stderr, "{}\n", result.error().message);
      return 1;
    }
    clean = clean && result->is_clean();
    if (!result->skipped.empty()) {
      fmt::print("| {} | not tried: {} | | | | | |\n", result->fault, result->skipped);
    } else {
      fmt::print("| {} | {} | {} | {} | {} | {} | {} |\n", result->fault, result->runs, result->jobs,
                 result->interrupted, result->lost, result->doubled, result->other_bytes);
    }
    std::fflush(stdout);
  }
  return clean ? 0 : 1;
}
