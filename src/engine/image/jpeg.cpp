// JPEG through libjpeg-turbo's TurboJPEG, and the Exif segment in it (JFIF 1.02; ITU-T T.81, annex B).

#include <algorithm>
#include <limits>
#include <memory>

#include <turbojpeg.h>

#include "engine/image/formats.h"
#include "metadata/exif.h"
#include "metadata/infotext.h"
#include "metadata/picture_file.h"

namespace darkroom::engine {
namespace {

constexpr int kMaxSide = 65500;                  // pixels, libjpeg's
constexpr std::size_t kMaxSegmentBytes = 65535;  // with its two length bytes
constexpr int kFullChromaQuality = 90;

struct Destroy {
  void operator()(void* handle) const { tjDestroy(handle); }
};
using Handle = std::unique_ptr<void, Destroy>;

struct Free {
  void operator()(unsigned char* bytes) const { tjFree(bytes); }
};

const unsigned char* data_of(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

}  // namespace

Result<Decoded> decode_jpeg(std::span<const std::byte> file, const DecodeLimits& limits) {
  const Handle handle{tjInitDecompress()};
  if (!handle) return fail(ErrorCode::out_of_memory, "cannot start a JPEG decoder: {}", tjGetErrorStr2(nullptr));
  const auto damaged = [&] {
    return fail(ErrorCode::corrupt_data, "the JPEG file is damaged: {}", tjGetErrorStr2(handle.get()));
  };
  int width = 0;
  int height = 0;
  int subsampling = 0;
  int colorspace = 0;
  if (tjDecompressHeader3(handle.get(), data_of(file), file.size(), &width, &height, &subsampling, &colorspace) != 0) {
    return damaged();
  }
  if (const auto fits = check_size("JPEG", width, height, limits); !fits) return tl::unexpected(fits.error());
  if (colorspace == TJCS_CMYK || colorspace == TJCS_YCCK) {
    return fail(ErrorCode::unsupported, "the JPEG file is in CMYK colours; only gray and RGB ones are read");
  }
  const bool gray = colorspace == TJCS_GRAY;
  Decoded decoded{Image(width, height, gray ? 1 : 3)};
  // Stopping on warnings is what makes a cut file an error; the scan limit is against progressive files made to be
  // slow.
  constexpr int kFlags = TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS | TJFLAG_ACCURATEDCT;
  if (tjDecompress2(handle.get(), data_of(file), file.size(), decoded.image.pixels.data(), width, 0, height,
                    gray ? TJPF_GRAY : TJPF_RGB, kFlags) != 0) {
    return damaged();
  }
  decoded.orientation = read_exif(find_exif(file)).orientation;
  return decoded;
}

Result<Bytes> encode_jpeg(const Image& image, int quality, std::string_view parameters) {
  if (const auto ok = check_encodable("JPEG", image, kMaxSide, quality); !ok) return tl::unexpected(ok.error());
  if (const auto ok = check_parameters_text(parameters); !ok) return tl::unexpected(ok.error());
  if (image.channels == 4) {
    return fail(ErrorCode::invalid_argument, "a picture with alpha cannot be written as JPEG, which has none");
  }
  Bytes segment;  // the Exif segment: marker, length, prefix, block
  if (!parameters.empty()) {
    const auto block = make_exif(parameters);
    const std::size_t length = 2 + kExifPrefix.size() + block.size();
    if (length > kMaxSegmentBytes) {
      return fail(ErrorCode::invalid_argument,
                  "the parameters text takes {} bytes as Exif; a JPEG file holds {} at most", length, kMaxSegmentBytes);
    }
    segment = {std::byte{0xFF}, std::byte{0xE1}, static_cast<std::byte>(length >> 8U), static_cast<std::byte>(length)};
    for (const char c : kExifPrefix) segment.push_back(static_cast<std::byte>(c));
    segment.insert(segment.end(), block.begin(), block.end());
  }

  const Handle handle{tjInitCompress()};
  if (!handle) return fail(ErrorCode::out_of_memory, "cannot start a JPEG encoder: {}", tjGetErrorStr2(nullptr));
  const bool gray = image.channels == 1;
  const int subsampling = gray ? TJSAMP_GRAY : quality >= kFullChromaQuality ? TJSAMP_444 : TJSAMP_420;
  unsigned char* data = nullptr;
  unsigned long size = 0;
  const int status = tjCompress2(handle.get(), image.pixels.data(), image.width, 0, image.height,
                                 gray ? TJPF_GRAY : TJPF_RGB, &data, &size, subsampling, quality, TJFLAG_ACCURATEDCT);
  const std::unique_ptr<unsigned char, Free> owned{data};
  if (status != 0) {
    return fail(ErrorCode::internal, "cannot write the picture as JPEG: {}", tjGetErrorStr2(handle.get()));
  }
  // After SOI and the JFIF segment, which libjpeg writes first (4 bytes of marker and length, 14 of content).
  constexpr std::size_t kExifOffset = 2 + 2 + 16;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  Bytes file;
  file.reserve(size + segment.size());
  file.assign(bytes, bytes + kExifOffset);
  file.insert(file.end(), segment.begin(), segment.end());
  file.insert(file.end(), bytes + kExifOffset, bytes + size);
  return file;
}

}  // namespace darkroom::engine
