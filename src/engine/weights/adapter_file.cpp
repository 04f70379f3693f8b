#include "engine/weights/adapter_file.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "engine/weights/json_file.h"

namespace darkroom::engine {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "adapter_config.json";
constexpr std::array<std::string_view, 3> kNetworks{"unet", "text_encoder", "text_encoder_2"};

// The network that a folder by itself is for.
std::string network_of(const fs::path& folder, const nlohmann::json& config) {
  const auto mapping = config.find("auto_mapping");
  if (mapping != config.end() && mapping->is_object()) {
    const nlohmann::json base = mapping->value("base_model_class", nlohmann::json());
    if (base == "UNet2DConditionModel") return "unet";
    if (base == "CLIPTextModel") return "text_encoder";
    if (base == "CLIPTextModelWithProjection") return "text_encoder_2";
  }
  const std::string name = folder.filename().string();
  return std::ranges::find(kNetworks, name) != kNetworks.end() ? name : "unet";
}

// Refuses what would need more than the tensors to be applied.
Result<void> check_config(const nlohmann::json& config, const std::string& file) {
  ConfigReader reader(config, file);
  reader.only("peft_type", {"LORA", "LOHA", "LOKR"});
  reader.only("fan_in_fan_out", {false});
  // The others' change begins at another base than the model's own weights.
  reader.only("init_lora_weights", {true, false, "gaussian", "orthogonal", "eva"});
  if (reader.error()) return tl::unexpected(*reader.error());
  return {};
}

// Adds the adapter of one network. network "": as its configuration says.
Result<void> add_network(const fs::path& folder, std::string network, AdapterFile& adapter,
                         std::vector<HostTensor>& tensors) {
  const fs::path path = folder / kConfig;
  const auto config = read_json_file(path);
  if (!config) return tl::unexpected(config.error());
  if (auto checked = check_config(*config, path.string()); !checked) return checked;
  if (network.empty()) network = network_of(folder, *config);
  if (auto added = adapter.settings.add(network, *config, path.string()); !added) return added;
  const auto weights = open_weight_folder(folder, "adapter_model");
  if (!weights) return tl::unexpected(weights.error());
  adapter.file.bytes += weights->bytes;
  for (const std::string& name : weights->weights->names()) {
    tensors.push_back(*weights->weights->find(name));
    tensors.back().name = fmt::format("{}.{}", network, name);
  }
  return {};
}

}  // namespace

bool is_adapter_folder(const fs::path& path) {
  return is_file(path / kConfig) ||
         std::ranges::any_of(kNetworks, [&](std::string_view network) { return is_file(path / network / kConfig); });
}

Result<AdapterFile> open_adapter(const fs::path& path) {
  AdapterFile adapter;
  if (std::error_code ignored; !fs::is_directory(path, ignored)) {
    auto file = open_weight_file(path);
    if (!file) return tl::unexpected(std::move(file.error()));
    auto settings = AdapterMetadata::parse(file->metadata, path.string());
    if (!settings) return tl::unexpected(std::move(settings.error()));
    return AdapterFile{.file = *std::move(file), .settings = *std::move(settings)};
  }
  if (!is_adapter_folder(path)) {
    return fail(ErrorCode::not_found, "{} holds no LoRA: neither it nor a folder {} in it has an {}", path.string(),
                fmt::join(kNetworks, ", "), kConfig);
  }
  adapter.file.format = FileFormat::peft_folder;
  std::vector<HostTensor> tensors;
  if (is_file(path / kConfig)) {
    if (auto added = add_network(path, "", adapter, tensors); !added) return tl::unexpected(added.error());
  }
  for (const std::string_view network : kNetworks) {
    if (!is_file(path / network / kConfig)) continue;
    auto added = add_network(path / network, std::string(network), adapter, tensors);
    if (!added) return tl::unexpected(std::move(added.error()));
  }
  auto weights = TensorMap::make(path.string(), std::move(tensors));
  if (!weights) return tl::unexpected(std::move(weights.error()));
  adapter.file.weights = *std::move(weights);
  return adapter;
}

}  // namespace darkroom::engine
