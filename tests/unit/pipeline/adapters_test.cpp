// Putting LoRAs on and taking them off: what is laid out again, what stays, and what a failure leaves behind.
#include "engine/pipeline/adapters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/ops.h"
#include "engine/backend/ref/ref_backend.h"
#include "engine/nn/layers.h"
#include "tests/unit/weights/lora_support.h"
#include "tests/unit/weights/weights_support.h"

namespace darkroom::engine {
namespace {

using test::noise;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::int64_t kWidth = 32;

// Four linear layers, two of which are one parameter, as a UNet; and one as a text encoder.
class Model {
 public:
  explicit Model(Backend& backend, DType compute, WeightSourcePtr unet = base_unet())
      : unet_network(backend), text_network(backend), unet_base(std::move(unet)), text_base(base_text()) {
    const Loader loader(unet_network, *unet_base, compute);
    query_key = Linear::load_joined({loader / "attn.to_q", loader / "attn.to_k"}, kWidth, kWidth);
    out = Linear::load(loader / "attn.to_out.0", kWidth, kWidth);
    last = Linear::load(loader / "conv_out", kWidth, kWidth);
    text = Linear::load(Loader(text_network, *text_base, compute) / "text_model.fc1", kWidth, kWidth);
  }

  static WeightSourcePtr base_unet() {
    std::vector<HostTensor> tensors;
    for (const char* layer : {"attn.to_q", "attn.to_k", "attn.to_out.0", "conv_out"}) {
      tensors.push_back(noise(std::string(layer) + ".weight", {kWidth, kWidth}));
      tensors.push_back(noise(std::string(layer) + ".bias", {kWidth}));
    }
    return test::source_of(std::move(tensors), "unet");
  }
  static WeightSourcePtr base_text() {
    return test::source_of({noise("text_model.fc1.weight", {kWidth, kWidth}), noise("text_model.fc1.bias", {kWidth})},
                           "text");
  }

  AdapterReport wear(
      const std::vector<LoraUse>& loras, const std::function<void()>& before_each = [] {}) {
    const std::vector<AdaptedNetwork> networks{{AdapterTarget::unet, &unet_network, unet_base},
                                               {AdapterTarget::text_encoder, &text_network, text_base}};
    return adapters.wear(networks, loras, {.threads = 1, .before_each = before_each});
  }

  // What all layers make of one input.
  std::vector<float> results() {
    const HostTensor input = noise("input", {2, kWidth});
    const auto* values = reinterpret_cast<const float*>(input.data);
    const Tensor x =
        from_host(unet_network.backend(), std::vector<float>(values, values + input.elements()), input.shape);
    std::vector<float> all;
    for (const Linear* layer : {&query_key, &out, &last, &text}) {
      const std::vector<float> y = to_host((*layer)(x, {.out = DType::f32}));
      all.insert(all.end(), y.begin(), y.end());
    }
    return all;
  }

  Network unet_network, text_network;
  WeightSourcePtr unet_base, text_base;
  Adapters adapters;
  Linear query_key, out, last, text;
};

class AdaptersTest : public testing::Test {
 protected:
  // A file with a product for each layer.
  std::string lora(const std::string& name, const std::vector<std::string>& layers) {
    std::vector<HostTensor> tensors;
    for (const std::string& layer : layers) {
      for (const auto& [ending, shape] :
           {std::pair(".lora_A.weight", Shape{4, kWidth}), {".lora_B.weight", Shape{kWidth, 4}}}) {
        tensors.push_back(noise(name + layer + ending, shape));
        tensors.back().name = layer + ending;
      }
    }
    const auto path = folder_ / (name + ".safetensors");
    EXPECT_TRUE(write_safetensors(path, tensors));
    return path.string();
  }

  const test::TemporaryFolder folder_;
  const std::unique_ptr<Backend> backend_ = make_ref_backend();
};

TEST_F(AdaptersTest, OnlyWhatTheOldOrTheNewSetTouchesIsLaidOutAgain) {
  Model model(*backend_, DType::f32);
  const LoraUse key{lora("key", {"unet.attn.to_k"})};
  const LoraUse two{lora("two", {"unet.attn.to_q", "unet.attn.to_out.0"})};
  const LoraUse words{lora("words", {"text_encoder.text_model.fc1"})};
  EXPECT_EQ(model.wear({}).laid_out, 0U);
  EXPECT_EQ(model.wear({key}).laid_out, 1U);         // query and key are one parameter
  EXPECT_EQ(model.wear({key}).laid_out, 0U);         // it is on already
  EXPECT_EQ(model.wear({two}).laid_out, 2U);         // that one for both sets, and to_out
  EXPECT_EQ(model.wear({two, words}).laid_out, 1U);  // the UNet wears what it wore
  EXPECT_EQ(model.wear({words}).laid_out, 2U);
  EXPECT_EQ(model.wear({}).laid_out, 1U);
  EXPECT_EQ(model.wear({}).laid_out, 0U);
}

TEST_F(AdaptersTest, TheWeightsOfUnetAndTextEncodersAreSeparate) {
  Model model(*backend_, DType::f32);
  LoraUse both{lora("both", {"unet.conv_out", "text_encoder.text_model.fc1"})};
  both.text_encoder_weight = 0;
  EXPECT_EQ(model.wear({both}).laid_out, 1U);
  both.unet_weight = 0;
  both.text_encoder_weight = 0.5F;
  EXPECT_EQ(model.wear({both}).laid_out, 2U);
  both.unet_weight = -1;
  EXPECT_EQ(model.wear({both}).laid_out, 1U);
}

TEST_F(AdaptersTest, SwitchingBackGivesTheSameBytesInEveryType) {
  const std::unique_ptr<Backend> cpu = make_cpu_backend({.threads = 2, .instruction_set = ""});
  std::vector<std::pair<Backend*, DType>> cases{
      {backend_.get(), DType::f32}, {cpu.get(), DType::f32}, {cpu.get(), DType::bf16}};
  if (cpu->has_fast(DType::i8)) cases.emplace_back(cpu.get(), DType::i8);
  const LoraUse a{lora("a", {"unet.attn.to_q", "unet.conv_out", "text_encoder.text_model.fc1"})};
  const LoraUse b{lora("b", {"unet.attn.to_k", "unet.conv_out"})};
  for (const auto& [backend, compute] : cases) {
    Model model(*backend, compute);
    const auto none = model.results();
    model.wear({a});
    const auto with_a = model.results();
    model.wear({b});
    const auto with_b = model.results();
    EXPECT_NE(with_a, none);
    EXPECT_NE(with_b, with_a);
    model.wear({a});
    EXPECT_EQ(model.results(), with_a) << to_string(compute);
    model.wear({});
    EXPECT_EQ(model.results(), none) << to_string(compute);
  }
}

TEST_F(AdaptersTest, LayingOutAgainIsTheSameAsLoadingTheMergedWeights) {
  const std::unique_ptr<Backend> cpu = make_cpu_backend({.threads = 2, .instruction_set = ""});
  const std::string path = lora("a", {"unet.attn.to_q", "unet.conv_out"});
  for (const DType compute : {DType::f32, DType::bf16, DType::i8}) {
    if (compute == DType::i8 && !cpu->has_fast(compute)) continue;
    Model worn(*cpu, compute);
    worn.wear({{path, 0.75F, 0.75F}});
    const LayerNames names({{AdapterTarget::unet, Model::base_unet()}});
    const WornLora merged{value_or_throw(Lora::open(path, names)), 0.75F};
    Model loaded(*cpu, compute,
                 std::make_shared<AdaptedSource>(Model::base_unet(), AdapterTarget::unet, std::vector{merged}, 1));
    EXPECT_EQ(worn.results(), loaded.results()) << to_string(compute);
  }
}

TEST_F(AdaptersTest, AFailureInTheMiddleIsMadeGoodByTheNextJob) {
  Model model(*backend_, DType::f32);
  const auto none = model.results();
  const LoraUse all{lora("all", {"unet.attn.to_q", "unet.attn.to_out.0", "unet.conv_out"})};
  const LoraUse key{lora("key", {"unet.attn.to_k"})};
  model.wear({key});
  int asked = 0;
  const auto cancel_at_second = [&] {
    if (++asked == 2) throw_failure(ErrorCode::cancelled, "enough");
  };
  EXPECT_THROW(model.wear({all}, cancel_at_second), Failure);
  EXPECT_EQ(model.wear({}).laid_out, 3U);
  EXPECT_EQ(model.results(), none);
  EXPECT_EQ(model.wear({}).laid_out, 0U);
}

TEST_F(AdaptersTest, AFileThatDoesNotFitChangesNothing) {
  Model model(*backend_, DType::f32);
  const LoraUse good{lora("good", {"unet.conv_out"})};
  model.wear({good});
  const auto before = model.results();
  const LoraUse stranger{lora("stranger", {"unet.nowhere"})};
  const LoraUse missing{(folder_ / "missing.safetensors").string()};
  for (const auto& [use, code, words] : {std::tuple{stranger, ErrorCode::unsupported, "none of its 2 tensors"},
                                         {missing, ErrorCode::not_found, "missing.safetensors"}}) {
    try {
      model.wear({use, good});
      ADD_FAILURE() << "was not refused";
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.error().code, code);
      EXPECT_THAT(failure.error().message, HasSubstr(words));
    }
  }
  EXPECT_EQ(model.results(), before);
  EXPECT_EQ(model.wear({good}).laid_out, 0U);
}

TEST_F(AdaptersTest, AFileThatWasReplacedIsPutOnAnew) {
  Model model(*backend_, DType::f32);
  const LoraUse use{lora("style", {"unet.conv_out"})};
  model.wear({use});
  const auto first = model.results();
  std::filesystem::remove(use.model);
  std::filesystem::rename(lora("other", {"unet.conv_out"}), use.model);
  std::filesystem::last_write_time(use.model, std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_EQ(model.wear({use}).laid_out, 1U);
  EXPECT_NE(model.results(), first);
}

TEST_F(AdaptersTest, TheReportCountsTensorsAndNamesThoseWithoutAPlace) {
  Model model(*backend_, DType::f32);
  const LoraUse use{lora("style", {"unet.conv_out", "unet.nowhere", "unet.nowhere.else"})};
  const AdapterReport report = model.wear({use, use});
  EXPECT_THAT(report.loaded, ElementsAre("style: 2 of 6 tensors", "style: 2 of 6 tensors"));
  EXPECT_EQ(report.warnings.at(0),
            "LoRA style: 4 of 6 tensors have no place in the model: unet.nowhere.else.lora_A.weight, "
            "unet.nowhere.else.lora_B.weight, unet.nowhere.lora_A.weight, …");
  EXPECT_THAT(model.wear({}).loaded, IsEmpty());
}

}  // namespace
}  // namespace darkroom::engine
