#include <algorithm>
#include <map>
#include <mutex>

#include "service/events/event_bus.h"

namespace darkroom {
namespace {

// One listener. Its mutex is held while it runs, so that its end can wait for that.
struct Subscriber {
  std::mutex mutex;
  EventBus::Listener listener;  // empty: it is gone
};

// What subscriptions and the bus share, whichever goes first.
struct Listeners {
  std::mutex mutex;
  std::map<std::string, std::vector<std::shared_ptr<Subscriber>>> of_job;
};

// A subscription: takes its listener off when it goes.
class Registration {
 public:
  Registration(std::shared_ptr<Listeners> listeners, std::string job, std::shared_ptr<Subscriber> subscriber)
      : listeners_(std::move(listeners)), job_(std::move(job)), subscriber_(std::move(subscriber)) {}
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;
  ~Registration() {
    {
      const std::lock_guard lock(subscriber_->mutex);
      subscriber_->listener = nullptr;
    }
    const std::lock_guard lock(listeners_->mutex);
    const auto found = listeners_->of_job.find(job_);
    std::erase(found->second, subscriber_);
    if (found->second.empty()) listeners_->of_job.erase(found);
  }

 private:
  std::shared_ptr<Listeners> listeners_;
  std::string job_;
  std::shared_ptr<Subscriber> subscriber_;
};

class LocalEventBus final : public EventBus {
 public:
  void publish(const JobEvent& event) override {
    std::vector<std::shared_ptr<Subscriber>> subscribers;
    {
      const std::lock_guard lock(listeners_->mutex);
      const auto found = listeners_->of_job.find(event.job.id);
      if (found == listeners_->of_job.end()) return;
      subscribers = found->second;
    }
    for (const std::shared_ptr<Subscriber>& subscriber : subscribers) {
      const std::lock_guard lock(subscriber->mutex);
      if (subscriber->listener) subscriber->listener(event);
    }
  }

  std::shared_ptr<void> subscribe(const std::string& job, const std::function<std::optional<JobEvent>()>& first,
                                  Listener listener) override {
    const auto subscriber = std::make_shared<Subscriber>();
    subscriber->listener = std::move(listener);
    const std::lock_guard busy(subscriber->mutex);
    {
      const std::lock_guard lock(listeners_->mutex);
      listeners_->of_job[job].push_back(subscriber);
    }
    if (const std::optional<JobEvent> event = first()) subscriber->listener(*event);
    return std::make_shared<Registration>(listeners_, job, subscriber);
  }

  bool has_listeners(const std::string& job) override {
    const std::lock_guard lock(listeners_->mutex);
    return listeners_->of_job.contains(job);
  }

  std::vector<std::string> listened() override {
    const std::lock_guard lock(listeners_->mutex);
    std::vector<std::string> jobs;
    for (const auto& [job, subscribers] : listeners_->of_job) jobs.push_back(job);
    return jobs;
  }

 private:
  std::shared_ptr<Listeners> listeners_ = std::make_shared<Listeners>();
};

}  // namespace

std::unique_ptr<EventBus> make_local_event_bus() { return std::make_unique<LocalEventBus>(); }

}  // namespace darkroom
