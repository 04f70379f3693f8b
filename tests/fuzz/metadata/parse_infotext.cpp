// Any text is read, and what was read is read again from its own text.

#include "base/error.h"
#include "metadata/infotext.h"

using darkroom::parse_infotext;
using darkroom::to_infotext;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto first = parse_infotext({reinterpret_cast<const char*>(data), size});
  if (!first) return 0;
  DR_ASSERT(parse_infotext(to_infotext(*first)).has_value());
  return 0;
}
