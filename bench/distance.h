// How far the pictures of a compute type lie from those of float32.
#pragma once

#include <filesystem>

#include "bench/report.h"
#include "spec/generation_spec.h"

namespace darkroom::bench {

// Makes the same pictures with a model in float32 and in `precision`, and reports their PSNR.
void run_distance(const std::filesystem::path& model, Precision precision, Report& report);

}  // namespace darkroom::bench
