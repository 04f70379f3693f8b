#include "engine/models/upscaler.h"

#include "base/overloaded.h"
#include "engine/models/compact.h"
#include "engine/models/rrdbnet.h"

namespace darkroom::engine {

std::unique_ptr<UpscalerNetwork> make_upscaler(Network& network, const ModelPart<UpscalerConfig>& part, DType compute) {
  return std::visit(Overloaded{[&](const RrdbnetConfig& config) -> std::unique_ptr<UpscalerNetwork> {
                                 return std::make_unique<Rrdbnet>(network, *part.weights, config, compute);
                               },
                               [&](const CompactConfig& config) -> std::unique_ptr<UpscalerNetwork> {
                                 return std::make_unique<Compact>(network, *part.weights, config, compute);
                               }},
                    part.config);
}

int scale_of(const UpscalerConfig& config) {
  return std::visit([](const auto& network) { return network.scale(); }, config);
}

std::uint64_t bytes_per_pixel(const UpscalerConfig& config, DType compute) {
  return std::visit(
      Overloaded{[&](const RrdbnetConfig& network) { return Rrdbnet::bytes_per_pixel(network, compute); },
                 [&](const CompactConfig& network) { return Compact::bytes_per_pixel(network, compute); }},
      config);
}

}  // namespace darkroom::engine
