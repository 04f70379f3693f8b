// Pictures that are too large for one pass: cut into overlapping tiles of one size, each worked on alone, and the
// results blended. Positions are in cells, the smallest squares that input and result have in common: a latent and its
// 8×8 pixels, or a pixel and the square that an upscaler makes of it.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "engine/nn/parameter.h"
#include "engine/pipeline/engine.h"

namespace darkroom::engine {

// In cells. Neighbours overlap by 2·margin + blend; a side is at least three times that.
struct TileShape {
  int side = 0;    // 0: no tiles, the whole at once
  int margin = 0;  // of a tile's result next to another tile that is thrown away: it lacked its surroundings
  int blend = 0;   // over which one tile's result goes over into the next one's

  int overlap() const { return 2 * margin + blend; }
};

// Where the tiles lie along one axis.
struct TileAxis {
  int length = 0;  // of the picture
  int tile = 0;    // of every tile
  std::vector<int> starts;
  bool circular = false;  // the last tile goes on where the first begins
};
TileAxis cut_axis(int length, const TileShape& shape, bool wrap);

struct TiledPicture {
  std::span<const float> input;  // [height·input_cell, width·input_cell, input_channels]
  int height = 0;                // cells
  int width = 0;
  int input_cell = 1;  // pixels
  int input_channels = 3;
  int output_cell = 1;  // pixels
  int output_channels = 3;
  Wrap wrap;  // edges that meet the opposite ones
};

// One tile as a pass gets it.
struct Tile {
  std::vector<float> input;  // [height·input_cell, width·input_cell, input_channels]
  int height = 0;            // cells
  int width = 0;
  Wrap wrap;  // edges that meet the opposite ones still: the tile has the whole length
};
// → [height·output_cell, width·output_cell, output_channels]
using TilePass = std::function<std::vector<float>(const Tile& tile)>;

struct TileProgress {
  int done = 0;
  int of = 0;
};
using TileSink = std::function<void(const TileProgress&)>;

// The result for the whole picture, [height·output_cell, width·output_cell, output_channels]. `sink`, where there is
// one, hears of each tile; between tiles the job may be cancelled.
std::vector<float> in_tiles(const TiledPicture& picture, const TileShape& shape, const TilePass& pass,
                            const TileSink& sink, const CancelToken& cancel);

// What one job may take for activations on this machine, in bytes: a quarter of its memory. Tiles are chosen by it and
// not by what is free at the moment, so that a request always gives the same picture.
std::uint64_t activation_budget();

}  // namespace darkroom::engine
