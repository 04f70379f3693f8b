#include "engine/weights/zip.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "engine/weights/printable.h"

namespace darkroom::engine {

namespace {

constexpr std::uint32_t kLocalHeader = 0x04034B50;
constexpr std::uint32_t kCentralHeader = 0x02014B50;
constexpr std::uint32_t kEnd = 0x06054B50;
constexpr std::uint32_t kEnd64 = 0x06064B50;
constexpr std::uint32_t kEnd64Locator = 0x07064B50;
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kLocatorBytes = 20;
constexpr std::size_t kCentralBytes = 46;
constexpr std::size_t kLocalBytes = 30;
constexpr std::uint64_t kMaxEntries = 1'000'000;

using Bytes = std::span<const std::byte>;

// A little-endian number; the caller has checked that it is inside.
template <class T>
T number(Bytes bytes, std::size_t at) {
  T value = 0;
  for (std::size_t i = sizeof(T); i-- > 0;) value = static_cast<T>(value << 8 | std::to_integer<T>(bytes[at + i]));
  return value;
}

bool has(Bytes file, std::uint64_t at, std::uint64_t bytes) { return at <= file.size() && bytes <= file.size() - at; }

struct Directory {
  std::uint64_t offset;
  std::uint64_t entries;
};

std::optional<Directory> find_directory(Bytes file) {
  if (file.size() < kEndBytes) return std::nullopt;
  // The end record is followed by a comment of up to 65,535 bytes.
  const std::size_t last = file.size() - kEndBytes;
  for (std::size_t back = 0; back <= std::min<std::size_t>(last, 0xFFFF); ++back) {
    const std::size_t at = last - back;
    if (number<std::uint32_t>(file, at) != kEnd || number<std::uint16_t>(file, at + 20) != back) continue;
    if (at >= kLocatorBytes && number<std::uint32_t>(file, at - kLocatorBytes) == kEnd64Locator) {
      const auto end64 = number<std::uint64_t>(file, at - kLocatorBytes + 8);
      if (!has(file, end64, kEnd64Bytes) || number<std::uint32_t>(file, end64) != kEnd64) return std::nullopt;
      return Directory{number<std::uint64_t>(file, end64 + 48), number<std::uint64_t>(file, end64 + 32)};
    }
    return Directory{number<std::uint32_t>(file, at + 16), number<std::uint16_t>(file, at + 10)};
  }
  return std::nullopt;
}

// The sizes and the offset of an entry that has them in its zip64 field: each that is all ones, in this order.
bool read_zip64(Bytes extra, std::uint64_t& size, std::uint64_t& compressed, std::uint64_t& offset) {
  constexpr std::uint64_t kElsewhere = 0xFFFFFFFF;
  if (size != kElsewhere && compressed != kElsewhere && offset != kElsewhere) return true;
  while (extra.size() >= 4) {
    const std::size_t length = number<std::uint16_t>(extra, 2);
    if (length > extra.size() - 4) return false;
    if (number<std::uint16_t>(extra, 0) == 1) {
      Bytes field = extra.subspan(4, length);
      for (std::uint64_t* value : {&size, &compressed, &offset}) {
        if (*value != kElsewhere) continue;
        if (field.size() < 8) return false;
        *value = number<std::uint64_t>(field, 0);
        field = field.subspan(8);
      }
      return true;
    }
    extra = extra.subspan(4 + length);
  }
  return false;
}

}  // namespace

Result<std::map<std::string, ZipEntry, std::less<>>> read_zip(Bytes file, const std::string& name) {
  const auto corrupt = [&](std::string_view what) { return fail(ErrorCode::corrupt_data, "{}: {}", name, what); };
  const auto directory = find_directory(file);
  if (!directory) return corrupt("a zip file without its end record: truncated");
  if (directory->entries > kMaxEntries) return corrupt(fmt::format("a zip file of {} entries", directory->entries));

  std::map<std::string, ZipEntry, std::less<>> entries;
  std::uint64_t at = directory->offset;
  for (std::uint64_t i = 0; i < directory->entries; ++i) {
    if (!has(file, at, kCentralBytes) || number<std::uint32_t>(file, at) != kCentralHeader) {
      return corrupt(fmt::format("entry {} of {} of the zip directory is damaged", i, directory->entries));
    }
    const Bytes header = file.subspan(at);
    const std::size_t name_bytes = number<std::uint16_t>(header, 28);
    const std::size_t extra_bytes = number<std::uint16_t>(header, 30);
    const std::size_t comment_bytes = number<std::uint16_t>(header, 32);
    if (!has(header, kCentralBytes, name_bytes + extra_bytes + comment_bytes)) {
      return corrupt(fmt::format("entry {} of {} of the zip directory is damaged", i, directory->entries));
    }
    std::string entry_name(reinterpret_cast<const char*>(header.data()) + kCentralBytes, name_bytes);
    const bool stored = number<std::uint16_t>(header, 10) == 0;
    std::uint64_t compressed = number<std::uint32_t>(header, 20);
    std::uint64_t size = number<std::uint32_t>(header, 24);
    std::uint64_t offset = number<std::uint32_t>(header, 42);
    if (!read_zip64(header.subspan(kCentralBytes + name_bytes, extra_bytes), size, compressed, offset)) {
      return corrupt(fmt::format("zip entry '{}' lacks its size", printable(entry_name)));
    }
    ZipEntry entry{.data = {}, .stored = stored};
    if (stored) {
      if (size != compressed || !has(file, offset, kLocalBytes) ||
          number<std::uint32_t>(file, offset) != kLocalHeader) {
        return corrupt(fmt::format("zip entry '{}' is damaged", printable(entry_name)));
      }
      const std::uint64_t begin =
          offset + kLocalBytes + number<std::uint16_t>(file, offset + 26) + number<std::uint16_t>(file, offset + 28);
      if (!has(file, begin, size)) {
        return corrupt(fmt::format("zip entry '{}' of {} bytes at {} goes beyond the file's {}", printable(entry_name),
                                   size, begin, file.size()));
      }
      entry.data = file.subspan(begin, size);
    }
    if (const auto [where, added] = entries.emplace(std::move(entry_name), entry); !added) {
      return corrupt(fmt::format("zip entry '{}' stands twice", printable(where->first)));
    }
    at += kCentralBytes + name_bytes + extra_bytes + comment_bytes;
  }
  return entries;
}

}  // namespace darkroom::engine
