#include "engine/image/codec.h"

#include <algorithm>
#include <functional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/image/compare.h"
#include "metadata/picture_file.h"
#include "pictures.h"

namespace darkroom::engine {
namespace {

using testing::HasSubstr;

struct FormatCase {
  const char* name;
  std::function<Result<Bytes>(const Image&, std::string_view)> encode;
  double min_psnr;  // dB, of an RGB round trip
};

void PrintTo(const FormatCase& format, std::ostream* out) { *out << format.name; }

const FormatCase kFormats[] = {
    {"png", [](const Image& i, std::string_view p) { return encode_png(i, p); }, 1000},
    {"jpeg95", [](const Image& i, std::string_view p) { return encode_jpeg(i, 95, p); }, 30},
    {"jpeg75", [](const Image& i, std::string_view p) { return encode_jpeg(i, 75, p); }, 18},
    {"webp90", [](const Image& i, std::string_view p) { return encode_webp(i, 90, p); }, 18},
    {"webp100", [](const Image& i, std::string_view p) { return encode_webp(i, 100, p); }, 1000},
};

class EveryFormat : public testing::TestWithParam<FormatCase> {};
INSTANTIATE_TEST_SUITE_P(Codec, EveryFormat, testing::ValuesIn(kFormats),
                         [](const auto& format) { return std::string(format.param.name); });

TEST_P(EveryFormat, ComesBackAsItWasUpToTheFormatsLoss) {
  for (const auto& [width, height] : {std::pair{64, 48}, {1, 1}, {17, 3}, {1, 200}}) {
    const Image picture = make_picture(width, height, 3);
    const auto file = GetParam().encode(picture, {});
    ASSERT_TRUE(file) << file.error().message;
    const auto decoded = decode_image(*file);
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(decoded->channels, 3);
    if (width == 64) {
      EXPECT_GE(psnr(*decoded, picture), GetParam().min_psnr);
    }
  }
}

TEST_P(EveryFormat, CarriesTheParametersTextInAnyScript) {
  const Image picture = make_picture(16, 16, 3);
  for (const std::string text :
       {"a cat, <lora:x:1>\nSteps: 20, Size: 512x512", "café Ünïcode", "猫と犬\nSteps: 1", "😀 rocket 🚀", "Ж"}) {
    const auto file = GetParam().encode(picture, text);
    ASSERT_TRUE(file) << file.error().message;
    const auto read = read_parameters(*file);
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*read, text);
    EXPECT_TRUE(decode_image(*file));
  }
}

TEST_P(EveryFormat, HasNoParametersWhenNoneWereGiven) {
  const auto read = read_parameters(GetParam().encode(make_picture(8, 8, 3), {}).value());
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, std::nullopt);
}

TEST_P(EveryFormat, RefusesParametersThatAreNotUtf8) {
  const auto file = GetParam().encode(make_picture(8, 8, 3), "abc\xff");
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(file.error().message, HasSubstr("byte 3"));
  EXPECT_FALSE(GetParam().encode(make_picture(8, 8, 3), std::string_view("a\0b", 3)));
}

TEST_P(EveryFormat, RefusesAnEmptyPicture) {
  const auto file = GetParam().encode(Image(0, 5, 3), {});
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(file.error().message, HasSubstr("0×5"));
}

TEST_P(EveryFormat, RefusesEveryCutFile) {
  const auto file = GetParam().encode(make_picture(24, 16, 3), "p").value();
  // The last bytes may be padding or a marker that a decoder does not need.
  for (std::size_t size = 0; size + 2 < file.size(); ++size) {
    const auto decoded = decode_image(std::span(file).first(size));
    ASSERT_FALSE(decoded) << size << " of " << file.size();
    ASSERT_EQ(decoded.error().code, ErrorCode::corrupt_data);
  }
}

TEST_P(EveryFormat, SurvivesEveryFlippedBit) {
  const DecodeLimits small{.side = 512};
  auto file = GetParam().encode(make_picture(16, 12, 3), "parameters").value();
  for (std::size_t bit = 0; bit < 8 * file.size(); ++bit) {
    file[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    // Either answer is right; what counts is that there is one, and that pixels and size agree.
    if (const auto decoded = decode_image(file, small)) {
      ASSERT_EQ(decoded->pixels.size(), decoded->row_bytes() * static_cast<std::size_t>(decoded->height));
    }
    static_cast<void>(read_parameters(file));
    file[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
  }
}

TEST_P(EveryFormat, RefusesWhatIsPastALimitAndNamesIt) {
  const auto file = GetParam().encode(make_picture(40, 30, 3), {}).value();
  const auto side = decode_image(file, {.side = 39});
  ASSERT_FALSE(side);
  EXPECT_EQ(side.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(side.error().message, HasSubstr("40×30 pixels; the limit is 39 a side"));
  const auto pixels = decode_image(file, {.pixels = 1199});
  ASSERT_FALSE(pixels);
  EXPECT_THAT(pixels.error().message, HasSubstr("1200 pixels; the limit is 1199 pixels"));
  const auto bytes = decode_image(file, {.bytes = file.size() - 1});
  ASSERT_FALSE(bytes);
  EXPECT_THAT(bytes.error().message, HasSubstr(fmt::format("{} bytes; the limit is {}", file.size(), file.size() - 1)));
  EXPECT_TRUE(decode_image(file, {.bytes = file.size(), .side = 40, .pixels = 1200}));
}

TEST(Codec, RefusesABombBeforeTakingMemory) {
  auto file = encode_png(make_picture(4, 4, 3)).value();
  const std::byte huge[] = {std::byte{0x7F}, std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF}};
  std::copy_n(huge, 4, file.begin() + 16);  // IHDR: width
  std::copy_n(huge, 4, file.begin() + 20);  // height; then depth, type, three zeros and the CRC
  // CRC-32 of IHDR as it now stands, or libpng would stop at that.
  std::uint32_t crc = 0xFFFFFFFFU;
  for (std::size_t i = 12; i < 29; ++i) {
    crc ^= std::to_integer<std::uint32_t>(file[i]);
    for (int k = 0; k < 8; ++k) crc = crc >> 1U ^ (crc & 1U ? 0xEDB88320U : 0U);
  }
  crc = ~crc;
  for (std::size_t i = 0; i < 4; ++i) file[29 + i] = static_cast<std::byte>(crc >> (24 - 8 * i));
  const auto decoded = decode_image(file);
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(decoded.error().message, HasSubstr("2147483647×2147483647 pixels; the limit is 16384 a side"));
}

TEST(Codec, RefusesAChunkThatClaimsMoreThanTheFileHas) {
  auto file = encode_png(make_picture(4, 4, 3), "a cat").value();
  file[33] = std::byte{0x40};  // the text chunk's length: a gigabyte
  for (const auto& error : {decode_image(file).error(), read_parameters(file).error()}) {
    EXPECT_EQ(error.code, ErrorCode::corrupt_data);
    EXPECT_THAT(error.message, HasSubstr("ends inside a chunk"));
  }
}

TEST(Codec, ReadsParametersThatFollowThePixels) {
  const auto file = encode_png(make_picture(4, 4, 3), "a cat").value();
  Bytes moved(file.begin(), file.begin() + 33);
  constexpr std::size_t kText = 12 + 11 + 5;  // frame, keyword, text
  moved.insert(moved.end(), file.begin() + 33 + kText, file.end() - 12);
  moved.insert(moved.end(), file.begin() + 33, file.begin() + 33 + kText);
  moved.insert(moved.end(), file.end() - 12, file.end());
  EXPECT_EQ(read_parameters(moved).value(), "a cat");
  EXPECT_TRUE(decode_image(moved));
}

TEST(Codec, RefusesOtherFormatsByTheirFirstBytes) {
  for (const std::string_view text : {"GIF89a\x01\x02\x03", "<svg xmlns=", "RIFF....WAVEfmt ", "\x89PNG"}) {
    const auto decoded = decode_image(as_bytes(text));
    ASSERT_FALSE(decoded) << text;
    EXPECT_EQ(decoded.error().code, ErrorCode::corrupt_data);
  }
  EXPECT_THAT(decode_image(as_bytes("GIF89a12345")).error().message, HasSubstr("47 49 46 38 39 61 31 32"));
  EXPECT_THAT(decode_image({}).error().message, HasSubstr("empty"));
}

TEST(Codec, KeepsGrayAndAlphaWhereTheFormatHasThem) {
  const Image gray = make_picture(20, 10, 1);
  EXPECT_EQ(decode_image(encode_png(gray).value()).value(), gray);
  EXPECT_EQ(decode_image(encode_jpeg(gray, 95).value()).value().channels, 1);
  EXPECT_EQ(decode_image(encode_webp(gray, 100).value()).value(), to_rgb(gray));
  const Image transparent = make_picture(20, 10, 4);
  EXPECT_EQ(decode_image(encode_png(transparent).value()).value(), transparent);
  EXPECT_EQ(decode_image(encode_webp(transparent, 100).value()).value(), transparent);
  EXPECT_EQ(decode_image(encode_webp(transparent, 80).value()).value().channels, 4);
}

TEST(Codec, RefusesAlphaForJpegRatherThanDropIt) {
  const auto file = encode_jpeg(make_picture(4, 4, 4), 90);
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().message, HasSubstr("alpha"));
}

TEST(Codec, NamesTheRangeOfQuality) {
  for (const int quality : {0, -3, 101}) {
    EXPECT_THAT(encode_jpeg(make_picture(4, 4, 3), quality).error().message, HasSubstr("from 1 to 100"));
    EXPECT_THAT(encode_webp(make_picture(4, 4, 3), quality).error().message, HasSubstr(std::to_string(quality)));
  }
}

TEST(Codec, NamesTheSideLimitOfWebpAndTheTextLimitOfJpeg) {
  EXPECT_THAT(encode_webp(Image(16384, 1, 3), 90).error().message, HasSubstr("16383"));
  EXPECT_THAT(encode_jpeg(make_picture(4, 4, 3), 90, std::string(40000, 'x')).error().message, HasSubstr("65535"));
  const std::string longest((65535 - 2 - 6 - 44 - 8) / 2, 'x');
  const auto file = encode_jpeg(make_picture(4, 4, 3), 90, longest);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(read_parameters(*file).value(), longest);
}

TEST(Codec, WritesPngParametersBeforeThePixelsWhereOtherToolsLook) {
  const auto file = encode_png(make_picture(4, 4, 3), "a cat").value();
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  const auto chunk = text.find(std::string_view("tEXtparameters\0a cat", 20));
  EXPECT_NE(chunk, std::string_view::npos);
  EXPECT_LT(chunk, text.find("IDAT"));
  const auto file2 = encode_png(make_picture(4, 4, 3), "猫").value();
  const std::string_view text2(reinterpret_cast<const char*>(file2.data()), file2.size());
  EXPECT_NE(text2.find(std::string_view("iTXtparameters\0", 15)), std::string_view::npos);
}

// The eight orientations of a 3×2 picture that reads 1 2 3 / 4 5 6 as stored.
TEST(Codec, TurnsAPictureUprightAsItsOrientationSays) {
  const std::vector<std::uint8_t> upright[] = {
      {10, 20, 30, 40, 50, 60}, {30, 20, 10, 60, 50, 40}, {60, 50, 40, 30, 20, 10}, {40, 50, 60, 10, 20, 30},
      {10, 40, 20, 50, 30, 60}, {40, 10, 50, 20, 60, 30}, {60, 30, 50, 20, 40, 10}, {30, 60, 20, 50, 10, 40}};
  Image stored(3, 2, 1);
  stored.pixels = {10, 20, 30, 40, 50, 60};
  const auto plain = encode_jpeg(stored, 100).value();
  for (int orientation = 1; orientation <= 8; ++orientation) {
    std::string segment(
        "\xff\xe1\0\x22"
        "Exif\0\0"
        "MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0",
        36);
    segment[29] = static_cast<char>(orientation);
    auto file = plain;
    const auto bytes = as_bytes(segment);
    file.insert(file.begin() + 2, bytes.begin(), bytes.end());
    const auto decoded = decode_image(file);
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(decoded->width, orientation < 5 ? 3 : 2) << orientation;
    for (std::size_t i = 0; i < 6; ++i) {  // quality 100: within 1 of 255
      EXPECT_NEAR(decoded->pixels[i], upright[orientation - 1][i], 1) << orientation << ", pixel " << i;
    }
  }
}

TEST(Image, BecomesRgbAsPillowConverts) {
  Image rgba(1, 1, 4);
  rgba.pixels = {1, 2, 3, 0};
  EXPECT_EQ(to_rgb(rgba).pixels, (std::vector<std::uint8_t>{1, 2, 3}));  // the hidden colour shows
  EXPECT_EQ(to_gray(rgba).pixels, (std::vector<std::uint8_t>{2}));
  Image gray(1, 1, 1);
  gray.pixels = {7};
  EXPECT_EQ(to_rgb(gray).pixels, (std::vector<std::uint8_t>{7, 7, 7}));
}

TEST(Compare, MeasuresTheLargestAndTheMeanDifference) {
  Image a(2, 1, 1);
  Image b = a;
  EXPECT_EQ(max_difference(a, b), 0);
  EXPECT_EQ(psnr(a, b), std::numeric_limits<double>::infinity());
  b.pixels = {255, 255};
  EXPECT_EQ(max_difference(a, b), 255);
  EXPECT_DOUBLE_EQ(psnr(a, b), 0.0);
  EXPECT_EQ(max_difference(a, Image(1, 2, 1)), 256);
}

}  // namespace
}  // namespace darkroom::engine
