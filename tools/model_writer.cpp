#include "tools/model_writer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "engine/text/clip_vocabulary.h"
#include "engine/weights/safetensors.h"

namespace darkroom::tools {

namespace fs = std::filesystem;
using engine::DType;

namespace {

constexpr std::size_t kBlock = 8U << 20;  // weights generated before they are written

// float64 to float16 in one rounding, to nearest even.
std::uint16_t half_of(double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 48 & 0x8000U);
  const std::uint64_t magnitude = bits & 0x7FFF'FFFF'FFFF'FFFFU;
  // Subnormal: adding 2^28 leaves the value's multiple of 2^-24, rounded by the addition, in the low bits.
  const auto absolute = std::bit_cast<double>(magnitude);
  const std::uint64_t small = std::bit_cast<std::uint64_t>(absolute + 0x1p28) & 0x7FFU;
  const std::uint64_t rounded = (magnitude + 0x1FF'FFFF'FFFFU + (magnitude >> 42 & 1U)) >> 42;
  const std::uint64_t normal = rounded - (std::uint64_t{1023 - 15} << 10);
  const std::uint64_t half = absolute < 0x1p-14 ? small : std::min<std::uint64_t>(normal, 0x7C00U);
  return static_cast<std::uint16_t>(sign | half);
}

Result<std::string> read_text(const fs::path& path) {
  auto file = MappedFile::open(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  const auto bytes = (*file)->bytes();
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<void> write_text(const fs::path& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), std::ssize(text));
  file.close();
  if (!file) return fail(ErrorCode::internal, "cannot write {}", path.string());
  return {};
}

struct Part {
  std::uint64_t key;
  double scale, offset;
  std::uint64_t elements;
};

struct PlannedTensor {
  std::string name;
  engine::Shape shape;
  std::vector<Part> parts;
  std::int64_t transposed_rows = 0;  // of the parts together, before the transposition; 0: none
};

engine::Shape shape_of(const nlohmann::json& entry) {
  const auto dims = entry.at("shape").get<std::vector<std::int64_t>>();
  return engine::Shape(std::span<const std::int64_t>(dims));
}

Part part_of(const nlohmann::json& entry) {
  return {.key = weight_key(entry.at("seed").get<std::uint64_t>(), entry.at("name").get<std::string>()),
          .scale = entry.at("scale").get<double>(),
          .offset = entry.at("offset").get<double>(),
          .elements = static_cast<std::uint64_t>(shape_of(entry).elements())};
}

PlannedTensor planned(const nlohmann::json& entry) {
  PlannedTensor tensor{.name = entry.at("name").get<std::string>(), .shape = shape_of(entry), .parts = {}};
  if (!entry.contains("parts")) {
    tensor.parts.push_back(part_of(entry));
    return tensor;
  }
  std::int64_t rows = 0;
  for (const auto& part : entry.at("parts")) {
    tensor.parts.push_back(part_of(part));
    rows += shape_of(part)[0];
  }
  if (entry.value("transpose", false)) tensor.transposed_rows = rows;
  return tensor;
}

void generate(const Part& part, std::uint64_t first, std::span<std::uint16_t> out, unsigned threads) {
  const std::size_t share = out.size() / threads + 1;
  std::vector<std::jthread> workers;
  for (std::size_t at = share; at < out.size(); at += share) {
    const auto piece = out.subspan(at, std::min(share, out.size() - at));
    workers.emplace_back(
        [&part, first, at, piece] { seeded_weights(part.key, part.scale, part.offset, first + at, piece); });
  }
  seeded_weights(part.key, part.scale, part.offset, first, out.first(std::min(share, out.size())));
}

// The float16 values as the file's type.
std::span<const std::byte> as_type(std::span<const std::uint16_t> halves, DType type, std::vector<std::byte>& room) {
  if (type == DType::f16) return std::as_bytes(halves);
  room.resize(halves.size() * engine::size_of(type));
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const float value = engine::f16_to_float(halves[i]);
    if (type == DType::f32) {
      std::memcpy(room.data() + i * 4, &value, 4);
    } else {
      const std::uint16_t bits = engine::float_to_bf16(value);
      std::memcpy(room.data() + i * 2, &bits, 2);
    }
  }
  return room;
}

Result<void> write_tensor(engine::SafetensorsWriter& writer, const PlannedTensor& tensor, DType type,
                          unsigned threads) {
  std::vector<std::uint16_t> block;
  std::vector<std::byte> room;
  if (tensor.transposed_rows == 0) {
    for (const Part& part : tensor.parts) {
      for (std::uint64_t first = 0; first < part.elements; first += kBlock) {
        block.resize(std::min<std::uint64_t>(kBlock, part.elements - first));
        generate(part, first, block, threads);
        if (auto written = writer.write(as_type(block, type, room)); !written) return written;
      }
    }
    return {};
  }
  std::vector<std::uint16_t> whole;
  for (const Part& part : tensor.parts) {
    block.resize(part.elements);
    generate(part, 0, block, threads);
    whole.insert(whole.end(), block.begin(), block.end());
  }
  const auto rows = static_cast<std::size_t>(tensor.transposed_rows);
  const std::size_t columns = whole.size() / rows;
  block.resize(whole.size());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) block[c * rows + r] = whole[r * columns + c];
  }
  return writer.write(as_type(block, type, room));
}

Result<void> write_component(const nlohmann::json& component, const fs::path& file, const WriteModelOptions& options) {
  std::vector<PlannedTensor> tensors;
  std::vector<engine::TensorSpec> specs;
  for (const auto& entry : component.at("tensors")) {
    tensors.push_back(planned(entry));
    const PlannedTensor& tensor = tensors.back();
    std::uint64_t elements = 0;
    for (const Part& part : tensor.parts) elements += part.elements;
    if (elements != static_cast<std::uint64_t>(tensor.shape.elements())) {
      return fail(ErrorCode::corrupt_data, "the manifest's tensor '{}' {} has parts of {} elements", tensor.name,
                  tensor.shape.str(), elements);
    }
    specs.push_back({tensor.name, options.dtype, tensor.shape});
  }
  auto writer = engine::SafetensorsWriter::create(file, specs, {{"format", "pt"}});
  if (!writer) return tl::unexpected(std::move(writer.error()));
  for (const PlannedTensor& tensor : tensors) {
    if (auto written = write_tensor(*writer, tensor, options.dtype, options.threads); !written) return written;
  }
  return writer->finish();
}

// The Hugging Face form. SDXL's second tokenizer pads with "!".
Result<void> write_tokenizer(const fs::path& folder) {
  const auto merges = engine::parse_merges(engine::clip_merges_text(), "CLIP's merges");
  DR_ASSERT(merges.has_value());
  nlohmann::ordered_json vocabulary = nlohmann::ordered_json::object();
  auto& entries = vocabulary.get_ref<nlohmann::ordered_json::object_t&>();
  int id = 0;
  for (std::string& token : engine::clip_vocabulary(*merges)) entries.emplace_back(std::move(token), id++);
  const nlohmann::ordered_json config = {
      {"add_prefix_space", false},
      {"bos_token", engine::kStartOfText},
      {"eos_token", engine::kEndOfText},
      {"unk_token", engine::kEndOfText},
      {"pad_token", folder.filename() == "tokenizer_2" ? std::string_view("!") : engine::kEndOfText},
      {"do_lower_case", true},
      {"model_max_length", 77},
      {"tokenizer_class", "CLIPTokenizer"}};
  for (const auto& [name, text] : {std::pair("vocab.json", vocabulary.dump()),
                                   {"merges.txt", std::string(engine::clip_merges_text())},
                                   {"tokenizer_config.json", config.dump(1)}}) {
    if (auto written = write_text(folder / name, text); !written) return written;
  }
  return {};
}

// A path of the manifest below the model's folder.
Result<fs::path> inside(const fs::path& folder, const std::string& relative) {
  const fs::path path(relative);
  if (path.is_absolute() || std::ranges::find(path, fs::path("..")) != path.end()) {
    return fail(ErrorCode::corrupt_data, "the manifest's path '{}' leads out of the model's folder", relative);
  }
  return folder / path;
}

Result<void> write_parts(const nlohmann::json& manifest, const fs::path& out, const WriteModelOptions& options) {
  const auto& components = manifest.at("components");
  if (out.extension() == ".safetensors") {
    if (components.size() != 1 || !components[0].at("folder").get_ref<const std::string&>().empty()) {
      return fail(ErrorCode::invalid_argument, "{}: the manifest describes a folder, not one file", out.string());
    }
    return write_component(components[0], out, options);
  }
  for (const auto& component : components) {
    const auto folder = inside(out, component.at("folder").get<std::string>());
    if (!folder) return tl::unexpected(folder.error());
    fs::create_directories(*folder);
    if (component.contains("config")) {
      if (auto written = write_text(*folder / "config.json", component.at("config").dump(1)); !written) return written;
    }
    const auto file = inside(*folder, component.at("file").get<std::string>());
    if (!file) return tl::unexpected(file.error());
    if (auto written = write_component(component, *file, options); !written) return written;
  }
  const nlohmann::json files = manifest.value("files", nlohmann::json::object());
  for (const auto& [name, content] : files.items()) {
    const auto file = inside(out, name);
    if (!file) return tl::unexpected(file.error());
    fs::create_directories(file->parent_path());
    if (auto written = write_text(*file, content.dump(1)); !written) return written;
  }
  const nlohmann::json tokenizers = manifest.value("tokenizers", nlohmann::json::array());
  for (const auto& name : tokenizers) {
    const auto folder = inside(out, name.get<std::string>());
    if (!folder) return tl::unexpected(folder.error());
    fs::create_directories(*folder);
    if (auto written = write_tokenizer(*folder); !written) return written;
  }
  return {};
}

}  // namespace

std::uint64_t weight_key(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const char byte : fmt::format("{}:{}", seed, name)) {
    hash = (hash ^ static_cast<std::uint8_t>(byte)) * 0x100000001B3U;
  }
  return hash;
}

void seeded_weights(std::uint64_t key, double scale, double offset, std::uint64_t first, std::span<std::uint16_t> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint64_t x = key + (first + i + 1) * 0x9E3779B97F4A7C15U;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9U;
    x = (x ^ x >> 27) * 0x94D049BB133111EBU;
    x ^= x >> 31;
    const double u = static_cast<double>(static_cast<std::int64_t>(x >> 40)) * 0x1p-24;
    out[i] = half_of(offset + scale * (2.0 * u - 1.0));
  }
}

Result<void> write_model(const fs::path& manifest, const fs::path& out, const WriteModelOptions& options) {
  if (options.dtype != DType::f16 && options.dtype != DType::f32 && options.dtype != DType::bf16) {
    return fail(ErrorCode::invalid_argument, "cannot write weights as {}", engine::to_string(options.dtype));
  }
  WriteModelOptions filled = options;
  if (filled.threads == 0) filled.threads = std::max(1U, std::thread::hardware_concurrency());
  const auto text = read_text(manifest);
  if (!text) return tl::unexpected(text.error());
  try {
    return write_parts(nlohmann::json::parse(*text), out, filled);
  } catch (const nlohmann::json::exception& error) {
    return fail(ErrorCode::corrupt_data, "{} is not a manifest: {}", manifest.string(), error.what());
  } catch (const fs::filesystem_error& error) {
    return fail(ErrorCode::invalid_argument, "cannot write {}: {}", out.string(), error.what());
  }
}

}  // namespace darkroom::tools
