#include "engine/pipeline/adapters.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <fmt/ranges.h>

#include "base/error.h"
#include "engine/pipeline/model_cache.h"

namespace darkroom::engine {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kNamedTensors = 3;  // in a warning

std::string warning_about(const std::string& name, const Lora& lora) {
  const auto& unmatched = lora.unmatched();
  const std::span<const std::string> named(unmatched.data(), std::min(unmatched.size(), kNamedTensors));
  return fmt::format("LoRA {}: {} of {} tensors have no place in the model: {}{}", name, unmatched.size(), lora.total(),
                     fmt::join(named, ", "), unmatched.size() > named.size() ? ", …" : "");
}

std::string summary_of(const std::string& name, const Lora& lora) {
  std::string summary = fmt::format("{}: {} of {} tensors", name, lora.applied(), lora.total());
  std::string_view before = "; its words: ";
  for (const LearnedWord& word : lora.words()) {
    summary += fmt::format("{}{}", before, word.token);
    before = ", ";
  }
  return summary;
}

bool same(const std::optional<std::vector<WornLora>>& worn, const std::vector<WornLora>& wanted) {
  return worn && std::ranges::equal(*worn, wanted, [](const WornLora& a, const WornLora& b) {
           return a.lora == b.lora && a.strength == b.strength;
         });
}

}  // namespace

AdapterReport Adapters::wear(std::span<const AdaptedNetwork> networks, const std::vector<LoraUse>& wanted,
                             const Options& options) {
  AdapterReport report;
  // 1. The files, all of them before anything changes.
  std::vector<File> files;
  std::map<AdapterTarget, std::vector<WornLora>> sets;
  for (const LoraUse& use : wanted) {
    const auto lora = open(networks, use.model, files);
    const std::string name = fs::path(use.model).stem().string();
    report.loaded.push_back(summary_of(name, *lora));
    report.words.insert(report.words.end(), lora->words().begin(), lora->words().end());
    if (!lora->unmatched().empty()) report.warnings.push_back(warning_about(name, *lora));
    for (const AdaptedNetwork& network : networks) {
      const float strength = network.target == AdapterTarget::unet ? use.unet_weight : use.text_encoder_weight;
      const bool touches = strength != 0.0F && !lora->touched(network.target).empty();
      if (touches) sets[network.target].push_back({lora, strength});
    }
  }
  // 2. Each network changes clothes. The files that were worn stay open until that is done.
  for (const AdaptedNetwork& network : networks) {
    report.laid_out += change(network, dresses_[network.target], std::move(sets[network.target]), options);
  }
  files_ = std::move(files);
  return report;
}

std::shared_ptr<const Lora> Adapters::open(std::span<const AdaptedNetwork> networks, const fs::path& path,
                                           std::vector<File>& files) {
  File file{.path = path, .stamp = model_stamp(path), .lora = nullptr};
  for (const std::vector<File>* known : {&std::as_const(files), &std::as_const(files_)}) {
    const auto found = std::ranges::find_if(
        *known, [&](const File& other) { return other.path == file.path && other.stamp == file.stamp; });
    if (found != known->end()) {
      file.lora = found->lora;
      break;
    }
  }
  if (!file.lora) {
    if (!names_) {
      AdapterBases bases;
      for (const AdaptedNetwork& network : networks) bases.emplace(network.target, network.base);
      names_ = std::make_unique<LayerNames>(std::move(bases));
    }
    file.lora = value_or_throw(Lora::open(path, *names_));
  }
  files.push_back(file);
  return file.lora;
}

std::size_t Adapters::change(const AdaptedNetwork& network, Dress& dress, std::vector<WornLora> wanted,
                             const Options& options) {
  if (same(dress.worn, wanted)) return 0;
  std::set<std::string> touched;
  for (const WornLora& worn : wanted) {
    for (std::string& tensor : worn.lora->touched(network.target)) touched.insert(std::move(tensor));
  }
  // Unknown from here to the end, and all of both sets may differ from the base.
  dress.worn.reset();
  dress.touched.insert(touched.begin(), touched.end());
  const AdaptedSource source(network.base, network.target, wanted, options.threads);
  const std::size_t count = network.network->reload(source, [&](const std::string& tensor) {
    if (!dress.touched.contains(tensor)) return false;
    options.before_each();
    return true;
  });
  dress.worn = std::move(wanted);
  dress.touched = std::move(touched);
  return count;
}

}  // namespace darkroom::engine
