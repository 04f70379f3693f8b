// Which kind of model a LoRA file was made for, from its names and the widths of text that its layers read.
#pragma once

#include "engine/weights/inspect.h"
#include "engine/weights/weight_source.h"

namespace darkroom::engine {

// unknown where nothing tells.
Family family_of_lora(const WeightSource& file);

}  // namespace darkroom::engine
