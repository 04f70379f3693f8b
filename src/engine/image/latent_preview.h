// What latents will look like, without the decoder: each pixel a linear mix of its four channels.
#pragma once

#include <span>

#include "engine/image/image.h"

namespace darkroom::engine {

// latents: [height, width, 4] of one picture, scaled as the UNet takes them; noise may still be on them → RGB of the
// same size, an eighth of the picture's.
Image latent_preview(std::span<const float> latents, int height, int width);

}  // namespace darkroom::engine
