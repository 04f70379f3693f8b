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

namespace {

// What a mask's picture says, as gray: its brightness, or where it is transparent.
Image mask_of(const Image& picture, const MaskUse& use) {
  Image mask = to_gray(picture);
  if (use.part == MaskPart::transparency) {
    for (std::size_t i = 0; i < mask.pixels.size(); ++i) {
      mask.pixels[i] = picture.channels == 4 ? static_cast<std::uint8_t>(255 - picture.pixels[4 * i + 3]) : 0;
    }
  }
  if (use.invert) {
    for (std::uint8_t& value : mask.pixels) value = static_cast<std::uint8_t>(255 - value);
  }
  return mask;
}

// Black or white, and blurred where asked for.
Image finished(const Image& mask, const MaskUse& use) {
  const Image sharp = binarize(mask);
  return use.blur > 0 ? gaussian_blur(sharp, static_cast<float>(use.blur)) : sharp;
}

// The masked part alone, as large as what is worked at.
SourcePictures masked_part(const Image& init, const Image& mask, const GenerationSpec& spec) {
  const Size size{.width = spec.width, .height = spec.height};
  const Area area = masked_area(mask, *spec.mask.margin, size);
  return {.init = resize(cut_out(init, area), size.width, size.height),
          .mask = resize(cut_out(mask, area), size.width, size.height),
          .surroundings = Surroundings{.whole = init, .mask = mask, .area = area}};
}

}  // namespace

std::optional<SourcePictures> read_source_pictures(const GenerationSpec& spec) {
  if (!spec.init_image) return std::nullopt;
  const Size size{.width = spec.width, .height = spec.height};
  const Margins margins{
      .left = spec.extend.left, .top = spec.extend.top, .right = spec.extend.right, .bottom = spec.extend.bottom};
  const bool extends = spec.extend.any();

  const Image init = to_rgb(read_picture(*spec.init_image, "init_image"));
  std::optional<Image> mask;
  if (spec.mask_image) {
    mask = mask_of(read_picture(*spec.mask_image, "mask_image"), spec.mask);
    // What is extended or cut is the picture as it was given, which the mask then has to cover.
    if (extends || spec.mask.margin) mask = fit(*mask, {init.width, init.height}, spec.resize_mode, "mask_image");
  }
  if (extends) mask = extend_mask(mask ? *mask : Image(init.width, init.height, 1), margins);
  const Image picture = extends ? extend_picture(init, margins) : init;
  SourcePictures sources;
  if (mask && spec.mask.margin) {
    sources = masked_part(picture, finished(*mask, spec.mask), spec);
  } else {
    sources.init = fit(picture, size, spec.resize_mode, extends ? "the extended init_image" : "init_image");
    if (mask) sources.mask = finished(fit(*mask, size, spec.resize_mode, "mask_image"), spec.mask);
  }
  if (sources.mask && spec.mask.fill == MaskFill::surroundings) {
    sources.init = fill_from_surroundings(sources.init, *sources.mask);
  }
  return sources;
}

SourcePictures resized(const SourcePictures& sources, const Size& size) {
  SourcePictures result{.init = resize(sources.init, size.width, size.height),
                        .mask = std::nullopt,
                        .surroundings = sources.surroundings};
  if (sources.mask) result.mask = resize(*sources.mask, size.width, size.height);
  return result;
}

}  // namespace darkroom::engine
