// Single passes of each network against diffusers' (tests/reference/VECTORS.md): within 1e-4 of the output's standard
// deviation at every element, on the fast backend and on the plain one.
#include <algorithm>
#include <cmath>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/ref/ref_backend.h"
#include "engine/models/clip_text.h"
#include "engine/models/controlnet.h"
#include "engine/models/unet.h"
#include "engine/models/vae.h"
#include "engine/weights/checkpoint.h"
#include "tests/reference/models/states.h"
#include "tests/support/tiny_models.h"
#include "tests/support/vectors.h"

namespace darkroom::engine {
namespace {

using darkroom::test::tiny_model;
using darkroom::test::Vectors;

// [N, C, H, W] ↔ [N, H, W, C]
Tensor channels_last(Backend& backend, const test::Vector& v) {
  const std::int64_t n = v.shape[0], c = v.shape[1], pixels = v.shape[2] * v.shape[3];
  std::vector<float> out(v.values.size());
  for (std::int64_t b = 0; b < n; ++b) {
    for (std::int64_t p = 0; p < pixels; ++p) {
      for (std::int64_t k = 0; k < c; ++k) {
        out[static_cast<std::size_t>((b * pixels + p) * c + k)] =
            v.values[static_cast<std::size_t>((b * c + k) * pixels + p)];
      }
    }
  }
  return from_host(backend, out, {n, v.shape[2], v.shape[3], c});
}

std::vector<float> channels_first(const Tensor& x) {
  const std::vector<float> in = to_host(x);
  const std::int64_t n = x.dim(0), c = x.dim(3), pixels = x.dim(1) * x.dim(2);
  std::vector<float> out(in.size());
  for (std::int64_t b = 0; b < n; ++b) {
    for (std::int64_t p = 0; p < pixels; ++p) {
      for (std::int64_t k = 0; k < c; ++k) {
        out[static_cast<std::size_t>((b * c + k) * pixels + p)] =
            in[static_cast<std::size_t>((b * pixels + p) * c + k)];
      }
    }
  }
  return out;
}

Tensor dense(Backend& backend, const test::Vector& v) {
  return from_host(backend, v.values, Shape(std::span<const std::int64_t>(v.shape)));
}

void expect_close(const std::vector<float>& got, const test::Vector& want, double tolerance = 1e-4) {
  ASSERT_EQ(got.size(), want.values.size());
  double mean = 0;
  double squares = 0;
  for (const float x : want.values) mean += x / static_cast<double>(want.values.size());
  for (const float x : want.values) squares += (x - mean) * (x - mean) / static_cast<double>(want.values.size());
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::isfinite(got[i])) << "element " << i;
    worst = std::max(worst, static_cast<double>(std::abs(got[i] - want.values[i])));
  }
  EXPECT_LT(worst, tolerance * std::sqrt(squares));
}

std::unique_ptr<Backend> make_backend(const std::string& name) {
  return name == "ref" ? make_ref_backend() : make_cpu_backend();
}

class Modules : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend_ = make_backend(GetParam());
  Network network_{*backend_};
  Vectors vectors_ = Vectors::open("modules/tiny-base.safetensors");

  static Checkpoint checkpoint(const std::string& name) { return value_or_throw(open_checkpoint(tiny_model(name))); }

  template <class Model>
  std::vector<TimeRows> rows(const Model& model, const float& t, const std::string& prefix) {
    return model.time_rows({.timesteps = std::span(&t, 1),
                            .pooled = dense(*backend_, vectors_.get(prefix + "pooled")),
                            .time_ids = vectors_.get(prefix + "time_ids").values});
  }

  float timestep(const std::string& name) { return vectors_.get(name).values.at(0); }
};

TEST_P(Modules, TextEncodersGivePenultimateStatesAndTheProjectedPool) {
  std::ifstream file(std::string(DARKROOM_SOURCE_DIR) + "/tests/reference/vectors/tokenizer/cases.json");
  const auto cases = nlohmann::json::parse(file);
  const Checkpoint model = checkpoint("tiny-base");
  ClipTextEncoder l(network_, *model.text_encoder->weights, model.text_encoder->config, DType::f32);
  ClipTextEncoder g(network_, *model.text_encoder_2.weights, model.text_encoder_2.config, DType::f32);
  for (int i = 0; i < 4; ++i) {
    SCOPED_TRACE(i);
    const std::string prefix = fmt::format("text.{}.", i);
    const auto ids_l = cases.at(static_cast<std::size_t>(i)).at("padded_77_l").get<std::vector<int>>();
    const auto ids_g = cases.at(static_cast<std::size_t>(i)).at("padded_77_g").get<std::vector<int>>();
    expect_close(to_host(l(ids_l, 1, 0).hidden_states), vectors_.get(prefix + "l_penultimate"));
    const ClipTextOutput out = g(ids_g, 1, 0);
    expect_close(to_host(out.hidden_states), vectors_.get(prefix + "g_penultimate"));
    expect_close(to_host(out.pooled), vectors_.get(prefix + "g_pooled_projected"));
  }
}

TEST_P(Modules, UnetPredictsWhatDiffusersPredicts) {
  const Checkpoint model = checkpoint("tiny-base");
  const Unet unet(network_, *model.unet.weights, model.unet.config, DType::f32);
  for (const std::string name : {"square", "wide", "late"}) {
    SCOPED_TRACE(name);
    const std::string prefix = "unet." + name + ".";
    const auto prompt = unet.prompt_keys(dense(*backend_, vectors_.get(prefix + "context")));
    const float t = timestep(prefix + "timestep");
    const auto time = rows(unet, t, prefix);
    const Tensor out = unet(channels_last(*backend_, vectors_.get(prefix + "sample")), time[0], prompt);
    expect_close(channels_first(out), vectors_.get(prefix + "out"));
  }
}

TEST_P(Modules, SingleFileCheckpointIsTheSameUnet) {
  const Checkpoint model = checkpoint("tiny-base-single-file");
  const Unet unet(network_, *model.unet.weights, model.unet.config, DType::f32);
  const auto prompt = unet.prompt_keys(dense(*backend_, vectors_.get("unet.wide.context")));
  const float t = timestep("unet.wide.timestep");
  const auto time = rows(unet, t, "unet.wide.");
  const Tensor out = unet(channels_last(*backend_, vectors_.get("unet.wide.sample")), time[0], prompt);
  expect_close(channels_first(out), vectors_.get("unet.wide.out"));
}

TEST_P(Modules, RefinerUnetPredictsWhatDiffusersPredicts) {
  const Checkpoint model = checkpoint("tiny-refiner");
  const Unet unet(network_, *model.unet.weights, model.unet.config, DType::f32);
  const auto prompt = unet.prompt_keys(dense(*backend_, vectors_.get("refiner.context")));
  const float t = 200;
  const auto time = rows(unet, t, "refiner.");
  const Tensor out = unet(channels_last(*backend_, vectors_.get("refiner.sample")), time[0], prompt);
  expect_close(channels_first(out), vectors_.get("refiner.out"));
}

TEST_P(Modules, ControlNetAddsWhatDiffusersAdds) {
  const Checkpoint model = checkpoint("tiny-base");
  const Unet unet(network_, *model.unet.weights, model.unet.config, DType::f32);
  const auto part = value_or_throw(open_controlnet(tiny_model("tiny-controlnet-a")));
  const ControlNet control(network_, *part.weights, part.config, DType::f32);
  for (const std::string name : {"square", "wide", "late"}) {
    SCOPED_TRACE(name);
    const std::string unet_prefix = "unet." + name + ".";
    const std::string prefix = "controlnet." + name + ".";
    const Tensor context = dense(*backend_, vectors_.get(unet_prefix + "context"));
    const float t = timestep(unet_prefix + "timestep");
    const Tensor sample = channels_last(*backend_, vectors_.get(unet_prefix + "sample"));
    const Tensor picture = control.embed(channels_last(*backend_, vectors_.get(prefix + "cond")));
    const std::vector<float> scales(control.scale_count(), 1.0F);
    const auto time = rows(control, t, unet_prefix);
    const auto prompt = control.prompt_keys(context);
    const ControlPass pass{.latents = sample, .picture = picture, .time = time[0], .prompt = prompt, .scales = scales};
    EncoderStates sum = test::zero_states(*backend_, model.unet.config, sample.dim(0), sample.dim(1), sample.dim(2));
    control.add_to(sum, 0, pass);
    for (std::size_t i = 0; i < sum.skips.size(); ++i) {
      SCOPED_TRACE(i);
      expect_close(channels_first(sum.skips[i]), vectors_.get(prefix + "down." + std::to_string(i)));
    }
    expect_close(channels_first(sum.middle), vectors_.get(prefix + "mid"));
    const auto add = [&](EncoderStates& of_unet) { control.add_to(of_unet, 0, pass); };
    const Tensor out = unet(sample, rows(unet, t, unet_prefix)[0], unet.prompt_keys(context), {.control = add});
    expect_close(channels_first(out), vectors_.get(prefix + "unet_out"));
  }
}

TEST_P(Modules, VaeDecodesAndEncodesAsDiffusers) {
  const Checkpoint model = checkpoint("tiny-base");
  const VaeDecoder decoder(network_, *model.vae->weights, model.vae->config, DType::f32);
  const VaeEncoder encoder(network_, *model.vae->weights, model.vae->config, DType::f32);
  for (const std::string name : {"square", "wide"}) {
    SCOPED_TRACE(name);
    const std::string prefix = "vae." + name + ".";
    expect_close(channels_first(decoder(channels_last(*backend_, vectors_.get(prefix + "latent")))),
                 vectors_.get(prefix + "decoded"));
    const Tensor moments = encoder(channels_last(*backend_, vectors_.get(prefix + "image")));
    expect_close(channels_first(convert(moments.slice_channels(0, 4), DType::f32)), vectors_.get(prefix + "mean"));
    expect_close(channels_first(convert(moments.slice_channels(4, 4), DType::f32)), vectors_.get(prefix + "logvar"));
  }
}

TEST_P(Modules, NonFiniteResultsNameTheLayer) {
  const Checkpoint model = checkpoint("tiny-base");
  const VaeDecoder decoder(network_, *model.vae->weights, model.vae->config, DType::f32);
  std::vector<float> values(4 * 8 * 8, 0.0F);
  values[5] = INFINITY;
  const Tensor latents = from_host(*backend_, values, {1, 8, 8, 4});
  try {
    network_.finite("vae decoder", [&] { return decoder(latents); });
    FAIL() << "infinity passed";
  } catch (const Failure& failure) {
    EXPECT_NE(failure.error().message.find("post_quant_conv"), std::string::npos) << failure.error().message;
  }
}

TEST(Loader, RefusesATensorOfAnotherShapeWithItsPathBothShapesAndTheFile) {
  const auto backend = make_ref_backend();
  Network network(*backend);
  const Checkpoint model = value_or_throw(open_checkpoint(tiny_model("tiny-base-single-file")));
  const Loader resnet = Loader(network, *model.unet.weights, DType::f32) / "down_blocks" / 1 / "resnets" / 0;
  EXPECT_EQ(resnet.take("conv1.weight", {64, 32, 3, 3}).shape, (Shape{64, 32, 3, 3}));
  try {
    resnet.take("conv1.weight", {64, 64, 3, 3});
    FAIL() << "took a tensor of another shape";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.error().code, ErrorCode::corrupt_data);
    const std::string message = failure.what();
    EXPECT_NE(message.find("down_blocks.1.resnets.0.conv1.weight: expected [64,64,3,3], file has [64,32,3,3]"),
              std::string::npos)
        << message;
    EXPECT_NE(message.find("tiny-base-single-file.safetensors"), std::string::npos) << message;
  }
  EXPECT_THROW(resnet.take("conv3.weight", {1}), Failure);
}

INSTANTIATE_TEST_SUITE_P(Backends, Modules, testing::Values("ref", "cpu"), [](const auto& test) { return test.param; });

}  // namespace
}  // namespace darkroom::engine
