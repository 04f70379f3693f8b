// Jobs as the native API tells them.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "service/events/event.h"
#include "service/http/event_stream.h"
#include "service/store/job.h"

namespace darkroom {

// "2026-01-31T12:00:00.123Z"
std::string rfc3339(WallTime time);

// `base_url`: what links begin with.
nlohmann::ordered_json job_json(const JobView& job, const std::string& base_url);
http::ServerEvent job_event(const JobEvent& event, const std::string& base_url);

}  // namespace darkroom
