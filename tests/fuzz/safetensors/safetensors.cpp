// Any bytes as a safetensors file: an error, or tensors inside the bytes; and what they are made out to be.
#include "engine/weights/safetensors.h"

#include <cstddef>
#include <cstdint>

#include "engine/weights/inspect.h"
#include "engine/weights/key_map_sdxl.h"
#include "engine/weights/key_map_upscaler.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace darkroom::engine;
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto file = SafetensorsFile::parse(bytes, nullptr, "fuzz");
  if (!file) return 0;
  for (const HostTensor& tensor : file->tensors()) {
    DR_ASSERT(tensor.data >= bytes.data() && tensor.data + tensor.bytes() <= bytes.data() + bytes.size());
  }
  const auto map = TensorMap::make("fuzz", file->tensors());
  DR_ASSERT(map.has_value());
  (void)classify(**map);
  (void)map_original_unet(**map, "model.diffusion_model.");
  (void)map_original_vae(**map, "first_stage_model.");
  (void)map_diffusers_vae(**map);
  if (auto text = map_openclip_text(**map, "conditioner.embedders.1.model."); text) {
    if (const auto view = KeyMappedSource::make(*map, text->entries)) {
      for (const auto& name : (*view)->names()) DR_ASSERT((*view)->find(name)->shape == (*view)->info(name)->shape);
    }
  }
  (void)map_clip_text(**map, "");
  if (auto upscaler = map_upscaler(**map); upscaler) (void)KeyMappedSource::make(*map, upscaler->entries);
  return 0;
}
