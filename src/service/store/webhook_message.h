// What a completion webhook says.
#pragma once

#include <string>

#include "service/store/job.h"

namespace darkroom {

// JSON: {"id", "type": "job.succeeded" | "job.failed" | "job.cancelled", "timestamp", "data": {the job}}.
std::string webhook_body(const JobView& job);

}  // namespace darkroom
