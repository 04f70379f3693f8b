#include "service/blobs/ticket.h"

#include <charconv>
#include <cstdint>
#include <span>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "base/fd.h"
#include "base/random.h"
#include "service/blobs/hash.h"

namespace darkroom {
namespace {

constexpr std::size_t kSecretDigits = 64;

// What is signed.
std::string statement(std::string_view thing, std::int64_t expires) { return fmt::format("{}\n{}", expires, thing); }

Result<void> make_secret(const std::filesystem::path& file) {
  const std::string secret =
      fmt::format("{:016x}{:016x}{:016x}{:016x}", random_u64(), random_u64(), random_u64(), random_u64());
  if (Result<void> written = write_file_atomically(file, std::as_bytes(std::span(secret))); !written) return written;
  std::error_code error;
  std::filesystem::permissions(file, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write, error);
  if (error) return fail(ErrorCode::internal, "cannot protect {}: {}", file.string(), error.message());
  return {};
}

}  // namespace

Result<TicketOffice> TicketOffice::open(const std::filesystem::path& secret_file) {
  if (::access(secret_file.c_str(), F_OK) != 0) {
    if (const Result<void> made = make_secret(secret_file); !made) return tl::unexpected(made.error());
  }
  const Fd fd{::open(secret_file.c_str(), O_RDONLY | O_CLOEXEC)};
  std::string secret(kSecretDigits, '\0');
  if (!fd || ::read(fd.get(), secret.data(), secret.size()) != static_cast<ssize_t>(secret.size())) {
    return fail(ErrorCode::corrupt_data, "{} holds no secret of {} digits; remove it and a new one is made",
                secret_file.string(), kSecretDigits);
  }
  return TicketOffice(std::move(secret));
}

std::string TicketOffice::issue(std::string_view thing, Time expires) const {
  const std::int64_t seconds = std::chrono::floor<std::chrono::seconds>(expires.time_since_epoch()).count();
  return fmt::format("{}.{}", seconds, to_hex(hmac_sha256(secret_, statement(thing, seconds))));
}

bool TicketOffice::accepts(std::string_view thing, std::string_view ticket, Time now) const {
  const std::size_t dot = ticket.find('.');
  if (dot == std::string_view::npos) return false;
  std::int64_t expires = 0;
  const auto [stop, error] = std::from_chars(ticket.data(), ticket.data() + dot, expires);
  if (error != std::errc() || stop != ticket.data() + dot) return false;
  const std::optional<std::string> hmac = from_hex(ticket.substr(dot + 1));
  return hmac && is_hmac_sha256(*hmac, secret_, statement(thing, expires)) &&
         now.time_since_epoch() < std::chrono::seconds(expires);
}

}  // namespace darkroom
