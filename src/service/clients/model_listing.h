// The models that the workers find, kept for a while: routes that clients probe with must not wait for a worker.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>

#include "service/api/model_catalog.h"
#include "service/jobs/jobs.h"

namespace darkroom {

// Every function may be called from any thread.
class ModelListing {
 public:
  explicit ModelListing(Jobs& jobs) : jobs_(jobs) {}

  using Catalog = std::shared_ptr<const ModelCatalog>;

  // What is known, however old; asks the workers only if nothing is. Error worker_lost: none answers yet.
  Result<Catalog> known();
  // As the workers say now; what is known, where none answers. Error as above.
  Result<Catalog> fresh();
  // The same without an error: no models.
  Catalog known_or_none();

 private:
  Jobs& jobs_;
  std::mutex mutex_;
  std::shared_ptr<const ModelCatalog> known_;
};

}  // namespace darkroom
