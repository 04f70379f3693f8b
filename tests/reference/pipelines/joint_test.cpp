// Jobs that share passes: each one's pictures are the same bytes as alone, whatever the others are and become.
#include <functional>

#include <gtest/gtest.h>

#include "engine/image/codec.h"
#include "engine/pipeline/engine.h"
#include "tests/support/tiny_models.h"

namespace darkroom::engine {
namespace {

using test::tiny_model;

// Does something at a step; counts them.
class Watch final : public ProgressSink {
 public:
  void stage(std::string_view) override {}
  void step(const StepProgress& progress) override {
    ++steps;
    if (at_step) at_step(progress.step);
  }
  int steps = 0;
  std::function<void(int)> at_step;
};

class Joint : public testing::TestWithParam<Precision> {
 protected:
  static Engine& engine() {
    static Engine shared({.device = "cpu"});
    return shared;
  }
  static GenerationSpec plain(const std::string& prompt, std::uint64_t seed) {
    GenerationSpec spec;
    spec.model = tiny_model("tiny-base");
    spec.prompt = prompt;
    spec.width = 128;
    spec.height = 96;
    spec.steps = 4;
    spec.seed = seed;
    spec.precision = GetParam();
    spec.scheduler.name = "EulerDiscreteScheduler";
    return spec;
  }
  static std::vector<GeneratedPicture> alone(const GenerationSpec& spec) {
    Watch watch;
    const CancelToken never;
    return engine().generate(spec, watch, never).pictures;
  }
  static void expect_equal(const JointOutcome& outcome, const GenerationSpec& spec, const std::string& what) {
    const auto* result = std::get_if<GenerationResult>(&outcome);
    ASSERT_NE(result, nullptr) << what;
    const std::vector<GeneratedPicture> expected = alone(spec);
    ASSERT_EQ(result->pictures.size(), expected.size()) << what;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(result->pictures[i].seed, expected[i].seed) << what;
      EXPECT_TRUE(result->pictures[i].rgb == expected[i].rgb) << what << ", picture " << i;
    }
  }
  static ErrorCode code_of(const JointOutcome& outcome) {
    try {
      std::rethrow_exception(std::get<std::exception_ptr>(outcome));
    } catch (const Failure& failure) {
      return failure.error().code;
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Types, Joint, testing::Values(Precision::float32, Precision::bfloat16));

// All that may differ: words and their number, seeds, guidance, steps, schedulers, negative prompts, pictures to begin
// with, pictures a job.
TEST_P(Joint, EachPictureIsTheSameAsAlone) {
  GenerationSpec a = plain("a red circle", 1);
  GenerationSpec b = plain("a blue square on green ground", 2);
  b.guidance_scale = 9.0F;
  b.guidance_rescale = 0.5F;
  b.negative_prompt = "blurry";
  b.batch_size = 2;
  GenerationSpec c = plain("a lighthouse", 3);
  c.guidance_scale = 1.0F;  // no unguided rows
  c.steps = 7;
  c.scheduler.name = "EulerAncestralDiscreteScheduler";
  GenerationSpec d = plain("", 4);
  d.prompt_syntax = PromptSyntax::webui;
  for (int i = 0; i < 90; ++i) d.prompt += "word ";  // two chunks of tokens
  GenerationSpec e = plain("a lake", 5);
  Image grey(128, 96, 3);
  std::fill(grey.pixels.begin(), grey.pixels.end(), std::uint8_t{90});
  const Bytes png = value_or_throw(encode_png(grey));
  e.init_image = ImageSource{.path = "", .bytes = std::string(reinterpret_cast<const char*>(png.data()), png.size())};
  e.strength = 0.5F;
  e.scheduler.name = "DPM++ 2M Karras";
  GenerationSpec f = plain("a lake", 5);
  f.variation = Variation{.seed = 9, .strength = 0.3F};

  const std::vector<GenerationSpec> specs = {a, b, c, d, e, f};
  const CancelToken never;
  std::vector<Watch> watches(specs.size());
  std::vector<JointJob> jobs;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    EXPECT_TRUE(can_share_passes(specs[0], specs[i])) << i;
    jobs.push_back({.spec = specs[i], .progress = watches[i], .cancel = never});
  }
  const std::vector<JointOutcome> outcomes = engine().generate_together(jobs);
  ASSERT_EQ(outcomes.size(), specs.size());
  for (std::size_t i = 0; i < specs.size(); ++i) expect_equal(outcomes[i], specs[i], "job " + std::to_string(i));
  EXPECT_EQ(watches[0].steps, 4);
  EXPECT_EQ(watches[2].steps, 7);
}

TEST_P(Joint, OneThatIsCancelledOrFailsEndsAlone) {
  const GenerationSpec a = plain("a red circle", 1);
  const GenerationSpec b = plain("a blue square", 2);
  GenerationSpec wrong = plain("a lake", 3);
  wrong.embeddings.push_back({.token = "<x>", .model = "/nowhere.safetensors"});
  const GenerationSpec c = plain("a lighthouse", 4);
  const CancelToken never;
  CancelToken token;
  std::vector<Watch> watches(4);
  watches[0].at_step = [&](int step) {
    if (step == 2) token.cancel(ErrorCode::cancelled);
  };
  const std::vector<JointJob> jobs = {{.spec = a, .progress = watches[0], .cancel = never},
                                      {.spec = b, .progress = watches[1], .cancel = token},
                                      {.spec = wrong, .progress = watches[2], .cancel = never},
                                      {.spec = c, .progress = watches[3], .cancel = never}};
  const std::vector<JointOutcome> outcomes = engine().generate_together(jobs);
  expect_equal(outcomes[0], a, "the first");
  EXPECT_EQ(code_of(outcomes[1]), ErrorCode::cancelled);
  EXPECT_EQ(watches[1].steps, 2);  // within a step
  EXPECT_TRUE(std::holds_alternative<std::exception_ptr>(outcomes[2]));
  expect_equal(outcomes[3], c, "the last");
}

TEST_P(Joint, WhatAPassMustKnowOfOneRowIsNotShared) {
  const GenerationSpec a = plain("a", 1);
  const std::vector<std::function<void(GenerationSpec&)>> changes = {
      [](GenerationSpec& s) { s.width = 256; },
      [](GenerationSpec& s) { s.width = 0; },
      [](GenerationSpec& s) { s.model = "another"; },
      [](GenerationSpec& s) { s.vae = "another"; },
      [](GenerationSpec& s) { s.precision = Precision::int8; },
      [](GenerationSpec& s) { s.tile_x = true; },
      [](GenerationSpec& s) { s.loras.push_back({.model = "l"}); },
      [](GenerationSpec& s) { s.controlnets.emplace_back(); },
      [](GenerationSpec& s) { s.freeu.emplace(); },
      [](GenerationSpec& s) { s.pag_scale = 3.0F; },
      [](GenerationSpec& s) { s.refiner.emplace(); },
      [](GenerationSpec& s) { s.hires.emplace(); },
      [](GenerationSpec& s) { s.upscale.emplace(); },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    GenerationSpec b = a;
    changes[i](b);
    EXPECT_FALSE(can_share_passes(a, b)) << i;
  }
}

}  // namespace
}  // namespace darkroom::engine
