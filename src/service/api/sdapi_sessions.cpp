#include "service/api/sdapi_sessions.h"

#include <algorithm>
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

void SdapiSessions::advance(const std::string& caller, std::uint64_t request, std::size_t now, int finished) {
  const std::scoped_lock lock(mutex_);
  auto& requests = session(caller).requests;
  const auto found = requests.find(request);
  if (found == requests.end()) return;
  found->second.now = now;
  found->second.finished = finished;
}

void SdapiSessions::finish(const std::string& caller, std::uint64_t request) {
  const std::scoped_lock lock(mutex_);
  const auto found = sessions_.find(caller);
  if (found != sessions_.end()) found->second.requests.erase(request);
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
  const std::size_t now = std::min(activity.now, activity.jobs.size());
  return {activity.jobs.begin() + static_cast<std::ptrdiff_t>(now), activity.jobs.end()};
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
