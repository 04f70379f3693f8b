#include "engine/pipeline/guidance.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace darkroom::engine {
namespace {

using testing::ElementsAre;
using testing::FloatNear;

const std::vector<float> kUnguided = {1, 2};
const std::vector<float> kGuided = {3, 1};
const std::vector<float> kPerturbed = {2, 2};

std::vector<float> guided(const Guidance& guidance, const Predictions& predictions) {
  std::vector<float> out(predictions.guided.size());
  guide(guidance, predictions, 1, out);
  return out;
}

TEST(Guide, GoesFromTheUnguidedPredictionPastTheGuided) {
  EXPECT_THAT(guided({.scale = 2}, {kUnguided, kGuided, {}}), ElementsAre(5, 0));
}

TEST(Guide, GoesAwayFromThePerturbedPrediction) {
  EXPECT_THAT(guided({.scale = 1, .pag_scale = 3}, {{}, kGuided, kPerturbed}), ElementsAre(6, -2));
  EXPECT_THAT(guided({.scale = 2, .pag_scale = 3}, {kUnguided, kGuided, kPerturbed}), ElementsAre(8, -3));
}

TEST(Guide, RescalesToThePromptsSpreadAPictureAtATime) {
  // The guided prediction's deviation is √2, the sum's 5/√2: a factor of 0.4, halfway to which is 0.7.
  EXPECT_THAT(guided({.scale = 2, .rescale = 1}, {kUnguided, kGuided, {}}), ElementsAre(FloatNear(2, 1e-6F), 0));
  EXPECT_THAT(guided({.scale = 2, .rescale = 0.5F}, {kUnguided, kGuided, {}}), ElementsAre(FloatNear(3.5F, 1e-6F), 0));
  EXPECT_THAT(guided({.scale = 1, .rescale = 1, .pag_scale = 3}, {{}, kGuided, kPerturbed}), ElementsAre(6, -2));
}

}  // namespace
}  // namespace darkroom::engine
