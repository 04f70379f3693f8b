#include "engine/pipeline/tiles.h"

#include <algorithm>

#include <unistd.h>

#include "base/error.h"

namespace darkroom::engine {
namespace {

int parts_of(int whole, int part) { return (whole + part - 1) / part; }

// How much of the result at each of its pixels along an axis is tile `i`'s. Where two tiles blend, their shares are 1
// together; nowhere are there three.
std::vector<float> shares_of(const TileAxis& axis, std::size_t i, int blend, int cell) {
  const std::size_t count = axis.starts.size();
  std::vector<float> shares(static_cast<std::size_t>(axis.tile) * static_cast<std::size_t>(cell), 1.0F);
  const auto start_of = [&](std::size_t tile) {
    return axis.starts[tile % count] + static_cast<int>(tile / count) * axis.length;
  };
  // The share of the later of two tiles, at a pixel counted from where they begin to blend.
  const auto risen = [&](int pixel) {
    return std::clamp((static_cast<float>(pixel) + 0.5F) / static_cast<float>(blend * cell), 0.0F, 1.0F);
  };
  // The blend lies in the middle of what tile `first` and the one behind it have in common; relative to `first`.
  const auto blend_begin = [&](std::size_t first) {
    const int step = start_of(first + 1) - start_of(first);
    return step + (axis.tile - step - blend) / 2;
  };
  for (int pixel = 0; pixel < axis.tile * cell; ++pixel) {
    float& share = shares[static_cast<std::size_t>(pixel)];
    if (i > 0 || axis.circular) {
      const std::size_t before = i > 0 ? i - 1 : count - 1;
      share *= risen(pixel - (blend_begin(before) - (start_of(before + 1) - start_of(before))) * cell);
    }
    if (i + 1 < count || axis.circular) share *= 1.0F - risen(pixel - blend_begin(i) * cell);
  }
  return shares;
}

// A tile's pixels; circular axes go on at the other edge.
std::vector<float> cut_out(const TiledPicture& picture, int top, int left, int height, int width) {
  const int cell = picture.input_cell;
  const auto channels = static_cast<std::size_t>(picture.input_channels);
  const int full_height = picture.height * cell, full_width = picture.width * cell;
  std::vector<float> tile;
  tile.reserve(static_cast<std::size_t>(height) * static_cast<std::size_t>(cell) * static_cast<std::size_t>(width) *
               static_cast<std::size_t>(cell) * channels);
  for (int y = 0; y < height * cell; ++y) {
    const auto row = static_cast<std::size_t>((top * cell + y) % full_height) * static_cast<std::size_t>(full_width);
    for (int x = 0; x < width * cell; ++x) {
      const auto pixel = (row + static_cast<std::size_t>((left * cell + x) % full_width)) * channels;
      tile.insert(tile.end(), picture.input.begin() + static_cast<std::ptrdiff_t>(pixel),
                  picture.input.begin() + static_cast<std::ptrdiff_t>(pixel + channels));
    }
  }
  return tile;
}

struct Placed {
  int top = 0, left = 0;                 // cells
  std::span<const float> rows, columns;  // shares
};

void blend_in(const TiledPicture& picture, std::span<const float> tile, const Placed& at, std::vector<float>& result) {
  const auto cell = static_cast<std::size_t>(picture.output_cell);
  const auto channels = static_cast<std::size_t>(picture.output_channels);
  const std::size_t height = static_cast<std::size_t>(picture.height) * cell;
  const std::size_t width = static_cast<std::size_t>(picture.width) * cell;
  const float* in = tile.data();
  for (std::size_t y = 0; y < at.rows.size(); ++y) {
    const std::size_t row = (static_cast<std::size_t>(at.top) * cell + y) % height * width;
    for (std::size_t x = 0; x < at.columns.size(); ++x, in += channels) {
      const float share = at.rows[y] * at.columns[x];
      if (share == 0) continue;
      float* out = result.data() + (row + (static_cast<std::size_t>(at.left) * cell + x) % width) * channels;
      for (std::size_t c = 0; c < channels; ++c) out[c] += share * in[c];
    }
  }
}

}  // namespace

TileAxis cut_axis(int length, const TileShape& shape, bool wrap) {
  if (shape.side == 0 || length <= shape.side) return {.length = length, .tile = length, .starts = {0}};
  DR_ASSERT(shape.overlap() >= 1 && shape.side >= 3 * shape.overlap());
  // As few tiles as there can be, and as small as that many can be.
  TileAxis axis{.length = length, .circular = wrap};
  const int step = shape.side - shape.overlap();
  if (wrap) {
    const int count = parts_of(length, step);
    axis.tile = parts_of(length, count) + shape.overlap();
    for (int i = 0; i < count; ++i) axis.starts.push_back(static_cast<int>(std::int64_t{i} * length / count));
  } else {
    const int count = parts_of(length - shape.overlap(), step);
    axis.tile = parts_of(length + (count - 1) * shape.overlap(), count);
    for (int i = 0; i < count; ++i) {
      axis.starts.push_back(static_cast<int>(std::int64_t{i} * (length - axis.tile) / (count - 1)));
    }
  }
  return axis;
}

std::vector<float> in_tiles(const TiledPicture& picture, const TileShape& shape, const TilePass& pass,
                            const TileSink& sink, const CancelToken& cancel) {
  const TileAxis rows = cut_axis(picture.height, shape, picture.wrap.y);
  const TileAxis columns = cut_axis(picture.width, shape, picture.wrap.x);
  const int of = static_cast<int>(rows.starts.size() * columns.starts.size());
  const Wrap wrap{.x = picture.wrap.x && !columns.circular, .y = picture.wrap.y && !rows.circular};
  std::vector<float> result;
  int done = 0;
  for (std::size_t i = 0; i < rows.starts.size(); ++i) {
    const std::vector<float> row_shares = shares_of(rows, i, shape.blend, picture.output_cell);
    for (std::size_t j = 0; j < columns.starts.size(); ++j) {
      cancel.throw_if_cancelled();
      const int top = rows.starts[i], left = columns.starts[j];
      std::vector<float> tile = pass({.input = cut_out(picture, top, left, rows.tile, columns.tile),
                                      .height = rows.tile,
                                      .width = columns.tile,
                                      .wrap = wrap});
      const auto cell = static_cast<std::size_t>(picture.output_cell);
      DR_ASSERT(tile.size() == static_cast<std::size_t>(rows.tile) * cell * static_cast<std::size_t>(columns.tile) *
                                   cell * static_cast<std::size_t>(picture.output_channels));
      if (sink) sink({.done = ++done, .of = of});
      if (of == 1) return tile;
      if (result.empty()) {
        result.resize(static_cast<std::size_t>(picture.height) * cell * static_cast<std::size_t>(picture.width) * cell *
                      static_cast<std::size_t>(picture.output_channels));
      }
      const std::vector<float> column_shares = shares_of(columns, j, shape.blend, picture.output_cell);
      blend_in(picture, tile, {.top = top, .left = left, .rows = row_shares, .columns = column_shares}, result);
    }
  }
  return result;
}

std::uint64_t activation_budget() {
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) /
         4;
}

}  // namespace darkroom::engine
