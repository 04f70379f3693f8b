// openapi.json, and what of a request and its answer is not as it says.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/support/raw_client.h"

namespace darkroom::contract {

struct Exchanged {
  std::string method;
  std::string path;     // without prefix and query
  nlohmann::json body;  // as JSON, or a form's parts by name; null: none was sent
  bool is_form = false;
  RawResponse answer;
};

class Description {
 public:
  // api/openapi.json of the sources.
  Description();

  // "GET", "/v1/jobs/{id}"
  std::set<std::pair<std::string, std::string>> operations() const;
  // Each line with its place. A request that was refused need not be a right one; a path that is not described must
  // not be found.
  std::vector<std::string> violations(const Exchanged& exchanged) const;

 private:
  const nlohmann::json* operation(std::string method, const std::string& path) const;
  const nlohmann::json& resolved(const nlohmann::json& value) const;
  std::vector<std::string> request_violations(const nlohmann::json& operation, const Exchanged& exchanged) const;
  std::vector<std::string> answer_violations(const nlohmann::json& operation, const Exchanged& exchanged) const;

  nlohmann::json document_;
};

}  // namespace darkroom::contract
