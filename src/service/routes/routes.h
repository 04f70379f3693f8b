// What the service answers to which path. Each function adds a family of routes.
#pragma once

#include "service/http/router.h"
#include "service/routes/job_desk.h"
#include "service/telemetry/metrics.h"

namespace darkroom {

// /, /healthz, /readyz, /metrics, /openapi.json, /schemas, /docs.
void add_meta_routes(http::Router& router, Jobs& jobs, const Metrics& metrics);

// /v1/jobs and what lies below it, /v1/pictures.
void add_job_routes(http::Router& router, JobDesk& desk);

}  // namespace darkroom
