// The specification's API: POST /api/sdxl/generate and validate.
#include <chrono>

#include "service/api/sdxl_answer.h"
#include "service/api/sdxl_request.h"
#include "service/clients/inside.h"

namespace darkroom {
namespace {

using http::Cost;
using nlohmann::json;

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

double seconds_between(const std::optional<WallTime>& start, const std::optional<WallTime>& end) {
  return start && end ? std::chrono::duration<double>(*end - *start).count() : 0.0;
}

http::Response failure(const std::string& id, const Refusal& refusal, const std::vector<std::string>& warnings) {
  if (!refusal.complaints.empty()) {
    return json_response(http::status_of(refusal.error.code),
                         sdxl_validation_failure(id, refusal.complaints, now_seconds()));
  }
  return json_response(http::status_of(refusal.error.code), sdxl_failure(id, refusal.error, warnings, now_seconds()));
}

http::Response refused(const std::string& id, const http::Problem& problem) {
  http::Response response = failure(id, {{problem.code, problem.detail}, problem.complaints}, {});
  response.status = problem.status;
  for (const auto& [name, value] : problem.headers) response.headers.set(name, value);
  return response;
}

// Files of the service's machine are its owner's: others send pictures.
std::vector<Complaint> refused_files(const http::Request& request, const GenerationSpec& spec) {
  std::vector<Complaint> complaints;
  if (request.principal.may(Scope::admin)) return complaints;
  const auto check = [&](std::string pointer, const ImageSource& image) {
    if (image.path.empty()) return;
    complaints.push_back(
        {std::move(pointer), "names a file, which takes the admin scope; send the picture as a data: URI"});
  };
  if (spec.init_image) check("/init_image", *spec.init_image);
  if (spec.mask_image) check("/mask_image", *spec.mask_image);
  for (std::size_t i = 0; i < spec.controlnets.size(); ++i) {
    check(fmt::format("/conditioning/controlNets/{}/conditioningImage", i), spec.controlnets[i].image);
  }
  return complaints;
}

http::Response finished(const Clients& clients, const http::Request& request, const Work& work) {
  const std::vector<JobView> views = views_of(clients.jobs, work);
  if (const auto refusal = failure_of(views)) return failure(work.jobs.front(), *refusal, warnings_of(views));
  const JobView& view = views.front();
  SdxlOutcome outcome{.request_id = view.id,
                      .metrics = view.metrics,
                      .tags = view.options.tags,
                      .warnings = view.warnings,
                      .execution_time = seconds_between(view.started, view.finished),
                      .timestamp = now_seconds()};
  for (std::size_t i = 0; i < view.pictures.size(); ++i) {
    const Picture& picture = view.pictures[i];
    outcome.pictures.push_back({.image = {.filename = fmt::format("{}-{}.{}", view.id, i, name_of(picture.format)),
                                          .seed = picture.seed,
                                          .width = picture.width,
                                          .height = picture.height,
                                          .format = picture.format,
                                          .bytes = picture.bytes},
                                .url = clients.desk.picture_url(request, view, i)});
  }
  return json_response(200, sdxl_answer(outcome));
}

http::Answer generate(const std::shared_ptr<Clients>& clients, const http::Request& request) {
  const Result<json> body = parse_json(request.body);
  if (!body) return failure(request.request_id, {body.error(), {{"", body.error().message}}}, {});
  auto decoded = decode_sdxl_request(*body, clients->desk.limits());
  if (!decoded) return failure(request.request_id, {as_error(decoded.error()), decoded.error()}, {});
  if (auto files = refused_files(request, decoded->spec); !files.empty()) {
    return failure(request.request_id, {as_error(files), files}, {});
  }
  std::vector<GenerationRequest> all;
  all.push_back(std::move(*decoded));
  const auto work = submit(clients->desk, request, {"sdxl", std::move(all), json::object()});
  if (!work) return refused(request.request_id, work.error());
  return answer_later(
      clients->jobs,
      {.work = *work, .deadline = clients->deadline(), .respond = [clients, head = head_of(request), work = *work] {
         return finished(*clients, head, work);
       }});
}

http::Answer validate(const std::shared_ptr<Clients>& clients, const http::Request& request) {
  const Result<json> body = parse_json(request.body);
  if (!body) {
    return json_response(200, {{"valid", false},
                               {"errors", {body.error().message}},
                               {"complaints", json::array()},
                               {"warnings", json::array()}});
  }
  return json_response(200, sdxl_validate_answer(*body, clients->desk.limits()));
}

}  // namespace

void add_sdxl_routes(http::Router& router, const std::shared_ptr<Clients>& clients) {
  router.add({"POST", "/api/sdxl/generate", Scope::generate, Cost::counted,
              [clients](const http::Request& request) { return generate(clients, request); }});
  router.add({"POST", "/api/sdxl/validate", Scope::read, Cost::free,
              [clients](const http::Request& request) { return validate(clients, request); }});
  router.format_problems("/api/sdxl", [](const http::Problem& problem, const http::Request& request) {
    return refused(request.request_id, problem);
  });
}

}  // namespace darkroom
