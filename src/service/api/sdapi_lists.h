// AUTOMATIC1111's API: what its listing routes and its options answer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "protocol/messages.h"
#include "service/api/model_catalog.h"
#include "service/api/sdapi_request.h"

namespace darkroom {

nlohmann::json sdapi_samplers();
nlohmann::json sdapi_schedulers();
nlohmann::json sdapi_models(const ModelCatalog& models);
nlohmann::json sdapi_vaes(const ModelCatalog& models);
nlohmann::json sdapi_loras(const ModelCatalog& models);
nlohmann::json sdapi_embeddings(const ModelCatalog& models);
nlohmann::json sdapi_upscalers(const ModelCatalog& models);
nlohmann::json sdapi_latent_upscale_modes();
nlohmann::json sdapi_scripts();
nlohmann::json sdapi_script_info();
nlohmann::json sdapi_cmd_flags();

struct MachineMemory {
  std::uint64_t total = 0;  // bytes
  std::uint64_t free = 0;
  std::uint64_t used_by_workers = 0;
};
nlohmann::json sdapi_memory(const MachineMemory& memory);

nlohmann::json controlnet_models(const ModelCatalog& models);
nlohmann::json controlnet_modules();
nlohmann::json controlnet_types(const ModelCatalog& models);
nlohmann::json controlnet_settings(const Limits& limits);

// The caller's, with what webui's clients look for.
nlohmann::json sdapi_options(const SdapiContext& context);

// What a body of POST options makes of the caller's; the whole object may come back. Refused: a model that is not
// there.
tl::expected<SdapiOptions, Refusal> changed_sdapi_options(const nlohmann::json& body, const SdapiContext& context);

}  // namespace darkroom
