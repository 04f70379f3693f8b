#include "engine/pipeline/upscale.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/text.h"
#include "engine/image/pixels.h"
#include "engine/image/resize.h"

namespace darkroom::engine {
namespace {

constexpr std::int64_t kMaxPixels = std::int64_t{1} << 28U;  // of a result: 16384²

// Pixels of what a network gets. Networks see some hundred pixels far, but what decides about a pixel is near it.
constexpr int kTile = 512;
constexpr int kLeastTile = 160;
constexpr int kMargin = 16;
constexpr int kBlend = 16;
constexpr std::uint64_t kColours = 3;

std::uint64_t pixels_of(Size size) {
  return static_cast<std::uint64_t>(size.width) * static_cast<std::uint64_t>(size.height);
}

Size times(Size size, int scale) { return {.width = size.width * scale, .height = size.height * scale}; }

// How often a network runs.
int passes_of(int scale, Size from, Size to) {
  int passes = 1;
  if (scale == 1) return passes;
  for (Size size = times(from, scale); size.width < to.width || size.height < to.height; size = times(size, scale)) {
    ++passes;
  }
  return passes;
}

// The largest tile that memory allows, in pixels.
int tile_within(std::uint64_t bytes, const UpscalerConfig& config, DType compute) {
  constexpr int kStep = 16;
  const std::uint64_t each = bytes_per_pixel(config, compute);
  int tile = kTile;
  while (tile > kLeastTile && pixels_of({.width = tile, .height = tile}) * each > bytes) tile -= kStep;
  return tile;
}

TileShape shape_of(const Upscaler& upscaler, int tile) {
  if (tile == 0) tile = tile_within(activation_budget(), upscaler.config, upscaler.compute);
  const int cell = upscaler.model->cell();
  return {.side = tile / cell, .margin = kMargin / cell, .blend = kBlend / cell};
}

// The picture with its last rows and columns repeated until its sides are multiples of `cell`.
Image filled_up(const Image& rgb, int cell) {
  const int right = (cell - rgb.width % cell) % cell;
  const int bottom = (cell - rgb.height % cell) % cell;
  return right == 0 && bottom == 0 ? rgb : extend_picture(rgb, {.right = right, .bottom = bottom});
}

Image cropped(const Image& image, Size to) {
  if (image.width == to.width && image.height == to.height) return image;
  Image result(to.width, to.height, image.channels);
  for (int y = 0; y < to.height; ++y) std::copy_n(image.row(y), result.row_bytes(), result.row(y));
  return result;
}

// By exactly the network's scale.
Image enlarge(const Image& rgb, Upscaler& upscaler, const UpscaleOptions& options, const TileSink& sink,
              const CancelToken& cancel) {
  const UpscalerNetwork& model = *upscaler.model;
  const Image whole = filled_up(rgb, model.cell());
  const std::vector<float> input = to_unit_floats(whole);
  const TiledPicture picture{
      .input = input,
      .height = whole.height / model.cell(),
      .width = whole.width / model.cell(),
      .input_cell = model.cell(),
      .output_cell = model.cell() * model.scale(),
      // Edges that were moved do not meet any more.
      .wrap = {.x = options.wrap.x && whole.width == rgb.width, .y = options.wrap.y && whole.height == rgb.height}};
  const TilePass pass = [&](const Tile& tile) {
    upscaler.network.wrap = tile.wrap;
    return model(tile.input, tile.height * model.cell(), tile.width * model.cell());
  };
  const std::vector<float> output = in_tiles(picture, shape_of(upscaler, options.tile), pass, sink, cancel);
  const Size size = times({.width = whole.width, .height = whole.height}, model.scale());
  return cropped(from_unit_floats(output, size.width, size.height, static_cast<int>(kColours)),
                 times({.width = rgb.width, .height = rgb.height}, model.scale()));
}

// Tiles of all passes of one picture.
int tiles_of(const Upscaler& upscaler, Size from, Size to, const UpscaleOptions& options) {
  const TileShape shape = shape_of(upscaler, options.tile);
  const int cell = upscaler.model->cell();
  std::size_t tiles = 0;
  Size size = from;
  for (int pass = passes_of(upscaler.model->scale(), from, to); pass > 0; --pass) {
    const auto along = [&](int length, bool wrap) {
      return cut_axis((length + cell - 1) / cell, shape, wrap && length % cell == 0).starts.size();
    };
    tiles += along(size.width, options.wrap.x) * along(size.height, options.wrap.y);
    size = times(size, upscaler.model->scale());
  }
  return static_cast<int>(tiles);
}

}  // namespace

Upscaler::Upscaler(Backend& backend, const ModelPart<UpscalerConfig>& part, DType compute_type)
    : config(part.config), compute(compute_type), network(backend), model(make_upscaler(network, part, compute)) {}

Size upscaled_size(Size from, float factor) {
  const auto side = [&](int pixels) { return std::llround(pixels * as_written(factor)); };
  const std::int64_t width = std::max<std::int64_t>(side(from.width), 1);
  const std::int64_t height = std::max<std::int64_t>(side(from.height), 1);
  if (width > kMaxPixels || height > kMaxPixels / width) {
    throw_failure(ErrorCode::invalid_argument,
                  "upscale: {}x{} pixels times {} are {}x{}; at most {} pixels are possible", from.width, from.height,
                  factor, width, height, kMaxPixels);
  }
  return {.width = static_cast<int>(width), .height = static_cast<int>(height)};
}

Image upscale(const Image& rgb, Upscaler* upscaler, Size to, const UpscaleOptions& options, const CancelToken& cancel) {
  DR_ASSERT(rgb.channels == static_cast<int>(kColours));
  Image picture = rgb;
  if (upscaler != nullptr) {
    const Size from{.width = rgb.width, .height = rgb.height};
    const int of = tiles_of(*upscaler, from, to, options);
    int done = 0;
    const TileSink sink = [&](const TileProgress&) {
      if (options.sink) options.sink({.done = ++done, .of = of});
    };
    for (int pass = passes_of(upscaler->model->scale(), from, to); pass > 0; --pass) {
      picture = enlarge(picture, *upscaler, options, sink, cancel);
    }
  }
  cancel.throw_if_cancelled();
  if (picture.width == to.width && picture.height == to.height) return picture;
  return resize(picture, to.width, to.height, Filter::lanczos);
}

void upscale_pictures(std::span<GeneratedPicture> pictures, Upscaler* upscaler, float factor, Wrap wrap,
                      ProgressSink& progress, const CancelToken& cancel) {
  const auto started = std::chrono::steady_clock::now();
  const int count = static_cast<int>(pictures.size());
  for (int i = 0; i < count; ++i) {
    GeneratedPicture& picture = pictures[static_cast<std::size_t>(i)];
    const Size to = upscaled_size({.width = picture.width, .height = picture.height}, factor);
    Image image;
    image.width = picture.width;
    image.height = picture.height;
    image.channels = static_cast<int>(kColours);
    image.pixels = std::move(picture.rgb);
    const TileSink sink = [&](const TileProgress& tiles) {
      const int step = i * tiles.of + tiles.done;
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
      progress.step(
          {.step = step, .steps = count * tiles.of, .picture_count = count, .seconds_per_step = seconds / step});
    };
    image = upscale(image, upscaler, to, {.wrap = wrap, .sink = sink}, cancel);
    picture.width = image.width;
    picture.height = image.height;
    picture.rgb = std::move(image.pixels);
  }
}

std::uint64_t upscale_bytes(const UpscaleUse& use, Size from, int pictures, DType compute) {
  const Size to = upscaled_size(from, use.factor);
  const std::uint64_t results = kColours * static_cast<std::uint64_t>(pictures) * pixels_of(to);
  if (use.model == kLanczosUpscaler) return results;
  const auto part = open_upscaler(use.model);
  if (!part) return 0;
  const int scale = scale_of(part->config);
  Size before = from;
  for (int pass = passes_of(scale, from, to); pass > 1; --pass) before = times(before, scale);
  const auto side = static_cast<std::uint64_t>(tile_within(activation_budget(), part->config, compute));
  const std::uint64_t tile = std::min(side * side, pixels_of(before)) * bytes_per_pixel(part->config, compute);
  // The last pass's picture and result, as bytes and as floats.
  const std::uint64_t whole = (pixels_of(before) + pixels_of(times(before, scale))) * kColours * (1 + sizeof(float));
  return results + tile + whole;
}

}  // namespace darkroom::engine
