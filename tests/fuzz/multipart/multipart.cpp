// Any bytes as a form, and as the header that says where its parts end: an error, or parts that lie in the body.
#include "service/http/multipart.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace darkroom::http;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // The first line is the header, the rest is the body.
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos) return 0;
  const std::string_view body = text.substr(end + 1);
  const MultipartLimits limits{.parts = 10, .header_bytes = 200};
  for (const std::string_view type : {text.substr(0, end), std::string_view("multipart/form-data; boundary=b")}) {
    const auto parts = parse_multipart(type, body, limits);
    if (!parts) continue;
    DR_ASSERT(parts->size() <= limits.parts);
    for (const FormPart& part : *parts) {
      DR_ASSERT(part.name.size() <= limits.header_bytes);
      DR_ASSERT(part.data.empty() ||
                (part.data.data() >= body.data() && part.data.data() + part.data.size() <= body.data() + body.size()));
    }
  }
  return 0;
}
