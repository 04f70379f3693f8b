#include "engine/pipeline/denoise.h"

#include <algorithm>
#include <utility>

namespace darkroom::engine {
namespace {

// The UNet's input for all rows of a pass, [R, h, w, C]: the same latents for each kind of row and, for a UNet of 9
// channels, the mask and the latents of what it leaves.
std::vector<float> input_rows(std::span<const float> latents, const DenoisePlan& plan, std::int64_t channels) {
  const auto width = static_cast<std::size_t>(plan.shape.channels);
  const std::size_t pixels = plan.shape.each() / width;
  std::vector<float> rows;
  rows.reserve(static_cast<std::size_t>(plan.rows.kinds()) * latents.size() / width *
               static_cast<std::size_t>(channels));
  for (int kind = 0; kind < plan.rows.kinds(); ++kind) {
    if (channels == plan.shape.channels) {
      rows.insert(rows.end(), latents.begin(), latents.end());
      continue;
    }
    const std::vector<float>& masked = plan.repaint->masked;
    for (std::size_t i = 0; i < latents.size(); i += width) {
      const auto at = static_cast<std::ptrdiff_t>(i);
      const auto end = static_cast<std::ptrdiff_t>(i + width);
      rows.insert(rows.end(), latents.begin() + at, latents.begin() + end);
      rows.push_back(plan.repaint->mask[i / width % pixels]);
      rows.insert(rows.end(), masked.begin() + at, masked.begin() + end);
    }
  }
  return rows;
}

// Guides what the UNet predicted for all rows [R, h, w, 4] into the prediction for each picture [N, h, w, 4].
void guide_rows(const DenoisePlan& plan, std::vector<float>& predicted) {
  const std::size_t size = plan.shape.elements();
  const std::span<const float> all(predicted);
  Predictions predictions;
  std::size_t at = 0;
  const auto take = [&] {
    at += size;
    return all.subspan(at - size, size);
  };
  if (plan.rows.unguided) predictions.unguided = take();
  predictions.guided = take();
  if (plan.rows.perturbed) predictions.perturbed = take();
  guide(plan.guidance, predictions, plan.shape.pictures, std::span(predicted).first(size));
  predicted.resize(size);
}

// Puts back what is not repainted, at the level of noise that pass `next` begins with; clean at the schedule's end.
void keep_original(const DenoisePlan& plan, int next, std::vector<float>& latents) {
  const Repaint& repaint = *plan.repaint;
  std::vector<float> kept = repaint.original;
  const auto passes = static_cast<int>(plan.scheduler.timesteps().size());
  if (next < passes) plan.scheduler.add_noise(repaint.original, repaint.noise, next, kept);
  const auto channels = static_cast<std::size_t>(plan.shape.channels);
  for (std::size_t i = 0; i < latents.size(); ++i) {
    const float mask = repaint.mask[i / channels % repaint.mask.size()];
    latents[i] = (1.0F - mask) * kept[i] + mask * latents[i];
  }
}

std::span<const float> timesteps_of(const DenoisePlan& plan) {
  return plan.scheduler.timesteps().subspan(static_cast<std::size_t>(plan.passes.first),
                                            static_cast<std::size_t>(plan.passes.last - plan.passes.first));
}

std::vector<float> predict(SdxlModel& model, const Denoising::Pass& pass) {
  return to_host(model.unet_network->finite(
      "unet", [&] { return (*model.unet)(pass.latents, pass.time, pass.prompt, pass.call); }));
}

// --- Several jobs ---

// A job's pass, and where it lies among the others'.
struct Member {
  JointRun* run = nullptr;
  Denoising::Pass pass;
};

bool fit_together(const Denoising::Pass& a, const Denoising::Pass& b) {
  const Tensor& keys = a.prompt.front().k;
  const Tensor& others = b.prompt.front().k;
  return a.latents.dim(1) == b.latents.dim(1) && a.latents.dim(2) == b.latents.dim(2) && keys.dim(1) == others.dim(1);
}

// The rows of all, one member's behind the other's. `of`: the member's tensor.
template <class Of>
Tensor joined(std::span<const Member> members, const Of& of) {
  std::vector<Tensor> parts;
  for (const Member& member : members) parts.push_back(of(member));
  return concat_batch(parts);
}

// The words of those that share passes stay the same until one of them ends.
class JointPrompt {
 public:
  std::span<const PromptKeys> of(std::span<const Member> members) {
    std::vector<const JointRun*> runs;
    for (const Member& member : members) runs.push_back(member.run);
    if (runs == runs_) return keys_;
    keys_.clear();
    for (std::size_t layer = 0; layer < members.front().pass.prompt.size(); ++layer) {
      keys_.push_back({.k = joined(members, [&](const Member& m) { return m.pass.prompt[layer].k; }),
                       .v = joined(members, [&](const Member& m) { return m.pass.prompt[layer].v; })});
    }
    runs_ = std::move(runs);
    return keys_;
  }

 private:
  std::vector<const JointRun*> runs_;
  std::vector<PromptKeys> keys_;
};

// What the UNet predicts for each member. A pass that fails says not whose fault it is: nothing then, and each is
// tried alone.
std::optional<std::vector<std::vector<float>>> predict_together(SdxlModel& model, std::span<const Member> members,
                                                                JointPrompt& prompt) {
  std::vector<float> all;
  const auto failure = failure_of([&] {
    all = predict(model, {.latents = joined(members, [](const Member& m) { return m.pass.latents; }),
                          .time = {joined(members, [](const Member& m) { return m.pass.time.projected; })},
                          .prompt = prompt.of(members),
                          .call = {}});
  });
  if (failure) return std::nullopt;
  std::int64_t rows = 0;
  for (const Member& member : members) rows += member.pass.latents.dim(0);
  const std::size_t row = all.size() / static_cast<std::size_t>(rows);
  std::vector<std::vector<float>> predictions;
  auto at = all.begin();
  for (const Member& member : members) {
    const auto end = at + member.pass.latents.dim(0) * static_cast<std::ptrdiff_t>(row);
    predictions.emplace_back(at, end);
    at = end;
  }
  return predictions;
}

}  // namespace

Denoising::Denoising(SdxlModel& model, const DenoisePlan& plan, std::vector<float>& latents, NoiseSource& noise,
                     ProgressSink& progress, const CancelToken& cancel)
    : model_(model),
      plan_(plan),
      latents_(latents),
      noise_(noise),
      progress_(progress),
      cancel_(cancel),
      passes_(plan.passes.last - plan.passes.first),
      prompt_(model.unet->prompt_keys(plan.conditioning.context)),
      times_(model.unet->time_rows({.timesteps = timesteps_of(plan),
                                    .pooled = plan.conditioning.pooled,
                                    .time_ids = plan.conditioning.time_ids,
                                    .guidance_scale = plan.guidance.scale})),
      controls_({.controls = plan.controls,
                 .conditioning = plan.conditioning,
                 .rows = plan.rows,
                 .shape = plan.shape,
                 .timesteps = timesteps_of(plan),
                 .resize_mode = plan.resize_mode,
                 .guess_mode = plan.guess_mode,
                 .wrap = model.unet_network->wrap}) {}

Denoising::Pass Denoising::begin_pass() {
  cancel_.throw_if_cancelled();
  Backend& backend = model_.unet_network->backend();
  const std::int64_t channels = model_.unet->config().in_channels;
  const auto shape_of = [&](std::int64_t width) {
    return Shape{plan_.rows.count(), plan_.shape.height, plan_.shape.width, width};
  };
  std::vector<float> input = latents_;
  plan_.scheduler.scale_model_input(plan_.passes.first + done_, input);
  Tensor rows = from_host(backend, input_rows(input, plan_, channels), shape_of(channels));
  std::function<void(EncoderStates&)> control;
  if (!plan_.controls.empty()) {
    // A ControlNet looks at latents alone, also where the UNet takes a mask beside them.
    Tensor plain = channels == plan_.shape.channels ? rows
                                                    : from_host(backend, input_rows(input, plan_, plan_.shape.channels),
                                                                shape_of(plan_.shape.channels));
    control = [this, plain = std::move(plain)](EncoderStates& states) {
      cancel_.throw_if_cancelled();
      controls_.add_to(states, static_cast<std::size_t>(done_), plain);
      cancel_.throw_if_cancelled();
    };
  }
  return {.latents = std::move(rows),
          .time = times_[static_cast<std::size_t>(done_)],
          .prompt = prompt_,
          .call = {.control = std::move(control),
                   .perturbed = plan_.rows.perturbed ? plan_.rows.pictures : 0,
                   .freeu = plan_.freeu}};
}

void Denoising::end_pass(std::vector<float> prediction) {
  if (plan_.rows.kinds() > 1) guide_rows(plan_, prediction);
  const int pass = plan_.passes.first + done_;
  plan_.scheduler.step(pass, prediction, latents_, noise_);
  if (plan_.repaint != nullptr && !plan_.repaint->original.empty()) keep_original(plan_, pass + 1, latents_);
  ++done_;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  progress_.step({.step = done_,
                  .steps = passes_,
                  .picture_count = plan_.shape.pictures,
                  .seconds_per_step = seconds / done_,
                  .latents = latents_,
                  .latent_height = plan_.shape.height,
                  .latent_width = plan_.shape.width});
}

void denoise(SdxlModel& model, Denoising& run) {
  while (!run.done()) run.end_pass(predict(model, run.begin_pass()));
}

void denoise_together(SdxlModel& model, std::span<JointRun> runs) {
  std::vector<JointPrompt> prompts(runs.size());  // one a group
  while (true) {
    std::vector<std::vector<Member>> groups;
    for (JointRun& run : runs) {
      if (run.failed || run.denoising->done()) continue;
      run.failed = failure_of([&] {
        Member member{.run = &run, .pass = run.denoising->begin_pass()};
        const auto group = std::ranges::find_if(
            groups, [&](const std::vector<Member>& one) { return fit_together(one.front().pass, member.pass); });
        if (group == groups.end()) {
          groups.emplace_back().push_back(std::move(member));
        } else {
          group->push_back(std::move(member));
        }
      });
    }
    if (groups.empty()) return;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      std::optional<std::vector<std::vector<float>>> predictions;
      if (groups[i].size() > 1) predictions = predict_together(model, groups[i], prompts[i]);
      for (std::size_t j = 0; j < groups[i].size(); ++j) {
        const Member& member = groups[i][j];
        member.run->failed = failure_of([&] {
          member.run->denoising->end_pass(predictions ? std::move((*predictions)[j]) : predict(model, member.pass));
        });
      }
    }
  }
}

}  // namespace darkroom::engine
