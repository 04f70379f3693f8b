#include "metadata/exif.h"

#include <string>

#include <gtest/gtest.h>

namespace darkroom {
namespace {

std::span<const std::byte> as_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Exif, IsWrittenAsPiexifWritesIt) {
  const auto block = make_exif("Aé");
  const std::string_view text(reinterpret_cast<const char*>(block.data()), block.size());
  EXPECT_TRUE(text.starts_with(std::string_view("MM\0*\0\0\0\x08", 8)));
  EXPECT_TRUE(text.ends_with(std::string_view("UNICODE\0\0A\0\xe9", 12)));
  EXPECT_EQ(read_exif(block).user_comment, "Aé");
}

TEST(Exif, IsReadInLittleEndianWithEitherOrderOfTheText) {
  const auto block = [](std::string_view units) {
    std::string out(
        "II*\0\x08\0\0\0"
        "\x02\0"
        "\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
        "\x69\x87\x04\0\x01\0\0\0\x26\0\0\0"
        "\0\0\0\0"
        "\x01\0"
        "\x86\x92\x07\0\x0c\0\0\0\x38\0\0\0"
        "\0\0\0\0",
        56);
    out += std::string_view("UNICODE\0", 8);
    out += units;
    return read_exif(as_bytes(out));
  };
  EXPECT_EQ(block(std::string_view("A\0b\0", 4)).user_comment, "Ab");
  EXPECT_EQ(block(std::string_view("\0A\0b", 4)).user_comment, "Ab");
  EXPECT_EQ(block(std::string_view("\xff\xfe\x42\x30", 4)).user_comment, "あ");
  EXPECT_EQ(block(std::string_view("\xfe\xff\x30\x42", 4)).user_comment, "あ");
  EXPECT_EQ(block(std::string_view("\0A\0b", 4)).orientation, 6);
}

TEST(Exif, IsAbsentWhereItCannotBeRead) {
  const auto block = make_exif("text");
  for (std::size_t size = 0; size < block.size(); ++size) {
    EXPECT_EQ(read_exif(std::span(block).first(size)).user_comment, std::nullopt) << size;
  }
  EXPECT_EQ(read_exif(as_bytes("garbage")).orientation, 1);
}

}  // namespace
}  // namespace darkroom
