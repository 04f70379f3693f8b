// AUTOMATIC1111's API, outwards: what the generating routes, progress and png-info answer, and its errors.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "protocol/messages.h"
#include "service/api/model_catalog.h"
#include "service/api/sdapi_request.h"

namespace darkroom {

struct SdapiPicture {
  std::string png;  // the file
  std::uint64_t seed = 0;
  int width = 0;  // pixels
  int height = 0;
};

// `images`, `parameters`, `info` (a text of JSON), and the warnings beside them. The infotexts are the pictures' own.
nlohmann::json sdapi_answer(const SdapiRequest& request, const std::vector<SdapiPicture>& pictures,
                            const ModelCatalog& models, const std::vector<std::string>& warnings,
                            const std::string& job_timestamp);

// {"html_info", "image"} or {"html_info", "images"}.
nlohmann::json sdapi_extras_answer(SdapiExtrasKind kind, const std::vector<std::string>& pictures,
                                   const std::vector<std::string>& warnings);

// {"images", "info"} of /controlnet/detect.
nlohmann::json sdapi_detect_answer(const std::vector<std::string>& pictures);

// The caller's job as progress tells it; idle where there is none.
struct SdapiProgress {
  std::string job;  // its id
  std::string job_timestamp;
  int job_count = 1;  // pictures
  int job_no = 0;     // of them finished
  int step = 0;
  int steps = 0;
  double seconds_left = 0.0;
  std::string stage;
  bool interrupted = false;
  std::string preview;  // an encoded picture; "": none
};
enum class PreviewUse : std::uint8_t { show, skip };
nlohmann::json sdapi_progress_answer(const std::optional<SdapiProgress>& progress, PreviewUse use);

// Error: what the picture is not.
tl::expected<nlohmann::json, Refusal> sdapi_png_info(const nlohmann::json& body, const Limits& limits);

// {"error", "detail", "body", "errors", "message"}; a path that is none has the message "Not Found".
nlohmann::json sdapi_error(const Refusal& refusal);

}  // namespace darkroom
