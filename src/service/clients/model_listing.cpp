#include "service/clients/model_listing.h"

namespace darkroom {

std::shared_ptr<const ModelCatalog> ModelListing::known() {
  {
    const std::scoped_lock lock(mutex_);
    if (known_) return known_;
  }
  return fresh();
}

std::shared_ptr<const ModelCatalog> ModelListing::fresh() {
  const auto entries = jobs_.models();  // waits: the lock is not held
  const std::scoped_lock lock(mutex_);
  if (entries) known_ = std::make_shared<const ModelCatalog>(*entries);
  return known_ ? known_ : std::make_shared<const ModelCatalog>(std::vector<ModelEntry>());
}

}  // namespace darkroom
