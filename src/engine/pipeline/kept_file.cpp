#include "engine/pipeline/kept_file.h"

#include <cstddef>
#include <string>

#include "engine/weights/adapter_file.h"
#include "engine/weights/inspect.h"

namespace darkroom::engine {

KeptFile::KeptFile(ModelRole kept_as, const std::filesystem::path& path)
    : role(kept_as),
      file(kept_as == ModelRole::lora ? value_or_throw(open_adapter(path)).file
                                      : value_or_throw(open_weight_file(path))) {}

void KeptFile::require() const {
  const Classification what = classify(*file.weights);
  const FileKind wanted = role == ModelRole::lora ? FileKind::lora : FileKind::embedding;
  // Not every such file can be told by its names: what is of an unknown kind may be what it is asked for as.
  if (what.kind != wanted && what.kind != FileKind::unknown) {
    throw_failure(ErrorCode::unsupported, "{} is a model of the kind {}, not {}", file.weights->describe(),
                  to_string(what.kind), to_string(wanted));
  }
  // An embedding of older models may serve the first text encoder.
  if (wanted == FileKind::lora && what.family != Family::sdxl && what.family != Family::unknown) {
    throw_failure(ErrorCode::unsupported, "{} is a LoRA for {}, not for {}", file.weights->describe(),
                  to_string(what.family), to_string(Family::sdxl));
  }
}

void KeptFile::read() const {
  constexpr std::size_t kPage = 4096;  // bytes; no machine has smaller ones
  for (const std::string& name : file.weights->names()) {
    const HostTensor tensor = *file.weights->find(name);
    const std::size_t bytes = static_cast<std::size_t>(tensor.elements()) * size_of(tensor.dtype);
    const volatile std::byte* data = tensor.data;  // a read that the compiler must do
    for (std::size_t at = 0; at < bytes; at += kPage) static_cast<void>(data[at]);
  }
}

}  // namespace darkroom::engine
