// ControlNet's preprocessors by the names that webui's extension has for them.
#pragma once

#include <span>
#include <string_view>

namespace darkroom {

struct ControlModule {
  std::string_view module;        // as it is listed
  std::string_view preprocessor;  // of GenerationSpec; "": none
  std::string_view type;          // of a union model; "": it does not say
  std::string_view control_type;  // the group on the page
};

std::span<const ControlModule> control_modules();

// Also "None" and the extension's other names; null: it is not built in.
const ControlModule* find_control_module(std::string_view name);

}  // namespace darkroom
