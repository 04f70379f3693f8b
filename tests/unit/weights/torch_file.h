// torch.save() files made by hand, out of pieces of pickle.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace darkroom::test::torch_file {

inline std::string little(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i, value >>= 8) text.push_back(static_cast<char>(value & 0xFF));
  return text;
}

using Entries = std::vector<std::pair<std::string, std::string>>;

inline std::string zipped(const Entries& entries) {
  std::string file;
  std::string directory;
  for (const auto& [name, data] : entries) {
    const std::string sizes = little(0, 4) + little(data.size(), 4) + little(data.size(), 4) + little(name.size(), 2);
    directory.append("PK\x01\x02").append(little(0, 8)).append(little(0, 4)).append(sizes).append(little(0, 2));
    directory.append(little(0, 10)).append(little(file.size(), 4)).append(name);
    file.append("PK\x03\x04").append(little(0, 10)).append(sizes).append(little(0, 2)).append(name).append(data);
  }
  const std::string end = "PK\x05\x06" + little(0, 4) + little(entries.size(), 2) + little(entries.size(), 2) +
                          little(directory.size(), 4) + little(file.size(), 4) + little(0, 2);
  return file + directory + end;
}

// Pieces of pickle.
inline const std::string kProto("\x80\x02", 2);
inline std::string text(const std::string& value) { return "X" + little(value.size(), 4) + value; }
inline std::string integer(std::int64_t value) { return "J" + little(static_cast<std::uint64_t>(value), 4); }
inline std::string tuple(const std::vector<std::string>& items) {
  std::string all = "(";
  for (const std::string& item : items) all += item;
  return all + "t";
}
inline std::string integers(const std::vector<std::int64_t>& values) {
  std::vector<std::string> items;
  for (const auto value : values) items.push_back(integer(value));
  return tuple(items);
}
inline std::string storage(const std::string& type, const std::string& key, std::int64_t elements,
                           const std::string& more = "") {
  return tuple({text("storage"), "ctorch\n" + type + "\n", text(key), text("cpu"), integer(elements), more}) + "Q";
}
inline std::string tensor(const std::string& of, std::int64_t offset, const std::vector<std::int64_t>& size,
                          const std::vector<std::int64_t>& stride) {
  return "ctorch._utils\n_rebuild_tensor_v2\n" +
         tuple({of, integer(offset), integers(size), integers(stride), "\x89", "ccollections\nOrderedDict\n)R"}) + "R";
}
inline std::string dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string all = "}(";
  for (const auto& [key, value] : items) all += text(key) + value;
  return all + "u";
}

}  // namespace darkroom::test::torch_file
