// Files laid out by hand; tests/unit/image/codec_test.cpp has those that the codecs write.
#include "metadata/picture_file.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "metadata/exif.h"

namespace darkroom {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;

std::span<const std::byte> as_bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string number(std::size_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> (8 * i) & 0xFF);
  return text;
}

std::string reversed(std::string text) { return {text.rbegin(), text.rend()}; }

std::string chunk(const std::string& type, const std::string& content) {
  const std::string body = type + content;
  return number(content.size(), 4) + body +
         number(crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size())), 4);
}

std::string png(const std::string& chunks) {
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", number(832, 4) + number(1216, 4) + "\x08\x02\0\0\0"s) + chunks +
         chunk("IEND", "");
}

std::string packed(const std::string& text) {
  std::string out(compressBound(text.size()), '\0');
  auto size = static_cast<uLongf>(out.size());
  compress(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(text.data()), text.size());
  return out.substr(0, size);
}

std::string parameters_of(const std::string& file) {
  const auto read = read_parameters(as_bytes(file));
  if (!read) return "error: " + read.error().message;
  return read->value_or("(none)");
}

TEST(PictureFile, ReadsEveryKindOfPngText) {
  EXPECT_EQ(parameters_of(png(chunk("tEXt", "parameters\0caf\xe9"s))), "café");
  EXPECT_EQ(parameters_of(png(chunk("zTXt", "parameters\0\0"s + packed("caf\xe9")))), "café");
  EXPECT_EQ(parameters_of(png(chunk("iTXt", "parameters\0\0\0en\0x\0猫"s))), "猫");
  EXPECT_EQ(parameters_of(png(chunk("iTXt", "parameters\0\1\0\0\0"s + packed("猫")))), "猫");
}

TEST(PictureFile, PassesOverOtherTexts) {
  EXPECT_EQ(parameters_of(png(chunk("tEXt", "Comment\0parameters"s) + chunk("tEXt", "parameters\0yes"s))), "yes");
  EXPECT_EQ(parameters_of(png(chunk("tEXt", "parametersX\0no"s))), "(none)");
}

TEST(PictureFile, RefusesDamagedTexts) {
  std::string wrong_sum = png(chunk("tEXt", "parameters\0abc"s));
  wrong_sum[wrong_sum.find("abc")] = 'x';
  EXPECT_THAT(parameters_of(wrong_sum), HasSubstr("checksum"));
  EXPECT_THAT(parameters_of(png(chunk("zTXt", "parameters\0\0nonsense"s))), HasSubstr("damaged"));
  EXPECT_THAT(parameters_of(png(chunk("zTXt", "parameters\0\0"s + packed("abc").substr(0, 5)))), HasSubstr("damaged"));
  EXPECT_THAT(parameters_of(png(chunk("iTXt", "parameters\0\0\0\0\0\xff"s))), HasSubstr("UTF-8"));
}

TEST(PictureFile, RefusesATextThatUnpacksToTooMuch) {
  EXPECT_THAT(parameters_of(png(chunk("zTXt", "parameters\0\0"s + packed(std::string(5U << 20U, 'x'))))),
              HasSubstr("longer than 4194304 bytes"));
}

std::string jpeg(const std::string& segments) { return "\xff\xd8"s + segments + "\xff\xda\0\2"s; }

std::string segment(char marker, const std::string& content) {
  return "\xff"s + marker + number(content.size() + 2, 2) + content;
}

std::string webp(const std::string& type, const std::string& content) {
  const std::string body = "WEBP" + type + reversed(number(content.size(), 4)) + content;
  return "RIFF" + reversed(number(body.size(), 4)) + body;
}

TEST(PictureFile, ReadsTheSizeOfEachFormat) {
  const std::string frame = segment('\xc2', "\x08"s + number(1216, 2) + number(832, 2) + "\3"s);
  const std::string vp8l_bits = reversed(number(831U | 1215U << 14U, 4));
  const std::string extended = "\0\0\0\0"s + reversed(number(831, 3)) + reversed(number(1215, 3));
  const std::string lossy = "\0\0\0\x9d\x01\x2a"s + reversed(number(832, 2)) + reversed(number(1216, 2));
  for (const std::string& file : {png(""), jpeg(segment('\xe0', "JFIF") + "\xff"s + frame),
                                  webp("VP8L", "/" + vp8l_bits), webp("VP8X", extended), webp("VP8 ", lossy)}) {
    const auto size = picture_size(as_bytes(file));
    ASSERT_TRUE(size) << size.error().message;
    EXPECT_EQ(*size, (PictureSize{832, 1216}));
  }
}

TEST(PictureFile, RefusesASizeThatTheFileDoesNotTell) {
  for (const std::string& file : {png("").substr(0, 20), jpeg(""), webp("VP8L", "/"), "GIF89a......"s, ""s}) {
    const auto size = picture_size(as_bytes(file));
    ASSERT_FALSE(size);
    EXPECT_EQ(size.error().code, ErrorCode::corrupt_data);
  }
}

TEST(PictureFile, ReadsTheUserCommentOfJpegAndWebp) {
  const auto block = make_exif("a cat");
  const std::string exif(reinterpret_cast<const char*>(block.data()), block.size());
  EXPECT_EQ(parameters_of(jpeg(segment('\xe1', "Exif\0\0"s + exif))), "a cat");
  EXPECT_EQ(parameters_of(webp("EXIF", exif)), "a cat");
  EXPECT_EQ(parameters_of(jpeg("")), "(none)");
}

TEST(PictureFile, SurvivesEveryCut) {
  const auto block = make_exif("a cat");
  const std::string exif(reinterpret_cast<const char*>(block.data()), block.size());
  for (const std::string& file : {png(chunk("zTXt", "parameters\0\0"s + packed("a"))),
                                  jpeg(segment('\xe1', "Exif\0\0"s + exif)), webp("EXIF", exif)}) {
    for (std::size_t size = 0; size < file.size(); ++size) {
      static_cast<void>(picture_size(as_bytes(file.substr(0, size))));
      static_cast<void>(read_parameters(as_bytes(file.substr(0, size))));
    }
  }
}

}  // namespace
}  // namespace darkroom
