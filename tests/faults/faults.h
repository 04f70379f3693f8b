// The service as a process of its own, with everything going wrong around it. After each fault nothing may be lost,
// nothing doubled, and every picture must have the bytes that its seed has.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace darkroom {

struct FaultOptions {
  std::filesystem::path programs;  // where darkroom and the workers lie
  std::filesystem::path clock;     // the library that shifts a process's clock
  std::filesystem::path models;    // with the model "model", for the real worker
  std::filesystem::path folder;    // is emptied
  std::uint64_t seed = 1;          // of the random moments
};

struct FaultResult {
  std::string fault;
  int runs = 0;
  int jobs = 0;         // that were accepted
  int interrupted = 0;  // of them: were begun more than once
  int lost = 0;         // neither finished nor reported as it should be
  int doubled = 0;      // jobs or pictures that nobody asked for
  int other_bytes = 0;  // pictures that are not their seed's
  std::string skipped;  // why it could not be tried; "": it was

  bool is_clean() const { return lost == 0 && doubled == 0 && other_bytes == 0; }
};

enum class Victim : std::uint8_t { service, worker, both };

// SIGKILL at a random moment while jobs are submitted and done, `runs` times.
Result<FaultResult> kill_at_random(const FaultOptions& options, Victim victim, int runs);
// The same with the real worker and a real model.
Result<FaultResult> kill_real_worker(const FaultOptions& options, int runs);
// A worker that hangs, prints garbage, answers twice, … beside jobs that nothing is wrong with.
Result<FaultResult> misbehave(const FaultOptions& options, int runs);
// Another process holds the database for longer than the service waits.
Result<FaultResult> lock_database(const FaultOptions& options, int runs);
Result<FaultResult> fill_disk(const FaultOptions& options, int runs);
// The clock jumps by days in both directions while jobs run; back by less than jobs are kept, or what then ends would
// be too old once it is right again.
Result<FaultResult> jump_clock(const FaultOptions& options, int runs);

}  // namespace darkroom
