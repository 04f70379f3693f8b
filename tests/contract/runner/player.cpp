#include "tests/contract/runner/player.h"

#include <chrono>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/text.h"
#include "tests/contract/runner/constraints.h"
#include "tests/support/raw_client.h"

namespace darkroom::contract {
namespace {

using nlohmann::json;

// One pixel.
constexpr const char* kPng =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
constexpr std::string_view kBoundary = "----case-boundary";

class Player {
 public:
  explicit Player(const Place& place) : place_(place) {
    saved_["png"] = kPng;
    saved_["png_bytes"] = decode_base64(kPng).value();
  }

  Played play(const json& step) {
    if (!step.value("until", false)) return play_once(step);
    constexpr int kTries = 3000;
    constexpr std::chrono::milliseconds kPause(20);
    Played played = play_once(step);
    for (int i = 0; i < kTries && !played.troubles.empty(); ++i) {
      std::this_thread::sleep_for(kPause);
      played = play_once(step);
    }
    return played;
  }

 private:
  // A request whose answer is not read yet.
  struct Begun {
    RawClient client;
    Exchanged exchanged;
    std::string call;
  };

  Played play_once(const json& step) {
    Played played{.step = step.value("name", ""), .call = {}, .exchanged = {}, .troubles = {}};
    if (step.contains("hang_up")) {
      begun_.erase(step["hang_up"].get<std::string>());
      return played;
    }
    if (step.contains("await")) {
      auto begun = begun_.extract(step["await"].get<std::string>());
      played.call = begun.mapped().call;
      played.exchanged = std::move(begun.mapped().exchanged);
      played.exchanged.answer = begun.mapped().client.read();
    } else {
      const std::string path = step["path"];
      played.call = fmt::format("{} {}", step["method"].get<std::string>(), path.substr(0, path.find('?')));
      RawClient client = send(step, played.exchanged);
      if (step.contains("begin")) {
        begun_.emplace(step["begin"], Begun{std::move(client), std::exchange(played.exchanged, {}), played.call});
        return played;
      }
      played.exchanged.answer = step["method"] == "HEAD" ? client.read_head() : client.read();
    }
    check(step, played);
    return played;
  }

  void check(const json& step, Played& played) {
    const RawResponse& response = played.exchanged.answer;
    const json& expect = step["expect"];
    if (response.status != expect["status"]) {
      played.troubles.push_back(fmt::format("answers {} and not {}: {}", response.status, expect["status"].dump(),
                                            response.body.substr(0, 400)));
      return;
    }
    if (expect.contains("picture") && !is_picture(response.body, expect["picture"])) {
      played.troubles.emplace_back("the body is no picture");
    }
    if (expect.contains("last_event")) check_events(expect, response.body, played.troubles);
    if (expect.contains("headers")) check_headers(expect["headers"], response, played.troubles);
    if (!expect.contains("json") && !step.contains("save")) return;
    const json body = json::parse(response.body, nullptr, false);
    if (body.is_discarded()) {
      played.troubles.push_back("the body is no JSON: " + response.body.substr(0, 200));
      return;
    }
    if (expect.contains("json")) {
      for (std::string& trouble : violations(filled(expect["json"]), body))
        played.troubles.push_back(std::move(trouble));
    }
    const json save = step.value("save", json::object());
    for (const auto& [name, pointer] : save.items()) {
      const json::json_pointer at(pointer.get<std::string>());
      if (body.contains(at)) saved_[name] = body.at(at);
    }
  }

  RawClient send(const json& step, Exchanged& exchanged) {
    const std::string method = step["method"];
    const std::string where = target(step["path"]);
    exchanged.method = method;
    exchanged.path = where.starts_with(place_.prefix) ? where.substr(place_.prefix.size()) : where;
    std::string headers = fmt::format("Host: 127.0.0.1:{}\r\nConnection: close\r\n", place_.port);
    for (const char* kind : {"headers", "open_headers"}) {
      if (std::string_view(kind) == "open_headers" && !place_.key.empty()) continue;
      const json fields = step.value(kind, json::object());
      for (const auto& [name, value] : fields.items()) {
        headers += fmt::format("{}: {}\r\n", name, value.get<std::string>());
      }
    }
    headers += key_header(step);
    std::string body;
    if (step.contains("body")) {
      exchanged.body = filled(step["body"]);
      body = padded(exchanged.body.dump(), step.value("pad_to", std::size_t{0}));
      headers += "Content-Type: application/json\r\n";
    } else if (step.contains("form")) {
      body = form(step["form"]);
      exchanged.is_form = true;
      exchanged.body = fields_of(step["form"]);
      headers += fmt::format("Content-Type: multipart/form-data; boundary={}\r\n", kBoundary);
    }
    if (step.value("chunked", false)) {
      headers += "Transfer-Encoding: chunked\r\n";
      body = fmt::format("{:x}\r\n{}\r\n0\r\n\r\n", body.size(), body);
    } else if (method == "POST") {
      headers += fmt::format("Content-Length: {}\r\n", body.size());
    }
    RawClient client(place_.port);
    client.send(fmt::format("{} {} HTTP/1.1\r\n{}\r\n{}", method, where, headers, body));
    return client;
  }

  std::string key_header(const json& step) const {
    if (place_.key.empty() || step.value("without_key", false)) return "";
    if (step.contains("basic")) {
      const std::string pair = step["basic"] == "user" ? place_.key + ":" : "anybody:" + place_.key;
      return fmt::format("Authorization: Basic {}\r\n", encode_base64(pair));
    }
    const std::string header = step.value("key_header", "Authorization");
    return fmt::format("{}: {}{}\r\n", header, header == "Authorization" ? "Bearer " : "", place_.key);
  }

  static std::string padded(std::string object, std::size_t bytes) {
    constexpr std::string_view kField = R"(,"padding":"")";
    if (object.size() + kField.size() > bytes) return object;
    const std::string padding(bytes - object.size() - kField.size(), 'x');
    object.insert(object.size() - 1, fmt::format(R"(,"padding":"{}")", padding));
    return object;
  }

  static void check_headers(const json& wanted, const RawResponse& response, std::vector<std::string>& troubles) {
    json headers = json::object();
    for (const auto& [pointer, constraints] : wanted.items()) {
      const std::string name = pointer.substr(1);
      if (const std::string value = response.header(name); !value.empty()) headers[name] = value;
    }
    for (std::string& trouble : violations(wanted, headers)) troubles.push_back("header " + std::move(trouble));
  }

  // A link of the service's own has the prefix already.
  std::string target(const std::string& path) {
    if (!path.starts_with("${")) return place_.prefix + filled(path).get<std::string>();
    const std::string url = filled(path);
    const std::size_t scheme = url.find("://");
    return url.substr(url.find('/', scheme == std::string::npos ? 0 : scheme + 3));
  }

  std::string form(const json& parts) {
    std::string body;
    for (const json& part : parts) {
      body += fmt::format("--{}\r\nContent-Disposition: form-data; name=\"{}\"", kBoundary,
                          part["name"].get<std::string>());
      if (part.contains("filename")) body += fmt::format("; filename=\"{}\"", part["filename"].get<std::string>());
      if (part.contains("type")) body += fmt::format("\r\nContent-Type: {}", part["type"].get<std::string>());
      body += "\r\n\r\n" + filled(part["value"]).get<std::string>() + "\r\n";
    }
    return body + fmt::format("--{}--\r\n", kBoundary);
  }

  // A form as a description sees it: "image[]" is a list "image".
  static json fields_of(const json& parts) {
    json fields = json::object();
    for (const json& part : parts) {
      const std::string name = part["name"];
      const std::string plain = name.substr(0, name.find('['));
      const json value = part.contains("filename") ? json("a file") : part["value"];
      if (plain == name) {
        fields[plain] = value;
      } else {
        fields[plain].push_back(value);
      }
    }
    return fields;
  }

  // With what was saved in the place of ${name}.
  json filled(const json& value) {
    if (value.is_structured()) {
      json out = value;
      for (json& inner : out) inner = filled(inner);
      return out;
    }
    if (!value.is_string()) return value;
    std::string text = value;
    for (const auto& [name, saved] : saved_) {
      const std::string word = "${" + name + "}";
      if (text == word) return saved;
      for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word)) {
        text.replace(at, word.size(), saved.is_string() ? saved.get<std::string>() : saved.dump());
      }
    }
    return text;
  }

  static void check_events(const json& expect, const std::string& body, std::vector<std::string>& troubles) {
    std::string name;
    std::string last_name;
    std::string last_data;
    bool is_done = false;
    for (std::string_view line : split(body, '\n')) {
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line.empty()) name.clear();
      if (line.starts_with("event: ")) name = line.substr(7);
      if (line == "data: [DONE]") is_done = true;
      if (line.starts_with("data: ") && !name.empty()) {
        last_name = name;
        last_data = line.substr(6);
      }
    }
    if (last_name != expect["last_event"]) troubles.push_back("the last event is \"" + last_name + "\"");
    if (!is_done && expect.value("done", true)) troubles.emplace_back("the stream does not end with [DONE]");
    const json data = json::parse(last_data, nullptr, false);
    for (std::string& trouble : violations(expect.value("event_json", json::object()), data)) {
      troubles.push_back(std::move(trouble));
    }
  }

  const Place& place_;
  std::map<std::string, json> saved_;
  std::map<std::string, Begun> begun_;
};

}  // namespace

std::vector<Played> play(const json& client, const Place& place) {
  Player player(place);
  std::vector<Played> all;
  for (const json& step : client["steps"]) all.push_back(player.play(step));
  return all;
}

}  // namespace darkroom::contract
