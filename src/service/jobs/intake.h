// What is fixed about a job when it is admitted. Pure.
#pragma once

#include <string>

#include "service/store/job.h"

namespace darkroom {

// Equal for equal requests of any caller.
std::string fingerprint_of(const Submission& submission);

// Requests of one class can share passes: the same networks and LoRAs at the same size. "": with none.
std::string batch_class_of(const GenerationSpec& spec);

// How much there is to compute: passes through the UNet, one for a million pixels. Other work is counted in these.
double work_of(const GenerationSpec& spec);

}  // namespace darkroom
