// The parameters text that AUTOMATIC1111's webui writes into pictures and that other tools read (its
// modules/infotext_utils.py): the prompt, a line "Negative prompt: …", and a last line "Steps: 20, Sampler: Euler a,
// …".
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace darkroom {

struct Infotext {
  std::string prompt;           // may have several lines
  std::string negative_prompt;  // may have several lines; "": none
  // In order: {"Steps", "20"}, {"Sampler", "Euler a"}, {"CFG scale", "7"}, {"Seed", "1"}, {"Size", "512x512"}, …
  std::vector<std::pair<std::string, std::string>> settings;

  bool operator==(const Infotext&) const = default;
};

// What a picture can carry is UTF-8 without zero bytes. Error: invalid_argument with the offset.
Result<void> check_parameters_text(std::string_view text);

// A value that would not come back as it is, for a comma, colon, quote or line break in it or spaces around it, is
// written as a JSON string. Keys are of letters, digits, spaces, _, - and /. A text comes back the same if its prompts
// have no spaces around their lines, no line starts with "Negative prompt:", and there are three settings or more.
std::string to_infotext(const Infotext& info);

// Any text is some prompt: a last line that is not "key: value, key: value, …" with at least three of them belongs to
// the prompt, as in webui. Error: invalid_argument, for a text that is not UTF-8.
Result<Infotext> parse_infotext(std::string_view text);

}  // namespace darkroom
