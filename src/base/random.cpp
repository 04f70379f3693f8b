#include "base/random.h"

#include <cerrno>

#include <sys/random.h>
#include <sys/types.h>

#include "base/error.h"

namespace darkroom {

std::uint64_t random_u64() {
  std::uint64_t value = 0;
  ssize_t got = 0;
  do {
    got = ::getrandom(&value, sizeof value, 0);
  } while (got < 0 && errno == EINTR);
  // Up to 256 bytes are never cut short, and there is no other error with these arguments.
  DR_ASSERT(got == sizeof value);
  return value;
}

}  // namespace darkroom
