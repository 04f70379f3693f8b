// Upscaling with the reference vectors' small networks, and through the engine's door.
#include "engine/pipeline/upscale.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/image/codec.h"
#include "engine/image/compare.h"
#include "engine/image/pixels.h"
#include "engine/image/resize.h"
#include "tests/support/tiny_models.h"

namespace darkroom::engine {
namespace {

using testing::HasSubstr;

std::filesystem::path upscaler_file(const std::string& name) { return test::vectors_dir() / "upscalers" / name; }

constexpr const char* kX4 = "realesrgan-x4-new-keys.safetensors";
constexpr const char* kX2 = "realesrgan-x2-new-keys.safetensors";

Image some_picture(int width, int height) {
  Image image(width, height, 3);
  std::uint32_t state = 5;
  for (std::uint8_t& value : image.pixels) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<std::uint8_t>(state >> 24U);
  }
  return resize(resize(image, std::max(width / 4, 1), std::max(height / 4, 1)), width, height);  // smoother
}

class Upscale : public testing::Test {
 protected:
  std::unique_ptr<Upscaler> open(const char* name) {
    return std::make_unique<Upscaler>(*backend_, value_or_throw(open_upscaler(upscaler_file(name))), DType::f32);
  }
  Image run(const Image& image, Upscaler* upscaler, Size to, const UpscaleOptions& options = {}) {
    return upscale(image, upscaler, to, options, never_);
  }

  std::unique_ptr<Backend> backend_ = make_cpu_backend();
  CancelToken never_;
};

TEST_F(Upscale, TilesThatKnowAllThatANetworkSeesAreTheWhole) {
  // 35 pixels: two blocks of fifteen convolutions, and those around them.
  const TileShape shape{.side = 250, .margin = 36, .blend = 8};
  const auto upscaler = open(kX4);
  for (const auto& [width, height, wrap] :
       {std::tuple(270, 8, Wrap{}), {8, 270, Wrap{}}, {270, 8, Wrap{.x = true, .y = true}}}) {
    const std::vector<float> input = to_unit_floats(some_picture(width, height));
    const TiledPicture picture{.input = input, .height = height, .width = width, .output_cell = 4, .wrap = wrap};
    const TilePass pass = [&](const Tile& tile) {
      upscaler->network.wrap = tile.wrap;
      return (*upscaler->model)(tile.input, tile.height, tile.width);
    };
    int tiles = 0;
    const std::vector<float> got = in_tiles(
        picture, shape, pass, [&](const TileProgress& progress) { tiles = progress.of; }, never_);
    ASSERT_EQ(tiles, 2);
    const std::vector<float> want = in_tiles(picture, {}, pass, nullptr, never_);
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-5F) << i;
  }
}

TEST_F(Upscale, TheUsualTilesAreWithinAStepOfTheWhole) {
  const auto upscaler = open(kX2);
  const Image image = some_picture(250, 40);
  const Size to{.width = 500, .height = 80};
  const Image whole = run(image, upscaler.get(), to);
  const Image tiled = run(image, upscaler.get(), to, {.tile = 160});
  EXPECT_LE(max_difference(whole, tiled), 1);
  EXPECT_GT(psnr(whole, tiled), 60);
}

TEST_F(Upscale, ANetworkRunsUntilThePictureIsLargeEnoughThenLanczosMakesItExact) {
  const auto x4 = open(kX4);
  const Image image = some_picture(21, 14);
  const Image once = run(image, x4.get(), {.width = 84, .height = 56});
  EXPECT_EQ(once.width, 84);
  EXPECT_EQ(run(image, x4.get(), {.width = 32, .height = 21}), resize(once, 32, 21));  // × 1.5
  EXPECT_EQ(run(image, x4.get(), {.width = 63, .height = 42}), resize(once, 63, 42));  // × 3
  EXPECT_EQ(run(image, x4.get(), {.width = 21, .height = 14}), resize(once, 21, 14));  // × 1
  const Image twice = run(once, x4.get(), {.width = 336, .height = 224});
  EXPECT_EQ(run(image, x4.get(), {.width = 168, .height = 112}), resize(twice, 168, 112));  // × 8
}

TEST_F(Upscale, SidesThatAreNoMultipleOfANetworksSquaresAreFilledUpAndCutOff) {
  const auto x2 = open(kX2);
  const Image even = some_picture(40, 32);
  Image odd(39, 31, 3);
  for (int y = 0; y < 31; ++y) std::copy_n(even.row(y), odd.row_bytes(), odd.row(y));
  const Image got = run(odd, x2.get(), {.width = 78, .height = 62});
  const Image want = run(extend_picture(odd, {.right = 1, .bottom = 1}), x2.get(), {.width = 80, .height = 64});
  for (int y = 0; y < 62; ++y) ASSERT_TRUE(std::equal(got.row(y), got.row(y) + got.row_bytes(), want.row(y))) << y;
}

TEST_F(Upscale, ProgressCountsTheTilesOfAllPasses) {
  const auto x2 = open(kX2);
  std::vector<int> done;
  int of = 0;
  run(some_picture(100, 20), x2.get(), {.width = 400, .height = 80}, {.tile = 160, .sink = [&](const TileProgress& at) {
                                                                        done.push_back(at.done);
                                                                        of = at.of;
                                                                      }});
  EXPECT_EQ(of, 3);  // one, then two
  EXPECT_EQ(done, (std::vector{1, 2, 3}));
}

TEST_F(Upscale, WithoutANetworkItIsLanczos) {
  const Image image = some_picture(40, 30);
  EXPECT_EQ(run(image, nullptr, {.width = 60, .height = 45}), resize(image, 60, 45, Filter::lanczos));
}

TEST_F(Upscale, SizesAreRoundedAndLimited) {
  EXPECT_EQ(upscaled_size({.width = 101, .height = 33}, 1.5F), (Size{.width = 152, .height = 50}));
  EXPECT_EQ(upscaled_size({.width = 2048, .height = 2048}, 8.0F), (Size{.width = 16384, .height = 16384}));
  try {
    upscaled_size({.width = 9000, .height = 8000}, 2.5F);
    FAIL() << "took any size";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.error().code, ErrorCode::invalid_argument);
    EXPECT_THAT(failure.error().message, HasSubstr("9000x8000 pixels times 2.5 are 22500x20000; at most 268435456"));
  }
}

TEST_F(Upscale, MemoryGrowsWithThePictureUntilATileIsFull) {
  const auto bytes = [](int side, int pictures) {
    return upscale_bytes({.model = upscaler_file(kX4).string(), .factor = 4.0F}, {.width = side, .height = side},
                         pictures, DType::f32);
  };
  EXPECT_LT(bytes(256, 1), bytes(512, 1));
  EXPECT_EQ(bytes(512, 2) - bytes(512, 1), 3U * 2048 * 2048);
  // From here on only the picture itself grows.
  const std::uint64_t whole = 15U * (1024 * 1024 - 512 * 512) * 17;
  EXPECT_EQ(bytes(1024, 1) - bytes(512, 1), whole + 3U * (4096 * 4096 - 2048 * 2048));
  EXPECT_EQ(upscale_bytes({.model = "lanczos", .factor = 2.0F}, {.width = 100, .height = 50}, 1, DType::f32), 60'000U);
}

// ---- through the engine ----

class Stages final : public ProgressSink {
 public:
  explicit Stages(CancelToken* cancel_at_first_tile = nullptr) : cancel_(cancel_at_first_tile) {}
  void stage(std::string_view name) override { names.emplace_back(name); }
  void step(const StepProgress& progress) override {
    if (names.back() != "upscale") return;
    tiles = progress.steps;
    if (cancel_ != nullptr) cancel_->cancel(ErrorCode::cancelled);
  }
  std::vector<std::string> names;
  int tiles = 0;

 private:
  CancelToken* cancel_;
};

class EngineUpscale : public testing::Test {
 protected:
  static ImageSource as_png(const Image& image) {
    const Bytes bytes = value_or_throw(encode_png(image));
    return {.path = {}, .bytes = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())};
  }

  // A request for nothing but a larger picture.
  GeneratedPicture enlarge(const ImageSource& image, const UpscaleUse& use, Stages& progress) {
    GenerationSpec spec;
    spec.init_image = image;
    spec.strength = 0.0F;
    spec.upscale = use;
    return engine_.generate(spec, progress, cancel_).pictures.at(0);
  }

  Engine engine_{{.device = "cpu"}};
  CancelToken cancel_;
};

TEST_F(EngineUpscale, MakesAClientsPictureLarger) {
  Image image(20, 12, 4);  // transparency is dropped
  std::copy_n(some_picture(20, 16).pixels.begin(), image.pixels.size(), image.pixels.begin());
  Stages progress;
  const auto picture = enlarge(as_png(image), {.model = upscaler_file(kX2).string(), .factor = 2.5F}, progress);
  EXPECT_EQ(picture.width, 50);
  EXPECT_EQ(picture.height, 30);
  EXPECT_EQ(picture.rgb.size(), 50U * 30 * 3);
  EXPECT_EQ(progress.names, (std::vector<std::string>{"load", "upscale"}));

  const auto resized = enlarge(as_png(image), {.model = "lanczos", .factor = 2.5F}, progress);
  EXPECT_EQ(resized.rgb, resize(to_rgb(image), 50, 30).pixels);
}

TEST_F(EngineUpscale, KeepsUpscalersAndLetsThemGo) {
  const auto path = upscaler_file(kX2);
  engine_.load(ModelRole::upscaler, path, Precision::automatic);
  ASSERT_EQ(engine_.loaded().size(), 1U);
  EXPECT_EQ(engine_.loaded()[0].kind, "upscaler");
  EXPECT_EQ(engine_.loaded()[0].path, path);
  EXPECT_GT(engine_.loaded()[0].bytes, 100'000U);
  Stages progress;
  enlarge(as_png(some_picture(8, 8)), {.model = path.string(), .factor = 2}, progress);
  EXPECT_EQ(engine_.loaded().size(), 1U);
  EXPECT_TRUE(engine_.unload(path));
  EXPECT_FALSE(engine_.unload(path));
}

TEST_F(EngineUpscale, IsCancelledBetweenTiles) {
  Stages progress(&cancel_);
  const UpscaleUse use{.model = upscaler_file(kX2).string(), .factor = 2};
  try {
    enlarge(as_png(some_picture(700, 20)), use, progress);
    FAIL() << "was not cancelled";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.error().code, ErrorCode::cancelled);
  }
  EXPECT_EQ(progress.tiles, 2);
}

TEST_F(EngineUpscale, RefusesOtherFilesBeforeAnyWork) {
  Stages progress;
  const std::string file = (upscaler_file("io.safetensors")).string();
  const auto message = [&](const ImageSource& image, const UpscaleUse& use) -> std::string {
    try {
      enlarge(image, use, progress);
      return "";
    } catch (const Failure& failure) {
      return failure.error().message;
    }
  };
  EXPECT_THAT(message(as_png(some_picture(8, 8)), {.model = file, .factor = 2}),
              HasSubstr("io.safetensors is not an upscaler: unknown"));
  EXPECT_THAT(message({.path = file, .bytes = {}}, {.model = "lanczos", .factor = 2}), HasSubstr("PNG"));
}

TEST_F(EngineUpscale, GeneratedPicturesAreUpscaledLast) {
  GenerationSpec spec;
  spec.model = test::tiny_model("tiny-base").string();
  spec.prompt = "a lake";
  spec.width = 64;
  spec.height = 48;
  spec.steps = 1;
  spec.batch_size = 2;
  spec.batch_parallel = true;
  spec.precision = Precision::float32;
  Stages progress;
  const GenerationResult plain = engine_.generate(spec, progress, cancel_);
  const std::uint64_t bytes = engine_.predict_bytes(spec);
  spec.upscale = UpscaleUse{.model = upscaler_file(kX4).string(), .factor = 3};
  Stages with;
  const GenerationResult large = engine_.generate(spec, with, cancel_);
  EXPECT_EQ(with.names, (std::vector<std::string>{"load", "read", "text", "denoise", "decode", "upscale"}));
  EXPECT_EQ(with.tiles, 2);
  EXPECT_EQ(large.stages.back().name, "upscale");
  spec.upscale->factor = 8;
  EXPECT_GT(engine_.predict_bytes(spec), bytes);
  ASSERT_EQ(large.pictures.size(), 2U);

  const auto backend = make_cpu_backend();
  Upscaler upscaler(*backend, value_or_throw(open_upscaler(upscaler_file(kX4))), DType::f32);
  for (std::size_t i = 0; i < 2; ++i) {
    Image image(64, 48, 3);
    image.pixels = plain.pictures[i].rgb;
    EXPECT_EQ(large.pictures[i].seed, plain.pictures[i].seed);
    EXPECT_EQ(large.pictures[i].width, 192);
    EXPECT_EQ(large.pictures[i].height, 144);
    EXPECT_EQ(large.pictures[i].rgb, upscale(image, &upscaler, {.width = 192, .height = 144}, {}, cancel_).pixels);
  }
}

TEST_F(EngineUpscale, ASecondPassBeginsWithWhatItsUpscalerMakes) {
  GenerationSpec spec;
  spec.model = test::tiny_model("tiny-base").string();
  spec.prompt = "a lake";
  spec.width = spec.height = 64;
  spec.steps = 2;
  spec.guidance_scale = 1;
  spec.precision = Precision::float32;
  Stages progress;
  const auto picture_by = [&](const std::string& upscaler) {
    spec.hires = HiresUse{.factor = 1.5F, .strength = 0.5F, .upscaler = upscaler};
    return engine_.generate(spec, progress, cancel_).pictures.at(0);
  };
  const GeneratedPicture by_network = picture_by(upscaler_file(kX2).string());
  EXPECT_EQ(by_network.width, 96);
  EXPECT_NE(by_network.rgb, picture_by("lanczos").rgb);
}

TEST_F(EngineUpscale, DecodingInTilesGivesTheSamePicture) {
  GenerationSpec spec;
  spec.model = test::tiny_model("tiny-base").string();
  spec.prompt = "a lake";
  spec.width = 160;
  spec.height = 64;
  spec.steps = 1;
  spec.precision = Precision::float32;
  Stages progress;
  const auto picture_of = [&] {
    const GenerationResult result = engine_.generate(spec, progress, cancel_);
    Image image(result.pictures[0].width, result.pictures[0].height, 3);
    image.pixels = result.pictures[0].rgb;
    return image;
  };
  const Image whole = picture_of();
  spec.vae_tile = kMinVaeTile;
  const Image tiled = picture_of();
  EXPECT_LE(max_difference(whole, tiled), 1);
}

}  // namespace
}  // namespace darkroom::engine
