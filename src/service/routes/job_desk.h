// Between a request and the jobs: who may see which, how an answer waits for one or tells what happens to it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <tl/expected.hpp>

#include "config/config.h"
#include "service/http/event_stream.h"
#include "service/http/message.h"
#include "service/http/problem.h"
#include "service/jobs/jobs.h"
#include "service/routes/quota_gate.h"

namespace darkroom {

class JobDesk {
 public:
  template <class T>
  using Outcome = tl::expected<T, http::Problem>;

  JobDesk(const Config& config, Jobs& jobs, QuotaGate& gate) : config_(config), jobs_(jobs), gate_(gate) {}

  Jobs& jobs() { return jobs_; }
  const Limits& limits() const { return config_.limits; }

  // As QuotaGate does; 429 says when to come again.
  Outcome<Submitted> submit(const http::Request& request, Submission submission);
  // The caller's own, or with the admin scope anybody's; others are as if they did not exist.
  Outcome<JobView> find(const http::Request& request, const std::string& id);
  static bool may_see(const http::Request& request, const JobView& job);

  // The answer once the job has ended, or at the deadline, made of the job as it is then. `gone`, which may be empty:
  // the client has hung up.
  http::Answer when_ended(const std::string& id, std::chrono::steady_clock::time_point deadline,
                          std::function<http::Response(const JobView&)> respond, std::function<void()> gone);
  // The job's events into the stream until its end; `to_events` comes from a thread of the jobs and must not wait.
  Outcome<std::shared_ptr<http::EventStream>> stream(
      const std::string& id, const std::string& last_event_id,
      std::function<void(const JobEvent&, http::EventStream&)> to_events);

  // Seconds that a client asks to wait, by "Prefer: wait=30", within the limit; zero: it does not.
  std::chrono::seconds wished_wait(const http::Request& request) const;
  std::chrono::seconds longest_wait() const { return std::chrono::seconds(config_.http.longest_wait); }

  // A picture of a finished job: 200, 206, 304 or 416, or why not.
  http::Response picture(const http::Request& request, const JobView& job, std::size_t index) const;
  // A link to it that needs no key, for a while.
  std::string picture_url(const http::Request& request, const JobView& job, std::size_t index) const;

 private:
  const Config& config_;
  Jobs& jobs_;
  QuotaGate& gate_;
};

// The request's body as JSON; an empty one is an empty object. 400.
tl::expected<nlohmann::json, http::Problem> json_body(const http::Request& request);

}  // namespace darkroom
