// How a worker is, for metrics and for the operator.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/enum_names.h"

namespace darkroom {

enum class WorkerState : std::uint8_t { starting, idle, busy, stopping, waiting };  // waiting: to be started again

constexpr auto enum_names(WorkerState) {
  using enum WorkerState;
  return std::to_array<EnumName<WorkerState>>(
      {{"starting", starting}, {"idle", idle}, {"busy", busy}, {"stopping", stopping}, {"waiting", waiting}});
}

struct WorkerStats {
  WorkerState state = WorkerState::waiting;
  int pid = 0;
  std::string device;
  std::string job;                // its id; "": none
  std::vector<std::string> warm;  // models, as requests name them
  std::uint64_t memory_used = 0;  // bytes
  std::uint64_t memory_peak = 0;  // bytes
  int starts = 0;                 // since the service's start
};

}  // namespace darkroom
