// A JSON Schema validator for the tests: those keywords of draft 2020-12 that api/*.json use; another one is an error.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace darkroom {

// api/NAME.json
nlohmann::json load_schema(const std::string& name);

// What is wrong with the instance, each line with its pointer; empty: it is valid.
std::vector<std::string> schema_errors(const nlohmann::json& schema, const nlohmann::json& instance);
// The same for a schema within `document`, whose "#/…" it may refer to, and "schemas/NAME.json#/…", which is
// api/NAME.json as the service serves it.
std::vector<std::string> schema_errors(const nlohmann::json& schema, const nlohmann::json& instance,
                                       const nlohmann::json& document);

}  // namespace darkroom
