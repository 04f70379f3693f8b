// The pictures that a request brings, read and brought to the size that is worked at.
#pragma once

#include <optional>
#include <string_view>

#include "base/error.h"
#include "engine/image/image.h"
#include "engine/pipeline/masked_area.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

// Reads a picture. Errors: not_found, invalid_argument past a limit, corrupt_data.
Result<Image> read_picture(const ImageSource& source);
// The same; throws Failure with the request's field before the message.
Image read_picture(const ImageSource& source, std::string_view field);

// The picture at exactly `size`. Throws Failure{invalid_argument} where the mode is to refuse other sizes.
Image fit(const Image& picture, const Size& size, ResizeMode mode, std::string_view field);

// A picture of which only the masked part is worked on.
struct Surroundings {
  Image whole;  // RGB
  Image mask;   // gray, of its size
  Area area;    // that is worked on
};

// Where a picture is repainted, and from what.
struct SourcePictures {
  Image init;                 // RGB
  std::optional<Image> mask;  // gray: 255 where it is repainted, else 0; between them where the mask is blurred
  std::optional<Surroundings> surroundings;
};

// init_image and mask_image, extended where asked for, at width × height. Absent where the request brings no picture.
std::optional<SourcePictures> read_source_pictures(const GenerationSpec& spec);

// The same for another size of the same shape: a second pass.
SourcePictures resized(const SourcePictures& sources, const Size& size);

}  // namespace darkroom::engine
