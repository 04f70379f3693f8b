// Safetensors files: what is written is read, and no damaged or hostile file is believed.
#include "engine/weights/safetensors.h"

#include <cstring>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/weights/weights_support.h"

namespace darkroom::engine {
namespace {

using test::TemporaryFolder;
using testing::HasSubstr;

std::string file_bytes(std::string_view header, std::size_t data_bytes) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(header.size() >> (8 * i) & 0xFF));
  bytes += header;
  bytes.append(data_bytes, '\x11');
  return bytes;
}

Result<SafetensorsFile> parsed(const std::string& bytes) {
  return SafetensorsFile::parse(std::as_bytes(std::span(bytes)), nullptr, "test.safetensors");
}

TEST(Safetensors, WhatIsWrittenIsRead) {
  const TemporaryFolder folder;
  const std::array<float, 6> values{1, 2, 3, 4, 5, 6};
  const std::array<std::int64_t, 1> number{-7};
  const auto* data = reinterpret_cast<const std::byte*>(values.data());
  const std::vector<HostTensor> tensors = {
      {.name = "a.weight", .dtype = DType::f32, .shape = {2, 3}, .data = data, .owner = nullptr},
      {.name = "empty", .dtype = DType::f16, .shape = {0, 4}, .data = nullptr, .owner = nullptr},
      {.name = "scalar",
       .dtype = DType::i64,
       .shape = {},
       .data = reinterpret_cast<const std::byte*>(number.data()),
       .owner = nullptr},
      {.name = "flags\"\n", .dtype = DType::boolean, .shape = {3}, .data = data, .owner = nullptr}};
  ASSERT_TRUE(write_safetensors(folder / "x.safetensors", tensors, {{"format", "pt"}}));
  const auto file = SafetensorsFile::open(folder / "x.safetensors");
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->tensors().size(), tensors.size());
  EXPECT_EQ(file->metadata().at("format"), "pt");
  for (const HostTensor& expected : tensors) {
    const HostTensor* found = file->find(expected.name);
    ASSERT_NE(found, nullptr) << expected.name;
    EXPECT_EQ(found->dtype, expected.dtype);
    EXPECT_EQ(found->shape, expected.shape);
    if (expected.bytes() > 0) {
      EXPECT_EQ(std::memcmp(found->data, expected.data, expected.bytes()), 0);
    }
  }
  EXPECT_EQ(file->find("b"), nullptr);
  // Nothing temporary is left.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(Safetensors, AnAbandonedWriterLeavesNothingBehind) {
  const TemporaryFolder folder;
  {
    const std::vector<TensorSpec> specs{{"a", DType::f32, {4}}};
    auto writer = SafetensorsWriter::create(folder / "x.safetensors", specs);
    ASSERT_TRUE(writer);
    const std::array<std::byte, 16> data{};
    ASSERT_TRUE(writer->write(std::span(data).first(7)));
    EXPECT_EQ(writer->finish().error().code, ErrorCode::invalid_argument);
    EXPECT_FALSE(writer->write(data));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Safetensors, EveryElementTypeOfTheEngineIsRead) {
  const std::vector<std::pair<const char*, DType>> types = {
      {"F64", DType::f64},         {"F32", DType::f32},         {"F16", DType::f16}, {"BF16", DType::bf16},
      {"F8_E4M3", DType::f8_e4m3}, {"F8_E5M2", DType::f8_e5m2}, {"I64", DType::i64}, {"I32", DType::i32},
      {"I16", DType::i16},         {"I8", DType::i8},           {"U8", DType::u8},   {"BOOL", DType::boolean}};
  for (const auto& [name, type] : types) {
    const std::size_t bytes = 3 * size_of(type);
    const std::string text =
        file_bytes(fmt::format(R"({{"t":{{"dtype":"{}","shape":[3],"data_offsets":[0,{}]}}}})", name, bytes), bytes);
    const auto file = parsed(text);
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->tensors().front().dtype, type);
  }
}

TEST(Safetensors, ATypeOfTheFormatWithoutAUseHereIsUnsupported) {
  const auto file = parsed(file_bytes(R"({"t":{"dtype":"U64","shape":[1],"data_offsets":[0,8]}})", 8));
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::unsupported);
}

TEST(Safetensors, AHeaderLengthOf2To63IsRefused) {
  std::string bytes = file_bytes("{}", 0);
  bytes[7] = '\x80';
  const auto file = parsed(bytes);
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::corrupt_data);
}

TEST(Safetensors, ATruncatedFileIsRefusedAtEveryLength) {
  const std::string whole = file_bytes(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  ASSERT_TRUE(parsed(whole));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const auto file = parsed(whole.substr(0, length));
    ASSERT_FALSE(file) << length;
    EXPECT_EQ(file.error().code, ErrorCode::corrupt_data);
  }
}

struct Damage {
  const char* header;
  const char* message;
};

class DamagedHeader : public testing::TestWithParam<Damage> {};

TEST_P(DamagedHeader, IsRefusedWithWhatIsWrong) {
  const auto file = parsed(file_bytes(GetParam().header, 16));
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::corrupt_data);
  EXPECT_THAT(file.error().message, HasSubstr("test.safetensors: "));
  EXPECT_THAT(file.error().message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Headers, DamagedHeader,
    testing::Values(
        Damage{R"([])", "does not begin with '{'"}, Damage{R"({"t":)", "at byte"}, Damage{"{\"\xFF\":1}", "at byte"},
        Damage{R"({"t":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}} x)", "at byte"},
        Damage{R"({"t":{"dtype":"F32","shape":[4]}})", "tensor 't': 'data_offsets' is missing"},
        Damage{R"({"t":{"dtype":"F31","shape":[4],"data_offsets":[0,16]}})", "unknown element type 'F31'"},
        Damage{R"({"t":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})", "tensor 't': the number -4"},
        Damage{R"({"t":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}})", "the number 4.0"},
        Damage{R"({"t":{"dtype":"F32","shape":[3],"data_offsets":[0,16]}})",
               "F32 [3] takes 12 bytes, its offsets give it 16"},
        Damage{R"({"t":{"dtype":"F32","shape":[4],"data_offsets":[0,17]}})", "data from 0 to 17"},
        Damage{R"({"t":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})", "data from 16 to 0"},
        Damage{R"({"t":{"dtype":"F32","shape":[4],"data_offsets":[0]}})", "1 data offsets"},
        Damage{R"({"t":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}})", "more than 2^63"},
        Damage{R"({"t":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,16]}})", "more than 2^63"},
        Damage{R"({"t":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,16]}})", "9 dimensions"},
        Damage{
            R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}})",
            "overlap"},
        Damage{
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
            "a hole"},
        Damage{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
               "end at byte 8 of the data, the data at 16"},
        Damage{
            R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
            "tensor 'a' stands twice"},
        Damage{R"({"a":{"dtype":"F32","shape":[4],"shape":[4],"data_offsets":[0,16]}})", "'shape' stands twice"},
        Damage{R"({"a":{"dtype":"F32","shape":[[4]],"data_offsets":[0,16]}})", "an array as 'shape'"},
        Damage{R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"x":{}}})", "an object as 'x'"},
        Damage{R"({"a":7})", "'a' is the number 7"},
        Damage{R"({"__metadata__":{"a":1}})", "metadata 'a' is the number 1"}));

TEST(Safetensors, ADeeplyNestedHeaderIsRefusedWithoutRecursion) {
  EXPECT_FALSE(parsed(file_bytes("{\"a\":" + std::string(1'000'000, '['), 0)));
  EXPECT_FALSE(parsed(file_bytes("{\"a\":{\"shape\":" + std::string(1'000'000, '['), 0)));
}

}  // namespace
}  // namespace darkroom::engine
