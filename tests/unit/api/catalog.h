// Models for the tests of what clients ask for.
#pragma once

#include <string>
#include <vector>

#include "service/api/model_catalog.h"

namespace darkroom {

inline ModelCatalog test_catalog() {
  const auto entry = [](const char* name, ModelRole kind, const char* extension = ".safetensors") {
    return ModelEntry{.name = name,
                      .kind = kind,
                      .path = std::string("/models/") + name + extension,
                      .family = kind == ModelRole::checkpoint ? "Stable Diffusion XL" : "",
                      .bytes = 100};
  };
  std::vector<ModelEntry> entries = {entry("sd_xl_base_1.0", ModelRole::checkpoint),
                                     entry("anime/Pony", ModelRole::checkpoint),
                                     entry("refiner", ModelRole::checkpoint),
                                     entry("folder-model", ModelRole::checkpoint, ""),
                                     entry("fixed", ModelRole::vae),
                                     entry("styles/Watercolor", ModelRole::lora),
                                     entry("detail", ModelRole::lora),
                                     entry("canny-xl", ModelRole::controlnet),
                                     entry("union-promax", ModelRole::controlnet),
                                     entry("badhands", ModelRole::embedding),
                                     entry("4x-UltraSharp", ModelRole::upscaler, ".pth")};
  ModelEntry old = entry("v1-5", ModelRole::checkpoint);
  old.family = "Stable Diffusion 1.x";
  ModelEntry broken = entry("broken", ModelRole::lora);
  broken.problem = "damaged";
  entries.push_back(old);
  entries.push_back(broken);
  return ModelCatalog(entries, {{"/models/sd_xl_base_1.0.safetensors",
                                 "31E35C80FC4829D14F90153F4C74CD59C90B779F6AFE05A74CD6120B893F7E5B"}});
}

// A PNG of one pixel, in base64.
inline const char* const kPixel =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

}  // namespace darkroom
