#include "tests/fakes/json_schema.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <stdexcept>

namespace darkroom {
namespace {

using nlohmann::json;

bool has_type(const json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "number") return value.is_number();
  if (type == "integer") {
    return value.is_number_integer() || (value.is_number() && std::trunc(value.get<double>()) == value.get<double>());
  }
  throw std::runtime_error("no such type: " + type);
}

class Validator {
 public:
  explicit Validator(const json& root) : root_(root) {}

  void check(const json& schema, const json& value, const std::string& at) {
    static const std::set<std::string> kAnnotations = {"$schema", "$id",     "$defs", "title", "description",
                                                       "default", "format",  "then",  "else",  "contentMediaType",
                                                       "example", "examples"};
    for (const auto& [keyword, argument] : schema.items()) {
      if (!kAnnotations.contains(keyword)) keyword_of(schema, keyword, argument, value, at);
    }
  }

  std::vector<std::string> errors;

 private:
  bool valid(const json& schema, const json& value) {
    Validator inner(root_);
    inner.check(schema, value, "");
    return inner.errors.empty();
  }
  void refer(const std::string& target, const json& value, const std::string& at) {
    constexpr std::string_view kBeside = "schemas/";
    const std::size_t hash = target.find('#');
    const json::json_pointer pointer(target.substr(hash + 1));
    if (hash == 0) return check(root_.at(pointer), value, at);
    if (!target.starts_with(kBeside)) throw std::runtime_error("the test's validator does not know " + target);
    const std::string name = target.substr(kBeside.size(), target.find(".json") - kBeside.size());
    const json other = load_schema(name);
    Validator inner(other);
    inner.check(other.at(pointer), value, at);
    errors.insert(errors.end(), inner.errors.begin(), inner.errors.end());
  }
  void require(bool holds, const std::string& at, const std::string& what) {
    if (!holds) errors.push_back(at + ": " + what);
  }

  void keyword_of(const json& schema, const std::string& keyword, const json& argument, const json& value,
                  const std::string& at) {
    const auto matches = [&](const json& option) { return valid(option, value); };
    if (keyword == "$ref") {
      refer(argument.get<std::string>(), value, at);
    } else if (keyword == "type") {
      const json types = argument.is_array() ? argument : json::array({argument});
      require(std::any_of(types.begin(), types.end(), [&](const json& type) { return has_type(value, type); }), at,
              "is no " + argument.dump());
    } else if (keyword == "const") {
      require(value == argument, at, "is not " + argument.dump());
    } else if (keyword == "enum") {
      require(std::find(argument.begin(), argument.end(), value) != argument.end(), at,
              "is none of " + argument.dump());
    } else if (keyword == "allOf") {
      for (const json& part : argument) check(part, value, at);
    } else if (keyword == "anyOf") {
      require(std::any_of(argument.begin(), argument.end(), matches), at, "fits none of anyOf");
    } else if (keyword == "oneOf") {
      require(std::count_if(argument.begin(), argument.end(), matches) == 1, at, "fits not exactly one of oneOf");
    } else if (keyword == "not") {
      require(!matches(argument), at, "fits what it must not: " + argument.dump());
    } else if (keyword == "if") {
      const char* branch = matches(argument) ? "then" : "else";
      if (schema.contains(branch)) check(schema[branch], value, at);
    } else if (keyword == "contentSchema") {
      const json inner = json::parse(value.is_string() ? value.get<std::string>() : "", nullptr, false);
      if (inner.is_discarded()) return require(!value.is_string(), at, "is no JSON");
      check(argument, inner, at);
    } else if (keyword == "minimum") {
      require(!value.is_number() || value.get<double>() >= argument.get<double>(), at, "is below " + argument.dump());
    } else if (keyword == "maximum") {
      require(!value.is_number() || value.get<double>() <= argument.get<double>(), at, "is above " + argument.dump());
    } else if (keyword == "multipleOf") {
      require(!value.is_number() || std::fmod(value.get<double>(), argument.get<double>()) == 0, at, "is no multiple");
    } else if (keyword == "minLength") {
      require(!value.is_string() || value.get<std::string>().size() >= argument.get<std::size_t>(), at, "is too short");
    } else if (keyword == "maxLength") {
      require(!value.is_string() || value.get<std::string>().size() <= argument.get<std::size_t>(), at, "is too long");
    } else if (keyword == "maxItems") {
      require(!value.is_array() || value.size() <= argument.get<std::size_t>(), at, "has too many elements");
    } else if (keyword == "items") {
      for (std::size_t i = 0; value.is_array() && i < value.size(); ++i)
        check(argument, value[i], at + "/" + std::to_string(i));
    } else if (keyword == "required") {
      for (const json& key : argument) {
        require(!value.is_object() || value.contains(key.get<std::string>()), at, "lacks " + key.dump());
      }
    } else if (keyword == "properties") {
      for (const auto& [key, property] : argument.items()) {
        if (value.is_object() && value.contains(key)) check(property, value[key], at + "/" + key);
      }
    } else if (keyword == "additionalProperties") {
      if (!value.is_object()) return;
      for (const auto& [key, member] : value.items()) {
        if (schema.contains("properties") && schema["properties"].contains(key)) continue;
        if (argument.is_boolean())
          require(argument.get<bool>(), at, "has the unknown key " + key);
        else
          check(argument, member, at + "/" + key);
      }
    } else {
      throw std::runtime_error("the test's validator does not know the keyword " + keyword);
    }
  }

  const json& root_;
};

}  // namespace

json load_schema(const std::string& name) {
  std::ifstream file(std::string(DARKROOM_SOURCE_DIR) + "/api/" + name + ".json");
  return json::parse(file);
}

std::vector<std::string> schema_errors(const json& schema, const json& instance) {
  return schema_errors(schema, instance, schema);
}

std::vector<std::string> schema_errors(const json& schema, const json& instance, const json& document) {
  Validator validator(document);
  validator.check(schema, instance, "");
  return validator.errors;
}

}  // namespace darkroom
