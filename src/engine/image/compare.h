// How far two pictures are apart; the measures of the tests.
#pragma once

#include "engine/image/image.h"

namespace darkroom::engine {

// The largest difference of any channel of any pixel, 0…255; 256 for pictures of different shape.
int max_difference(const Image& a, const Image& b);

// Peak signal-to-noise ratio over all channels, in decibels: 10 log10(255² / mean squared difference). Infinite for
// equal pictures; minus infinity for pictures of different shape.
double psnr(const Image& a, const Image& b);

}  // namespace darkroom::engine
