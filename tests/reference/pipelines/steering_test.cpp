// What steers a picture where there is no reference vector: held against an independent way to the same picture.
#include <cmath>
#include <fstream>
#include <functional>
#include <set>

#include <gtest/gtest.h>
#include <unistd.h>

#include "engine/image/codec.h"
#include "engine/image/compare.h"
#include "engine/image/resize.h"
#include "engine/pipeline/engine.h"
#include "engine/weights/weight_file.h"
#include "tests/support/tiny_models.h"
#include "tests/unit/weights/weights_support.h"

namespace darkroom::engine {
namespace {

using test::tiny_model;

class Latents final : public ProgressSink {
 public:
  void stage(std::string_view name) override { stages.emplace_back(name); }
  void step(const StepProgress& progress) override {
    latents.emplace_back(progress.latents.begin(), progress.latents.end());
    steps.push_back(progress.step);
    all_steps = progress.steps;
  }
  std::vector<std::string> stages;
  std::vector<std::vector<float>> latents;
  std::vector<int> steps;
  int all_steps = 0;
};

class Steering : public testing::Test {
 protected:
  static Engine& engine() {
    static Engine shared({.device = "cpu"});
    return shared;
  }

  static GenerationSpec plain() {
    GenerationSpec spec;
    spec.model = tiny_model("tiny-base");
    spec.prompt = "a red circle on a blue background";
    spec.negative_prompt = "blurry";
    spec.width = 128;
    spec.height = 96;
    spec.steps = 4;
    spec.seed = 42;
    spec.precision = Precision::float32;
    spec.scheduler.name = "EulerDiscreteScheduler";
    return spec;
  }

  static GenerationResult run(const GenerationSpec& spec, Latents& progress) {
    const CancelToken never;
    return engine().generate(spec, progress, never);
  }
  static GenerationResult run(const GenerationSpec& spec) {
    Latents unused;
    return run(spec, unused);
  }
  static std::vector<std::uint8_t> pixels(const GenerationSpec& spec) { return run(spec).pictures.at(0).rgb; }

  static Image image_of(const GeneratedPicture& picture) {
    Image image(picture.width, picture.height, 3);
    image.pixels = picture.rgb;
    return image;
  }
  static ImageSource source(const Image& image) {
    const Bytes bytes = value_or_throw(encode_png(image));
    return {.path = "", .bytes = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())};
  }
  // Left half black, right half white.
  static Image half_mask(int width, int height) {
    Image mask(width, height, 1);
    for (int y = 0; y < height; ++y) std::fill(mask.row(y) + width / 2, mask.row(y) + width, std::uint8_t{255});
    return mask;
  }
  static ControlNetUse control(const char* model, float scale = 1.0F) {
    ControlNetUse use;
    use.model = tiny_model(model);
    use.image.path = (test::vectors_dir() / "images/control-a.png").string();
    use.scale = scale;
    return use;
  }
  static std::string failure_of(const GenerationSpec& spec) {
    try {
      run(spec);
    } catch (const Failure& failure) {
      return failure.error().message;
    }
    return "no failure";
  }
};

TEST_F(Steering, ASecondPassEqualsTheSameStepsByHand) {
  GenerationSpec two = plain();
  two.hires = HiresUse{.factor = 1.5F, .steps = 6, .strength = 0.5F, .upscaler = "lanczos"};
  const GenerationResult result = run(two);
  ASSERT_EQ(result.pictures[0].width, 192);
  ASSERT_EQ(result.pictures[0].height, 144);

  const GeneratedPicture small = run(plain()).pictures.at(0);
  GenerationSpec by_hand = plain();
  by_hand.init_image = source(resize(image_of(small), 192, 144));
  by_hand.width = 192;
  by_hand.height = 144;
  by_hand.steps = 6;
  by_hand.strength = 0.5F;
  EXPECT_EQ(pixels(by_hand), result.pictures[0].rgb);
}

TEST_F(Steering, APromptThatIsTooLongIsSaidOnceForAllPasses) {
  GenerationSpec spec = plain();
  for (int i = 0; i < 90; ++i) spec.prompt += " cat";
  spec.hires = HiresUse{.factor = 1.5F, .steps = 0, .strength = 0.5F, .upscaler = "latent"};
  spec.refiner = RefinerUse{.model = tiny_model("tiny-refiner"), .switch_at = 0.75F, .strength = {}};
  EXPECT_EQ(run(spec).warnings.size(), 1U);
}

TEST_F(Steering, ASecondPassAtTheSameSizeOnLatentsIsImageToImageOnThem) {
  GenerationSpec spec = plain();
  spec.hires = HiresUse{.factor = 1.0F, .steps = 0, .strength = 0.0F, .upscaler = "latent"};
  EXPECT_EQ(pixels(spec), pixels(plain()));
  spec.hires->strength = 0.5F;
  Latents progress;
  run(spec, progress);
  EXPECT_EQ(progress.latents.size(), 4U + 2U);
}

TEST_F(Steering, ARefinerAfterAFinishedPictureIsImageToImageOnItsLatents) {
  Latents progress;
  GenerationSpec spec = plain();
  spec.refiner = RefinerUse{.model = tiny_model("tiny-refiner"), .switch_at = {}, .strength = 0.5F};
  const std::vector<std::uint8_t> refined = run(spec, progress).pictures.at(0).rgb;
  EXPECT_EQ(progress.latents.size(), 4U + 2U);
  EXPECT_NE(refined, pixels(plain()));
  spec.refiner->strength = 0.0F;
  EXPECT_EQ(pixels(spec), pixels(plain()));
}

TEST_F(Steering, WhatTheMaskLeavesKeepsItsLatents) {
  Latents progress;
  GenerationSpec spec = plain();
  spec.init_image = source(image_of(run(plain()).pictures.at(0)));
  spec.mask_image = source(half_mask(128, 96));
  spec.prompt = "something else";
  spec.strength = 0.9F;
  run(spec, progress);
  // At the schedule's end the kept half is the picture's own latents, whatever the prompt.
  Latents other;
  spec.prompt = "a green triangle";
  run(spec, other);
  const std::vector<float>& a = progress.latents.back();
  const std::vector<float>& b = other.latents.back();
  bool right_differs = false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const bool left = i / 4 % 16 < 8;
    if (left) {
      ASSERT_EQ(a[i], b[i]);
    } else {
      right_differs = right_differs || a[i] != b[i];
    }
  }
  EXPECT_TRUE(right_differs);
}

TEST_F(Steering, AMaskMayBeInvertedTransparentOrBlurred) {
  GenerationSpec spec = plain();
  spec.init_image = source(Image(128, 96, 3));
  spec.mask_image = source(half_mask(128, 96));
  const std::vector<std::uint8_t> right = pixels(spec);
  Image other_half = half_mask(128, 96);
  for (std::uint8_t& value : other_half.pixels) value = static_cast<std::uint8_t>(255 - value);
  spec.mask_image = source(other_half);
  spec.mask.invert = true;
  EXPECT_EQ(pixels(spec), right);

  Image see_through(128, 96, 4);  // its right half is not there
  for (int y = 0; y < 96; ++y) {
    for (int x = 0; x < 64; ++x) see_through.row(y)[4 * x + 3] = 255;
  }
  spec.mask_image = source(see_through);
  spec.mask = {.part = MaskPart::transparency};
  EXPECT_EQ(pixels(spec), right);
  spec.mask.blur = 8;
  EXPECT_NE(pixels(spec), right);
}

TEST_F(Steering, WhatIsRepaintedMayBeginWithOtherThings) {
  GenerationSpec spec = plain();
  Image colours(128, 96, 3);
  for (std::size_t i = 0; i < colours.pixels.size(); ++i) colours.pixels[i] = static_cast<std::uint8_t>(i * 7 % 251);
  spec.init_image = source(colours);
  spec.mask_image = source(half_mask(128, 96));
  std::set<std::vector<std::uint8_t>> different;
  for (const MaskFill fill : {MaskFill::original, MaskFill::surroundings, MaskFill::noise, MaskFill::nothing}) {
    spec.mask.fill = fill;
    different.insert(pixels(spec));
  }
  EXPECT_EQ(different.size(), 4U);
}

TEST_F(Steering, TheMaskedPartAloneIsPaintedLargeAndPutBack) {
  GenerationSpec spec = plain();
  Image wide(512, 384, 3);
  std::ranges::fill(wide.pixels, std::uint8_t{90});
  Image spot(512, 384, 1);
  for (int y = 200; y < 250; ++y) std::fill(spot.row(y) + 300, spot.row(y) + 360, std::uint8_t{255});
  spec.init_image = source(wide);
  spec.mask_image = source(spot);
  spec.mask.margin = 16;
  const Image got = image_of(run(spec).pictures.at(0));
  ASSERT_EQ(got.width, 512);
  ASSERT_EQ(got.height, 384);
  bool changed = false;
  for (int y = 0; y < 384; ++y) {
    for (int x = 0; x < 512; ++x) {
      const bool masked = spot.row(y)[x] != 0;
      if (!masked) {
        ASSERT_EQ(got.row(y)[3 * x], 90) << x << ", " << y;
      }
      changed = changed || (masked && got.row(y)[3 * x] != 90);
    }
  }
  EXPECT_TRUE(changed);
  spec.mask_image = source(Image(512, 384, 1));
  EXPECT_NE(failure_of(spec).find("nothing in it is masked"), std::string::npos);
}

TEST_F(Steering, APictureIsEnlargedWithoutAModel) {
  GenerationSpec spec;
  spec.prompt = "";
  spec.init_image = source(half_mask(40, 30));
  spec.strength = 0.0F;
  spec.upscale = UpscaleUse{.model = "lanczos", .factor = 2.0F};
  const GeneratedPicture large = run(spec).pictures.at(0);
  EXPECT_EQ(large.width, 80);
  EXPECT_EQ(large.height, 60);
}

TEST_F(Steering, ExtendingEqualsAPictureAndMaskExtendedByHand) {
  const Image small = image_of(run(plain()).pictures.at(0));  // 128x96
  GenerationSpec spec = plain();
  spec.init_image = source(small);
  spec.extend = {.left = 0, .top = 0, .right = 64, .bottom = 0};
  spec.width = 192;
  spec.strength = 1.0F;

  GenerationSpec by_hand = plain();
  Image wide(192, 96, 3);
  Image mask(192, 96, 1);
  for (int y = 0; y < 96; ++y) {
    std::copy_n(small.row(y), 128 * 3, wide.row(y));
    for (int x = 128; x < 192; ++x) {
      std::copy_n(small.row(y) + 127 * 3, 3, wide.row(y) + x * 3);
      mask.row(y)[x] = 255;
    }
  }
  by_hand.init_image = source(wide);
  by_hand.mask_image = source(mask);
  by_hand.width = 192;
  by_hand.strength = 1.0F;
  EXPECT_EQ(pixels(spec), pixels(by_hand));
}

TEST_F(Steering, AnInpaintingModelWithoutAPicturePaintsAllOfIt) {
  GenerationSpec spec = plain();
  spec.model = tiny_model("tiny-inpaint");
  const std::vector<std::uint8_t> words_alone = pixels(spec);
  // The same as repainting the whole of any picture.
  spec.init_image = source(Image(128, 96, 3));
  Image everything(128, 96, 1);
  std::ranges::fill(everything.pixels, std::uint8_t{255});
  spec.mask_image = source(everything);
  spec.strength = 1.0F;
  EXPECT_EQ(pixels(spec), words_alone);
}

TEST_F(Steering, AVariationGoesFromOneNoiseToTheOther) {
  GenerationSpec spec = plain();
  spec.variation = Variation{.seed = 7, .strength = 0.0F};
  EXPECT_EQ(pixels(spec), pixels(plain()));
  spec.variation->strength = 0.3F;
  EXPECT_NE(pixels(spec), pixels(plain()));
  GenerationSpec other = plain();
  other.seed = 7;
  spec.variation->strength = 1.0F;
  EXPECT_GT(psnr(image_of(run(spec).pictures.at(0)), image_of(run(other).pictures.at(0))), 50.0);
}

TEST_F(Steering, VariationsOfABatchShareTheSeed) {
  GenerationSpec spec = plain();
  spec.batch_size = 2;
  spec.batch_parallel = true;
  spec.variation = Variation{.seed = 7, .strength = 0.3F};
  const GenerationResult both = run(spec);
  EXPECT_EQ(both.pictures[0].seed, 42U);
  EXPECT_EQ(both.pictures[1].seed, 42U);
  spec.batch_size = 1;
  spec.variation->seed = 8;
  EXPECT_EQ(pixels(spec), both.pictures[1].rgb);
}

TEST_F(Steering, ABatchIsMadeOneByOneOrTogether) {
  GenerationSpec spec = plain();
  spec.batch_size = 3;
  Latents one_by_one, together;
  const GenerationResult apart = run(spec, one_by_one);
  spec.batch_parallel = true;
  const GenerationResult at_once = run(spec, together);
  ASSERT_EQ(apart.pictures.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(apart.pictures[i].rgb, at_once.pictures[i].rgb) << i;
    EXPECT_EQ(apart.pictures[i].seed, 42U + i);
  }
  EXPECT_EQ(one_by_one.steps, (std::vector{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
  EXPECT_EQ(one_by_one.all_steps, 12);
  EXPECT_EQ(together.steps, (std::vector{1, 2, 3, 4}));
  ASSERT_EQ(apart.stages.size(), at_once.stages.size());
  for (std::size_t i = 0; i < apart.stages.size(); ++i) EXPECT_EQ(apart.stages[i].name, at_once.stages[i].name);
}

TEST_F(Steering, AControlNetOfScaleZeroOrOutsideItsPartOfTheScheduleDoesNothing) {
  GenerationSpec spec = plain();
  spec.width = spec.height = 128;
  const std::vector<std::uint8_t> without = pixels(spec);
  spec.controlnets = {control("tiny-controlnet-a", 0.0F)};
  EXPECT_EQ(pixels(spec), without);
  spec.controlnets = {control("tiny-controlnet-a")};
  spec.controlnets[0].start = 0.9F;
  EXPECT_EQ(pixels(spec), without);
  spec.controlnets[0].start = 0.0F;
  EXPECT_NE(pixels(spec), without);
}

TEST_F(Steering, GuessModeLeavesTheRowsWithoutAPromptAlone) {
  // At guidance 1 there are no such rows, and guess mode only weighs the connections.
  GenerationSpec spec = plain();
  spec.width = spec.height = 128;
  spec.controlnets = {control("tiny-controlnet-a")};
  const std::vector<std::uint8_t> both = pixels(spec);
  spec.guess_mode = true;
  EXPECT_NE(pixels(spec), both);
  spec.guidance_scale = 1.0F;
  const std::vector<std::uint8_t> weighed = pixels(spec);
  spec.guess_mode = false;
  EXPECT_NE(pixels(spec), weighed);
}

TEST_F(Steering, PerturbedAttentionActsWithAndWithoutGuidance) {
  for (const float guidance_scale : {1.0F, 7.5F}) {
    GenerationSpec spec = plain();
    spec.guidance_scale = guidance_scale;
    const std::vector<std::uint8_t> without = pixels(spec);
    spec.pag_scale = 3.0F;
    EXPECT_NE(pixels(spec), without) << guidance_scale;
  }
}

TEST_F(Steering, FreeUWithFactorsOfOneIsNothing) {
  GenerationSpec spec = plain();
  spec.freeu = FreeU{.s1 = 1.0F, .s2 = 1.0F, .b1 = 1.0F, .b2 = 1.0F};
  EXPECT_LE(max_difference(image_of(run(spec).pictures.at(0)), image_of(run(plain()).pictures.at(0))), 1);
  spec.freeu = FreeU{};
  EXPECT_NE(pixels(spec), pixels(plain()));
}

TEST_F(Steering, SeveralVectorsForOneWordReachBothEncoders) {
  GenerationSpec spec = plain();
  spec.prompt = "a <sks-cat> on a chair";
  const std::vector<std::uint8_t> as_text = pixels(spec);
  spec.embeddings = {
      {.token = "<sks-cat>", .model = (test::vectors_dir() / "embeddings/sks-cat.safetensors").string()}};
  EXPECT_NE(pixels(spec), as_text);
  spec.prompt_syntax = PromptSyntax::webui;
  EXPECT_NE(pixels(spec), as_text);
}

TEST_F(Steering, AWordThatALoraBringsIsTheSameAsAnEmbedding) {
  const auto embedding = test::vectors_dir() / "embeddings/sks-cat.safetensors";
  const WeightFile lora = value_or_throw(open_weight_file(test::vectors_dir() / "loras/kohya.safetensors"));
  const WeightFile vectors = value_or_throw(open_weight_file(embedding));
  std::vector<HostTensor> tensors;
  for (const std::string& name : lora.weights->names()) tensors.push_back(*lora.weights->find(name));
  for (const std::string& name : vectors.weights->names()) {
    tensors.push_back(*vectors.weights->find(name));
    tensors.back().name = "bundle_emb.sks-cat." + name;
  }
  const test::TemporaryFolder folder;
  const std::string bundle = (folder / "bundle.safetensors").string();
  EXPECT_TRUE(write_safetensors(bundle, tensors));

  GenerationSpec apart = plain();
  apart.prompt = "a sks-cat on a chair";
  apart.loras = {{.model = (test::vectors_dir() / "loras/kohya.safetensors").string()}};
  const std::vector<std::uint8_t> as_text = pixels(apart);
  apart.embeddings = {{.token = "sks-cat", .model = embedding.string()}};
  GenerationSpec bundled = apart;
  bundled.embeddings.clear();
  bundled.loras.front().model = bundle;
  const GenerationResult result = run(bundled);
  EXPECT_EQ(result.pictures.at(0).rgb, pixels(apart));
  EXPECT_NE(result.pictures.at(0).rgb, as_text);
  EXPECT_EQ(result.loaded_loras, std::vector<std::string>{"bundle: 734 of 734 tensors; its words: sks-cat"});
  EXPECT_TRUE(result.warnings.empty());

  // The request's own word of that name counts, and that is said.
  bundled.embeddings = {{.token = "SKS-cat", .model = embedding.string()}};
  const GenerationResult both = run(bundled);
  EXPECT_EQ(both.pictures.at(0).rgb, result.pictures.at(0).rgb);
  EXPECT_EQ(both.warnings,
            std::vector<std::string>{"a LoRA's word 'sks-cat' has no effect: another of that name counts"});
}

TEST_F(Steering, APeftFolderIsTheSameAsDiffusersFile) {
  const auto path = test::vectors_dir() / "loras/peft.safetensors";
  const WeightFile file = value_or_throw(open_weight_file(path));
  const test::TemporaryFolder folder;
  for (const std::string network : {"unet", "text_encoder", "text_encoder_2"}) {
    std::vector<HostTensor> tensors;
    for (const std::string& name : file.weights->names()) {
      if (!name.starts_with(network + ".")) continue;
      tensors.push_back(*file.weights->find(name));
      tensors.back().name = "base_model.model." + name.substr(network.size() + 1);
    }
    std::filesystem::create_directories(folder / network);
    EXPECT_TRUE(write_safetensors(folder / network / "adapter_model.safetensors", tensors));
    std::ofstream(folder / network / "adapter_config.json") << R"({"peft_type": "LORA", "r": 4, "lora_alpha": 4})";
  }
  GenerationSpec spec = plain();
  spec.loras = {{.model = path.string()}};
  const std::vector<std::uint8_t> expected = pixels(spec);
  EXPECT_NE(expected, pixels(plain()));
  spec.loras = {{.model = folder.path().string()}};
  EXPECT_EQ(pixels(spec), expected);
  // Each network's folder alone, at once.
  spec.loras.clear();
  for (const char* network : {"unet", "text_encoder", "text_encoder_2"}) {
    spec.loras.push_back({.model = (folder / network).string()});
  }
  EXPECT_EQ(pixels(spec), expected);
}

TEST_F(Steering, EverythingAtOnceWorksAndIsTheSameAloneAndInABatch) {
  GenerationSpec spec = plain();
  spec.width = spec.height = 128;
  spec.init_image = ImageSource{.path = (test::vectors_dir() / "images/init.png").string(), .bytes = ""};
  spec.mask_image = ImageSource{.path = (test::vectors_dir() / "images/mask.png").string(), .bytes = ""};
  spec.strength = 0.7F;
  spec.controlnets = {control("tiny-controlnet-a", 0.6F), control("tiny-controlnet-b", 0.4F)};
  spec.refiner = RefinerUse{.model = tiny_model("tiny-refiner"), .switch_at = 0.75F, .strength = {}};
  spec.vae = tiny_model("tiny-vae-alt");
  spec.embeddings = {
      {.token = "<sks-cat>", .model = (test::vectors_dir() / "embeddings/sks-cat.safetensors").string()}};
  spec.loras = {{.model = (test::vectors_dir() / "loras/kohya.safetensors").string(), .unet_weight = 0.8F},
                {.model = (test::vectors_dir() / "loras/lokr.safetensors").string(), .unet_weight = -0.5F}};
  spec.prompt = "a (<sks-cat>:1.2) on a chair";
  spec.prompt_syntax = PromptSyntax::webui;
  spec.pag_scale = 2.0F;
  spec.guidance_rescale = 0.5F;
  spec.freeu = FreeU{};
  spec.tile_x = true;
  spec.hires = HiresUse{.factor = 1.5F, .steps = 4, .strength = 0.6F, .upscaler = "lanczos"};
  spec.upscale = UpscaleUse{.model = (test::vectors_dir() / "upscalers/realesrgan-x2-new-keys.safetensors").string(),
                            .factor = 2.0F};
  spec.scheduler.name = "EulerAncestralDiscreteScheduler";
  spec.batch_size = 2;
  spec.batch_parallel = true;
  const GenerationResult both = run(spec);
  ASSERT_EQ(both.pictures.size(), 2U);
  EXPECT_EQ(both.pictures[1].width, 384);
  EXPECT_EQ(both.control_maps.size(), 2U);
  EXPECT_EQ(both.loaded_loras.size(), 2U);
  spec.batch_size = 1;
  spec.seed += 1;
  const std::vector<std::uint8_t> alone = pixels(spec);
  EXPECT_EQ(alone, both.pictures[1].rgb);

  // Each of them is in it.
  const auto changes = [&](const char* what, const std::function<void(GenerationSpec&)>& without) {
    GenerationSpec less = spec;
    without(less);
    EXPECT_NE(pixels(less), alone) << what;
  };
  changes("the second LoRA", [](GenerationSpec& less) { less.loras.pop_back(); });
  changes("the second ControlNet", [](GenerationSpec& less) { less.controlnets.pop_back(); });
  changes("the refiner", [](GenerationSpec& less) { less.refiner.reset(); });
  changes("the VAE", [](GenerationSpec& less) { less.vae.clear(); });
  changes("the embedding", [](GenerationSpec& less) { less.embeddings.clear(); });
  changes("perturbed attention", [](GenerationSpec& less) { less.pag_scale = 0.0F; });
  changes("guidance rescale", [](GenerationSpec& less) { less.guidance_rescale = 0.0F; });
  changes("FreeU", [](GenerationSpec& less) { less.freeu.reset(); });
  changes("edges that meet", [](GenerationSpec& less) { less.tile_x = false; });
  changes("the mask", [](GenerationSpec& less) { less.mask_image.reset(); });
}

TEST_F(Steering, ARefinerThatNoStepIsLeftForSaysSo) {
  GenerationSpec spec = plain();
  spec.scheduler.name = "LCMScheduler";
  const std::vector<std::uint8_t> base_alone = pixels(spec);
  spec.refiner = RefinerUse{.model = tiny_model("tiny-refiner"), .switch_at = 0.99F, .strength = {}};
  const GenerationResult result = run(spec);
  EXPECT_EQ(result.pictures.at(0).rgb, base_alone);
  EXPECT_EQ(result.warnings,
            std::vector<std::string>{"refiner: none of the 4 steps is left after switch_at 0.99, the base did all"});
  spec.refiner->switch_at = 0.0F;
  EXPECT_EQ(failure_of(spec), "refiner: switch_at 0 leaves the base none of its 4 steps");
}

TEST_F(Steering, BadValuesAreNamed) {
  GenerationSpec spec = plain();
  spec.init_image = source(Image(64, 64, 3));
  EXPECT_EQ(failure_of(spec),
            "init_image has 64x64 pixels, the picture is to have 128x96; resize_mode stretch, crop or pad resizes it");
  spec.resize_mode = ResizeMode::pad;
  spec.strength = 0.1F;
  EXPECT_EQ(failure_of(spec), "strength: 0.1 of 4 steps leaves none to do");
  spec.init_image->bytes = "not a picture";
  EXPECT_EQ(failure_of(spec).substr(0, 10), "init_image");

  GenerationSpec refiner_alone = plain();
  refiner_alone.model = tiny_model("tiny-refiner");
  EXPECT_NE(failure_of(refiner_alone).find("makes no picture from words alone"), std::string::npos);

  // Every pass's schedule is looked at before the first begins.
  GenerationSpec few = plain();
  few.scheduler.name = "PNDMScheduler";
  few.steps = 5;
  few.hires = HiresUse{.factor = 1.5F, .steps = 3};
  few.controlnets = {control("tiny-controlnet-a")};
  few.controlnets[0].image.bytes = "not a picture";
  EXPECT_EQ(failure_of(few), "hires/steps: 3 is less than 4, which the Runge-Kutta start takes");

  GenerationSpec wrong_net = plain();
  wrong_net.controlnets = {control("tiny-controlnet-a")};
  wrong_net.controlnets[0].model = tiny_model("tiny-vae-alt");
  EXPECT_NE(failure_of(wrong_net), "no failure");
}

TEST_F(Steering, ModelsThatAJobHoldsStayInAFullCache) {
  Engine small({.device = "cpu", .threads = 0, .cache_bytes = 1});
  GenerationSpec spec = plain();
  spec.vae = tiny_model("tiny-vae-alt");
  spec.refiner = RefinerUse{.model = tiny_model("tiny-refiner"), .switch_at = 0.5F, .strength = {}};
  Latents progress;
  const CancelToken never;
  EXPECT_EQ(small.generate(spec, progress, never).pictures.at(0).rgb, pixels(spec));
  small.generate(plain(), progress, never);
  EXPECT_EQ(small.loaded().size(), 1U);
}

}  // namespace
}  // namespace darkroom::engine
