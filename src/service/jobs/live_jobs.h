// What is known of running jobs and in no database: how far they are. Any thread.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "service/events/event.h"
#include "service/store/job.h"

namespace darkroom {

class LiveJobs {
 public:
  void set(const std::string& job, int attempt, const Progress& progress);
  // The worker is done; the pictures are being kept.
  void set_storing(const std::string& job);
  void erase(const std::string& job);

  // Puts what is known into the view of the same attempt.
  void complete(JobView& view) const;

 private:
  struct Live {
    int attempt = 0;
    Progress progress;
    bool storing = false;
  };

  mutable std::mutex mutex_;
  std::map<std::string, Live> jobs_;
};

// The event that says how the job is. Its id says the same in short, so that equal ids mean that nothing happened
// between, also across restarts.
JobEvent snapshot_of(const JobView& view);
JobEvent event_of(JobEventKind kind, const JobView& view);

}  // namespace darkroom
