// torch.save() files: the reference's own, hand-made ones of both containers, and what must be refused.
#include "engine/weights/pickle.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/weights/inspect.h"
#include "engine/weights/weight_file.h"
#include "tests/support/tiny_models.h"
#include "tests/unit/weights/torch_file.h"

namespace darkroom::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using namespace test::torch_file;

const std::string kFloats = [] {
  std::string bytes(24, '\0');
  const std::array<float, 6> values{0, 1, 2, 3, 4, 5};
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}();

std::string file_of(const std::string& value) {
  return zipped({{"x/data.pkl", kProto + value + "."}, {"x/byteorder", "little"}, {"x/data/0", kFloats}});
}

Result<std::vector<HostTensor>> read(const std::string& bytes) {
  return read_torch_file(std::as_bytes(std::span(bytes)), nullptr, "test.pth");
}

std::vector<float> floats_of(const HostTensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  to_float(tensor.dtype, tensor.data, values.data(), values.size());
  return values;
}

TEST(Pickle, TheReferenceUpscalerIsTheSameAsItsSafetensors) {
  const auto folder = test::vectors_dir() / "upscalers";
  const auto pickled = open_weight_file(folder / "realesrgan-x4.pth");
  ASSERT_TRUE(pickled) << pickled.error().message;
  EXPECT_EQ(pickled->format, FileFormat::pickle);
  const auto plain = open_weight_file(folder / "realesrgan-x4-new-keys.safetensors");
  ASSERT_TRUE(plain) << plain.error().message;
  ASSERT_EQ(pickled->weights->names(), plain->weights->names());
  for (const std::string& name : plain->weights->names()) {
    const auto a = pickled->weights->find(name).value();
    const auto b = plain->weights->find(name).value();
    ASSERT_EQ(a.shape, b.shape) << name;
    // The .pth has float32 of the same float16 values.
    ASSERT_EQ(a.dtype, DType::f32) << name;
    ASSERT_EQ(b.dtype, DType::f16) << name;
    ASSERT_EQ(floats_of(a), floats_of(b)) << name;
  }
  EXPECT_EQ(inspect(folder / "realesrgan-x4.pth").value().what.kind, FileKind::upscaler);
}

TEST(Pickle, ATensorIsAViewOfItsStorage) {
  const auto bytes = file_of(dict({{"a", tensor(storage("FloatStorage", "0", 6), 2, {2, 2}, {2, 1})}}));
  const auto tensors = read(bytes);
  ASSERT_TRUE(tensors) << tensors.error().message;
  ASSERT_EQ(tensors->size(), 1U);
  EXPECT_EQ(tensors->front().name, "a");
  EXPECT_EQ(tensors->front().shape, (Shape{2, 2}));
  EXPECT_THAT(floats_of(tensors->front()), ElementsAre(2, 3, 4, 5));
}

TEST(Pickle, ATransposedTensorIsCopiedInItsOrder) {
  const auto bytes = file_of(dict({{"a", tensor(storage("FloatStorage", "0", 6), 0, {3, 2}, {1, 3})}}));
  const auto tensors = read(bytes);
  ASSERT_TRUE(tensors) << tensors.error().message;
  EXPECT_THAT(floats_of(tensors->front()), ElementsAre(0, 3, 1, 4, 2, 5));
}

TEST(Pickle, NestedDictionariesGiveDottedNamesAndStateDictIsTheRoot) {
  const std::string one = tensor(storage("FloatStorage", "0", 6), 0, {6}, {1});
  const auto nested =
      read(file_of(dict({{"string_to_param", dict({{"*", one}})}, {"step", integer(7)}, {"list", "](" + one + "e"}})));
  ASSERT_TRUE(nested) << nested.error().message;
  ASSERT_EQ(nested->size(), 2U);
  EXPECT_EQ((*nested)[0].name, "string_to_param.*");
  EXPECT_EQ((*nested)[1].name, "list.0");
  const auto checkpoint = read(file_of(dict({{"epoch", integer(1)}, {"state_dict", dict({{"w", one}})}})));
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  EXPECT_EQ(checkpoint->front().name, "w");
}

TEST(Pickle, AnOrderedDictWithAttributesAndAParameterAreRead) {
  const std::string one = tensor(storage("FloatStorage", "0", 6), 0, {6}, {1});
  const std::string parameter =
      "ctorch._utils\n_rebuild_parameter\n" + tuple({one, "\x88", "ccollections\nOrderedDict\n)R"}) + "R";
  const std::string pairs = "](" + tuple({text("w"), parameter}) + "e";
  const auto tensors =
      read(file_of("ccollections\nOrderedDict\n" + tuple({pairs}) + "R" + dict({{"_metadata", "}"}}) + "b"));
  ASSERT_TRUE(tensors) << tensors.error().message;
  ASSERT_EQ(tensors->size(), 1U);
  EXPECT_EQ(tensors->front().name, "w");
}

std::string plain_file(const std::string& elements) {
  const std::string magic("\x80\x02\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19.", 15);
  return magic + kProto + "M\xE9\x03." + kProto + "}." + kProto +
         dict({{"a", tensor(storage("FloatStorage", "123", 6, "N"), 0, {2, 3}, {3, 1})}}) + "." + kProto + "]" +
         text("123") + "a." + elements + kFloats;
}

TEST(Pickle, TheOlderPlainContainerIsRead) {
  const auto bytes = plain_file(little(6, 8));
  const auto tensors = read(bytes);
  ASSERT_TRUE(tensors) << tensors.error().message;
  EXPECT_THAT(floats_of(tensors->front()), ElementsAre(0, 1, 2, 3, 4, 5));
  for (std::size_t length = 0; length < bytes.size(); ++length) EXPECT_FALSE(read(bytes.substr(0, length))) << length;
  EXPECT_EQ(read(plain_file(little(~0ULL, 8))).error().code, ErrorCode::corrupt_data);
}

TEST(Pickle, CodeIsRefusedByItsName) {
  for (const std::string& call :
       {"cposix\nsystem\n" + tuple({text("true")}) + "R", "\x80\x04" + text("builtins") + text("eval") + "\x93"}) {
    const auto tensors = read(file_of(call));
    ASSERT_FALSE(tensors);
    EXPECT_EQ(tensors.error().code, ErrorCode::unsupported);
    EXPECT_THAT(tensors.error().message, testing::AnyOf(HasSubstr("'posix.system'"), HasSubstr("'builtins.eval'")));
  }
  const auto opcode = read(file_of("(ios\nsystem\n"));
  ASSERT_FALSE(opcode);
  EXPECT_EQ(opcode.error().code, ErrorCode::unsupported);
  EXPECT_THAT(opcode.error().message, HasSubstr("opcode 0x69"));
}

TEST(Pickle, TensorsOutsideTheirStorageAreRefused) {
  const std::string of = storage("FloatStorage", "0", 6);
  const std::int64_t big = 0x7FFFFFFF;
  for (const std::string& bad :
       {tensor(of, 0, {7}, {1}), tensor(of, 1, {6}, {1}), tensor(of, -1, {2}, {1}), tensor(of, 0, {-2}, {1}),
        tensor(of, 0, {2}, {-1}), tensor(of, 0, {2, 2}, {5, 1}), tensor(of, 0, {big, big, big}, {1, 1, 1}),
        tensor(of, 0, {big}, {0}), tensor(of, 0, {2, 2}, {big, big}),
        tensor(storage("FloatStorage", "0", 7), 0, {7}, {1}), tensor(storage("FloatStorage", "9", 6), 0, {6}, {1}),
        tensor(storage("DoubleStorage", "0", 6), 0, {6}, {1}),
        tensor(of, 0, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1, 1}), tensor(of, 0, {2}, {1, 1})}) {
    const auto tensors = read(file_of(dict({{"a", bad}})));
    ASSERT_FALSE(tensors);
    EXPECT_EQ(tensors.error().code, ErrorCode::corrupt_data);
  }
}

TEST(Pickle, DamagedPicklesAreRefused) {
  for (const std::string& bad :
       {std::string("t"), std::string("u"), std::string("0"), std::string("q\x01"), std::string("h\x05"),
        std::string("Q"), std::string("R"), std::string("b"), std::string("("), std::string("X\xFF\xFF\xFF\xFF"),
        std::string("}(NNNu"), std::string("N(Nu"), std::string("(N\x85\x86"), std::string("\x80\x09"),
        std::string("cx")}) {
    EXPECT_FALSE(read(file_of(bad))) << bad;
  }
}

TEST(Pickle, NestingTakesNoStackAndDoublingNoMemory) {
  EXPECT_TRUE(read(file_of(std::string(1'000'000, ']') + std::string(999'999, 'a'))).error().message.find("nested") !=
              std::string::npos);
  // Thirty dictionaries, each holding the one before twice.
  std::string doubling = "}q\x01";
  for (int i = 0; i < 30; ++i) doubling += "}(" + text("a") + "h\x01" + text("b") + "h\x01uq\x01";
  EXPECT_FALSE(read(file_of(doubling)));
}

TEST(Pickle, ATruncatedZipIsRefusedAtEveryLength) {
  const auto bytes = file_of(dict({{"a", tensor(storage("FloatStorage", "0", 6), 0, {6}, {1})}}));
  ASSERT_TRUE(read(bytes));
  for (std::size_t length = 0; length < bytes.size(); ++length) EXPECT_FALSE(read(bytes.substr(0, length))) << length;
}

TEST(Pickle, ABigEndianFileIsRefused) {
  const auto tensors = read(zipped({{"x/data.pkl", kProto + "}."}, {"x/byteorder", "big"}}));
  ASSERT_FALSE(tensors);
  EXPECT_EQ(tensors.error().code, ErrorCode::unsupported);
}

}  // namespace
}  // namespace darkroom::engine
