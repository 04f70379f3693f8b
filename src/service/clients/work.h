// A client's request as one or more jobs: submitted together, waited for together, answered together.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "service/http/later.h"
#include "service/http/message.h"
#include "service/jobs/jobs.h"
#include "service/routes/job_desk.h"

namespace darkroom {

// Who asks, for all that belongs to a caller: his key, else his address.
std::string caller_of(const http::Request& request);

struct Order {
  std::string kind;                     // "txt2img": part of what makes two requests the same
  std::vector<GenerationRequest> jobs;  // one at least
  nlohmann::json echo;                  // without pictures and secrets
};

struct Work {
  std::vector<std::string> jobs;     // ids
  std::shared_ptr<const void> what;  // the decoded request, for the answer
};

// All or none: if one is refused, those before it are cancelled.
tl::expected<Work, http::Problem> submit(JobDesk& desk, const http::Request& request, Order order);

// The jobs as they are; one that is gone is left out.
std::vector<JobView> views_of(Jobs& jobs, const Work& work);
// Why there are no pictures: of the first job that failed, or that is not finished.
std::optional<Refusal> failure_of(const std::vector<JobView>& views);
std::vector<std::string> warnings_of(const std::vector<JobView>& views);
// The files of a job's pictures.
Result<std::vector<std::string>> read_pictures(const Jobs& jobs, const JobView& view);

// T36: work whose client went away before it was answered, for him to come back to with the same request. Every
// function may be called from any thread.
class Abandoned {
 public:
  static constexpr std::chrono::minutes kKept{15};
  static constexpr std::size_t kMost = 1000;
  using Owner = std::pair<std::string, std::string>;  // the caller, and what makes two of his requests the same

  static Owner owner_of(const http::Request& request);
  void leave(const Owner& owner, Work work);
  // If none of it was cancelled or failed. Two that come back at once do not share it.
  std::optional<Work> take(Jobs& jobs, const http::Request& request);

 private:
  struct Left {
    Work work;
    std::chrono::steady_clock::time_point when;
  };
  std::mutex mutex_;
  std::multimap<Owner, Left> left_;
};

struct Waiting {
  Work work;
  std::chrono::steady_clock::time_point deadline;
  std::function<http::Response()> respond;
  std::function<void(const JobEvent&)> on_event;  // may be nothing; must neither wait nor call Jobs
  std::function<void()> on_gone;                  // the client is
};

// An answer once all jobs have ended. If the client goes, jobs that are still queued are cancelled, and others
// finished.
http::Answer answer_later(Jobs& jobs, Waiting waiting);

}  // namespace darkroom
