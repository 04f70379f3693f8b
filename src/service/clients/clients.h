// The routes that existing clients know: the specification's /api/sdxl, webui's /sdapi/v1 and /controlnet, OpenAI's
// /v1/images and /v1/models. All are jobs like any other.
#pragma once

#include <functional>
#include <string>

#include "service/clients/model_listing.h"
#include "service/http/router.h"
#include "service/routes/job_desk.h"

namespace darkroom {

struct ClientsOptions {
  ModelListingOptions models;
  std::string default_model;   // a model by any of its names; "": the first that there is
  bool strict_models = false;  // OpenAI's: an unknown model is an error
};

// `desk` must outlive the router. The answer has the models looked for anew; it does nothing once the router is gone.
std::function<void()> add_client_routes(http::Router& router, JobDesk& desk, ClientsOptions options);

}  // namespace darkroom
