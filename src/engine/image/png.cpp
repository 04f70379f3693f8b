// PNG through libpng. An error leaves libpng by longjmp, which may not skip a destructor: each function that calls
// setjmp touches only plain values, and all that owns memory lives in a struct of its caller.

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <new>
#include <utility>

#include <png.h>

#include "engine/image/formats.h"
#include "metadata/exif.h"
#include "metadata/infotext.h"

namespace darkroom::engine {
namespace {

constexpr char kKeyword[] = "parameters";
constexpr png_alloc_size_t kMaxChunkBytes = png_alloc_size_t{4} << 20U;  // of one text or profile, decompressed
constexpr std::ptrdiff_t kSignatureBytes = 8;
constexpr png_uint_32 kMaxTextChunks = 32;
// On a smooth 1024×1024 picture with a little noise, all filters allowed: level 2 takes 0.10 s and gives 1.65 MB, level
// 4 0.26 s and 1.40 MB, zlib's usual 6 0.75 s and 1.42 MB.
constexpr int kCompressionLevel = 4;
constexpr int kMaxSide = 0x7fffffff;

constexpr std::size_t kMessageBytes = 128;

void on_error(png_structp png, png_const_charp message) {
  auto* out = static_cast<char*>(png_get_error_ptr(png));
  std::strncpy(out, message, kMessageBytes - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

// Everything of one decoding that owns something.
struct Reader {
  explicit Reader(std::span<const std::byte> bytes)
      : file(bytes), png(png_create_read_struct(PNG_LIBPNG_VER_STRING, message, on_error, on_warning)) {
    if (png != nullptr) info = png_create_info_struct(png);
    if (info == nullptr) throw std::bad_alloc();
    png_set_read_fn(png, this, [](png_structp p, png_bytep out, std::size_t count) {
      auto& left = static_cast<Reader*>(png_get_io_ptr(p))->file;
      if (left.size() < count) png_error(p, "the file ends early");
      std::memcpy(out, left.data(), count);
      left = left.subspan(count);
    });
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // check_size names the limit better
    png_set_chunk_malloc_max(png, kMaxChunkBytes);
    png_set_chunk_cache_max(png, kMaxTextChunks);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }

  tl::unexpected<Error> damaged() const {
    return fail(ErrorCode::corrupt_data, "the PNG file is damaged: {}", message);
  }

  char message[kMessageBytes] = "";
  std::span<const std::byte> file;  // what is left to read
  png_structp png = nullptr;
  png_infop info = nullptr;
  Image image;
  std::vector<png_bytep> rows;
};

// Up to the first pixels; no buffer has been taken for them yet. false, here and below: libpng complained.
bool read_info(Reader& reader) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  png_read_info(reader.png, reader.info);
  return true;
}

int channels_of(const Reader& reader) {
  const int color = png_get_color_type(reader.png, reader.info);
  if ((color & PNG_COLOR_MASK_ALPHA) != 0 || png_get_valid(reader.png, reader.info, PNG_INFO_tRNS) != 0) return 4;
  return (color & PNG_COLOR_MASK_COLOR) != 0 ? 3 : 1;
}

bool read_pixels(Reader& reader) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  png_set_expand(reader.png);
  png_set_strip_16(reader.png);
  if (reader.image.channels != 1) png_set_gray_to_rgb(reader.png);  // an Image has no gray with alpha
  png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
  if (png_get_rowbytes(reader.png, reader.info) != reader.image.row_bytes()) png_error(reader.png, "odd row size");
  png_read_image(reader.png, reader.rows.data());
  png_read_end(reader.png, reader.info);
  return true;
}

// Whether each chunk up to IEND lies within the file: libpng would take as much memory as one claims to need, up to 2
// GiB.
Result<void> check_chunks(std::span<const std::byte> file) {
  constexpr std::size_t kFrame = 12;  // length, type, checksum
  auto left = file.subspan(kSignatureBytes);
  while (true) {
    const std::size_t size =
        left.size() < kFrame ? kFrame : kFrame + png_get_uint_32(reinterpret_cast<png_const_bytep>(left.data()));
    if (size > left.size()) return fail(ErrorCode::corrupt_data, "the PNG file is damaged: it ends inside a chunk");
    if (std::memcmp(left.data() + 4, "IEND", 4) == 0) return {};
    left = left.subspan(size);
  }
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

struct Writer {
  Writer() : png(png_create_write_struct(PNG_LIBPNG_VER_STRING, message, on_error, on_warning)) {
    if (png != nullptr) info = png_create_info_struct(png);
    if (info == nullptr) throw std::bad_alloc();
    png_set_write_fn(
        png, this,
        [](png_structp p, png_bytep data, std::size_t count) {
          if (!static_cast<Writer*>(png_get_io_ptr(p))->append(data, count)) png_error(p, "out of memory");
        },
        nullptr);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() { png_destroy_write_struct(&png, &info); }

  // false: no memory. An exception must not pass through libpng's frames.
  bool append(const png_byte* data, std::size_t count) {
    const auto* start = reinterpret_cast<const std::byte*>(data);
    try {
      bytes.insert(bytes.end(), start, start + count);
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }

  char message[kMessageBytes] = "";
  png_structp png = nullptr;
  png_infop info = nullptr;
  Bytes bytes;
  std::string text;  // the parameters
};

bool write(Writer& writer, const Image& image) {
  if (setjmp(png_jmpbuf(writer.png)) != 0) return false;
  const int color = image.channels == 1   ? PNG_COLOR_TYPE_GRAY
                    : image.channels == 3 ? PNG_COLOR_TYPE_RGB
                                          : PNG_COLOR_TYPE_RGB_ALPHA;
  png_set_IHDR(writer.png, writer.info, static_cast<png_uint_32>(image.width), static_cast<png_uint_32>(image.height),
               8, color, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_set_compression_level(writer.png, kCompressionLevel);
  if (!writer.text.empty()) {
    // tEXt is Latin-1 and iTXt is UTF-8; plain ASCII goes to tEXt, which every tool reads.
    png_text chunk{};
    chunk.key = const_cast<char*>(kKeyword);
    chunk.text = writer.text.data();
    chunk.compression = is_ascii(writer.text) ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
    png_set_text(writer.png, writer.info, &chunk, 1);
  }
  png_write_info(writer.png, writer.info);
  for (int y = 0; y < image.height; ++y) png_write_row(writer.png, image.row(y));
  png_write_end(writer.png, writer.info);
  return true;
}

}  // namespace

Result<Decoded> decode_png(std::span<const std::byte> file, const DecodeLimits& limits) {
  if (const auto whole = check_chunks(file); !whole) return tl::unexpected(whole.error());
  Reader reader(file);
  if (!read_info(reader)) return reader.damaged();
  const png_uint_32 width = png_get_image_width(reader.png, reader.info);
  const png_uint_32 height = png_get_image_height(reader.png, reader.info);
  if (const auto fits = check_size("PNG", width, height, limits); !fits) return tl::unexpected(fits.error());
  reader.image = Image(static_cast<int>(width), static_cast<int>(height), channels_of(reader));
  for (int y = 0; y < reader.image.height; ++y) reader.rows.push_back(reader.image.row(y));
  if (!read_pixels(reader)) return reader.damaged();

  Decoded decoded{std::move(reader.image)};
  png_bytep exif = nullptr;
  png_uint_32 exif_size = 0;
  if (png_get_eXIf_1(reader.png, reader.info, &exif_size, &exif) != 0) {
    decoded.orientation = read_exif({reinterpret_cast<const std::byte*>(exif), exif_size}).orientation;
  }
  return decoded;
}

Result<Bytes> encode_png(const Image& image, std::string_view parameters) {
  if (const auto ok = check_encodable("PNG", image, kMaxSide); !ok) return tl::unexpected(ok.error());
  if (const auto ok = check_parameters_text(parameters); !ok) return tl::unexpected(ok.error());
  Writer writer;
  writer.text = parameters;
  if (!write(writer, image)) return fail(ErrorCode::internal, "cannot write the picture as PNG: {}", writer.message);
  return std::move(writer.bytes);
}

}  // namespace darkroom::engine
