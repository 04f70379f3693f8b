#include "service/api/batches.h"

#include <algorithm>

namespace darkroom {

std::vector<GenerationRequest> split_into_batches(const GenerationRequest& whole, int pictures, int max_batch) {
  std::vector<GenerationRequest> jobs;
  for (int done = 0; done < pictures;) {
    GenerationRequest& job = jobs.emplace_back(whole);
    const auto offset = static_cast<std::uint64_t>(done);
    job.spec.seed += offset;
    if (job.spec.variation) job.spec.variation->seed += offset;
    job.spec.batch_size = std::min(max_batch, pictures - done);
    if (done > 0) job.warnings.clear();
    done += job.spec.batch_size;
  }
  return jobs;
}

}  // namespace darkroom
