// Pictures as requests bring them.
#pragma once

#include <string_view>

#include "base/error.h"
#include "spec/generation_spec.h"
#include "spec/limits.h"

namespace darkroom {

// Base64 of a PNG, JPEG or WebP file, with or without "data:…;base64,", with or without line breaks and padding.
// Errors: invalid_argument for a URL, which is never fetched, and for what is no base64, too long, or of too many
// pixels; corrupt_data for other files.
Result<ImageSource> decode_picture(std::string_view text, const Limits& limits);

// The same for a file that came as it is.
Result<ImageSource> check_picture(std::string_view bytes, const Limits& limits);

// The picture's size brought to what can be made: each side a multiple within the limits, the shape as near as may be.
Result<Size> size_like(const ImageSource& picture, const Limits& limits);

}  // namespace darkroom
