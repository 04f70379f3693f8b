#include "service/routes/job_desk.h"

#include <algorithm>

#include "base/json_text.h"
#include "base/text.h"
#include "service/http/file_response.h"
#include "service/http/later.h"
#include "service/http/text.h"

namespace darkroom {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;
using std::chrono::system_clock;

constexpr std::chrono::hours kLinkLife(24);

// What is subscribed lives as long as somebody holds it.
std::shared_ptr<void> held(Result<Subscription>&& subscription) {
  return std::make_shared<Subscription>(std::move(*subscription));
}

std::string media_type(ImageFormat format) { return fmt::format("image/{}", name_of(format)); }

}  // namespace

JobDesk::Outcome<Submitted> JobDesk::submit(const http::Request& request, Submission submission) {
  tl::expected<Submitted, QuotaGate::Refused> submitted = gate_.submit(request.principal, std::move(submission));
  if (submitted) return std::move(*submitted);
  http::Problem problem = http::problem_of(submitted.error().error);
  if (problem.status == 429) {
    problem.headers.set("Retry-After", fmt::format("{}", submitted.error().retry_after.count()));
  }
  return tl::unexpected(std::move(problem));
}

bool JobDesk::may_see(const http::Request& request, const JobView& job) {
  return job.key == request.principal.key || request.principal.may(Scope::admin);
}

JobDesk::Outcome<JobView> JobDesk::find(const http::Request& request, const std::string& id) {
  Result<JobView> job = jobs_.get(id);
  if (!job) return tl::unexpected(http::problem_of(job.error()));
  if (may_see(request, *job)) return std::move(*job);
  return tl::unexpected(http::problem_of(Error{ErrorCode::not_found, "there is no job " + id}));
}

http::Answer JobDesk::when_ended(const std::string& id, steady_clock::time_point deadline,
                                 std::function<http::Response(const JobView&)> respond, std::function<void()> gone) {
  auto later = std::make_shared<http::Later>(deadline, [this, id, respond = std::move(respond)] {
    const Result<JobView> job = jobs_.get(id);
    return job ? respond(*job) : http::problem_json(http::problem_of(job.error()), {});
  });
  later->on_gone(std::move(gone));
  Result<Subscription> subscription = jobs_.subscribe(id, "", [weak = std::weak_ptr(later)](const JobEvent& event) {
    if (event.kind != JobEventKind::ended) return;
    if (const auto waiting = weak.lock()) waiting->bell().ring();
  });
  if (!subscription) return http::problem_json(http::problem_of(subscription.error()), {});
  later->keep(held(std::move(subscription)));
  return later;
}

JobDesk::Outcome<std::shared_ptr<http::EventStream>> JobDesk::stream(
    const std::string& id, const std::string& last_event_id,
    std::function<void(const JobEvent&, http::EventStream&)> to_events) {
  auto stream = std::make_shared<http::EventStream>();
  Result<Subscription> subscription = jobs_.subscribe(
      id, last_event_id, [weak = std::weak_ptr(stream), to_events = std::move(to_events)](const JobEvent& event) {
        const auto listening = weak.lock();
        if (listening == nullptr) return;
        to_events(event, *listening);
        if (event.kind == JobEventKind::ended) listening->finish();
      });
  if (!subscription) return tl::unexpected(http::problem_of(subscription.error()));
  stream->keep(held(std::move(subscription)));
  return stream;
}

seconds JobDesk::wished_wait(const http::Request& request) const {
  for (const std::string_view preference : split(request.headers.get("Prefer"), ',')) {
    const std::string_view word = trimmed(preference);
    constexpr std::string_view kWait = "wait=";
    if (!to_lower(word).starts_with(kWait)) continue;
    const auto asked = http::whole_number(word.substr(kWait.size()));
    if (asked) return std::min(seconds(std::min<unsigned long long>(*asked, 86'400)), longest_wait());
  }
  return seconds(0);
}

http::Response JobDesk::picture(const http::Request& request, const JobView& job, std::size_t index) const {
  if (index >= job.pictures.size()) {
    return http::problem_json(
        http::problem_of(Error{ErrorCode::not_found, fmt::format("job {} is {} and has {} pictures", job.id,
                                                                 name_of(job.status), job.pictures.size())}),
        request);
  }
  const Picture& picture = job.pictures[index];
  Result<http::Response> response =
      http::file_response(request, {.path = jobs_.picture_file(picture),
                                    .content_type = media_type(picture.format),
                                    .etag = picture.sha256,
                                    .cache_control = "private, max-age=31536000, immutable"});
  return response ? std::move(*response) : http::problem_json(http::problem_of(response.error()), request);
}

std::string JobDesk::picture_url(const http::Request& request, const JobView& job, std::size_t index) const {
  const int place = static_cast<int>(index);
  return fmt::format("{}/v1/pictures/{}/{}/{}", request.base_url, job.id, place,
                     jobs_.ticket(job.id, place, system_clock::now() + kLinkLife));
}

tl::expected<nlohmann::json, http::Problem> json_body(const http::Request& request) {
  if (request.body.empty()) return nlohmann::json::object();
  Result<nlohmann::json> body = parse_json(request.body);
  if (body) return std::move(*body);
  return tl::unexpected(http::problem_of(body.error()));
}

}  // namespace darkroom
