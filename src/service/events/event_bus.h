// Tells those who listen what happens to a job. It may lose anything: what counts is in the store.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "service/events/event.h"

namespace darkroom {

class EventBus {
 public:
  using Listener = std::function<void(const JobEvent&)>;

  EventBus() = default;
  EventBus(const EventBus&) = delete;
  EventBus& operator=(const EventBus&) = delete;
  virtual ~EventBus() = default;

  virtual void publish(const JobEvent& event) = 0;
  // Events of this job, until the answer goes; the listener does not run any more once it is gone. Before any event the
  // listener gets what `first` answers, if that is something: what happens meanwhile waits.
  virtual std::shared_ptr<void> subscribe(const std::string& job, const std::function<std::optional<JobEvent>()>& first,
                                          Listener listener) = 0;
  // Whether anybody would hear; to spare the work.
  virtual bool has_listeners(const std::string& job) = 0;
  // Jobs that somebody listens to.
  virtual std::vector<std::string> listened() = 0;
};

// Within this process. Listeners run in the publisher's thread.
std::unique_ptr<EventBus> make_local_event_bus();

}  // namespace darkroom
