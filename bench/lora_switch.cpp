#include "bench/lora_switch.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "bench/files.h"
#include "bench/peak.h"
#include "engine/weights/safetensors.h"

namespace darkroom::bench {
namespace {

using namespace engine;

// Small numbers in float16, as LoRAs are saved.
HostTensor some_halves(std::string name, const Shape& shape) {
  const auto values = std::make_shared<std::vector<std::uint16_t>>(static_cast<std::size_t>(shape.elements()));
  std::uint32_t state = 7;
  for (std::uint16_t& value : *values) {
    state = state * 1664525U + 1013904223U;
    value = float_to_f16((static_cast<float>(state >> 8) * (1.0F / 8388608.0F) - 1.0F) * 0.01F);
  }
  return {.name = std::move(name),
          .dtype = DType::f16,
          .shape = shape,
          .data = reinterpret_cast<const std::byte*>(values->data()),
          .owner = values};
}

// Returns the names of the tensors that it changes.
std::set<std::string> write_lora(const WeightSource& unet, const std::filesystem::path& file, std::int64_t rank) {
  std::vector<HostTensor> tensors;
  std::set<std::string> touched;
  for (const std::string& name : unet.names()) {
    const Shape shape = unet.info(name)->shape;
    if (name.find(".attentions.") == std::string::npos || !name.ends_with(".weight") || shape.rank() != 2) continue;
    const std::string layer = "unet." + name.substr(0, name.rfind('.'));
    tensors.push_back(some_halves(layer + ".lora_A.weight", {rank, shape[1]}));
    tensors.push_back(some_halves(layer + ".lora_B.weight", {shape[0], rank}));
    touched.insert(name);
  }
  if (auto written = write_safetensors(file, tensors); !written) throw Failure(written.error());
  return touched;
}

// A base whose touched layers wear a LoRA of rank 0: they are laid out as if something were added to them.
class WornBase final : public WeightSource {
 public:
  WornBase(const WeightSource& base, const std::set<std::string>& touched) : base_(base), touched_(touched) {}

  std::optional<HostTensor> find(std::string_view name) const override { return base_.find(name); }
  std::optional<TensorSum> find_sum(std::string_view name) const override {
    std::optional<TensorSum> sum = base_.find_sum(name);
    if (sum && touched_.contains(std::string(name))) {
      const Shape& shape = sum->tensor.shape;
      sum->products.push_back({.left = {.shape = {shape[0], 0}}, .right = {.shape = {0, shape[1]}}});
    }
    return sum;
  }
  std::optional<TensorInfo> info(std::string_view name) const override { return base_.info(name); }
  std::vector<std::string> names() const override { return base_.names(); }
  std::string describe() const override { return base_.describe(); }

 private:
  const WeightSource& base_;
  const std::set<std::string>& touched_;
};

}  // namespace

LoraSwitch measure_lora_switch(const AdaptedNetwork& unet, const std::filesystem::path& file, int rank, int threads,
                               int runs) {
  const std::set<std::string> touched = write_lora(*unet.base, file, rank);
  const std::filesystem::path second = file.string() + ".second";
  std::filesystem::copy_file(file, second, std::filesystem::copy_options::overwrite_existing);
  const std::vector<LoraUse> use{{.model = file.string()}};
  const std::vector<LoraUse> other{{.model = second.string()}};
  LoraSwitch result;
  result.file_mib = static_cast<double>(std::filesystem::file_size(file)) / (1 << 20);
  const auto lay_out = [&](const WeightSource& base) {
    unet.network->reload(base, [&](const std::string& tensor) { return touched.contains(tensor); });
  };
  const WornBase worn(*unet.base, touched);
  lay_out(*unet.base);  // the base's file is in memory from here on, for both
  const auto best = [](double& so_far, double seconds) { so_far = so_far == 0 ? seconds : std::min(so_far, seconds); };
  const std::vector<AdaptedNetwork> networks{unet};
  for (int run = 0; run < runs; ++run) {
    best(result.lay_out_seconds, seconds_of([&] { lay_out(*unet.base); }));
    forget_pages(file);
    best(result.read_seconds, seconds_of([&] { read_through(file); }));
    forget_pages(file);
    forget_pages(second);
    Adapters adapters;
    best(result.put_on_seconds,
         seconds_of([&] { result.parameters = adapters.wear(networks, use, {.threads = threads}).laid_out; }));
    best(result.worn_seconds, seconds_of([&] { lay_out(worn); }));
    best(result.switch_seconds, seconds_of([&] { adapters.wear(networks, other, {.threads = threads}); }));
    best(result.take_off_seconds, seconds_of([&] { adapters.wear(networks, {}, {.threads = threads}); }));
  }
  std::error_code ignored;
  std::filesystem::remove(file, ignored);
  std::filesystem::remove(second, ignored);
  return result;
}

}  // namespace darkroom::bench
