// A control picture by itself: no model, so no engine.
#pragma once

#include "engine/pipeline/engine.h"
#include "spec/generation_spec.h"

namespace darkroom {

// Of a spec that only_preprocesses(), whose files are resolved. Throws Failure naming the field.
engine::GenerationResult detect(const GenerationSpec& spec, engine::ProgressSink& progress);

}  // namespace darkroom
