// The layouts that upscalers are shared in, mapped to basicsr's names ("conv_first", "body.0.rdb1.conv1"), which the
// networks load by. Twins: basicsr archs/{rrdbnet,srvgg}_arch.py; for the older names xinntao/ESRGAN's RRDBNet_arch.py
// and victorca25/BasicSR's block.py.
#pragma once

#include <optional>
#include <string>

#include "base/error.h"
#include "engine/weights/key_map_sdxl.h"
#include "engine/weights/model_config.h"
#include "engine/weights/weight_source.h"

namespace darkroom::engine {

// An upscaler's names may lie under "params_ema.", "module." or anything else.
bool is_upscaler(const WeightSource& source);

// Errors: unsupported (no upscaler, or another network than these two, named where it is known), corrupt_data.
Result<MappedPart<UpscalerConfig>> map_upscaler(const WeightSource& source);

}  // namespace darkroom::engine
