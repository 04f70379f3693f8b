// OpenAI's images API, outwards: answers, the events of a stream, the list of models, errors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "protocol/messages.h"
#include "service/api/model_catalog.h"
#include "service/api/openai_request.h"

namespace darkroom {

struct OpenaiPicture {
  std::string file;  // its bytes; or, where the request asks for it,
  std::string url;
};

// `created` is in seconds since 1970, here and below.
nlohmann::json openai_answer(const OpenaiRequest& request, const std::vector<OpenaiPicture>& pictures,
                             std::int64_t created);

struct OpenaiEvent {
  std::string name;
  nlohmann::json data;
};
OpenaiEvent openai_partial_image(const OpenaiRequest& request, std::string_view preview, int index,
                                 std::int64_t created);
OpenaiEvent openai_completed(const OpenaiRequest& request, std::string_view file, std::int64_t created);
OpenaiEvent openai_stream_error(const Refusal& refusal, int status);

nlohmann::json openai_models(const ModelCatalog& models, std::int64_t created);
// One of them; error not_found.
tl::expected<nlohmann::json, Refusal> openai_model(const ModelCatalog& models, std::string_view id,
                                                   std::int64_t created);

// {"error": {"message", "type", "param", "code"}}; the type follows from HTTP's status.
nlohmann::json openai_error(const Refusal& refusal, int status);

}  // namespace darkroom
