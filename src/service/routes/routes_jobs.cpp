// The native API: a job is submitted, looked at, listened to, cancelled; its pictures are fetched.
#include <algorithm>

#include "service/api/sdxl_request.h"
#include "service/blobs/hash.h"
#include "service/http/text.h"
#include "service/routes/job_answers.h"
#include "service/routes/routes.h"

namespace darkroom {
namespace {

using http::Answer;
using http::Problem;
using http::Request;
using http::Response;
using nlohmann::json;
using std::chrono::steady_clock;

constexpr std::size_t kTokenBytes = 255;
constexpr int kMostListed = 200;
constexpr int kUsuallyListed = 50;

Response problem(const Problem& what, const Request& request) { return http::problem_json(what, request); }
Response problem(const Error& error, const Request& request) { return problem(http::problem_of(error), request); }

Response job_response(int status, const JobView& job, const Request& request) {
  Response response = http::text_response(status, "application/json", job_json(job, request.base_url).dump());
  if (status == 202) response.headers.add("Location", fmt::format("{}/v1/jobs/{}", request.base_url, job.id));
  return response;
}

// What decides whether two requests are the same: all of it, but pictures by their hash.
json without_pictures(const json& value) {
  json copy = value;
  if (copy.is_structured()) {
    for (json& element : copy) element = without_pictures(element);
  } else if (copy.is_string() && copy.get_ref<const std::string&>().starts_with("data:")) {
    copy = "data:;sha256," + to_hex(sha256(copy.get_ref<const std::string&>()));
  }
  return copy;
}

// Files of the service's machine are its owner's: others send pictures, and do not look into his outputs.
void refuse_files(const Request& request, const GenerationSpec& spec, std::vector<Complaint>& complaints) {
  if (request.principal.may(Scope::admin)) return;
  const auto check = [&](const char* pointer, const ImageSource& image) {
    if (image.path.empty()) return;
    complaints.push_back({pointer, "names a file, which takes the admin scope; send the picture as a data: URI"});
  };
  if (spec.init_image) check("/init_image", *spec.init_image);
  if (spec.mask_image) check("/mask_image", *spec.mask_image);
  for (const ControlNetUse& use : spec.controlnets) check("/controlnet", use.image);
}

tl::expected<Submission, Problem> decode_submission(const Request& request, const JobDesk& desk) {
  tl::expected<json, Problem> body = json_body(request);
  if (!body) return tl::unexpected(body.error());
  if (!body->is_object()) {
    return tl::unexpected(http::problem_of(std::vector<Complaint>{{"", expected("an object", *body)}}));
  }
  Submission submission;
  submission.echo = without_pictures(*body).dump();
  std::vector<Complaint> complaints;
  if (const auto webhook = body->find("webhook"); webhook != body->end()) {
    JsonReader in(*webhook, "/webhook", complaints);
    in.required("url", submission.webhook.url, not_empty(), max_bytes(2048));
    in.finish();
    submission.webhook.secret_id = request.principal.key;
    body->erase(webhook);
  }
  auto decoded = decode_job_request(*body, desk.limits());
  if (!decoded) {
    complaints.insert(complaints.end(), decoded.error().begin(), decoded.error().end());
  } else {
    refuse_files(request, decoded->spec, complaints);
    submission.spec = std::move(decoded->spec);
    submission.options = std::move(decoded->job);
    submission.warnings = std::move(decoded->warnings);
  }
  submission.idempotency_token = request.headers.get("Idempotency-Key");
  if (submission.idempotency_token.size() > kTokenBytes) {
    complaints.push_back({"Idempotency-Key", fmt::format("has more than {} bytes", kTokenBytes)});
  }
  if (!complaints.empty()) return tl::unexpected(http::problem_of(complaints));
  return submission;
}

// Waits for the job as the client wishes.
Answer answer_waiting(const Request& request, JobDesk& desk, const JobView& job, int status_unfinished) {
  const std::chrono::seconds wait = desk.wished_wait(request);
  if (wait.count() == 0 || is_finished(job.status)) {
    return job_response(is_finished(job.status) ? 200 : status_unfinished, job, request);
  }
  auto respond = [request, wait, status_unfinished](const JobView& now) {
    Response response = job_response(is_finished(now.status) ? 200 : status_unfinished, now, request);
    response.headers.add("Preference-Applied", fmt::format("wait={}", wait.count()));
    return response;
  };
  return desk.when_ended(job.id, steady_clock::now() + wait, std::move(respond), {});
}

Answer submit(const Request& request, JobDesk& desk) {
  tl::expected<Submission, Problem> submission = decode_submission(request, desk);
  if (!submission) return problem(submission.error(), request);
  const auto submitted = desk.submit(request, std::move(*submission));
  if (!submitted) return problem(submitted.error(), request);
  Request head = request;
  head.body.clear();  // it may be large, and the wait long
  return answer_waiting(head, desk, submitted->job, 202);
}

Answer get(const Request& request, JobDesk& desk) {
  const auto job = desk.find(request, request.parameter("id"));
  if (!job) return problem(job.error(), request);
  return answer_waiting(request, desk, *job, 200);
}

Answer list(const Request& request, JobDesk& desk) {
  JobFilter filter;
  std::vector<Complaint> complaints;
  int limit = kUsuallyListed;
  std::string cursor;
  for (const auto& [name, value] : request.query) {
    if (name == "status") {
      filter.status = value_of<JobStatus>(value);
      if (!filter.status) complaints.push_back({"?status", "must be " + join_with_or(all_names<JobStatus>())});
    } else if (name == "limit") {
      const auto number = http::whole_number(value);
      if (!number || *number < 1 || *number > kMostListed) {
        complaints.push_back({"?limit", fmt::format("must be between 1 and {}", kMostListed)});
      } else {
        limit = static_cast<int>(*number);
      }
    } else if (name == "cursor") {
      cursor = value;
    } else if (name == "key" && request.principal.may(Scope::admin)) {
      filter.key = value;
    } else {
      complaints.push_back({"?" + name, "is not known"});
    }
  }
  if (!complaints.empty()) return problem(http::problem_of(complaints), request);
  if (!request.principal.may(Scope::admin)) filter.key = request.principal.key;
  const Result<JobPage> page = desk.jobs().list(filter, cursor, limit);
  if (!page) return problem(page.error(), request);
  nlohmann::ordered_json body = {{"jobs", nlohmann::ordered_json::array()}};
  for (const JobView& job : page->jobs) body["jobs"].push_back(job_json(job, request.base_url));
  if (!page->next.empty()) body["next"] = page->next;
  return http::text_response(200, "application/json", body.dump());
}

// Cancels; with ?remove=true removes a finished job and its pictures.
Answer end(const Request& request, JobDesk& desk) {
  const std::string& id = request.parameter("id");
  const auto job = desk.find(request, id);
  if (!job) return problem(job.error(), request);
  const auto wish = request.query_value("remove");
  if (wish && *wish != "true" && *wish != "false") {
    return problem(http::problem_of(std::vector<Complaint>{{"?remove", "must be true or false"}}), request);
  }
  if (wish == "true") {
    if (const Result<void> removed = desk.jobs().remove(id); !removed) return problem(removed.error(), request);
    return Response{.status = 204, .headers = {}, .body = {}};
  }
  const Result<JobView> cancelled = desk.jobs().cancel(id);
  if (!cancelled) return problem(cancelled.error(), request);
  return job_response(is_finished(cancelled->status) ? 200 : 202, *cancelled, request);
}

Answer events(const Request& request, JobDesk& desk) {
  const std::string& id = request.parameter("id");
  if (const auto job = desk.find(request, id); !job) return problem(job.error(), request);
  auto stream = desk.stream(id, std::string(request.headers.get("Last-Event-ID")),
                            [base_url = request.base_url](const JobEvent& event, http::EventStream& out) {
                              out.send(job_event(event, base_url));
                            });
  if (!stream) return problem(stream.error(), request);
  return Response{.status = 200,
                  .headers = {{"Content-Type", "text/event-stream"}, {"X-Accel-Buffering", "no"}},
                  .body = std::move(*stream)};
}

std::size_t picture_index(const Request& request) {
  const auto index = http::whole_number(request.parameter("index"));
  return index ? static_cast<std::size_t>(*index) : std::size_t(-1);  // which no job has
}

Answer picture(const Request& request, JobDesk& desk) {
  const auto job = desk.find(request, request.parameter("id"));
  if (!job) return problem(job.error(), request);
  return desk.picture(request, *job, picture_index(request));
}

// Without a key: the link itself is the permission.
Answer linked_picture(const Request& request, JobDesk& desk) {
  const std::string& id = request.parameter("id");
  const std::size_t index = picture_index(request);
  const bool is_valid = index <= kMostListed * 100U &&
                        desk.jobs().ticket_is_valid(id, static_cast<int>(index), request.parameter("ticket"));
  if (!is_valid) return problem(Error{ErrorCode::not_found, "this link is not valid, or not any more"}, request);
  const Result<JobView> job = desk.jobs().get(id);
  if (!job) return problem(job.error(), request);
  return desk.picture(request, *job, index);
}

}  // namespace

void add_job_routes(http::Router& router, JobDesk& desk) {
  const auto with_desk = [&desk](http::Answer (*answer)(const http::Request&, JobDesk&)) {
    return [&desk, answer](const http::Request& request) { return answer(request, desk); };
  };
  router.add({"POST", "/v1/jobs", Scope::generate, http::Cost::counted, with_desk(submit)});
  router.add({"GET", "/v1/jobs", Scope::read, http::Cost::free, with_desk(list)});
  router.add({"GET", "/v1/jobs/{id}", Scope::read, http::Cost::free, with_desk(get)});
  router.add({"DELETE", "/v1/jobs/{id}", Scope::generate, http::Cost::free, with_desk(end)});
  router.add({"GET", "/v1/jobs/{id}/events", Scope::read, http::Cost::free, with_desk(events)});
  router.add({"GET", "/v1/jobs/{id}/images/{index}", Scope::read, http::Cost::free, with_desk(picture)});
  router.add({"GET", "/v1/pictures/{id}/{index}/{ticket}", Scope::none, http::Cost::free, with_desk(linked_picture)});
}

}  // namespace darkroom
