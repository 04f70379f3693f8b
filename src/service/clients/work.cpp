#include "service/clients/work.h"

#include <algorithm>
#include <atomic>
#include <fstream>

#include "service/blobs/hash.h"

namespace darkroom {
namespace {

Result<std::string> read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in) return fail(ErrorCode::not_found, "the picture is gone");
  return bytes;
}

void cancel_queued(Jobs& jobs, const std::vector<std::string>& ids) {
  for (const std::string& id : ids) {
    const auto view = jobs.get(id);
    if (view && view->status == JobStatus::queued) static_cast<void>(jobs.cancel(id));
  }
}

}  // namespace

std::string caller_of(const http::Request& request) {
  return request.principal.key.empty() ? "address " + request.peer : "key " + request.principal.key;
}

tl::expected<Work, http::Problem> submit(JobDesk& desk, const http::Request& request, Order order) {
  DR_ASSERT(!order.jobs.empty());
  const std::string token(request.headers.get("idempotency-key"));
  // The body's own hash stands for the pictures that are left out.
  nlohmann::json echo = {
      {"kind", order.kind}, {"body", sha256_hex(request.body)}, {"parameters", std::move(order.echo)}};
  Work work;
  for (std::size_t i = 0; i < order.jobs.size(); ++i) {
    echo["part"] = i;
    Submission submission{.spec = std::move(order.jobs[i].spec),
                          .options = std::move(order.jobs[i].job),
                          .warnings = std::move(order.jobs[i].warnings),
                          .idempotency_token = token.empty() ? "" : fmt::format("{}#{}", token, i),
                          .echo = echo.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
    auto submitted = desk.submit(request, std::move(submission));
    if (!submitted) {
      cancel_queued(desk.jobs(), work.jobs);
      return tl::unexpected(submitted.error());
    }
    work.jobs.push_back(submitted->job.id);
  }
  return work;
}

std::vector<JobView> views_of(Jobs& jobs, const Work& work) {
  std::vector<JobView> views;
  for (const std::string& id : work.jobs) {
    if (auto view = jobs.get(id)) views.push_back(std::move(*view));
  }
  return views;
}

std::optional<Refusal> failure_of(const std::vector<JobView>& views) {
  if (views.empty()) return Refusal{{ErrorCode::not_found, "the job is gone"}, {}};
  for (const JobView& view : views) {
    if (view.failure) return view.failure;
    if (!is_finished(view.status)) {
      return Refusal{{ErrorCode::timed_out, fmt::format("job {} is still {}", view.id, name_of(view.status))}, {}};
    }
  }
  return std::nullopt;
}

std::vector<std::string> warnings_of(const std::vector<JobView>& views) {
  std::vector<std::string> warnings;
  for (const JobView& view : views) warnings.insert(warnings.end(), view.warnings.begin(), view.warnings.end());
  return warnings;
}

Result<std::vector<std::string>> read_pictures(const Jobs& jobs, const JobView& view) {
  std::vector<std::string> files;
  for (const Picture& picture : view.pictures) {
    Result<std::string> file = read_file(jobs.picture_file(picture));
    if (!file) return tl::unexpected(file.error());
    files.push_back(std::move(*file));
  }
  return files;
}

Abandoned::Owner Abandoned::owner_of(const http::Request& request) {
  return {caller_of(request), request.path + " " + sha256_hex(request.body)};
}

void Abandoned::leave(const Owner& owner, Work work) {
  const auto now = std::chrono::steady_clock::now();
  const std::scoped_lock lock(mutex_);
  std::erase_if(left_, [&](const auto& entry) { return now - entry.second.when > kKept; });
  if (left_.size() < kMost) left_.emplace(owner, Left{std::move(work), now});
}

std::optional<Work> Abandoned::take(Jobs& jobs, const http::Request& request) {
  std::optional<Left> left;
  {
    const std::scoped_lock lock(mutex_);
    auto node = left_.extract(owner_of(request));
    if (!node.empty()) left = std::move(node.mapped());
  }
  if (!left || std::chrono::steady_clock::now() - left->when > kKept) return std::nullopt;
  const std::vector<JobView> views = views_of(jobs, left->work);
  const bool whole = views.size() == left->work.jobs.size() &&
                     std::ranges::none_of(views, [](const JobView& v) { return v.failure || v.cancel_asked; });
  return whole ? std::optional(std::move(left->work)) : std::nullopt;
}

http::Answer answer_later(Jobs& jobs, Waiting waiting) {
  const auto later = std::make_shared<http::Later>(waiting.deadline, std::move(waiting.respond));
  later->on_gone([&jobs, ids = waiting.work.jobs, gone = std::move(waiting.on_gone)] {
    cancel_queued(jobs, ids);
    if (gone) gone();
  });
  const auto left = std::make_shared<std::atomic<std::size_t>>(waiting.work.jobs.size());
  const auto subscriptions = std::make_shared<std::vector<Subscription>>();
  for (const std::string& id : waiting.work.jobs) {
    // The answer keeps the subscriptions: they must not keep it.
    auto listen = [left, on_event = waiting.on_event, weak = std::weak_ptr(later)](const JobEvent& event) {
      if (on_event) on_event(event);
      if (event.kind != JobEventKind::ended || left->fetch_sub(1) != 1) return;
      if (const auto answer = weak.lock()) answer->bell().ring();
    };
    Result<Subscription> subscription = jobs.subscribe(id, "", std::move(listen));
    if (subscription) {
      subscriptions->push_back(std::move(*subscription));
    } else if (left->fetch_sub(1) == 1) {  // it is gone already
      later->bell().ring();
    }
  }
  later->keep(subscriptions);
  return later;
}

}  // namespace darkroom
