// How long putting a LoRA on a loaded UNet takes, and another in its place, beside what it cannot do without: reading
// the file and laying out the layers that it touches, in the type that they lie in while they wear one.
#pragma once

#include <cstddef>
#include <filesystem>

#include "engine/pipeline/adapters.h"

namespace darkroom::bench {

struct LoraSwitch {
  std::size_t parameters = 0;   // laid out again
  double file_mib = 0;          // of the LoRA
  double put_on_seconds = 0;    // open, merge and lay out
  double switch_seconds = 0;    // the same where another was worn
  double take_off_seconds = 0;  // lay out from the base
  double read_seconds = 0;      // of the LoRA's file alone
  double lay_out_seconds = 0;   // of the same layers, from the base alone
  double worn_seconds = 0;  // the same in the type of layers that wear a LoRA: float32's take twice a file's 16 bits

  double ratio(double seconds) const { return seconds / (read_seconds + worn_seconds); }
};

// Writes a LoRA of this rank for every linear layer of every attention block to `file`, and removes it again. Of `runs`
// the fastest counts, for each of the figures.
LoraSwitch measure_lora_switch(const engine::AdaptedNetwork& unet, const std::filesystem::path& file, int rank,
                               int threads, int runs);

}  // namespace darkroom::bench
