// ControlNets in a generation: their pictures made ready, and what they add to each pass of the UNet.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/image/image.h"
#include "engine/models/controlnet.h"
#include "engine/pipeline/conditioning.h"
#include "engine/pipeline/latents.h"
#include "engine/pipeline/model_cache.h"
#include "engine/weights/checkpoint.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

struct ControlNetModel final : LaidOutModel {
  ControlNetModel(Backend& backend, const ModelPart<ControlNetConfig>& part, DType compute)
      : config(part.config), network(backend), net(network, *part.weights, part.config, compute) {}
  std::uint64_t bytes() const override { return network.bytes(); }

  ControlNetConfig config;
  Network network;
  ControlNet net;
};

// A request's use of a ControlNet, with its picture read and preprocessed.
struct Control {
  std::shared_ptr<ControlNetModel> model;
  ControlNetUse use;
  int type = 0;  // of a Union model: which kind of picture
  Image map;     // RGB
};

// Reads and preprocesses the pictures; models: one a use. Throws Failure naming the field.
std::vector<Control> read_controls(const GenerationSpec& spec,
                                   std::span<const std::shared_ptr<ControlNetModel>> models);

// The ControlNets of one run over a part of a schedule.
class ControlRun {
 public:
  struct Plan {
    std::span<const Control> controls;
    const Conditioning& conditioning;
    PassRows rows;
    LatentShape shape;
    std::span<const float> timesteps;  // one a pass
    ResizeMode resize_mode = ResizeMode::refuse;
    // The nets see only the rows with a prompt, and weigh deep connections more: they count more than the words do.
    bool guess_mode = false;
    Wrap wrap;
  };
  explicit ControlRun(const Plan& plan);

  // Adds what the active nets make of `latents` [R,h,w,4] to the UNet's states in pass `i`.
  void add_to(EncoderStates& unet, std::size_t i, const Tensor& latents) const;

 private:
  struct Prepared {
    ControlNetModel* model = nullptr;
    Tensor picture;  // embedded, [R',h,w,C0]
    std::vector<TimeRows> times;
    std::vector<PromptKeys> prompt;
    std::vector<float> scales;
    std::vector<bool> active;  // one a pass
  };
  std::int64_t rows_ = 0;   // of a pass
  std::int64_t first_ = 0;  // the first row that the nets see
  std::vector<Prepared> prepared_;
};

}  // namespace darkroom::engine
