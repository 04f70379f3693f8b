// What webui keeps in prompts beside words: <lora:name:weight>, and textual inversions by their names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json_reader.h"
#include "service/api/model_catalog.h"
#include "spec/generation_spec.h"

namespace darkroom {

struct PromptNetwork {
  std::string kind;                    // "lora", "lyco", "hypernet", …
  std::vector<std::string> arguments;  // what lies between the colons
};

struct SplitPrompt {
  std::string words;
  std::vector<PromptNetwork> networks;
};

// Takes the <kind:…> out of a prompt, as webui does; other angle brackets stay.
SplitPrompt split_networks(std::string_view prompt);

// <lora:name>, <lora:name:weight>, <lora:name:text encoder:unet>, and with te= and unet=; lyco is lora. Others become
// warnings. Complaints, under `pointer`: a name that no LoRA has, a weight that is none or out of range.
std::vector<LoraUse> loras_of(const std::vector<PromptNetwork>& networks, const ModelCatalog& models, float max_weight,
                              std::string_view pointer, std::vector<Complaint>& complaints,
                              std::vector<std::string>& warnings);

// The embeddings whose names stand in either text as words of their own, whatever their case.
std::vector<EmbeddingUse> embeddings_in(std::string_view prompt, std::string_view negative_prompt,
                                        const ModelCatalog& models);

}  // namespace darkroom
