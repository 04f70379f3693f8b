#include "service/clients/model_listing.h"

namespace darkroom {

Result<ModelListing::Catalog> ModelListing::known() {
  {
    const std::scoped_lock lock(mutex_);
    if (known_) return known_;
  }
  return fresh();
}

Result<ModelListing::Catalog> ModelListing::fresh() {
  const auto entries = jobs_.models();  // waits: the lock is not held
  const std::scoped_lock lock(mutex_);
  if (entries) known_ = std::make_shared<const ModelCatalog>(*entries);
  if (known_) return known_;
  return tl::unexpected(entries.error());
}

ModelListing::Catalog ModelListing::known_or_none() {
  return known().value_or(std::make_shared<const ModelCatalog>(std::vector<ModelEntry>()));
}

}  // namespace darkroom
