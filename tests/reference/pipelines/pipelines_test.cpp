// Whole runs against diffusers' (tests/reference/VECTORS.md): in float32 every pixel within 2 of 255, from the folder
// and from the single file alike.
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/image/codec.h"
#include "engine/image/compare.h"
#include "engine/pipeline/engine.h"
#include "engine/weights/safetensors.h"
#include "tests/support/tiny_models.h"
#include "tests/support/vectors.h"
#include "tests/unit/weights/weights_support.h"

namespace darkroom::engine {
namespace {

using nlohmann::json;
using test::tiny_model;

std::filesystem::path case_file(const std::string& name) { return test::vectors_dir() / "pipelines" / name; }

// diffusers' order is height, width.
Size size_from(const json& pair) { return {.width = pair.at(1).get<int>(), .height = pair.at(0).get<int>()}; }

GenerationSpec spec_of(const std::string& name) {
  std::ifstream file(case_file(name + ".json"));
  const json request = json::parse(file);
  GenerationSpec spec;
  spec.model = tiny_model(request.at("model"));
  spec.prompt = request.at("prompt");
  if (request.contains("negative_prompt")) spec.negative_prompt = request.at("negative_prompt");
  if (request.contains("prompt_2")) spec.prompt_2 = request.at("prompt_2");
  if (request.value("prompt_syntax", "plain") == "webui") spec.prompt_syntax = PromptSyntax::webui;
  spec.width = request.at("width");
  spec.height = request.at("height");
  spec.steps = request.at("steps");
  spec.guidance_scale = request.at("guidance_scale");
  spec.guidance_rescale = request.value("guidance_rescale", 0.0F);
  spec.clip_skip = request.value("clip_skip", 0);
  spec.seed = request.at("seed");
  spec.batch_size = request.at("batch");
  spec.batch_parallel = true;  // diffusers does all at once
  spec.precision = Precision::float32;
  spec.scheduler.name = request.at("scheduler");
  const json config = request.value("scheduler_config", json::object());
  for (const auto& [key, value] : config.items()) spec.scheduler.options.emplace_back(key, value.dump());
  for (const json& lora : request.value("loras", json::array())) {
    spec.loras.push_back({.model = test::vectors_dir() / lora.at("file"),
                          .unet_weight = lora.at("weight"),
                          .text_encoder_weight = lora.at("weight")});
  }
  MicroConditioning& micro = spec.micro_conditioning;
  if (request.contains("original_size")) micro.original_size = size_from(request.at("original_size"));
  if (request.contains("target_size")) micro.target_size = size_from(request.at("target_size"));
  if (request.contains("crops_coords_top_left")) {
    micro.crop_top_left = {.x = request.at("crops_coords_top_left").at(1),
                           .y = request.at("crops_coords_top_left").at(0)};
  }
  const auto vector_file = [](const json& path) { return (test::vectors_dir() / path.get<std::string>()).string(); };
  if (request.contains("init_image")) {
    spec.init_image = ImageSource{.path = vector_file(request.at("init_image")), .bytes = ""};
    spec.strength = request.at("strength");
  }
  if (request.contains("mask_image")) {
    spec.mask_image = ImageSource{.path = vector_file(request.at("mask_image")), .bytes = ""};
  }
  for (const json& net : request.value("controlnets", json::array())) {
    ControlNetUse& use = spec.controlnets.emplace_back();
    use.model = tiny_model(net.at("model"));
    use.image.path = vector_file(net.at("image"));
    use.scale = net.value("scale", 1.0F);
    use.start = net.value("start", 0.0F);
    use.end = net.value("end", 1.0F);
  }
  if (request.contains("vae")) spec.vae = tiny_model(request.at("vae"));
  if (request.contains("refiner")) {
    spec.refiner = RefinerUse{
        .model = tiny_model(request.at("refiner")), .switch_at = request.at("refiner_switch"), .strength = {}};
  }
  for (const json& embedding : request.value("embeddings", json::array())) {
    spec.embeddings.push_back({.token = embedding.at("token"), .model = vector_file(embedding.at("file"))});
  }
  return spec;
}

Image picture_of(const std::string& file_name) {
  std::ifstream file(case_file(file_name), std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  const std::string text = bytes.str();
  return to_rgb(value_or_throw(decode_image(std::as_bytes(std::span(text)))));
}

Image as_image(const GeneratedPicture& picture) {
  Image image(picture.width, picture.height, 3);
  image.pixels = picture.rgb;
  return image;
}

class Silent final : public ProgressSink {
 public:
  void stage(std::string_view) override {}
  void step(const StepProgress& progress) override {
    latents.emplace_back(progress.latents.begin(), progress.latents.end());
  }
  std::vector<std::vector<float>> latents;
};

// One engine for all cases, so that each model is laid out once a process.
Engine& engine() {
  static Engine shared({.device = "cpu"});
  return shared;
}

GenerationResult run(const GenerationSpec& spec, Silent& progress) {
  const CancelToken never;
  return engine().generate(spec, progress, never);
}

struct CaseName {
  std::string name;
  bool single_file = false;
};

void PrintTo(const CaseName& c, std::ostream* out) { *out << c.name; }

class Pipelines : public testing::TestWithParam<CaseName> {};

TEST_P(Pipelines, MakeThePicturesThatDiffusersMakes) {
  const auto& [name, single_file] = GetParam();
  GenerationSpec spec = spec_of(name);
  if (single_file) spec.model = tiny_model("tiny-base-single-file");
  Silent progress;
  const GenerationResult result = run(spec, progress);

  const test::Vectors vectors = test::Vectors::open("pipelines/" + name + ".safetensors");
  const test::Vector& wanted = vectors.get("step_latents");  // [steps, N, C, h, w]
  // Of a run with a refiner the vectors have the refiner's steps.
  ASSERT_EQ(static_cast<std::int64_t>(progress.latents.size()), spec.refiner ? spec.steps : wanted.shape[0]);
  progress.latents.erase(progress.latents.begin(), progress.latents.end() - wanted.shape[0]);
  const auto pixels = static_cast<std::size_t>(wanted.shape[3] * wanted.shape[4]);
  const auto each = 4 * pixels;
  for (std::size_t step = 0; step < progress.latents.size(); ++step) {
    const std::vector<float>& got = progress.latents[step];
    double worst = 0;
    double largest = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const std::size_t picture = i / each, pixel = i % each / 4, channel = i % 4;
      const float want = wanted.values[step * got.size() + picture * each + channel * pixels + pixel];
      worst = std::max(worst, static_cast<double>(std::abs(got[i] - want)));
      largest = std::max(largest, static_cast<double>(std::abs(want)));
    }
    EXPECT_LT(worst, 5e-3 * largest) << "latents after step " << step;
  }
  ASSERT_EQ(static_cast<int>(result.pictures.size()), spec.batch_size);
  for (std::size_t i = 0; i < result.pictures.size(); ++i) {
    EXPECT_LE(max_difference(as_image(result.pictures[i]), picture_of(name + "-" + std::to_string(i) + ".png")), 2);
    EXPECT_EQ(result.pictures[i].seed, spec.seed + i);
  }
}

constexpr const char* kCases[] = {
    "txt2img-no-negative",
    "txt2img-empty-negative",
    "txt2img-negative",
    "txt2img-batch3",
    "txt2img-cfg1",
    "txt2img-wide",
    "txt2img-odd-latent",
    "sched-dpmpp2m",
    "sched-dpmpp2m-karras",
    "sched-sde-karras",
    "sched-euler-ancestral",
    "sched-ddim",
    "sched-unipc",
    "sched-heun",
    "sched-kdpm2",
    "sched-kdpm2-ancestral",
    "sched-lms",
    "sched-pndm",
    "sched-singlestep",
    "micro-conditioning",
    "v-prediction-ztsnr",
    "lcm-4",
    "guidance-rescale",
    "clip-skip-1",
    "prompt-weights",
    "prompt-long",
    "img2img-0.6",
    "img2img-0.3-dpmpp2m-karras",
    "inpaint-0.8",
    "inpaint-9ch",
    "controlnet",
    "controlnet-multi",
    "controlnet-end-0.5",
    "custom-vae",
    "refiner-0.8",
    "textual-inversion",
    "lora-kohya",
    "lora-peft",
    "lora-two",
    "lora-dora",
    "lora-loha",
    "lora-lokr",
};

std::vector<CaseName> all_cases() {
  std::vector<CaseName> cases;
  for (const char* name : kCases) {
    cases.push_back({name});
    const bool has_single_file =
        std::string_view(name) != "v-prediction-ztsnr" && std::string_view(name) != "inpaint-9ch";
    if (has_single_file) cases.push_back({name, true});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Diffusers, Pipelines, testing::ValuesIn(all_cases()), [](const auto& test) {
  std::string name = test.param.name + (test.param.single_file ? "_single_file" : "_folder");
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
});

TEST(Bfloat16, StaysWithin30DecibelsOfFloat32OverEightSteps) {
  for (const char* name : {"txt2img-negative", "txt2img-odd-latent", "sched-dpmpp2m-karras", "sched-euler-ancestral"}) {
    GenerationSpec spec = spec_of(name);
    Silent progress;
    const GenerationResult exact = run(spec, progress);
    spec.precision = Precision::bfloat16;
    const GenerationResult fast = run(spec, progress);
    const double decibels = psnr(as_image(exact.pictures[0]), as_image(fast.pictures[0]));
    EXPECT_GE(decibels, 30.0) << name;
  }
}

TEST(Int8, StaysNearFloat32OrIsRefused) {
  // A trained model: the tiny ones' random weights have outliers that no real layer has.
  GenerationSpec spec;
  spec.model = (test::source_dir() / "demo/model").string();
  spec.prompt = "a sunset over snowy mountains and a lake with a sailboat";
  spec.width = spec.height = 256;
  spec.steps = 6;
  spec.guidance_scale = 5.0F;
  spec.seed = 1;
  spec.batch_size = 4;
  spec.scheduler.name = "DPM++ 2M Karras";
  spec.precision = Precision::float32;
  Silent progress;
  const GenerationResult exact = run(spec, progress);
  spec.precision = Precision::int8;
  try {
    const GenerationResult fast = run(spec, progress);
    EXPECT_EQ(fast.compute_type, "int8");
    // Of several: one picture's is up to 3 dB another with other instructions, or another type between the layers.
    double sum = 0;
    for (std::size_t i = 0; i < exact.pictures.size(); ++i) {
      sum += psnr(as_image(exact.pictures[i]), as_image(fast.pictures[i]));
    }
    EXPECT_GE(sum / static_cast<double>(exact.pictures.size()), 35.0);
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.error().code, ErrorCode::unsupported);
  }
}

TEST(Batch, EachPictureIsTheSameBytesAsAlone) {
  GenerationSpec spec = spec_of("txt2img-batch3");
  Silent progress;
  const GenerationResult together = run(spec, progress);
  spec.batch_size = 1;
  for (std::size_t i = 0; i < together.pictures.size(); ++i) {
    spec.seed = together.pictures[i].seed;
    EXPECT_EQ(run(spec, progress).pictures[0].rgb, together.pictures[i].rgb) << "picture " << i;
  }
}

TEST(Cancel, EndsTheJobBeforeTheNextStep) {
  class CancelAtStep2 final : public ProgressSink {
   public:
    explicit CancelAtStep2(CancelToken& token) : token_(token) {}
    void stage(std::string_view) override {}
    void step(const StepProgress& progress) override {
      last = progress.step;
      if (progress.step == 2) token_.cancel(ErrorCode::cancelled);
    }
    int last = 0;

   private:
    CancelToken& token_;
  };
  CancelToken token;
  CancelAtStep2 progress(token);
  try {
    engine().generate(spec_of("txt2img-cfg1"), progress, token);
    FAIL() << "was not cancelled";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.error().code, ErrorCode::cancelled);
  }
  EXPECT_EQ(progress.last, 2);
}

// All that a job computes: its latents after every step and its picture.
struct Made {
  std::vector<std::vector<float>> latents;
  std::vector<std::uint8_t> rgb;
  bool operator==(const Made&) const = default;
};

Made make(const GenerationSpec& spec) {
  Silent progress;
  GenerationResult result = run(spec, progress);
  return {std::move(progress.latents), std::move(result.pictures.at(0).rgb)};
}

TEST(Lora, ComesOffWithoutATraceAndBackOnAsTheSameBytes) {
  for (const Precision precision : {Precision::float32, Precision::bfloat16}) {
    GenerationSpec a = spec_of("lora-kohya"), b = spec_of("lora-dora"), none = a;
    none.loras.clear();
    for (GenerationSpec* spec : {&a, &b, &none}) {
      spec->precision = precision;
      spec->steps = 1;
    }
    const Made without = make(none), with_a = make(a), with_b = make(b);
    EXPECT_NE(with_a.latents, without.latents);
    EXPECT_NE(with_b.latents, with_a.latents);
    EXPECT_EQ(make(a), with_a);
    EXPECT_EQ(make(none), without);
    EXPECT_EQ(make(b), with_b);
  }
}

TEST(Lora, TellsWhatItAppliedAndWhatHasNoPlace) {
  GenerationSpec spec = spec_of("lora-two");
  spec.steps = 1;
  Silent progress;
  const GenerationResult result = run(spec, progress);
  EXPECT_EQ(result.loaded_loras, (std::vector<std::string>{"kohya: 732 of 732 tensors", "peft: 468 of 468 tensors"}));
  EXPECT_TRUE(result.warnings.empty());
}

// The same tensors with B·A·weight added in double, as float32, where the LoRA has A and B for them.
void merge_on_disk(const std::filesystem::path& file, const std::string& prefix, const test::Vectors& lora,
                   double weight) {
  const SafetensorsFile from = value_or_throw(SafetensorsFile::open(file));
  std::vector<HostTensor> merged;
  for (HostTensor tensor : from.tensors()) {
    const auto values = std::make_shared<std::vector<float>>(static_cast<std::size_t>(tensor.elements()));
    to_float(tensor.dtype, tensor.data, values->data(), values->size());
    const std::string layer = prefix + tensor.name.substr(0, tensor.name.rfind('.'));
    if (tensor.name.ends_with(".weight") && lora.has(layer + ".lora_A.weight")) {
      const test::Vector& a = lora.get(layer + ".lora_A.weight");  // [r, I·taps]
      const test::Vector& b = lora.get(layer + ".lora_B.weight");  // [O, r]
      const auto rank = static_cast<std::size_t>(a.shape[0]);
      const std::size_t columns = a.values.size() / rank;
      for (std::size_t i = 0; i < values->size(); ++i) {
        double sum = 0;
        for (std::size_t k = 0; k < rank; ++k) {
          sum += static_cast<double>(b.values[i / columns * rank + k]) * a.values[k * columns + i % columns];
        }
        (*values)[i] = static_cast<float>((*values)[i] + weight * sum);
      }
    }
    tensor.dtype = DType::f32;
    tensor.data = reinterpret_cast<const std::byte*>(values->data());
    tensor.owner = values;
    merged.push_back(std::move(tensor));
  }
  const std::filesystem::path out = file.parent_path() / "merged";
  EXPECT_TRUE(write_safetensors(out, merged));
  std::filesystem::rename(out, file);
}

TEST(Lora, EqualsACheckpointMergedOnTheDisk) {
  namespace fs = std::filesystem;
  const test::TemporaryFolder temporary;
  const fs::path model = temporary / "merged";
  GenerationSpec spec = spec_of("lora-peft");
  fs::copy(spec.model, model, fs::copy_options::recursive);
  const test::Vectors lora = test::Vectors::open("loras/peft.safetensors");
  merge_on_disk(model / "unet" / "diffusion_pytorch_model.safetensors", "unet.", lora, spec.loras[0].unet_weight);
  for (const std::string part : {"text_encoder", "text_encoder_2"}) {
    merge_on_disk(model / part / "model.safetensors", part + ".", lora, spec.loras[0].text_encoder_weight);
  }
  Silent progress;
  const GenerationResult worn = run(spec, progress);
  spec.loras.clear();
  spec.model = model;
  const GenerationResult merged = run(spec, progress);
  EXPECT_LE(max_difference(as_image(worn.pictures[0]), as_image(merged.pictures[0])), 1);
}

}  // namespace
}  // namespace darkroom::engine
