// One job, from its words to its pictures, in numbered steps.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/pipeline/conditioning.h"
#include "engine/pipeline/controls.h"
#include "engine/pipeline/denoise.h"
#include "engine/pipeline/engine.h"
#include "engine/pipeline/sdxl_model.h"
#include "engine/pipeline/source_pictures.h"
#include "engine/pipeline/stage_clock.h"
#include "engine/pipeline/upscale.h"
#include "engine/weights/embedding.h"

namespace darkroom::engine {

// Everything that a job computes with, held while it runs.
struct JobModels {
  std::shared_ptr<SdxlModel> base;
  std::shared_ptr<SdxlModel> refiner;                         // null: none
  std::shared_ptr<Autoencoder> vae;                           // the job's own, else the base's, else the refiner's
  std::vector<std::shared_ptr<ControlNetModel>> controlnets;  // one a use
  std::shared_ptr<Upscaler> hires_upscaler;                   // null: the second pass's is no network
  std::shared_ptr<Upscaler> upscaler;                         // null: none, or Lanczos
  std::vector<LearnedWord> lora_words;                        // that the LoRAs which the base wears teach
};

// What a job's networks make of its words and its own pictures. Where its pictures are made one by one, they have it in
// common.
struct EncodedInputs {
  std::map<const SdxlModel*, Conditioning> words;  // by the model that reads them
  struct Picture {
    std::vector<float> pixels;  // [8h, 8w, 3] in [−1, 1]
    LatentDistribution latents;
  };
  std::vector<Picture> pictures;
};

class Generation {
 public:
  // All that is given by reference outlives it.
  Generation(const JobModels& models, const GenerationSpec& spec, StageClock& clock, const CancelToken& cancel,
             EncodedInputs& encoded);

  GenerationResult run();
  // The same in three parts, for a job whose first pass is shared: between them somebody denoises first_run().
  void begin();
  Denoising& first_run() { return *first_denoising_; }
  GenerationResult finish();

 private:
  // One model's run over a part of a schedule.
  struct Run {
    SdxlModel& model;
    Conditioning conditioning;
    std::unique_ptr<Scheduler> scheduler;
    int steps = 0;
    StepRange passes;
    LatentShape shape;
  };

  void check() const;
  Guidance guidance() const;
  PassRows rows_for(const SdxlModel& model) const;
  Run start_run(SdxlModel& model, int steps);
  Conditioning conditioning_for(const SdxlModel& model);

  void begin_first_pass();
  void second_pass();
  void refine();
  void decode();
  void upscale_results();
  Denoising denoising_of(const Run& run);
  void denoise_run(const Run& run);

  bool repaints() const;
  std::vector<float> first_noise(const LatentShape& shape);
  std::vector<float> sampled(std::span<const LatentDistribution> distributions, const LatentShape& shape);
  std::vector<float> sample_picture(std::vector<float> pixels, const LatentShape& shape);
  void start_from_picture(Run& run);
  void fill_masked(std::vector<float>& latents, const LatentShape& shape) const;
  Repaint repaint_of(const LatentShape& shape, std::vector<float> original, std::vector<float> noise);
  std::vector<float> enlarged(const LatentShape& from);
  Image decode_one(int picture, const LatentShape& shape);
  LatentShape shape() const;
  int tile_of(const LatentShape& shape) const;
  Wrap wrap() const { return {.x = spec_.tile_x, .y = spec_.tile_y}; }

  const JobModels& models_;
  const GenerationSpec& spec_;
  StageClock& clock_;
  const CancelToken& cancel_;
  std::vector<std::uint64_t> seeds_;
  std::optional<SourcePictures> sources_;
  std::vector<Control> controls_;
  EncodedInputs& encoded_;

  // Where the job stands.
  Size size_;                          // of the pictures that are worked on
  std::optional<PictureNoise> noise_;  // of this size
  std::vector<float> latents_;         // [N, h, w, 4]
  std::optional<Repaint> repaint_;     // of this size
  std::optional<Run> first_run_;
  std::optional<Denoising> first_denoising_;
  GenerationResult result_;
};

}  // namespace darkroom::engine
