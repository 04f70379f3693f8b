// The models that the workers find, kept for a while: routes that clients probe with must not wait for a worker. Looks
// by itself for what comes and goes in the models directories.
#pragma once

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "service/api/model_catalog.h"
#include "service/clients/model_hasher.h"
#include "service/jobs/jobs.h"

namespace darkroom {

struct ModelListingOptions {
  std::vector<std::string> directories;  // that are looked into
  std::filesystem::path hashes;          // where the models' SHA-256 are kept
  std::chrono::milliseconds look_every{10'000};
};

// Every function may be called from any thread.
class ModelListing {
 public:
  ModelListing(Jobs& jobs, ModelListingOptions options);
  ~ModelListing();
  ModelListing(const ModelListing&) = delete;
  ModelListing& operator=(const ModelListing&) = delete;

  using Catalog = std::shared_ptr<const ModelCatalog>;

  // What is known, at most look_every old but for what no worker answered to; asks the workers only if nothing is.
  // Error worker_lost: none answers yet.
  Result<Catalog> known();
  // As the workers say now; what is known, where none answers. Error as above.
  Result<Catalog> fresh();
  // The same without an error: no models.
  Catalog known_or_none();
  // Has the workers asked soon, whatever the directories look like.
  void look_now();

 private:
  Result<void> ask_workers();
  void rebuild();
  void watch();

  Jobs& jobs_;
  const ModelListingOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ModelEntry> entries_;
  Catalog known_;
  bool look_now_ = false;
  bool ends_ = false;
  std::mutex building_;  // one catalog after the other: the last one built is the newest
  ModelHasher hasher_;
  std::thread watch_;
};

}  // namespace darkroom
