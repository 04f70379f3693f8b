// Working on the masked part of a picture alone: where it is, and how the result goes back into the whole. And what is
// put there before the work begins. The webui's ways (modules/masking.py), as its clients expect them.
#pragma once

#include "engine/image/image.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

struct Area {
  int x = 0, y = 0, width = 0, height = 0;  // pixels
};

// The smallest area around what is not black in the mask, `margin` pixels larger on each side and then grown to the
// shape of `size` as far as the picture reaches. Throws Failure{invalid_argument} where all of the mask is black.
Area masked_area(const Image& mask, int margin, const Size& size);

Image cut_out(const Image& picture, const Area& area);

// `part`, resized to the area, over the picture where the mask (of the picture's size) is white; between the two where
// the mask is gray.
Image put_back(const Image& picture, const Image& mask, const Area& area, const Image& part);

// RGB, the masked part filled with the colours around it, the further away the softer.
Image fill_from_surroundings(const Image& picture, const Image& mask);

}  // namespace darkroom::engine
