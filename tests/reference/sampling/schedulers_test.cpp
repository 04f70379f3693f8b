// Every scheduler run of the reference: what diffusers 0.40 lays out, draws and computes.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/sampling/scheduler.h"
#include "tests/support/vectors.h"

namespace darkroom::engine {
namespace {

using nlohmann::json;
using test::Vectors;

// VECTORS.md allows 1e-4 relative; float32 in another order of operations stays within this.
constexpr double kTolerance = 1e-5;

const std::vector<json>& cases() {
  static const auto all = json::parse(std::ifstream(std::filesystem::path(DARKROOM_SOURCE_DIR) /
                                                    "tests/reference/vectors/schedulers/cases.json"))
                              .at("cases")
                              .get<std::vector<json>>();
  return all;
}

const Vectors& vectors() {
  static const Vectors all = Vectors::open("schedulers/tensors.safetensors");
  return all;
}

// The noise that diffusers drew, in turn.
class RecordedNoise : public NoiseSource {
 public:
  explicit RecordedNoise(std::span<const float> values) : values_(values) {}
  void fill(std::span<float> batch) override {
    ++draws_;
    if (batch.size() > values_.size()) {
      ADD_FAILURE() << "draw " << draws_ << " is one too many";
      return;
    }
    std::copy_n(values_.begin(), batch.size(), batch.begin());
    values_ = values_.subspan(batch.size());
  }
  int draws() const { return draws_; }

 private:
  std::span<const float> values_;
  int draws_ = 0;
};

// cases.json: model_function.
std::vector<float> model(std::span<const float> input, float timestep) {
  std::vector<float> output;
  for (std::size_t i = 0; i < input.size(); ++i) {
    output.push_back(static_cast<float>(0.7 * std::tanh(static_cast<double>(input[i])) +
                                        0.3 * std::sin(0.01 * timestep + 0.37 * static_cast<double>(i))));
  }
  return output;
}

void expect_near(std::span<const float> actual, std::span<const float> expected, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double scale = 1e-6;
  for (const float x : expected) scale = std::max(scale, std::abs(static_cast<double>(x)));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], kTolerance * scale) << what << ", element " << i;
  }
}

std::unique_ptr<Scheduler> scheduler_of(const json& one) {
  std::vector<SchedulerOption> options;
  if (one.contains("eta")) options.emplace_back("eta", one.at("eta").dump());
  auto scheduler =
      value_or_throw(make_scheduler(one.at("scheduler").get<std::string>(), one.at("config").dump(), options));
  scheduler->set_timesteps(one.at("steps").get<int>());
  return scheduler;
}

class SchedulerReference : public testing::TestWithParam<std::size_t> {
 protected:
  const json& one_ = cases()[GetParam()];
  const std::string id_ = one_.at("id").get<std::string>();
};

TEST_P(SchedulerReference, LaysOutTheSameTimestepsAndSigmas) {
  const auto scheduler = scheduler_of(one_);
  expect_near(scheduler->timesteps(), one_.at("timesteps").get<std::vector<float>>(), "timesteps");
  if (one_.contains("sigmas")) {
    const auto sigmas = one_.at("sigmas").get<std::vector<float>>();
    ASSERT_EQ(scheduler->sigmas().size(), sigmas.size());
    for (std::size_t i = 0; i < sigmas.size(); ++i) {
      EXPECT_NEAR(scheduler->sigmas()[i], sigmas[i], 1e-6 * (1.0 + sigmas[i])) << "sigma " << i;
    }
  }
  const auto init = one_.at("init_noise_sigma").get<double>();
  EXPECT_NEAR(scheduler->init_noise_sigma(), init, 1e-6 * init);
}

TEST_P(SchedulerReference, WalksTheSameTrajectory) {
  const auto scheduler = scheduler_of(one_);
  const test::Vector& trajectory = vectors().get(id_ + ".trajectory");
  const auto width = static_cast<std::size_t>(trajectory.shape.at(1));
  const std::span<const float> states = trajectory.values;
  std::vector<float> recorded;
  if (vectors().has(id_ + ".noise")) recorded = vectors().get(id_ + ".noise").values;
  RecordedNoise noise(recorded);

  std::vector<float> sample(states.begin(), states.begin() + static_cast<std::ptrdiff_t>(width));
  const auto passes = static_cast<int>(scheduler->timesteps().size());
  ASSERT_EQ(states.size(), width * static_cast<std::size_t>(passes + 1));
  for (int i = 0; i < passes; ++i) {
    const auto pass = static_cast<std::size_t>(i);
    std::vector<float> input = sample;
    scheduler->scale_model_input(i, input);
    scheduler->step(i, model(input, scheduler->timesteps()[pass]), sample, noise);
    expect_near(sample, states.subspan((pass + 1) * width, width), "after pass " + std::to_string(i));
    if (HasFatalFailure()) return;
  }
  EXPECT_EQ(noise.draws(), one_.at("stochastic_draws").get<int>());
}

// The cases that have it: those of more than a few steps.
class ImageToImageReference : public SchedulerReference {};

TEST_P(ImageToImageReference, StartsAtTheSamePoint) {
  const auto scheduler = scheduler_of(one_);
  const int first = first_step_for_strength(*scheduler, one_.at("steps").get<int>(), 0.6F);
  EXPECT_EQ(first, one_.at("img2img_start_index").get<int>());
  const test::Vector& x0 = vectors().get(id_ + ".img2img_x0");
  std::vector<float> noised(x0.values.size());
  scheduler->add_noise(x0.values, vectors().get(id_ + ".img2img_noise").values, first, noised);
  expect_near(noised, vectors().get(id_ + ".img2img_noised").values, "noised");
}

std::vector<std::size_t> cases_with(const char* key) {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < cases().size(); ++i) {
    if (cases()[i].contains(key)) found.push_back(i);
  }
  return found;
}

std::string name_of_case(const testing::TestParamInfo<std::size_t>& one) {
  std::string name = cases()[one.param].at("id").get<std::string>();
  std::erase(name, '-');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Diffusers, SchedulerReference, testing::ValuesIn(cases_with("timesteps")), name_of_case);
INSTANTIATE_TEST_SUITE_P(Diffusers, ImageToImageReference, testing::ValuesIn(cases_with("img2img_start_index")),
                         name_of_case);

TEST(SchedulerReferenceCases, AreAllThere) {
  EXPECT_EQ(cases_with("timesteps").size(), 215U);
  EXPECT_EQ(cases_with("img2img_start_index").size(), 137U);
}

}  // namespace
}  // namespace darkroom::engine
