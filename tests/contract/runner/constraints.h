// What a case file says that an answer must be: {"/pointer": {constraint: …}, …}.
//   type        "object", "array", "string", "number", "integer", "boolean", "null"
//   equals      this value                 not_empty   true: not ""
//   contains    a text in it               starts_with a text
//   size        of a list                  min_size
//   absent      true: the pointer leads nowhere
//   picture     "png": base64 of such a file
//   json        the text is JSON, for which these constraints hold
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace darkroom::contract {

// What is not as it must be, each with its pointer.
std::vector<std::string> violations(const nlohmann::json& constraints, const nlohmann::json& answer);

// Whether these bytes are a picture of the format.
bool is_picture(const std::string& bytes, const std::string& format);

}  // namespace darkroom::contract
