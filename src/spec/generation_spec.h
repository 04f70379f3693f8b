// What to make: a request after it was decoded. Defaults and the seed are fixed once, when a request is admitted, and
// the struct then travels unchanged from the edge to the pipeline. Names are diffusers' where diffusers has one.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/enum_names.h"

namespace darkroom {

enum class Precision : std::uint8_t { automatic, float32, bfloat16, int8 };
enum class ImageFormat : std::uint8_t { png, jpeg, webp };
enum class PromptSyntax : std::uint8_t { plain, webui };
enum class ResizeMode : std::uint8_t { refuse, stretch, crop, pad };
enum class MaskPart : std::uint8_t { brightness, transparency };
enum class MaskFill : std::uint8_t { original, surroundings, noise, nothing };
enum class Priority : std::uint8_t { low, normal, high };

constexpr auto enum_names(Precision) {
  using enum Precision;
  return std::to_array<EnumName<Precision>>(
      {{"auto", automatic}, {"float32", float32}, {"bfloat16", bfloat16}, {"int8", int8}});
}
// The first name of a value is the one that is written.
constexpr auto enum_names(ImageFormat) {
  using enum ImageFormat;
  return std::to_array<EnumName<ImageFormat>>({{"png", png}, {"jpeg", jpeg}, {"jpg", jpeg}, {"webp", webp}});
}
constexpr auto enum_names(PromptSyntax) {
  using enum PromptSyntax;
  return std::to_array<EnumName<PromptSyntax>>({{"plain", plain}, {"webui", webui}});
}
constexpr auto enum_names(ResizeMode) {
  using enum ResizeMode;
  return std::to_array<EnumName<ResizeMode>>({{"refuse", refuse}, {"stretch", stretch}, {"crop", crop}, {"pad", pad}});
}
constexpr auto enum_names(MaskPart) {
  using enum MaskPart;
  return std::to_array<EnumName<MaskPart>>({{"brightness", brightness}, {"transparency", transparency}});
}
constexpr auto enum_names(MaskFill) {
  using enum MaskFill;
  return std::to_array<EnumName<MaskFill>>(
      {{"original", original}, {"surroundings", surroundings}, {"noise", noise}, {"nothing", nothing}});
}
constexpr auto enum_names(Priority) {
  using enum Priority;
  return std::to_array<EnumName<Priority>>({{"low", low}, {"normal", normal}, {"high", high}});
}

struct Size {
  int width = 0;   // pixels
  int height = 0;  // pixels
  bool operator==(const Size&) const = default;
};

struct Point {
  int x = 0;  // pixels
  int y = 0;  // pixels
  bool operator==(const Point&) const = default;
};

struct Extent {
  int left = 0, top = 0, right = 0, bottom = 0;  // pixels
  bool any() const { return left > 0 || top > 0 || right > 0 || bottom > 0; }
};

// A picture that a request brings: a file, or its encoded bytes.
struct ImageSource {
  std::string path;   // set, or
  std::string bytes;  // encoded PNG, JPEG or WebP
};

struct LoraUse {
  std::string model;                 // path or name
  float unet_weight = 1.0F;          // −2…2
  float text_encoder_weight = 1.0F;  // −2…2
};

struct Preprocess {
  std::string name;              // canny, scribble, lineart, invert, blur, tile; "": none
  std::vector<float> arguments;  // as in canny:100,200
  int resolution = 0;            // pixels, the shorter side while it works; 0: the picture's own
};

struct ControlNetUse {
  std::string model;
  ImageSource image;
  float scale = 1.0F;  // 0…2
  float start = 0.0F;  // of the schedule, 0…1
  float end = 1.0F;
  std::string type;  // Union models: canny, depth, …
  Preprocess preprocess;
};

// How mask_image is read, and what is done with it.
struct MaskUse {
  MaskPart part = MaskPart::brightness;  // what is white is repainted, or what is transparent
  bool invert = false;
  int blur = 0;                        // pixels, a Gaussian's sigma
  MaskFill fill = MaskFill::original;  // what lies there before the first step
  std::optional<int> margin;           // pixels around the masked part, which alone is then worked on, enlarged to
                                       // the picture's size; absent: the whole picture is
  bool operator==(const MaskUse&) const = default;
};

struct EmbeddingUse {
  std::string token;
  std::string model;
};

// One diffusers config key of a scheduler, its value as JSON text: {"use_karras_sigmas", "true"}.
using SchedulerOption = std::pair<std::string, std::string>;

struct SchedulerChoice {
  std::string name;                      // canonical diffusers class name; "": the model's own
  std::vector<SchedulerOption> options;  // over the model's own configuration
};

// Sizes that SDXL was told in training; absent: from the picture's size. Order here is width, height.
struct MicroConditioning {
  std::optional<Size> original_size;
  Point crop_top_left;
  std::optional<Size> target_size;
  std::optional<Size> negative_original_size;
  std::optional<Point> negative_crop_top_left;
  std::optional<Size> negative_target_size;
  float aesthetic_score = 6.0F;  // refiner
  float negative_aesthetic_score = 2.5F;
};

struct RefinerUse {
  std::string model;
  std::optional<float> switch_at;  // 0…1 of the schedule: the base stops, the refiner goes on from its latents
  std::optional<float> strength;   // 0…1: as image to image after a finished picture
};

// Upscalers that are no models; the latent one is the second pass's alone.
inline constexpr std::string_view kLanczosUpscaler = "lanczos";
inline constexpr std::string_view kLatentUpscaler = "latent";

struct UpscaleUse {
  std::string model;  // path or name, or kLanczosUpscaler
  float factor = 2.0F;
};

struct HiresUse {
  float factor = 2.0F;
  int steps = 0;  // 0: as the first pass
  float strength = 0.7F;
  std::string upscaler{kLatentUpscaler};  // or kLanczosUpscaler, or a model
};

struct FreeU {
  float s1 = 0.9F, s2 = 0.2F, b1 = 1.3F, b2 = 1.4F;
};

struct Variation {
  std::uint64_t seed = 0;  // picture i uses seed + i
  float strength = 0.0F;   // 0…1
};

struct OutputChoice {
  ImageFormat format = ImageFormat::png;
  int quality = 95;  // 1…100, jpeg and webp
  std::string path;  // of the first picture; several get -0, -1, … before the extension
  bool embed_parameters = true;
  int preview_every = 0;  // steps between small pictures in the progress; 0: none
  // The control pictures as preprocessed, beside the pictures: FILE-control-0.png, …
  bool save_control_maps = false;
};

constexpr int kMinVaeTile = 16;  // latents

struct GenerationSpec {
  // Models, by path or name.
  std::string model;  // "": see only_enlarges()
  std::string vae;    // "": the model's own
  std::optional<RefinerUse> refiner;
  std::vector<LoraUse> loras;
  std::vector<ControlNetUse> controlnets;
  bool guess_mode = false;
  std::vector<EmbeddingUse> embeddings;

  // Words.
  std::string prompt;                          // empty only with an init_image
  std::optional<std::string> negative_prompt;  // absent: zero embeddings where the model says so; "" is encoded
  std::optional<std::string> prompt_2;         // second text encoder; absent: prompt
  std::optional<std::string> negative_prompt_2;
  PromptSyntax prompt_syntax = PromptSyntax::plain;
  int clip_skip = 0;  // layers below the penultimate, as in diffusers (0: none)

  // The picture.
  int width = 1024;  // pixels; 0: as init_image, once it is extended
  int height = 1024;
  int batch_size = 1;
  bool batch_parallel = false;  // the batch's pictures share each pass; else one is made after the other
  std::uint64_t seed = 0;       // picture i uses seed + i; with a variation all use it
  MicroConditioning micro_conditioning;

  // Sampling.
  int steps = 25;
  float guidance_scale = 7.5F;
  float guidance_rescale = 0.0F;
  float pag_scale = 0.0F;  // perturbed-attention guidance; 0: off
  SchedulerChoice scheduler;
  std::optional<Variation> variation;
  std::optional<FreeU> freeu;
  bool tile_x = false;  // seamless
  bool tile_y = false;

  // A picture to start from.
  std::optional<ImageSource> init_image;
  std::optional<ImageSource> mask_image;
  MaskUse mask;
  Extent extend;  // outpainting: pixels added around init_image
  ResizeMode resize_mode = ResizeMode::refuse;
  float strength = 0.8F;  // 0…1

  // Afterwards.
  std::optional<HiresUse> hires;
  std::optional<UpscaleUse> upscale;

  // How.
  Precision precision = Precision::automatic;
  Precision vae_precision = Precision::automatic;
  int vae_tile = 0;  // the VAE works on the area of a square of this side, in latents, at least kMinVaeTile; 0: on the
                     // whole, where memory allows
  OutputChoice output;
};

// A picture that is enlarged as it is, which needs no model but the upscaler's.
inline bool only_enlarges(const GenerationSpec& spec) {
  return spec.init_image && spec.strength == 0.0F && spec.upscale && spec.model.empty();
}

// One picture through a preprocessor, whose result is the job's picture; no model takes part. Such a request has one
// ControlNet with a preprocessor and a type, and no model at all.
inline bool only_preprocesses(const GenerationSpec& spec) {
  return spec.model.empty() && spec.controlnets.size() == 1 && spec.controlnets.front().model.empty() &&
         !spec.controlnets.front().preprocess.name.empty();
}

// How the job is to be treated, whatever it makes.
struct JobOptions {
  Priority priority = Priority::normal;
  int timeout = 300;              // seconds from its start
  std::vector<std::string> tags;  // the client's own words, given back in the answer
};

}  // namespace darkroom
