#include "service/api/sdapi_sessions.h"

#include <utility>

namespace darkroom {

SdapiOptions SdapiSessions::options(const std::string& caller) {
  const std::scoped_lock lock(mutex_);
  const auto found = sessions_.find(caller);
  return found == sessions_.end() ? SdapiOptions{} : found->second.options;
}

void SdapiSessions::set_options(const std::string& caller, SdapiOptions options) {
  const std::scoped_lock lock(mutex_);
  session(caller).options = std::move(options);
}

std::uint64_t SdapiSessions::begin(const std::string& caller, SdapiActivity activity) {
  const std::scoped_lock lock(mutex_);
  const std::uint64_t request = next_request_++;
  session(caller).requests.emplace(request, std::move(activity));
  return request;
}

void SdapiSessions::set_preview(const std::string& caller, std::uint64_t request, std::string preview) {
  const std::scoped_lock lock(mutex_);
  const auto found = sessions_.find(caller);
  if (found == sessions_.end()) return;
  const auto activity = found->second.requests.find(request);
  if (activity != found->second.requests.end()) activity->second.preview = std::move(preview);
}

std::optional<SdapiActivity> SdapiSessions::finish(const std::string& caller, std::uint64_t request) {
  const std::scoped_lock lock(mutex_);
  const auto found = sessions_.find(caller);
  if (found == sessions_.end()) return std::nullopt;
  auto node = found->second.requests.extract(request);
  return node.empty() ? std::nullopt : std::optional(std::move(node.mapped()));
}

std::optional<SdapiActivity> SdapiSessions::current(const std::string& caller) {
  const std::scoped_lock lock(mutex_);
  const auto found = sessions_.find(caller);
  if (found == sessions_.end() || found->second.requests.empty()) return std::nullopt;
  return found->second.requests.begin()->second;
}

std::vector<std::string> SdapiSessions::interrupt(const std::string& caller) {
  const std::scoped_lock lock(mutex_);
  const auto found = sessions_.find(caller);
  if (found == sessions_.end() || found->second.requests.empty()) return {};
  SdapiActivity& activity = found->second.requests.begin()->second;
  activity.interrupted = true;
  std::vector<std::string> jobs;
  for (const SdapiActivity::Part& part : activity.parts) jobs.push_back(part.job);
  return jobs;
}

SdapiSessions::Session& SdapiSessions::session(const std::string& caller) {
  const auto [at, is_new] = sessions_.try_emplace(caller);
  at->second.heard = Clock::now();
  if (is_new && sessions_.size() > most_callers_) {
    auto oldest = sessions_.end();
    for (auto one = sessions_.begin(); one != sessions_.end(); ++one) {
      if (one == at || !one->second.requests.empty()) continue;
      if (oldest == sessions_.end() || one->second.heard < oldest->second.heard) oldest = one;
    }
    if (oldest != sessions_.end()) sessions_.erase(oldest);
  }
  return at->second;
}

}  // namespace darkroom
