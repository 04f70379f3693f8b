// A scheduler turns noise predictions into a picture, step by step. One instance is the state of one job; what it was
// made from (scheduler_config.h) does not change. It works on host floats, the whole batch in one span, any layout.
// Twins of diffusers 0.40, src/diffusers/schedulers: the arithmetic keeps its order and its mix of float and double.
//
//   scheduler->set_timesteps(25);
//   for (i in steps_between(…)) {
//     input = copy of sample;  scheduler->scale_model_input(i, input);
//     scheduler->step(i, unet(input, scheduler->timesteps()[i]), sample, noise);
//   }
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/sampling/noise_source.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

class Scheduler {
 public:
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;
  virtual ~Scheduler() = default;

  // Lays out `steps` steps and forgets earlier ones. Failure invalid_argument outside 1…num_train_timesteps().
  void set_timesteps(int steps);

  // What the UNet is told, one entry a UNet pass: solvers of order 2, and PNDM, have more passes than steps.
  std::span<const float> timesteps() const { return timesteps_; }
  // The noise level before each pass, and after the last; empty where the solver works on timesteps.
  std::span<const float> sigmas() const { return sigmas_; }
  // What standard normal noise is multiplied by to become the first sample.
  float init_noise_sigma() const { return init_noise_sigma_; }
  // UNet passes a step.
  int order() const { return order_; }
  int num_train_timesteps() const { return num_train_timesteps_; }

  // In all of these, i is an index into timesteps().

  // The sample as the UNet expects it; for many solvers it stays as it is.
  virtual void scale_model_input(int i, std::span<float> sample) const;
  // From the sample before pass i to the one after it. Passes follow each other; the first may be any.
  virtual void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource& noise) = 0;
  // Clean latents as they are before pass i: the start of image to image, and the kept part of inpainting.
  virtual void add_noise(std::span<const float> original, std::span<const float> noise, int i,
                         std::span<float> out) const = 0;

 protected:
  Scheduler(int num_train_timesteps, int order) : order_(order), num_train_timesteps_(num_train_timesteps) {}

  // Fills timesteps_, sigmas_ and init_noise_sigma_, and drops what earlier steps left behind.
  virtual void lay_out(int steps) = 0;

  std::vector<float> timesteps_;
  std::vector<float> sigmas_;
  float init_noise_sigma_ = 1.0F;

 private:
  int order_;
  int num_train_timesteps_;
};

// `model_config_json`: the text of the model's scheduler_config.json, "" or "{}" for none; keys that the class does not
// have are another class's and are passed over. `options` go over it and must be known. `class_name` is diffusers'.
// Error invalid_argument names everything that is wrong, each with what is allowed.
Result<std::unique_ptr<Scheduler>> make_scheduler(std::string_view class_name, std::string_view model_config_json,
                                                  std::span<const SchedulerOption> options);

// The first pass of image to image: strength 1 begins at pass 0, strength 0 skips all.
int first_step_for_strength(const Scheduler& scheduler, int steps, float strength);

struct StepRange {
  int first = 0;  // pass
  int last = 0;   // one past the last pass
};

// The passes between two points of the schedule (0…1), as a refiner takes over at one: SDXL's denoising_start and
// denoising_end. Absent: from the first, to the last.
StepRange steps_between(const Scheduler& scheduler, std::optional<float> start, std::optional<float> end);

}  // namespace darkroom::engine
