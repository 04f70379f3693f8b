// What the routes of this folder share; others use clients.h.
#pragma once

#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "service/api/sdapi_sessions.h"
#include "service/clients/clients.h"
#include "service/clients/model_listing.h"
#include "service/clients/task_thread.h"
#include "service/clients/work.h"

namespace darkroom {

struct Clients {
  Clients(JobDesk& the_desk, ClientsOptions the_options)
      : desk(the_desk), jobs(the_desk.jobs()), options(std::move(the_options)), models(jobs, options.models) {}

  JobDesk& desk;
  Jobs& jobs;
  ClientsOptions options;
  ModelListing models;
  SdapiSessions sessions;
  Abandoned abandoned;
  TaskThread tasks;  // for what an event sets off and may wait

  // The configured model's file among these; "": none is configured, or it is not there.
  std::string default_model(const ModelCatalog& catalog) const {
    if (options.default_model.empty()) return "";
    const auto found = catalog.find(ModelRole::checkpoint, options.default_model);
    return found ? (*found)->file : "";
  }
  std::chrono::steady_clock::time_point deadline() const {
    return std::chrono::steady_clock::now() + desk.longest_wait();
  }
};

http::Response json_response(int status, const nlohmann::json& body);

// The request without its body, which may be large and the wait long.
http::Request head_of(const http::Request& request);

void add_sdxl_routes(http::Router& router, const std::shared_ptr<Clients>& clients);
void add_sdapi_routes(http::Router& router, const std::shared_ptr<Clients>& clients);
void add_sdapi_list_routes(http::Router& router, const std::shared_ptr<Clients>& clients);
void add_openai_routes(http::Router& router, const std::shared_ptr<Clients>& clients);

// In webui's words.
http::Response sdapi_refusal(const Refusal& refusal);
http::Response sdapi_problem(const http::Problem& problem);
// The body of a request to webui's API: none, {} and "" are an empty object. Error: no JSON.
Result<nlohmann::json> sdapi_body(const http::Request& request);

}  // namespace darkroom
