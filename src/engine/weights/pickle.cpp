#include "engine/weights/pickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "engine/weights/pickle_machine.h"
#include "engine/weights/printable.h"
#include "engine/weights/zip.h"

namespace darkroom::engine {

namespace {

using Kind = PickleValue::Kind;
using Bytes = std::span<const std::byte>;
using Storages = std::map<std::string, Bytes, std::less<>>;

constexpr std::string_view kZipMagic = "PK\x03\x04";
// A pickle of torch's magic number 0x1950A86A20F9469CFC6C.
constexpr std::string_view kPlainMagic = "\x80\x02\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19.";
constexpr int kMaxDepth = 16;                  // dictionaries in each other
constexpr std::size_t kMaxVisits = 1'000'000;  // a dictionary that holds another twice has its tensors twice

bool begins_with(Bytes bytes, std::string_view text) {
  return bytes.size() >= text.size() && std::memcmp(bytes.data(), text.data(), text.size()) == 0;
}

// Finds the tensors in a pickle's value and gives them their memory.
class Collector {
 public:
  Collector(const PickleMachine& pickle, const Storages& storages, std::shared_ptr<const void> owner,
            const std::string& file)
      : pickle_(pickle), storages_(storages), owner_(std::move(owner)), file_(file) {}

  Result<std::vector<HostTensor>> run(PickleIndex root) {
    visit(unwrapped(root), "", 0);
    if (error_) return tl::unexpected(*std::move(error_));
    return std::move(tensors_);
  }

 private:
  PickleIndex unwrapped(PickleIndex root) const {
    const PickleValue& value = pickle_[root];
    if (value.kind != Kind::dict) return root;
    for (const std::string_view key : {"state_dict", "params_ema", "params"}) {
      for (std::size_t i = 0; i + 1 < value.items.size(); i += 2) {
        const PickleValue& name = pickle_[value.items[i]];
        if (name.kind == Kind::text && name.text == key && pickle_[value.items[i + 1]].kind == Kind::dict) {
          return value.items[i + 1];
        }
      }
    }
    return root;
  }

  void refuse(ErrorCode code, const std::string& what) {
    if (!error_) error_ = Error{code, fmt::format("{}: {}", file_, what)};
  }

  void visit(PickleIndex index, const std::string& path, int depth) {
    if (error_) return;
    if (++visits_ > kMaxVisits || depth > kMaxDepth)
      return refuse(ErrorCode::corrupt_data, "its dictionaries are nested too deep");
    const PickleValue& value = pickle_[index];
    const auto inside = [&](std::string_view key) {
      return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
    };
    if (value.kind == Kind::tensor) return add(value, path);
    if (value.kind == Kind::dict) {
      for (std::size_t i = 0; i + 1 < value.items.size(); i += 2) {
        const PickleValue& key = pickle_[value.items[i]];
        // Only text and numbers are names; nothing else leads to weights.
        if (key.kind == Kind::text) visit(value.items[i + 1], inside(key.text), depth + 1);
        if (key.kind == Kind::integer) visit(value.items[i + 1], inside(std::to_string(key.integer)), depth + 1);
      }
    }
    if (value.kind == Kind::list || value.kind == Kind::tuple) {
      for (std::size_t i = 0; i < value.items.size(); ++i) visit(value.items[i], inside(std::to_string(i)), depth + 1);
    }
  }

  void add(const PickleValue& tensor, const std::string& name) {
    if (std::ranges::any_of(name, [](char c) { return c < ' ' || c > '~'; })) {
      return refuse(ErrorCode::corrupt_data, fmt::format("a tensor is named '{}': not plain text", printable(name)));
    }
    const PickleValue& storage = pickle_[tensor.items[0]];
    const auto numbers = [&](PickleIndex index) {
      std::vector<std::int64_t> result;
      for (const PickleIndex i : pickle_[index].items) result.push_back(pickle_[i].integer);
      return result;
    };
    const std::vector<std::int64_t> sizes = numbers(tensor.items[1]);
    const std::vector<std::int64_t> strides = numbers(tensor.items[2]);
    const auto found = storages_.find(storage.text);
    if (found == storages_.end()) {
      return refuse(ErrorCode::corrupt_data,
                    fmt::format("tensor '{}': its storage '{}' is missing", name, printable(storage.text)));
    }
    const std::size_t element = size_of(storage.dtype);
    const auto available = static_cast<std::int64_t>(found->second.size() / element);
    if (storage.integer > available) {
      return refuse(ErrorCode::corrupt_data, fmt::format("tensor '{}': its storage has {} elements, the file has {}",
                                                         name, storage.integer, available));
    }

    // The last element's place must be inside; sizes and strides are anybody's numbers.
    std::int64_t elements = 1;
    std::int64_t last = tensor.integer;
    std::int64_t dense = 1;
    bool is_dense = true;
    bool fits = tensor.integer >= 0;
    for (std::size_t i = sizes.size(); i-- > 0;) {
      std::int64_t reach = 0;
      fits = fits && sizes[i] >= 0 && strides[i] >= 0 && !__builtin_mul_overflow(elements, sizes[i], &elements) &&
             !__builtin_mul_overflow(std::max<std::int64_t>(sizes[i] - 1, 0), strides[i], &reach) &&
             !__builtin_add_overflow(last, reach, &last);
      if (!fits) break;
      is_dense = is_dense && (sizes[i] == 1 || strides[i] == dense);
      dense = elements;
    }
    // A tensor that repeats its storage could grow without end.
    if (!fits || (elements > 0 && last >= storage.integer) || elements > storage.integer) {
      return refuse(
          ErrorCode::corrupt_data,
          fmt::format("tensor '{}': size [{}] with stride [{}] from {} is not inside its storage of {} elements", name,
                      fmt::join(sizes, ","), fmt::join(strides, ","), tensor.integer, storage.integer));
    }
    HostTensor result{.name = name,
                      .dtype = storage.dtype,
                      .shape = Shape(std::span<const std::int64_t>(sizes)),
                      .data = found->second.data(),
                      .owner = owner_};
    if (elements > 0) result.data += static_cast<std::size_t>(tensor.integer) * element;
    if (elements > 0 && !is_dense) gather(result, sizes, strides);
    tensors_.push_back(std::move(result));
  }

  // Copies a strided tensor into memory of its own.
  void gather(HostTensor& tensor, std::span<const std::int64_t> sizes, std::span<const std::int64_t> strides) {
    // Storages may be shared by many tensors: what they take together stays within reason.
    copied_ += tensor.bytes();
    constexpr std::size_t kMaxCopied = std::size_t{1} << 30;
    if (copied_ > kMaxCopied)
      return refuse(ErrorCode::unsupported, "its tensors that are not contiguous take more than 1 GiB");
    const std::size_t element = size_of(tensor.dtype);
    auto data = std::make_shared<std::vector<std::byte>>(tensor.bytes());
    std::array<std::int64_t, kMaxRank> at{};
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < data->size(); i += element) {
      std::memcpy(data->data() + i, tensor.data + static_cast<std::size_t>(offset) * element, element);
      for (std::size_t axis = sizes.size(); axis-- > 0;) {
        offset += strides[axis];
        if (++at[axis] < sizes[axis]) break;
        offset -= strides[axis] * sizes[axis];
        at[axis] = 0;
      }
    }
    tensor.data = data->data();
    tensor.owner = std::move(data);
  }

  const PickleMachine& pickle_;
  const Storages& storages_;
  std::shared_ptr<const void> owner_;
  const std::string& file_;
  std::vector<HostTensor> tensors_;
  std::size_t visits_ = 0;
  std::size_t copied_ = 0;  // bytes
  std::optional<Error> error_;
};

// NAME/data.pkl, NAME/data/KEY for each storage, NAME/byteorder.
Result<std::vector<HostTensor>> read_zipped(Bytes bytes, std::shared_ptr<const void> owner, const std::string& file) {
  const auto entries = read_zip(bytes, file);
  if (!entries) return tl::unexpected(entries.error());
  constexpr std::string_view kPickle = "data.pkl";
  const auto pickle_entry = std::ranges::find_if(*entries, [&](const auto& entry) {
    const std::string& name = entry.first;
    return name == kPickle || (name.ends_with("/data.pkl") && name.find('/') == name.size() - kPickle.size() - 1);
  });
  if (pickle_entry == entries->end()) return fail(ErrorCode::corrupt_data, "{}: a zip file without data.pkl", file);
  if (!pickle_entry->second.stored) {
    return fail(ErrorCode::unsupported, "{}: '{}' is compressed, as torch does not write it", file,
                printable(pickle_entry->first));
  }
  const std::string folder = pickle_entry->first.substr(0, pickle_entry->first.size() - kPickle.size());
  if (const auto order = entries->find(folder + "byteorder");
      order != entries->end() && !begins_with(order->second.data, "little")) {
    return fail(ErrorCode::unsupported, "{}: its byte order is not little-endian", file);
  }
  Storages storages;
  const std::string prefix = folder + "data/";
  for (auto at = entries->lower_bound(prefix); at != entries->end() && at->first.starts_with(prefix); ++at) {
    if (!at->second.stored)
      return fail(ErrorCode::unsupported, "{}: '{}' is compressed, as torch does not write it", file,
                  printable(at->first));
    storages.emplace(at->first.substr(prefix.size()), at->second.data);
  }
  PickleMachine machine(pickle_entry->second.data, file);
  const auto root = machine.run();
  if (!root) return tl::unexpected(root.error());
  return Collector(machine, storages, std::move(owner), file).run(*root);
}

// torch before 1.6: five pickles (magic number, protocol, system, object, storage keys), then each storage: its
// length in elements (8 bytes) and its data.
Result<std::vector<HostTensor>> read_plain(Bytes bytes, std::shared_ptr<const void> owner, const std::string& file) {
  PickleMachine machine(bytes, file);
  std::array<PickleIndex, 5> pickles{};
  for (PickleIndex& pickle : pickles) {
    const auto value = machine.run();
    if (!value) return tl::unexpected(value.error());
    pickle = *value;
  }
  const auto corrupt = [&](std::string_view what) { return fail(ErrorCode::corrupt_data, "{}: {}", file, what); };

  // What each storage is, the tensors' references say.
  std::map<std::string_view, DType> types;
  for (PickleIndex i = 0; i < machine.size(); ++i) {
    if (machine[i].kind == Kind::storage) types.emplace(machine[i].text, machine[i].dtype);
  }
  if (machine[pickles[4]].kind != Kind::list) return corrupt("no list of storages");
  Storages storages;
  std::size_t at = machine.position();
  for (const PickleIndex index : machine[pickles[4]].items) {
    const std::string_view key = machine[index].text;
    const auto type = types.find(key);
    if (machine[index].kind != Kind::text || type == types.end()) return corrupt("a storage that no tensor uses");
    if (bytes.size() - at < 8) return corrupt(fmt::format("storage '{}' is truncated", printable(key)));
    std::uint64_t elements = 0;
    for (std::size_t i = 8; i-- > 0;) elements = elements << 8 | std::to_integer<std::uint64_t>(bytes[at + i]);
    at += 8;
    const std::size_t element = size_of(type->second);
    if (elements > (bytes.size() - at) / element) {
      return corrupt(fmt::format("storage '{}' of {} elements at byte {} goes beyond the file's {}", printable(key),
                                 elements, at, bytes.size()));
    }
    if (!storages.emplace(key, bytes.subspan(at, elements * element)).second)
      return corrupt(fmt::format("storage '{}' stands twice", printable(key)));
    at += elements * element;
  }
  return Collector(machine, storages, std::move(owner), file).run(pickles[3]);
}

}  // namespace

bool is_torch_file(Bytes bytes) { return begins_with(bytes, kZipMagic) || begins_with(bytes, kPlainMagic); }

Result<std::vector<HostTensor>> read_torch_file(Bytes bytes, std::shared_ptr<const void> owner,
                                                const std::string& name) {
  static_assert(std::endian::native == std::endian::little);
  if (begins_with(bytes, kZipMagic)) return read_zipped(bytes, std::move(owner), name);
  if (begins_with(bytes, kPlainMagic)) return read_plain(bytes, std::move(owner), name);
  return fail(ErrorCode::corrupt_data, "{} is not a file of torch.save()", name);
}

}  // namespace darkroom::engine
