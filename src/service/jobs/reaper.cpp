#include "service/jobs/reaper.h"

#include "service/store/job_store.h"

namespace darkroom {

void Reaper::renewed(Time now) {
  // Ours was over in between, as others' may be that are as well as we.
  if (last_renewal_ && now - *last_renewal_ > kLease) store_failed(now);
  last_renewal_ = now;
}

}  // namespace darkroom
