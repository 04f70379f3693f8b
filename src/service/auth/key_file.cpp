#include "service/auth/key_file.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <span>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>

#include "base/atomic_file.h"
#include "base/fd.h"
#include "base/json_reader.h"
#include "base/json_text.h"
#include "base/json_writer.h"
#include "base/random.h"
#include "service/auth/random_key.h"
#include "service/blobs/hash.h"

namespace darkroom {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxKeys = 1000;
constexpr int kMaxCount = 1'000'000'000;
constexpr std::size_t kNameBytes = 100;
constexpr std::size_t kHashDigits = 64;

auto digits(std::size_t count) {
  return [count](const std::string& text) -> std::string {
    const bool good = text.size() == count && text.find_first_not_of("0123456789abcdef") == std::string::npos;
    return good ? "" : fmt::format("must be {} hexadecimal digits", count);
  };
}

// The file's form, read and written.
template <class Io, class Key>
void fields(Io& io, Key& key) {
  io.required("id", key.id, not_empty());
  io.required("name", key.name, not_empty(), max_bytes(kNameBytes));
  io.required("sha256", key.sha256, digits(kHashDigits));
  io.required("scopes", key.scopes);
  io.field("weight", key.limits.weight, between(0.001, 1000.0));
  io.field("per_minute", key.limits.per_minute, between(0, kMaxCount));
  io.field("concurrency", key.limits.concurrency, between(0, kMaxCount));
  io.field("pictures_per_day", key.limits.pictures_per_day, between(0, kMaxCount));
  io.field("created", key.created);
  io.field("expires", key.expires);
  io.field("webhook_secret", key.webhook_secret);
}

Result<std::vector<ApiKey>> decode(const std::filesystem::path& path, const std::string& text) {
  const Result<json> document = parse_json(text);
  if (!document) return fail(ErrorCode::corrupt_data, "{}: {}", path.string(), document.error().message);
  std::vector<ApiKey> keys;
  const std::vector<Complaint> complaints = read_json(*document, [&](JsonReader& in) {
    in.list("keys", keys, kMaxKeys, [](JsonReader& inner, ApiKey& key) {
      fields(inner, key);
      return true;
    });
  });
  if (!complaints.empty()) {
    return fail(ErrorCode::corrupt_data, "{}: {}", path.string(), as_error(complaints).message);
  }
  return keys;
}

std::int64_t seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Held while the file is read and written anew, so that two commands at once lose no key.
Result<Fd> lock(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  Fd fd{::open((path.string() + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  if (!fd || ::flock(fd.get(), LOCK_EX) != 0) {
    return fail(ErrorCode::invalid_argument, "cannot lock {}: {}", path.string(),
                std::generic_category().message(errno));
  }
  return fd;
}

}  // namespace

bool allows(const std::vector<Scope>& scopes, Scope needed) {
  return needed == Scope::none ||
         std::any_of(scopes.begin(), scopes.end(), [needed](Scope scope) { return scope >= needed; });
}

Result<std::optional<std::vector<ApiKey>>> KeyFile::load() const {
  std::ifstream file(path_);
  if (!file) {
    std::error_code error;
    if (!std::filesystem::exists(path_, error) && !error) return std::nullopt;
    return fail(ErrorCode::corrupt_data, "cannot read {}", path_.string());
  }
  return decode(path_, std::string{std::istreambuf_iterator<char>(file), {}});
}

Result<NewKey> KeyFile::add(const KeyTerms& terms) {
  const Result<Fd> held = lock(path_);
  if (!held) return tl::unexpected(held.error());
  auto loaded = load();
  if (!loaded) return tl::unexpected(loaded.error());
  std::vector<ApiKey> keys = std::move(*loaded).value_or(std::vector<ApiKey>{});
  if (std::any_of(keys.begin(), keys.end(), [&](const ApiKey& key) { return key.name == terms.name; })) {
    return fail(ErrorCode::conflict, "there is a key named {} already", terms.name);
  }
  if (keys.size() >= kMaxKeys) return fail(ErrorCode::overloaded, "there are {} keys, the most allowed", kMaxKeys);

  NewKey made;
  made.secret = random_key("dk_");
  made.key = {.id = fmt::format("{:016x}", random_u64()),
              .name = terms.name,
              .sha256 = to_hex(sha256(made.secret)),
              .scopes = terms.scopes,
              .limits = terms.limits,
              .created = seconds_now(),
              .expires = terms.expires,
              .webhook_secret = random_key("whsec_")};
  keys.push_back(made.key);
  if (const Result<void> saved = save(keys); !saved) return tl::unexpected(saved.error());
  return made;
}

Result<ApiKey> KeyFile::revoke(const std::string& id_or_name) {
  const Result<Fd> held = lock(path_);
  if (!held) return tl::unexpected(held.error());
  auto loaded = load();
  if (!loaded) return tl::unexpected(loaded.error());
  std::vector<ApiKey> keys = std::move(*loaded).value_or(std::vector<ApiKey>{});
  const auto found = std::find_if(keys.begin(), keys.end(),
                                  [&](const ApiKey& key) { return key.id == id_or_name || key.name == id_or_name; });
  if (found == keys.end()) {
    std::vector<std::string> names;
    for (const ApiKey& key : keys) names.push_back(key.name);
    return fail(ErrorCode::not_found, "no key has the id or name {}{}", id_or_name, did_you_mean(id_or_name, names));
  }
  ApiKey revoked = *found;
  keys.erase(found);
  if (const Result<void> saved = save(keys); !saved) return tl::unexpected(saved.error());
  return revoked;
}

Result<void> KeyFile::save(const std::vector<ApiKey>& keys) const {
  const json document = write_json([&](JsonWriter& out) {
    out.list("keys", keys, kMaxKeys, [](JsonWriter& inner, const ApiKey& key) { fields(inner, key); });
  });
  const std::string text = document.dump(2) + "\n";
  // What is written must be readable again: the terms come from a command line.
  if (const auto reread = decode(path_, text); !reread) {
    return fail(ErrorCode::invalid_argument, "{}", reread.error().message);
  }
  if (Result<void> written = write_file_atomically(path_, std::as_bytes(std::span(text))); !written) return written;
  std::error_code ignored;  // it holds no key, only hashes: a file system without permissions is no failure
  std::filesystem::permissions(path_, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write,
                               ignored);
  return {};
}

}  // namespace darkroom
