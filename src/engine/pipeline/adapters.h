// Puts LoRAs on a loaded model and takes them off. Nothing is ever subtracted again: the layers that the old or the new
// set touches are laid out from the base's weights with the new set's changes, all others stay as they are.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "engine/nn/parameter.h"
#include "engine/weights/lora.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

// A network that adapters change, and the weights that it was laid out from.
struct AdaptedNetwork {
  AdapterTarget target = AdapterTarget::unet;
  Network* network = nullptr;
  WeightSourcePtr base;
};

struct AdapterReport {
  std::vector<std::string> loaded;    // "style: 128 of 130 tensors; its words: pony", in the order asked for
  std::vector<std::string> warnings;  // tensors that have no place in the model
  std::vector<LearnedWord> words;     // that the files teach the text encoders
  std::size_t laid_out = 0;           // parameters
};

// What one model wears. Lives as long as the model; a job puts on what it asks for, which is nothing for most.
class Adapters {
 public:
  struct Options {
    int threads = 0;  // for merging; 0: OpenMP's own number
    // Asked before each parameter is laid out; what it throws ends the change of clothes.
    std::function<void()> before_each = [] {};
  };

  // `networks` are the same at every call. Throws Failure: a file that cannot be opened or does not fit, and what
  // before_each throws. After a Failure in the middle the next call lays out all that this one may have touched.
  AdapterReport wear(std::span<const AdaptedNetwork> networks, const std::vector<LoraUse>& wanted,
                     const Options& options);

 private:
  // An open file or folder; the same one as long as its stamp is the same.
  struct File {
    std::filesystem::path path;
    std::size_t stamp = 0;
    std::shared_ptr<const Lora> lora;
  };
  // What a network wears, and the tensors that differ from the base's.
  struct Dress {
    std::optional<std::vector<WornLora>> worn = std::vector<WornLora>();  // nothing: unknown, after a failure
    std::set<std::string> touched;
  };

  std::shared_ptr<const Lora> open(std::span<const AdaptedNetwork> networks, const std::filesystem::path& path,
                                   std::vector<File>& files);
  static std::size_t change(const AdaptedNetwork& network, Dress& dress, std::vector<WornLora> wanted,
                            const Options& options);

  std::unique_ptr<LayerNames> names_;  // made for the first LoRA
  std::vector<File> files_;            // of the set that is worn
  std::map<AdapterTarget, Dress> dresses_;
};

}  // namespace darkroom::engine
