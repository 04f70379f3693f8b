// The routes that existing clients know: the specification's /api/sdxl, webui's /sdapi/v1 and /controlnet, OpenAI's
// /v1/images and /v1/models. All are jobs like any other.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "service/http/router.h"
#include "service/jobs/jobs.h"
#include "spec/limits.h"

namespace darkroom {

struct ClientsOptions {
  Limits limits;
  std::string default_model;                   // a model by any of its names; "": the first that there is
  bool strict_models = false;                  // OpenAI's: an unknown model is an error
  std::chrono::seconds patience{3600};         // of a request that waits for its pictures
  std::chrono::seconds url_lifetime{60 * 60};  // of a picture that is answered by URL
};

// `jobs` must outlive the router.
void add_client_routes(http::Router& router, Jobs& jobs, ClientsOptions options);

}  // namespace darkroom
