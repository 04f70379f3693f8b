// One request for many pictures as jobs that hold no more than a batch each.
#pragma once

#include <vector>

#include "spec/generation_codec.h"

namespace darkroom {

// The seeds go on from job to job; the warnings are the first one's.
std::vector<GenerationRequest> split_into_batches(const GenerationRequest& whole, int pictures, int max_batch);

}  // namespace darkroom
