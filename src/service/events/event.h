// What happens to a job, as told to those who listen.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/enum_names.h"
#include "service/store/job.h"

namespace darkroom {

enum class JobEventKind : std::uint8_t {
  queued,    // also again, when its position has changed or it was interrupted
  started,   // an attempt begins
  progress,  // a stage or a step
  preview,   // a picture of how far it is
  ended,     // succeeded, failed or cancelled; the last one
};

constexpr auto enum_names(JobEventKind) {
  using enum JobEventKind;
  return std::to_array<EnumName<JobEventKind>>(
      {{"queued", queued}, {"started", started}, {"progress", progress}, {"preview", preview}, {"ended", ended}});
}

struct JobEvent {
  std::string id;  // unique within the job; for Last-Event-ID
  JobEventKind kind = JobEventKind::queued;
  JobView job;          // as it is now
  std::string preview;  // an encoded JPEG; only of a preview
};

}  // namespace darkroom
