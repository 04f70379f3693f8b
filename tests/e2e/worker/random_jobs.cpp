#include "tests/e2e/worker/random_jobs.h"

#include <algorithm>
#include <functional>
#include <iterator>

#include <fmt/format.h>

namespace darkroom {
namespace {

using nlohmann::json;
using test::Dice;

struct Feature {
  std::string name;
  std::string group;               // of those in one group a job has at most one; "": in none
  std::vector<std::string> needs;  // other features
  std::function<void(json& data, Dice& dice)> ask;
};

json& at(json& data, const char* pointer) { return data[json::json_pointer(pointer)]; }

double between(Dice& dice, double low, double high) {
  constexpr std::size_t kSteps = 20;
  return low + (high - low) * static_cast<double>(dice.below(kSteps + 1)) / kSteps;
}

json lora(Dice& dice) {
  static const std::vector<std::string> kFiles = {"kohya", "peft", "dora", "loha", "lokr"};
  return {{"name", dice.of(kFiles)},
          {"weight", between(dice, -1.0, 1.5)},
          {"text_encoder_weight", between(dice, -0.5, 1.0)}};
}

json controlnet(Dice& dice, const char* name) {
  static const std::vector<std::string> kPictures = {"inputs/control-a.png", "inputs/control-b.png", "inputs/init.png"};
  json net = {{"model", name},
              {"control_image", dice.of(kPictures)},
              {"conditioning_scale", between(dice, 0.2, 1.5)},
              {"preprocessor", {{"enabled", false}}}};
  if (dice.one_in(3)) net["end"] = 0.7;
  if (dice.one_in(4)) net["start"] = 0.2;
  return net;
}

const std::vector<Feature>& features() {
  static const std::vector<Feature> kFeatures = {
      // Models.
      {"single_file", "base", {}, [](json& d, Dice&) { at(d, "/models/base") = "tiny-base-single-file"; }},
      {"v_prediction", "base", {}, [](json& d, Dice&) { at(d, "/models/base") = "tiny-vpred"; }},
      {"inpaint_model", "base", {}, [](json& d, Dice&) { at(d, "/models/base") = "tiny-inpaint"; }},
      {"refiner",
       "refiner",
       {},
       [](json& d, Dice& dice) {
         at(d, "/models/refiner") = "tiny-refiner";
         at(d, "/refiner/switch_at") = between(dice, 0.6, 0.8);
       }},
      {"refiner_afterwards",
       "refiner",
       {},
       [](json& d, Dice& dice) {
         at(d, "/models/refiner") = "tiny-refiner";
         at(d, "/refiner/strength") = between(dice, 0.3, 0.8);
       }},
      {"vae", "", {}, [](json& d, Dice&) { at(d, "/models/vae") = "tiny-vae-alt"; }},
      {"lora", "lora", {}, [](json& d, Dice& dice) { at(d, "/lora/models") = json::array({lora(dice)}); }},
      {"loras",
       "lora",
       {},
       [](json& d, Dice& dice) {
         at(d, "/lora/models") = json::array({lora(dice), lora(dice), lora(dice)});
       }},
      {"controlnet",
       "controlnet",
       {},
       [](json& d, Dice& dice) {
         d["controlnet"] = json::array({controlnet(dice, dice.one_in(2) ? "tiny-controlnet-a" : "tiny-controlnet-b")});
       }},
      {"controlnets",
       "controlnet",
       {},
       [](json& d, Dice& dice) {
         d["controlnet"] = json::array({controlnet(dice, "tiny-controlnet-a"), controlnet(dice, "tiny-controlnet-b")});
       }},
      {"embedding",
       "",
       {},
       [](json& d, Dice&) {
         d["embeddings"] = json::array({{{"token", "<sks-cat>"}, {"model", "sks-cat"}}});
         d["prompt"] = d["prompt"].get<std::string>() + " with <sks-cat>";
       }},
      // Words.
      {"negative_prompt",
       "",
       {},
       [](json& d, Dice& dice) { d["negative_prompt"] = dice.one_in(3) ? "" : "low quality"; }},
      {"second_prompt", "", {}, [](json& d, Dice&) { d["prompt_2"] = "an astronaut riding a green horse"; }},
      {"webui_syntax",
       "",
       {},
       [](json& d, Dice&) {
         d["prompt_syntax"] = "webui";
         d["prompt"] = "a (red:1.3) [blurred] picture BREAK " + d["prompt"].get<std::string>();
       }},
      {"long_prompt",
       "",
       {},
       [](json& d, Dice&) {
         std::string words = d["prompt"];
         for (int i = 0; i < 90; ++i) words += " mountain";
         d["prompt"] = words;
       }},
      {"clip_skip", "", {}, [](json& d, Dice&) { d["clip_skip"] = 1; }},
      // The picture.
      {"batch", "", {}, [](json& d, Dice& dice) { at(d, "/batch/size") = 2 + dice.below(2); }},
      {"batch_parallel", "", {"batch"}, [](json& d, Dice&) { at(d, "/batch/parallel") = true; }},
      {"micro_conditioning",
       "",
       {},
       [](json& d, Dice& dice) {
         at(d, "/micro_conditioning/original_size") = {{"width", 512}, {"height", 384}};
         at(d, "/micro_conditioning/crop_top_left") = {{"x", dice.below(64)}, {"y", 8}};
         at(d, "/micro_conditioning/negative_target_size") = {{"width", 100}, {"height", 200}};
         at(d, "/micro_conditioning/aesthetic_score") = 7.5;
       }},
      {"variation",
       "",
       {},
       [](json& d, Dice& dice) {
         d["variation"] = {{"seed", dice.below(1000)}, {"strength", between(dice, 0.1, 0.9)}};
       }},
      {"seamless",
       "",
       {},
       [](json& d, Dice& dice) {
         d["tiling"] = {{"x", true}, {"y", dice.one_in(2)}};
       }},
      // Sampling.
      {"scheduler",
       "",
       {},
       [](json& d, Dice& dice) {
         static const std::vector<std::string> kNames = {"DDIMScheduler",
                                                         "DDPMScheduler",
                                                         "DEISMultistepScheduler",
                                                         "DPMSolverMultistepScheduler",
                                                         "DPMSolverSinglestepScheduler",
                                                         "EulerAncestralDiscreteScheduler",
                                                         "HeunDiscreteScheduler",
                                                         "KDPM2AncestralDiscreteScheduler",
                                                         "KDPM2DiscreteScheduler",
                                                         "LCMScheduler",
                                                         "LMSDiscreteScheduler",
                                                         "PNDMScheduler",
                                                         "TCDScheduler",
                                                         "UniPCMultistepScheduler",
                                                         "DPM++ 2M Karras",
                                                         "Euler a"};
         d["scheduler"] = dice.of(kNames);
       }},
      {"scheduler_options",
       "",
       {},
       [](json& d, Dice& dice) {
         if (!d.contains("scheduler")) d["scheduler"] = "EulerDiscreteScheduler";
         d["scheduler_options"] = {{"beta_schedule", dice.one_in(2) ? "linear" : "scaled_linear"}};
       }},
      {"no_guidance", "guidance", {}, [](json& d, Dice&) { at(d, "/hyperparameters/guidance_scale") = 1; }},
      {"guidance_rescale",
       "",
       {},
       [](json& d, Dice& dice) { at(d, "/hyperparameters/guidance_rescale") = between(dice, 0.2, 1.0); }},
      {"perturbed_attention",
       "",
       {},
       [](json& d, Dice& dice) { at(d, "/hyperparameters/pag_scale") = between(dice, 1.0, 4.0); }},
      {"freeu", "", {}, [](json& d, Dice&) { d["freeu"] = json::object(); }},
      {"guess_mode", "", {"controlnet"}, [](json& d, Dice&) { d["guess_mode"] = true; }},
      {"preprocessor",
       "",
       {"controlnets"},
       [](json& d, Dice& dice) {
         static const std::vector<std::string> kNames = {"canny", "scribble", "lineart", "invert", "blur", "tile"};
         for (json& net : d["controlnet"]) {
           net["preprocessor"] = {{"name", dice.of(kNames)}, {"resolution", dice.one_in(2) ? 0 : 96}};
         }
       }},
      {"control_maps", "", {"controlnet"}, [](json& d, Dice&) { at(d, "/output/save_control_maps") = true; }},
      // Pictures to start from.
      {"init_image",
       "",
       {},
       [](json& d, Dice& dice) {
         d["init_image"] = "inputs/init.png";
         at(d, "/hyperparameters/strength") = between(dice, 0.8, 1.0);
       }},
      {"mask",
       "",
       {"init_image"},
       [](json& d, Dice& dice) {
         static const std::vector<std::string> kFills = {"original", "surroundings", "noise", "nothing"};
         d["mask_image"] = "inputs/mask.png";
         at(d, "/mask/fill") = dice.of(kFills);
         at(d, "/mask/invert") = dice.one_in(2);
       }},
      {"mask_blur", "", {"mask"}, [](json& d, Dice& dice) { at(d, "/mask/blur") = 1 + dice.below(12); }},
      {"masked_part", "", {"mask"}, [](json& d, Dice& dice) { at(d, "/mask/margin") = dice.below(32); }},
      {"extend",
       "",
       {"init_image"},
       [](json& d, Dice& dice) {
         d["extend"] = {{"left", 8 * dice.below(4)}, {"bottom", 16}};
       }},
      // Afterwards.
      {"second_pass",
       "hires",
       {},
       [](json& d, Dice& dice) {
         d["hires"] = {{"factor", 1.25}, {"steps", dice.one_in(2) ? 0 : 4}, {"strength", 0.7}};
       }},
      {"second_pass_by_pictures",
       "hires",
       {},
       [](json& d, Dice& dice) {
         d["hires"] = {{"factor", 1.5}, {"strength", 0.6}, {"upscaler", dice.one_in(2) ? "lanczos" : "realesrgan-x2"}};
       }},
      {"lanczos",
       "upscale",
       {},
       [](json& d, Dice&) {
         at(d, "/output/upscale") = {{"method", "lanczos"}, {"factor", 1.5}};
       }},
      {"upscaler",
       "upscale",
       {},
       [](json& d, Dice& dice) {
         static const std::vector<std::string> kFiles = {"realesrgan-x2", "realesrgan-x4", "esrgan-x4"};
         at(d, "/output/upscale") = {{"method", dice.of(kFiles)}, {"factor", 2}};
       }},
      // How.
      {"float32", "precision", {}, [](json& d, Dice&) { at(d, "/precision/dtype") = "float32"; }},
      {"bfloat16", "precision", {}, [](json& d, Dice&) { at(d, "/precision/dtype") = "bfloat16"; }},
      {"int8", "precision", {}, [](json& d, Dice&) { at(d, "/precision/dtype") = "int8"; }},
      {"vae_float32", "", {}, [](json& d, Dice&) { at(d, "/precision/vae_dtype") = "float32"; }},
      {"vae_tiles", "", {}, [](json& d, Dice&) { at(d, "/precision/vae_tile") = 16; }},
      {"jpeg", "format", {}, [](json& d, Dice&) { at(d, "/output/format") = "jpeg"; }},
      {"webp",
       "format",
       {},
       [](json& d, Dice&) {
         at(d, "/output/format") = "webp";
         at(d, "/output/quality") = 100;
       }},
      {"no_parameters", "", {}, [](json& d, Dice&) { at(d, "/output/embed_parameters") = false; }},
      {"previews", "", {}, [](json& d, Dice&) { at(d, "/output/preview_every") = 1; }},
  };
  return kFeatures;
}

std::size_t index_of(const std::string& name) {
  const auto found = std::ranges::find(features(), name, &Feature::name);
  return static_cast<std::size_t>(found - features().begin());
}

}  // namespace

RandomJobs::RandomJobs(std::uint64_t seed, std::set<std::string> without) : dice_(seed), without_(std::move(without)) {
  for (std::size_t a = 0; a < features().size(); ++a) {
    for (std::size_t b = a + 1; b < features().size(); ++b) {
      std::set<std::size_t> both;
      if (add(both, a) && add(both, b)) possible_.insert({a, b});
    }
  }
}

bool RandomJobs::fits(const std::set<std::size_t>& chosen, std::size_t feature) const {
  const Feature& wanted = features()[feature];
  if (without_.contains(wanted.name)) return false;
  return wanted.group.empty() || std::ranges::none_of(chosen, [&](std::size_t other) {
           return other != feature && features()[other].group == wanted.group;
         });
}

bool RandomJobs::add(std::set<std::size_t>& chosen, std::size_t feature) const {
  std::set<std::size_t> more = chosen;
  if (!fits(more, feature)) return false;
  more.insert(feature);
  for (const std::string& need : features()[feature].needs) {
    if (!add(more, index_of(need))) return false;
  }
  chosen = std::move(more);
  return true;
}

std::vector<RandomJobs::Pair> RandomJobs::pairs_of(const std::set<std::size_t>& chosen) {
  std::vector<Pair> pairs;
  for (auto a = chosen.begin(); a != chosen.end(); ++a) {
    for (auto b = std::next(a); b != chosen.end(); ++b) pairs.emplace_back(*a, *b);
  }
  return pairs;
}

std::set<std::size_t> RandomJobs::choose() {
  std::set<std::size_t> chosen;
  // A pair that never met, if there is one, and others as chance will have it.
  std::vector<Pair> open;
  std::ranges::set_difference(possible_, met_, std::back_inserter(open));
  if (!open.empty()) {
    const auto [a, b] = dice_.of(open);
    add(chosen, a);
    add(chosen, b);
  }
  for (std::size_t n = features().size() / 2; n > 0; --n) add(chosen, dice_.below(features().size()));
  return chosen;
}

RandomJob RandomJobs::next() {
  // 1. Of some, the set in which the most pairs meet for the first time; once all did, any.
  constexpr int kTries = 30;
  std::set<std::size_t> chosen;
  std::ptrdiff_t most = -1;
  for (int i = 0; i < kTries; ++i) {
    std::set<std::size_t> candidate = choose();
    const auto fresh =
        std::ranges::count_if(pairs_of(candidate), [&](const Pair& pair) { return !met_.contains(pair); });
    if (fresh <= most) continue;
    most = fresh;
    chosen = std::move(candidate);
  }
  for (const Pair& pair : pairs_of(chosen)) met_.insert(pair);

  // 2. The request.
  static const std::vector<int> kSides = {64, 72, 96, 128};
  static const std::vector<std::string> kPrompts = {"a red circle on a blue background", "a photo of a cat",
                                                    "an oil painting of a harbour"};
  RandomJob job;
  job.data = {{"prompt", dice_.of(kPrompts)},
              {"models", {{"base", "tiny-base"}}},
              {"dimensions", {{"width", dice_.of(kSides)}, {"height", dice_.of(kSides)}}},
              {"hyperparameters", {{"num_inference_steps", 4 + dice_.below(3)}, {"seed", dice_.below(1'000'000)}}},
              {"resize_mode", dice_.one_in(2) ? "stretch" : "crop"}};
  for (const std::size_t feature : chosen) {
    job.features.insert(features()[feature].name);
    features()[feature].ask(job.data, dice_);
  }
  return job;
}

std::vector<std::string> RandomJobs::missing_pairs() const {
  std::vector<Pair> open;
  std::ranges::set_difference(possible_, met_, std::back_inserter(open));
  std::vector<std::string> names;
  for (const auto& [a, b] : open) names.push_back(fmt::format("{} + {}", features()[a].name, features()[b].name));
  return names;
}

std::vector<std::pair<std::string, std::string>> RandomJobs::models() {
  std::vector<std::pair<std::string, std::string>> models = {
      {"tiny-base", "checkpoints/tiny-base"},
      {"tiny-base-single-file", "checkpoints/tiny-base-single-file.safetensors"},
      {"tiny-vpred", "checkpoints/tiny-vpred"},
      {"tiny-inpaint", "checkpoints/tiny-inpaint"},
      {"tiny-refiner", "checkpoints/tiny-refiner"},
      {"tiny-controlnet-a", "controlnets/tiny-controlnet-a"},
      {"tiny-controlnet-b", "controlnets/tiny-controlnet-b"},
      {"tiny-vae-alt", "vaes/tiny-vae-alt"},
      {"embeddings/sks-cat.safetensors", "embeddings/sks-cat.safetensors"},
      {"upscalers/realesrgan-x2-new-keys.safetensors", "upscalers/realesrgan-x2.safetensors"},
      {"upscalers/realesrgan-x4.pth", "upscalers/realesrgan-x4.pth"},
      {"upscalers/esrgan-x4-old-keys.safetensors", "upscalers/esrgan-x4.safetensors"}};
  for (const char* lora : {"kohya", "peft", "dora", "loha", "lokr"}) {
    models.emplace_back(fmt::format("loras/{}.safetensors", lora), fmt::format("loras/{}.safetensors", lora));
  }
  return models;
}

}  // namespace darkroom
