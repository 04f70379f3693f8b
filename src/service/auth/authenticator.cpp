#include "service/auth/authenticator.h"

#include <cerrno>
#include <chrono>

#include <sys/stat.h>

#include "base/text.h"
#include "service/blobs/hash.h"

namespace darkroom {
namespace {

// What may be a key in the credentials, at most three texts. None: they are empty, as some clients send them.
std::vector<std::string> candidates(const Credentials& credentials) {
  std::vector<std::string> found;
  if (const std::string_view key = trimmed(credentials.api_key); !key.empty()) found.emplace_back(key);
  const std::string_view value = trimmed(credentials.authorization);
  const std::size_t space = value.find(' ');
  if (space == std::string_view::npos) return found;
  const std::string scheme = to_lower(value.substr(0, space));
  const std::string_view rest = trimmed(value.substr(space));
  if (rest.empty()) return found;
  if (scheme == "bearer") {
    found.emplace_back(rest);
  } else if (scheme == "basic") {
    const Result<std::string> pair = decode_base64(rest);
    if (!pair) return found;
    const std::size_t colon = pair->find(':');
    if (colon != std::string::npos && colon + 1 < pair->size()) found.push_back(pair->substr(colon + 1));
    if (colon != 0 && !pair->empty()) found.push_back(pair->substr(0, colon));
  }
  return found;
}

const ApiKey* find_key(const std::vector<ApiKey>& keys, const std::string& secret) {
  const std::string hash = to_hex(sha256(secret));
  const ApiKey* found = nullptr;
  for (const ApiKey& key : keys) {  // to the end: the time tells nothing
    if (equal_in_constant_time(key.sha256, hash)) found = &key;
  }
  return found;
}

bool has_expired(const ApiKey& key) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return key.expires != 0 && std::chrono::duration_cast<std::chrono::seconds>(now).count() >= key.expires;
}

// Changes with every write: the file is never written in place.
std::string version_of(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return fmt::format("error {}", errno);
  return fmt::format("{} {} {} {}", status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
}

}  // namespace

std::shared_ptr<const Authenticator::Keys> Authenticator::keys() {
  const std::lock_guard lock(mutex_);
  std::string version = version_of(file_.path());
  if (keys_ != nullptr && version == version_) return keys_;
  auto keys = std::make_shared<Keys>();
  auto loaded = file_.load();
  if (!loaded) {
    keys->exist = true;
    keys->trouble = loaded.error().message;
  } else if (*loaded) {
    keys->exist = true;
    keys->list = std::move(**loaded);
  }
  keys_ = std::move(keys);
  version_ = std::move(version);
  return keys_;
}

bool Authenticator::is_open() {
  return openness_ == Openness::always || (openness_ == Openness::until_keys_exist && !keys()->exist);
}

Result<Principal> Authenticator::identify(const Credentials& credentials) {
  const std::shared_ptr<const Keys> now = keys();
  const bool open = openness_ == Openness::always || (openness_ == Openness::until_keys_exist && !now->exist);
  const std::vector<std::string> secrets = candidates(credentials);
  for (const std::string& secret : secrets) {
    const ApiKey* key = find_key(now->list, secret);
    if (key == nullptr || has_expired(*key)) continue;
    return Principal{key->id, key->name, key->scopes, key->limits};
  }
  // Clients that cannot go without a key send some word to a service that needs none.
  if (open) return Principal{"", "", {Scope::admin}, {}};
  if (!now->trouble.empty()) return fail(ErrorCode::internal, "{}", now->trouble);
  if (secrets.empty()) return fail(ErrorCode::invalid_argument, "an API key is required");
  return fail(ErrorCode::not_found, "no such API key, or it has expired");
}

std::optional<ApiKey> Authenticator::key(const std::string& id) {
  const std::shared_ptr<const Keys> now = keys();
  for (const ApiKey& key : now->list) {
    if (key.id == id) return key;
  }
  return std::nullopt;
}

}  // namespace darkroom
