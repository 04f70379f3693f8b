#include "engine/pipeline/source_pictures.h"

#include "base/error.h"
#include "base/mapped_file.h"
#include "engine/image/codec.h"
#include "engine/image/pixels.h"
#include "engine/image/resize.h"

namespace darkroom::engine {

Result<Image> read_picture(const ImageSource& source) {
  if (!source.bytes.empty()) return decode_image(std::as_bytes(std::span(source.bytes)));
  return MappedFile::open(source.path).and_then([](const auto& file) { return decode_image(file->bytes()); });
}

Image read_picture(const ImageSource& source, std::string_view field) {
  Result<Image> image = read_picture(source);
  if (!image) throw_failure(image.error().code, "{}: {}", field, image.error().message);
  return *std::move(image);
}

Image fit(const Image& picture, const Size& size, ResizeMode mode, std::string_view field) {
  if (picture.width == size.width && picture.height == size.height) return picture;
  switch (mode) {
    case ResizeMode::refuse:
      throw_failure(ErrorCode::invalid_argument,
                    "{} has {}x{} pixels, the picture is to have {}x{}; resize_mode stretch, crop or pad resizes it",
                    field, picture.width, picture.height, size.width, size.height);
    case ResizeMode::stretch:
      return resize(picture, size.width, size.height);
    case ResizeMode::crop:
      return resize_and_crop(picture, size.width, size.height);
    case ResizeMode::pad:
      return resize_and_fill(picture, size.width, size.height);
  }
  DR_ASSERT(false);
}

std::optional<SourcePictures> read_source_pictures(const GenerationSpec& spec) {
  if (!spec.init_image) return std::nullopt;
  const Size size{.width = spec.width, .height = spec.height};
  const Margins margins{
      .left = spec.extend.left, .top = spec.extend.top, .right = spec.extend.right, .bottom = spec.extend.bottom};
  const bool extends = margins.left + margins.top + margins.right + margins.bottom > 0;

  const Image init = to_rgb(read_picture(*spec.init_image, "init_image"));
  std::optional<Image> mask;
  if (spec.mask_image) {
    mask = to_gray(read_picture(*spec.mask_image, "mask_image"));
    // What is extended is the picture as it was given, which the mask then has to cover.
    if (extends) mask = fit(*mask, {init.width, init.height}, spec.resize_mode, "mask_image");
  }
  if (extends) mask = extend_mask(mask ? *mask : Image(init.width, init.height, 1), margins);
  SourcePictures sources{.init = fit(extends ? extend_picture(init, margins) : init, size, spec.resize_mode,
                                     extends ? "the extended init_image" : "init_image"),
                         .mask = std::nullopt};
  if (mask) sources.mask = binarize(fit(*mask, size, spec.resize_mode, "mask_image"));
  return sources;
}

SourcePictures resized(const SourcePictures& sources, const Size& size) {
  SourcePictures result{.init = resize(sources.init, size.width, size.height), .mask = std::nullopt};
  if (sources.mask) result.mask = binarize(resize(*sources.mask, size.width, size.height));
  return result;
}

}  // namespace darkroom::engine
