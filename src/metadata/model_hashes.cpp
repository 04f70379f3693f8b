#include "metadata/model_hashes.h"

#include <fstream>
#include <iterator>
#include <utility>

#include <sys/stat.h>

#include "base/atomic_file.h"
#include "base/json_reader.h"
#include "base/json_text.h"

namespace darkroom {
namespace {

using nlohmann::json;

bool is_sha256(const std::string& text) {
  constexpr std::size_t kDigits = 64;
  return text.size() == kDigits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

std::optional<FileStamp> stamp_of(const std::filesystem::path& file) {
  struct stat found {};
  if (::stat(file.c_str(), &found) != 0 || !S_ISREG(found.st_mode)) return std::nullopt;
  constexpr std::int64_t kNanoseconds = 1'000'000'000;
  return FileStamp{.bytes = static_cast<std::uint64_t>(found.st_size),
                   .changed = found.st_mtim.tv_sec * kNanoseconds + found.st_mtim.tv_nsec};
}

Result<ModelHashes> ModelHashes::load(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return ModelHashes();
  std::ifstream in(file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in) return fail(ErrorCode::not_found, "cannot read {}", file.string());
  const Result<json> tree = parse_json(text);
  if (!tree) return fail(ErrorCode::corrupt_data, "{}: {}", file.string(), tree.error().message);

  ModelHashes hashes;
  std::vector<Complaint> complaints;
  JsonReader top(*tree, "", complaints);
  if (const json* files = top.take("files"); files != nullptr && files->is_object()) {
    for (const auto& [path, value] : files->items()) {
      JsonReader one(value, "/files/" + path, complaints);
      Entry entry;
      one.required("bytes", entry.stamp.bytes);
      one.required("changed", entry.stamp.changed);
      one.required("sha256", entry.sha256);
      one.finish();
      if (is_sha256(entry.sha256)) hashes.entries_.emplace(path, std::move(entry));
    }
  }
  top.finish();
  if (!complaints.empty()) {
    return fail(ErrorCode::corrupt_data, "{}: {}", file.string(), as_error(complaints).message);
  }
  return hashes;
}

std::optional<std::string> ModelHashes::find(const std::filesystem::path& model) const {
  const auto found = entries_.find(model.string());
  if (found == entries_.end() || stamp_of(model) != found->second.stamp) return std::nullopt;
  return found->second.sha256;
}

void ModelHashes::set(const std::filesystem::path& model, const FileStamp& stamp, std::string sha256) {
  entries_[model.string()] = {stamp, std::move(sha256)};
}

void ModelHashes::forget_missing() {
  std::erase_if(entries_, [](const auto& entry) { return !stamp_of(entry.first); });
}

Result<void> ModelHashes::save(const std::filesystem::path& file) const {
  json files = json::object();
  for (const auto& [path, entry] : entries_) {
    files[path] = {{"bytes", entry.stamp.bytes}, {"changed", entry.stamp.changed}, {"sha256", entry.sha256}};
  }
  // A path need not be UTF-8; its hash is then computed again next time.
  const std::string text = json{{"files", std::move(files)}}.dump(1, ' ', false, json::error_handler_t::replace);
  return write_file_atomically(file, std::as_bytes(std::span(text)));
}

}  // namespace darkroom
