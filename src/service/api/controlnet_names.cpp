#include "service/api/controlnet_names.h"

#include <array>
#include <string>
#include <utility>

#include "base/text.h"

namespace darkroom {
namespace {

constexpr std::array kModules = {ControlModule{"none", "", "", "All"},
                                 ControlModule{"canny", "canny", "canny", "Canny"},
                                 ControlModule{"scribble", "scribble", "scribble", "Scribble"},
                                 ControlModule{"lineart_standard", "lineart", "lineart", "Lineart"},
                                 ControlModule{"invert", "invert", "lineart", "Lineart"},
                                 ControlModule{"tile_resample", "tile", "tile", "Tile"},
                                 ControlModule{"blur_gaussian", "blur", "tile", "Blur"}};

// The extension's other names, some with what its page shows behind them.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kOtherNames = {
    {{"invert (from white bg & black line)", "invert"},
     {"lineart", "lineart_standard"},
     {"lineart_standard (from white bg & black line)", "lineart_standard"},
     {"tile", "tile_resample"},
     {"blur", "blur_gaussian"},
     {"tile_gaussian", "blur_gaussian"},
     {"", "none"}}};

}  // namespace

std::span<const ControlModule> control_modules() { return kModules; }

const ControlModule* find_control_module(std::string_view name) {
  const std::string lower = to_lower(name);
  std::string_view wanted = lower;
  for (const auto& [other, module] : kOtherNames) {
    if (lower == other) wanted = module;
  }
  for (const ControlModule& module : kModules) {
    if (module.module == wanted) return &module;
  }
  return nullptr;
}

}  // namespace darkroom
