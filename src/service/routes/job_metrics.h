// The jobs' figures for Prometheus.
#pragma once

#include <vector>

#include "service/jobs/jobs.h"
#include "service/telemetry/metrics.h"

namespace darkroom {

std::vector<MetricFamily> job_metrics(const JobsStats& stats);

}  // namespace darkroom
