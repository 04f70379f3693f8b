#include "engine/weights/safetensors.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/mapped_file.h"
#include "engine/weights/printable.h"

namespace darkroom::engine {

namespace {

// The reference implementation's own limit.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

struct NamedType {
  std::string_view name;
  DType type;
};
constexpr std::array<NamedType, 12> kTypes{{{"F64", DType::f64},
                                            {"F32", DType::f32},
                                            {"F16", DType::f16},
                                            {"BF16", DType::bf16},
                                            {"F8_E4M3", DType::f8_e4m3},
                                            {"F8_E5M2", DType::f8_e5m2},
                                            {"I64", DType::i64},
                                            {"I32", DType::i32},
                                            {"I16", DType::i16},
                                            {"I8", DType::i8},
                                            {"U8", DType::u8},
                                            {"BOOL", DType::boolean}}};
// Types that the format has and the engine has no use for.
constexpr std::array<std::string_view, 11> kForeignTypes{
    "U16", "U32", "U64", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "C64", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E4M3B11"};

std::string_view name_of(DType type) { return std::ranges::find(kTypes, type, &NamedType::type)->name; }

struct Entry {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::vector<std::uint64_t> offsets;  // begin and end in the data, bytes
  bool has_shape = false;
  bool has_offsets = false;
};

// Takes the header apart as it is read: { NAME: {"dtype": s, "shape": [n…], "data_offsets": [n, n]}, "__metadata__":
// {s: s} } and nothing else, so that depth and duplicates are seen before they cost anything.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<Entry> entries;
  TensorMetadata metadata;
  std::string problem;

  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("a boolean"); }
  bool number_integer(number_integer_t value) override { return refuse(fmt::format("the number {}", value)); }
  bool number_float(number_float_t, const string_t& text) override {
    return refuse(fmt::format("the number {}", text));
  }
  bool binary(binary_t&) override { return refuse("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (numbers_ == nullptr) return refuse(fmt::format("the number {}", value));
    if (numbers_->size() >= 64) return report(fmt::format("tensor '{}': '{}' is too long", entries.back().name, key_));
    numbers_->push_back(value);
    return true;
  }

  bool string(string_t& value) override {
    if (state_ == State::metadata) {
      if (!metadata.emplace(key_, value).second) return report(fmt::format("metadata '{}' stands twice", key_));
      return true;
    }
    if (state_ != State::entry || key_ != "dtype" || numbers_ != nullptr) {
      return refuse(fmt::format("the string \"{}\"", printable(value)));
    }
    if (!entries.back().dtype.empty())
      return report(fmt::format("tensor '{}': 'dtype' stands twice", entries.back().name));
    entries.back().dtype = value;
    return true;
  }

  bool start_object(std::size_t) override {
    switch (state_) {
      case State::start:
        state_ = State::root;
        return true;
      case State::root:
        if (key_ == "__metadata__") {
          if (std::exchange(has_metadata_, true)) return report("'__metadata__' stands twice");
          state_ = State::metadata;
        } else {
          entries.push_back({.name = key_, .dtype = {}, .shape = {}, .offsets = {}});
          state_ = State::entry;
        }
        return true;
      default:
        return refuse("an object");
    }
  }
  bool key(string_t& value) override {
    key_ = value;
    return true;
  }
  bool end_object() override {
    state_ = state_ == State::root ? State::end : State::root;
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ != State::entry || numbers_ != nullptr) return refuse("an array");
    Entry& entry = entries.back();
    bool* seen = key_ == "shape" ? &entry.has_shape : key_ == "data_offsets" ? &entry.has_offsets : nullptr;
    if (seen == nullptr) return refuse("an array");
    if (std::exchange(*seen, true)) return report(fmt::format("tensor '{}': '{}' stands twice", entry.name, key_));
    numbers_ = key_ == "shape" ? &entry.shape : &entry.offsets;
    return true;
  }
  bool end_array() override {
    numbers_ = nullptr;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    return report(fmt::format("at byte {} of the header: {}", position, error.what()));
  }

 private:
  enum class State { start, root, entry, metadata, end };

  bool report(std::string what) {
    if (problem.empty()) problem = std::move(what);
    return false;
  }
  bool refuse(std::string_view found) {
    switch (state_) {
      case State::start:
        return report(fmt::format("the header is {}, not an object", found));
      case State::entry:
        return report(fmt::format("tensor '{}': {} as '{}' is not allowed", entries.back().name, found, key_));
      case State::metadata:
        return report(fmt::format("metadata '{}' is {}, not a string", key_, found));
      default:
        return report(fmt::format("'{}' is {}, not a tensor", key_, found));
    }
  }

  State state_ = State::start;
  std::string key_;
  std::vector<std::uint64_t>* numbers_ = nullptr;  // where numbers go
  bool has_metadata_ = false;
};

// Elements times bytes of one, or nothing where that overflows.
std::optional<std::uint64_t> checked_bytes(std::span<const std::uint64_t> shape, std::size_t element_bytes) {
  std::uint64_t total = 1;
  for (const std::uint64_t dim : shape) {
    if (dim > std::numeric_limits<std::int64_t>::max()) return std::nullopt;
    if (__builtin_mul_overflow(total, dim, &total)) return std::nullopt;
    if (total > std::numeric_limits<std::int64_t>::max()) return std::nullopt;
  }
  if (__builtin_mul_overflow(total, element_bytes, &total)) return std::nullopt;
  return total;
}

std::string system_error_text(int error) { return std::generic_category().message(error); }

}  // namespace

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  auto mapped = MappedFile::open(path);
  if (!mapped) return tl::unexpected(std::move(mapped.error()));
  return open(*mapped);
}

Result<SafetensorsFile> SafetensorsFile::open(const std::shared_ptr<const MappedFile>& mapped) {
  const std::span<const std::byte> bytes = mapped->bytes();
  const std::string name = mapped->path().string();
  auto file = parse(bytes, mapped, name);
  if (file) {
    mapped->use_large_pages();  // not before: many are opened for their header alone
    for (HostTensor& tensor : file->tensors_) tensor.mapped = true;
  }
  return file;
}

Result<SafetensorsFile> SafetensorsFile::parse(std::span<const std::byte> bytes,
                                               const std::shared_ptr<const void>& owner, std::string name) {
  SafetensorsFile file;
  file.name_ = std::move(name);
  file.file_bytes_ = bytes.size();
  const auto corrupt = [&]<class... Args>(fmt::format_string<Args...> format, Args&&... args) {
    return fail(ErrorCode::corrupt_data, "{}: {}", file.name_, fmt::format(format, std::forward<Args>(args)...));
  };

  if (bytes.size() < 8) return corrupt("{} bytes are too few for a safetensors file", bytes.size());
  std::uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i)
    header_bytes = (header_bytes << 8) | std::to_integer<std::uint64_t>(bytes[static_cast<std::size_t>(i)]);
  if (header_bytes > kMaxHeaderBytes) {
    return corrupt("not a safetensors file, or damaged: a header of {} bytes, the limit is {}", header_bytes,
                   kMaxHeaderBytes);
  }
  if (header_bytes > bytes.size() - 8) {
    return corrupt("a header of {} bytes in a file of {}: truncated", header_bytes, bytes.size());
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + 8;
  if (header_bytes == 0 || text[0] != '{')
    return corrupt("not a safetensors file: the header does not begin with '{{'");

  HeaderReader reader;
  if (!nlohmann::json::sax_parse(text, text + header_bytes, &reader)) {
    return corrupt("{}", reader.problem.empty() ? "the header is not valid JSON" : reader.problem);
  }
  file.metadata_ = std::move(reader.metadata);

  const std::span<const std::byte> data = bytes.subspan(8 + static_cast<std::size_t>(header_bytes));
  std::vector<std::pair<std::uint64_t, HostTensor>> placed;  // end, tensor
  placed.reserve(reader.entries.size());
  for (Entry& entry : reader.entries) {
    if (entry.dtype.empty() || !entry.has_shape || !entry.has_offsets) {
      return corrupt("tensor '{}': '{}' is missing", entry.name,
                     entry.dtype.empty() ? "dtype"
                     : !entry.has_shape  ? "shape"
                                         : "data_offsets");
    }
    const auto* const type = std::ranges::find(kTypes, entry.dtype, &NamedType::name);
    if (type == kTypes.end()) {
      if (std::ranges::find(kForeignTypes, entry.dtype) != kForeignTypes.end()) {
        return fail(ErrorCode::unsupported, "{}: tensor '{}' has the element type {}, which this engine does not read",
                    file.name_, entry.name, entry.dtype);
      }
      return corrupt("tensor '{}': unknown element type '{}'", entry.name, printable(entry.dtype));
    }
    if (entry.shape.size() > kMaxRank) {
      return corrupt("tensor '{}': {} dimensions, the limit is {}", entry.name, entry.shape.size(), kMaxRank);
    }
    if (entry.offsets.size() != 2) {
      return corrupt("tensor '{}': {} data offsets instead of 2", entry.name, entry.offsets.size());
    }
    const std::uint64_t begin = entry.offsets[0];
    const std::uint64_t end = entry.offsets[1];
    if (begin > end || end > data.size()) {
      return corrupt("tensor '{}': data from {} to {}, but the file has {} bytes of data", entry.name, begin, end,
                     data.size());
    }
    const auto expected = checked_bytes(entry.shape, size_of(type->type));
    if (!expected || *expected != end - begin) {
      return corrupt("tensor '{}': {} [{}] takes {} bytes, its offsets give it {}", entry.name, entry.dtype,
                     fmt::join(entry.shape, ","), expected ? std::to_string(*expected) : "more than 2^63", end - begin);
    }
    std::array<std::int64_t, kMaxRank> dims{};
    std::ranges::transform(entry.shape, dims.begin(), [](std::uint64_t dim) { return static_cast<std::int64_t>(dim); });
    placed.emplace_back(end, HostTensor{.name = std::move(entry.name),
                                        .dtype = type->type,
                                        .shape = Shape(std::span(dims.data(), entry.shape.size())),
                                        .data = data.data() + begin,
                                        .owner = owner});
  }

  // The format has neither overlaps nor holes: by offset, each tensor begins where the last one ended.
  std::ranges::stable_sort(placed, [](const auto& a, const auto& b) {
    return std::pair(a.second.data, a.first) < std::pair(b.second.data, b.first);
  });
  std::uint64_t position = 0;
  file.tensors_.reserve(placed.size());
  for (auto& [end, tensor] : placed) {
    const auto begin = static_cast<std::uint64_t>(tensor.data - data.data());
    if (begin != position) {
      return corrupt("tensor '{}' begins at byte {} of the data, the one before ends at {}: {}", tensor.name, begin,
                     position, begin < position ? "they overlap" : "a hole");
    }
    position = end;
    if (!file.index_.emplace(tensor.name, file.tensors_.size()).second) {
      return corrupt("tensor '{}' stands twice", tensor.name);
    }
    file.tensors_.push_back(std::move(tensor));
  }
  if (position != data.size()) {
    return corrupt("its tensors end at byte {} of the data, the data at {}", position, data.size());
  }
  return file;
}

const HostTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::filesystem::path& path,
                                                    std::span<const TensorSpec> tensors,
                                                    const TensorMetadata& metadata) {
  static std::atomic<unsigned> counter = 0;

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const TensorSpec& tensor : tensors) {
    // Not header[name]: ordered_json would search all earlier keys.
    const std::size_t end = offset + tensor.bytes();
    header.get_ref<nlohmann::ordered_json::object_t&>().emplace_back(
        tensor.name,
        nlohmann::ordered_json{
            {"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape.dims()}, {"data_offsets", {offset, end}}});
    offset = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // the data begins aligned to 8 bytes
  if (text.size() > kMaxHeaderBytes) {
    return fail(ErrorCode::invalid_argument, "{}: a header of {} bytes, the limit is {}", path.string(), text.size(),
                kMaxHeaderBytes);
  }

  SafetensorsWriter writer;
  writer.path_ = path;
  writer.temporary_ = path;
  writer.temporary_ += fmt::format(".{}-{}.tmp", ::getpid(), counter.fetch_add(1));
  writer.file_ = Fd(::open(writer.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!writer.file_) {
    return fail(ErrorCode::invalid_argument, "cannot write {}: {}", writer.temporary_.string(),
                system_error_text(errno));
  }
  std::array<std::byte, 8> length{};
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<std::byte>(text.size() >> (8 * i) & 0xFF);
  writer.bytes_left_ = offset + length.size() + text.size();
  for (const auto part : {std::span<const std::byte>(length), std::as_bytes(std::span(text))}) {
    if (auto written = writer.write(part); !written) return tl::unexpected(std::move(written.error()));
  }
  return writer;
}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_) ::unlink(temporary_.c_str());
}

Result<void> SafetensorsWriter::write(std::span<const std::byte> data) {
  if (data.size() > bytes_left_) {
    return fail(ErrorCode::invalid_argument, "{}: {} bytes of data where {} are left", path_.string(), data.size(),
                bytes_left_);
  }
  bytes_left_ -= data.size();
  while (!data.empty()) {
    const ssize_t written = ::write(file_.get(), data.data(), std::min<std::size_t>(data.size(), 1U << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      return fail(ErrorCode::internal, "cannot write {}: {}", temporary_.string(), system_error_text(errno));
    }
    data = data.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Result<void> SafetensorsWriter::finish() {
  if (bytes_left_ != 0) {
    return fail(ErrorCode::invalid_argument, "{}: {} bytes of data are missing", path_.string(), bytes_left_);
  }
  if (::fsync(file_.get()) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    return fail(ErrorCode::internal, "cannot write {}: {}", path_.string(), system_error_text(errno));
  }
  file_.reset();
  return {};
}

Result<void> write_safetensors(const std::filesystem::path& path, std::span<const HostTensor> tensors,
                               const TensorMetadata& metadata) {
  std::vector<TensorSpec> specs;
  specs.reserve(tensors.size());
  for (const HostTensor& tensor : tensors) specs.push_back({tensor.name, tensor.dtype, tensor.shape});
  auto writer = SafetensorsWriter::create(path, specs, metadata);
  if (!writer) return tl::unexpected(std::move(writer.error()));
  for (const HostTensor& tensor : tensors) {
    if (auto written = writer->write({tensor.data, tensor.bytes()}); !written) return written;
  }
  return writer->finish();
}

}  // namespace darkroom::engine
