#include "tests/contract/runner/description.h"

#include <fmt/format.h>

#include "base/text.h"
#include "tests/fakes/json_schema.h"

namespace darkroom::contract {
namespace {

using nlohmann::json;

// A path's parameters, or −1: it is another path. Fewer are the better match.
int parameters_of(std::string_view pattern, std::string_view path) {
  const std::vector<std::string_view> expected = split(pattern, '/');
  const std::vector<std::string_view> found = split(path, '/');
  if (expected.size() != found.size()) return -1;
  int parameters = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (expected[i].starts_with('{') && !found[i].empty()) {
      ++parameters;
    } else if (expected[i] != found[i]) {
      return -1;
    }
  }
  return parameters;
}

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

bool is_json(std::string_view type) { return type == "application/json" || type.ends_with("+json"); }

}  // namespace

Description::Description() : document_(load_schema("openapi")) {}

std::set<std::pair<std::string, std::string>> Description::operations() const {
  std::set<std::pair<std::string, std::string>> all;
  for (const auto& [path, item] : document_["paths"].items()) {
    for (const auto& [method, operation] : item.items()) {
      if (method != "parameters") all.emplace(upper(method), path);
    }
  }
  return all;
}

const json* Description::operation(std::string method, const std::string& path) const {
  method = method == "HEAD" ? "get" : to_lower(method);
  const json* best = nullptr;
  int fewest = 0;
  for (const auto& [pattern, item] : document_["paths"].items()) {
    const int parameters = parameters_of(pattern, path);
    if (parameters < 0 || !item.contains(method) || (best != nullptr && parameters >= fewest)) continue;
    best = &item[method];
    fewest = parameters;
  }
  return best;
}

const json& Description::resolved(const json& value) const {
  if (!value.contains("$ref")) return value;
  return document_.at(json::json_pointer(value["$ref"].get<std::string>().substr(1)));
}

std::vector<std::string> Description::violations(const Exchanged& exchanged) const {
  std::string path = exchanged.path.substr(0, exchanged.path.find('?'));
  if (path.size() > 1 && path.ends_with('/')) path.pop_back();
  if (exchanged.method == "OPTIONS") return {};  // a browser's question about a path, which every path has
  const json* described = operation(exchanged.method, path);
  if (described == nullptr) {
    if (exchanged.answer.status == 404 || exchanged.answer.status == 405) return {};
    return {"openapi.json does not have it"};
  }
  std::vector<std::string> all = answer_violations(*described, exchanged);
  if (exchanged.answer.status < 400) {
    for (std::string& one : request_violations(*described, exchanged)) all.push_back(std::move(one));
  }
  return all;
}

std::vector<std::string> Description::request_violations(const json& operation, const Exchanged& exchanged) const {
  if (!operation.contains("requestBody")) {
    if (exchanged.body.is_null()) return {};
    return {"openapi.json has no body for it"};
  }
  const json& body = operation["requestBody"];
  if (exchanged.body.is_null()) {
    if (!body.value("required", false)) return {};
    return {"openapi.json has its body as required"};
  }
  const char* type = exchanged.is_form ? "multipart/form-data" : "application/json";
  if (!body["content"].contains(type)) return {fmt::format("openapi.json has no body of type {}", type)};
  std::vector<std::string> all;
  for (const std::string& error : schema_errors(body["content"][type]["schema"], exchanged.body, document_)) {
    all.push_back("openapi.json on the request: " + error);
  }
  return all;
}

std::vector<std::string> Description::answer_violations(const json& operation, const Exchanged& exchanged) const {
  const RawResponse& answer = exchanged.answer;
  const std::string status = std::to_string(answer.status);
  if (!operation["responses"].contains(status)) return {"openapi.json does not have the status " + status};
  if (exchanged.method == "HEAD" || answer.body.empty()) return {};
  const json& response = resolved(operation["responses"][status]);
  const std::string header = answer.header("Content-Type");
  const std::string type = header.substr(0, header.find(';'));
  if (!response.contains("content") || !response["content"].contains(type)) {
    return {fmt::format("openapi.json has no answer of type {} for {}", type, status)};
  }
  if (!is_json(type)) return {};
  const json body = json::parse(answer.body, nullptr, false);
  if (body.is_discarded()) return {"the answer is no JSON"};
  std::vector<std::string> all;
  for (const std::string& error : schema_errors(response["content"][type]["schema"], body, document_)) {
    all.push_back("openapi.json on the answer: " + error);
  }
  return all;
}

}  // namespace darkroom::contract
