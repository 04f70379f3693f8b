#include "base/json_text.h"

#include <string>
#include <utility>
#include <vector>

namespace darkroom {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxTrouble = 400;  // bytes of the parser's own words

// Builds the value as the parser goes and stops it at the first thing that is not allowed.
class StrictBuilder final : public nlohmann::json_sax<json> {
 public:
  json root;
  std::string trouble;

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return stop("binary data"); }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (open_.back()->contains(name)) return stop("the key \"" + name.substr(0, 60) + "\" stands twice in one object");
    slot_ = &(*open_.back())[name];
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: …": the part after the bracket.
    std::string_view what = error.what();
    what.remove_prefix(what.find("] ") + 2);
    // It quotes the last token in the middle, which may be as long as the whole text.
    if (what.size() <= kMaxTrouble) return stop(std::string(what));
    return stop(fmt::format("{} … {}", what.substr(0, kMaxTrouble / 2), what.substr(what.size() - kMaxTrouble / 2)));
  }

 private:
  json* place() {
    if (open_.empty()) return &root;
    if (open_.back()->is_array()) return &open_.back()->emplace_back();
    return slot_;
  }
  bool count() { return ++values_ <= kMaxJsonValues || stop(fmt::format("holds more than {} values", kMaxJsonValues)); }
  template <class T>
  bool add(T&& value) {
    if (!count()) return false;
    *place() = std::forward<T>(value);
    return true;
  }
  bool open(json empty) {
    if (open_.size() >= kMaxJsonDepth) return stop(fmt::format("nested deeper than {} levels", kMaxJsonDepth));
    if (!count()) return false;
    json* value = place();
    *value = std::move(empty);
    open_.push_back(value);
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  bool stop(std::string what) {
    trouble = std::move(what);
    return false;
  }

  std::vector<json*> open_;  // containers not yet closed; a parent's growth moves no open child
  int values_ = 0;
  json* slot_ = nullptr;  // where the value after a key goes
};

}  // namespace

Result<json> parse_json(std::string_view text) {
  StrictBuilder builder;
  if (!json::sax_parse(text, &builder)) return fail(ErrorCode::invalid_argument, "not valid JSON: {}", builder.trouble);
  return std::move(builder.root);
}

}  // namespace darkroom
