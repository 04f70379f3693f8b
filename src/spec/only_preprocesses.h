// Jobs that make a control picture and no more.
#pragma once

#include "spec/generation_spec.h"

namespace darkroom {

// One picture through a preprocessor, whose result is the job's picture; no model takes part. Such a request has one
// ControlNet with a preprocessor and a type, and no model at all.
inline bool only_preprocesses(const GenerationSpec& spec) {
  return spec.model.empty() && spec.controlnets.size() == 1 && spec.controlnets.front().model.empty() &&
         !spec.controlnets.front().preprocess.name.empty();
}

}  // namespace darkroom
