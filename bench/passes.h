// Passes of the full-size networks. Arithmetic is counted without tricks: an upsampling convolution counts as the 3×3
// convolution it replaces.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "bench/report.h"
#include "engine/models/clip_text.h"
#include "engine/models/unet.h"
#include "engine/models/vae.h"
#include "engine/weights/checkpoint.h"

namespace darkroom::bench {

// How passes are run.
struct PassOptions {
  engine::DType compute = engine::DType::bf16;
  std::vector<int> sizes{512, 1024};  // of the pictures, pixels
  int runs = 3;                       // the fastest counts
};

// A checkpoint's networks, laid out.
struct LoadedCheckpoint {
  LoadedCheckpoint(engine::Backend& backend, const std::filesystem::path& path, engine::DType compute);

  engine::Checkpoint files;
  engine::Network text_l, text_g, unet_network, vae_network;
  std::optional<engine::ClipTextEncoder> encoder_l, encoder_g;
  std::optional<engine::Unet> unet;
  std::optional<engine::VaeDecoder> decoder;

  std::size_t bytes() const { return text_l.bytes() + text_g.bytes() + unet_network.bytes() + vae_network.bytes(); }
};

void run_text(const LoadedCheckpoint& model, const PassOptions& options, Report& report);
void run_unet(const LoadedCheckpoint& model, const PassOptions& options, Report& report);
void run_vae(const LoadedCheckpoint& model, const PassOptions& options, Report& report);
// What a ControlNet adds to the UNet's pass, in time and in arithmetic.
void run_controlnet(const LoadedCheckpoint& model, const std::filesystem::path& controlnet, const PassOptions& options,
                    Report& report);
// An RRDBNet of the usual size, with made-up weights.
void run_upscaler(engine::Backend& backend, const PassOptions& options, Report& report);

}  // namespace darkroom::bench
