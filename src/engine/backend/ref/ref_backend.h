// The oracle: one obvious loop per operation, in float32, for tests.
#pragma once

#include <memory>

#include "engine/backend/backend.h"

namespace darkroom::engine {

std::unique_ptr<Backend> make_ref_backend();

}  // namespace darkroom::engine
