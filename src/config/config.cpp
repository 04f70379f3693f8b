#include "config/config.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <string_view>
#include <type_traits>

#include <toml++/toml.h>

#include "base/json_reader.h"
#include "base/json_text.h"
#include "base/json_writer.h"

namespace darkroom {
namespace {

using nlohmann::json;

constexpr int kMaxCount = 1'000'000;
constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 50;

// What the http section's texts must be.
auto begins_with_slash_or_is_empty() {
  return [](const std::string& path) -> std::string {
    const bool good = path.empty() || (path.starts_with('/') && !path.ends_with('/'));
    return good ? "" : "must be empty, or begin with a slash and not end with one";
  };
}

auto web_url_or_empty() {
  return [](const std::string& url) -> std::string {
    const bool is_web = url.starts_with("http://") || url.starts_with("https://");
    return url.empty() || (is_web && !url.ends_with('/'))
               ? ""
               : "must be empty, or an http(s) URL without a slash at the end";
  };
}

auto origins() {
  return [](const std::vector<std::string>& list) -> std::string {
    for (const std::string& origin : list) {
      const std::size_t host = origin.find("://");
      const bool good = host != std::string::npos && origin.find('/', host + 3) == std::string::npos;
      if (origin != "null" && !good) {
        return fmt::format("has \"{}\", which is no origin like https://example.org", origin);
      }
    }
    return "";
  };
}

auto one_of(std::vector<std::string> words) {
  return [words = std::move(words)](const std::string& value) -> std::string {
    const bool good = std::find(words.begin(), words.end(), value) != words.end();
    return good ? "" : fmt::format("is \"{}\", must be {}", value, join_with_or(words));
  };
}

void describe_http_keys(auto& visitor, auto& http) {
  visitor.section("http", "How the service is reached.", [&](auto& in) {
    in.key("listen", http.listen,
           "Address and port. Beyond this machine the service asks for API keys (darkroom keys add).", not_empty());
    in.key("insecure_no_auth", http.insecure_no_auth, "Serve anybody who reaches the service, without a key.");
    in.key("tls_certificate", http.tls_certificate, "PEM file with the chain; empty: no TLS. SIGHUP reads it again.");
    in.key("tls_key", http.tls_key, "PEM file.");
    in.key("path_prefix", http.path_prefix, "Paths may begin with this: /darkroom behind a reverse proxy.",
           begins_with_slash_or_is_empty());
    in.key("public_url", http.public_url,
           "What links in answers begin with, prefix included. Empty: as each client names the service.",
           web_url_or_empty());
    in.key("hosts", http.hosts,
           "Names beside localhost and addresses under which the service is asked; others are refused while it asks\n"
           "for no key (DNS rebinding).");
    in.key("cors_origins", http.cors_origins, "Web pages that may use the service: https://lite.koboldai.net, null.",
           origins());
    in.key("trusted_proxies", http.trusted_proxies, "Addresses of reverse proxies whose X-Forwarded-* headers count.");
    in.key("body_bytes", http.body_bytes, "Of one request's body.", between(1024UL, kMaxBytes));
    in.key("header_bytes", http.header_bytes, "Of one request's head.", between(1024UL, 1'048'576UL));
    in.key("buffered_bytes", http.buffered_bytes, "Of all requests' bodies at once.", between(1024UL, kMaxBytes));
    in.key("connections", http.connections, "At once.", between(1, kMaxCount));
    in.key("connections_per_address", http.connections_per_address,
           "At once from one address other than this machine's and trusted proxies'.", between(1, kMaxCount));
    in.key("header_time", http.header_time, "Seconds for a request's head.", between(1, 3600));
    in.key("body_time", http.body_time, "Seconds for a request's body.", between(1, 86'400));
    in.key("write_time", http.write_time, "Seconds for each 64 KiB of an answer.", between(1, 3600));
    in.key("idle_time", http.idle_time, "Seconds between two requests of a connection.", between(1, 86'400));
    in.key("longest_wait", http.longest_wait, "Seconds that a client may wait for a job in one request.",
           between(1, 86'400));
    in.key("threads", http.threads, "That read and write.", between(1, 256));
    in.key("handler_threads", http.handler_threads, "That answer.", between(1, 256));
    in.key("log_level", http.log_level, "info, warning or error; requests are info.",
           one_of({"info", "warning", "error"}));
  });
}

// Every key, with its meaning and its bounds: the one place.
void describe_keys(auto& visitor, auto& config) {
  visitor.section("limits", "What a request may ask for.", [&](auto& in) {
    auto& limits = config.limits;
    in.key("min_side", limits.min_side, "Shortest side of a picture, in pixels.", between(8, 65'536));
    in.key("max_side", limits.max_side, "Longest side of a picture, in pixels.", between(8, 65'536));
    in.key("side_multiple", limits.side_multiple, "Sides are multiples of this, in pixels.", between(8, 1024));
    in.key("max_steps", limits.max_steps, "Steps of one generation.", between(1, kMaxCount));
    in.key("min_guidance", limits.min_guidance, "Least guidance scale.", between(0.0F, 1000.0F));
    in.key("max_guidance", limits.max_guidance, "Greatest guidance scale.", between(0.0F, 1000.0F));
    in.key("max_batch", limits.max_batch, "Pictures of one request.", between(1, kMaxCount));
    in.key("max_lora_weight", limits.max_lora_weight, "LoRA weights lie between minus this and this.",
           between(0.0F, 1000.0F));
    in.key("max_loras", limits.max_loras, "LoRAs of one request.", between(0, kMaxCount));
    in.key("max_controlnets", limits.max_controlnets, "ControlNets of one request.", between(0, kMaxCount));
    in.key("max_embeddings", limits.max_embeddings, "Textual inversions of one request.", between(0, kMaxCount));
    in.key("prompt_bytes", limits.prompt_bytes, "Length of a prompt, in bytes of UTF-8.", between(1UL, kMaxBytes));
    in.key("picture_bytes", limits.picture_bytes, "Size of one encoded picture in a request.", between(1UL, kMaxBytes));
    in.key("max_timeout", limits.max_timeout, "Longest time limit of a job, in seconds.", between(1, kMaxCount));
  });
  visitor.section("models", "Where models lie.", [&](auto& in) {
    in.key("directories", config.models.directories,
           "Searched in this order. Each may be laid out as ours (checkpoints, loras, controlnets, vaes, embeddings,\n"
           "upscalers) or be the models folder of ComfyUI or of the webui. Also: DARKROOM_MODELS=DIR:DIR.");
    in.key("look_every", config.models.look_every,
           "Seconds between the service's looks at what has come or gone there; SIGHUP has it look at once.",
           between(1, 86'400));
    in.key(
        "hashes", config.models.hashes,
        "The file of the models' SHA-256, which are written into pictures' parameters. The service keeps one in its\n"
        "data and names it to its workers; empty: that.");
  });
  visitor.section("outputs", "Where pictures go.", [&](auto& in) {
    in.key("directory", config.outputs.directory, "A request's save_path lies inside it.", not_empty());
  });
  visitor.section("worker", "The process that computes.", [&](auto& in) {
    auto& worker = config.worker;
    in.key("device", worker.device, "cpu, or ref: the slow one that the tests compare with.", not_empty());
    in.key("threads", worker.threads, "0: one a core.", between(0, 4096));
    in.key("cache_bytes", worker.cache_bytes, "Of models kept loaded. 0: half of the machine's memory.",
           between(0UL, kMaxBytes));
    in.key("memory_bytes", worker.memory_bytes, "That one job may need. 0: what is free when it starts.",
           between(0UL, kMaxBytes));
    in.key("line_bytes", worker.line_bytes, "Of one message to the worker; a longer one is refused.",
           between(1024UL, kMaxBytes));
    in.key("queue", worker.queue, "Jobs that may wait in one worker.", between(1, kMaxCount));
    in.key("batch", worker.batch,
           "Jobs of one model, size and set of LoRAs that are worked on together where several wait, as far as\n"
           "memory_bytes allows. Their pictures are the same as alone.",
           between(1, kMaxCount));
    in.key("sandbox", worker.sandbox, "Give up the network and other programs once started (seccomp).");
  });
  visitor.section("service", "What keeps the jobs and starts the workers.", [&](auto& in) {
    auto& service = config.service;
    in.key("data", service.data, "The directory of the database, the pictures and what is being made.", not_empty());
    in.key("model", service.model, "The checkpoint for requests that name none. Empty: the first by name.");
    in.key("strict_models", service.strict_models,
           "Whether /v1/images refuses a model that is not there; else it takes the one above, with a warning.");
    in.key("workers", service.workers, "Processes that compute side by side.", between(1, 256));
    in.key("queue", service.queue, "Jobs that may wait; more are refused.", between(1, kMaxCount));
    in.key("keep_days", service.keep_days, "Finished jobs and their pictures go after this. 0: never.",
           between(0, 36'500));
    in.key("keep_bytes", service.keep_bytes, "Of pictures; beyond it the oldest jobs go first. 0: any.",
           between(0UL, kMaxBytes));
    in.key("heartbeat", service.heartbeat,
           "Seconds between two questions to a worker; one that answers none of three is killed.", between(1, 3600));
    in.key(
        "patience", service.patience,
        "Seconds that a worker may take to give up a job that was cancelled or whose time is over; then it is killed.",
        between(1, 86'400));
    in.key("restart", service.restart,
           "A worker that ends is started again after a second, then two, four, … up to this.", between(1, 86'400));
    in.key("webhook_attempts", service.webhook_attempts,
           "Times that a completion webhook is tried, with growing pauses.", between(1, 100));
    in.key("webhook_private", service.webhook_private,
           "Whether webhooks may lead to this machine and to private networks.");
    in.key("drain", service.drain, "Seconds that running jobs get when the service is asked to end.",
           between(0, 86'400));
  });
  describe_http_keys(visitor, config.http);
}

// Reads the tree of a file.
class TreeVisitor {
 public:
  explicit TreeVisitor(JsonReader& in) : in_(in) {}
  void section(std::string_view name, std::string_view, auto&& keys) {
    in_.object(name, [&](JsonReader& inner) {
      TreeVisitor visitor(inner);
      keys(visitor);
    });
  }
  void key(std::string_view name, auto& value, std::string_view, const auto&... checks) {
    in_.field(name, value, checks...);
  }

 private:
  JsonReader& in_;
};

// A text as the JSON that a key of this type would have in the file; what is no number or truth value stays a text.
template <class T>
json from_text(const std::string& text) {
  if constexpr (std::is_same_v<T, std::string>) {
    return text;
  } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    json list = json::array();
    for (const std::string_view part : split(text, ':')) list.push_back(part);
    return list;
  } else {
    Result<json> value = parse_json(text);
    return value ? std::move(*value) : json(text);
  }
}

// Puts one setting into the key that it names.
class SettingVisitor {
 public:
  SettingVisitor(const Setting& setting, std::vector<Complaint>& complaints)
      : setting_(setting), complaints_(complaints) {}

  void section(std::string_view name, std::string_view, auto&& keys) {
    prefix_ = std::string(name) + ".";
    keys(*this);
  }
  template <class T>
  void key(std::string_view name, T& value, std::string_view, const auto&... checks) {
    known_.push_back(prefix_ + std::string(name));
    if (known_.back() != setting_.key) return;
    found_ = true;
    const json tree = {{setting_.source, from_text<T>(setting_.value)}};
    for (Complaint& complaint : read_json(tree, [&](JsonReader& in) { in.field(setting_.source, value, checks...); })) {
      complaints_.push_back({setting_.source, std::move(complaint.message)});
    }
  }
  void finish() {
    if (found_) return;
    complaints_.push_back({setting_.source, "names no key: " + setting_.key + did_you_mean(setting_.key, known_)});
  }

 private:
  const Setting& setting_;
  std::vector<Complaint>& complaints_;
  std::string prefix_;
  std::vector<std::string> known_;
  bool found_ = false;
};

// Writes the example file.
class ExampleVisitor {
 public:
  void section(std::string_view name, std::string_view meaning, auto&& keys) {
    text_ += "\n";
    comment(meaning);
    text_ += fmt::format("[{}]\n", name);
    keys(*this);
  }
  void key(std::string_view name, const auto& value, std::string_view meaning, const auto&...) {
    comment(meaning);
    text_ += fmt::format("{} = {}\n", name, write_value(value).dump());  // such JSON is TOML too
  }
  void comment(std::string_view meaning) {
    for (const std::string_view line : split(meaning, '\n')) text_ += fmt::format("# {}\n", line);
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

json to_json(const toml::node& node);

json to_json(const toml::table& table) {
  json object = json::object();
  for (const auto& [key, value] : table) object[std::string(key.str())] = to_json(value);
  return object;
}

json to_json(const toml::node& node) {
  if (const auto* table = node.as_table()) return to_json(*table);
  if (const auto* list = node.as_array()) {
    json elements = json::array();
    for (const toml::node& element : *list) elements.push_back(to_json(element));
    return elements;
  }
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* whole = node.as_integer()) return whole->get();
  if (const auto* number = node.as_floating_point()) return number->get();
  if (const auto* truth = node.as_boolean()) return truth->get();
  return "a date";  // no key is one
}

void read_file(const std::string& file, Config& config, std::vector<Complaint>& complaints) {
  json tree;
  try {
    tree = to_json(toml::parse_file(file));
  } catch (const toml::parse_error& error) {
    const auto line = error.source().begin.line;
    complaints.push_back({line > 0 ? fmt::format("{}:{}", file, line) : file, std::string(error.description())});
    return;
  }
  for (Complaint& complaint : read_json(tree, [&](JsonReader& in) {
         TreeVisitor visitor(in);
         describe_keys(visitor, config);
       })) {
    complaints.push_back({file + ": " + complaint.pointer, std::move(complaint.message)});
  }
}

}  // namespace

std::vector<Setting> settings_from_environment(const char* const* environment) {
  constexpr std::string_view kPrefix = "DARKROOM_";
  std::vector<Setting> settings;
  for (; *environment != nullptr; ++environment) {
    const std::string_view variable = *environment;
    const std::size_t equals = variable.find('=');
    if (!variable.starts_with(kPrefix) || equals == std::string_view::npos) continue;
    const std::string_view name = variable.substr(0, equals);
    std::string key = to_lower(name.substr(kPrefix.size()));
    if (key == "models") {
      key = "models.directories";
    } else if (const std::size_t underscores = key.find("__"); underscores != std::string::npos) {
      key.replace(underscores, 2, ".");
    } else {
      continue;
    }
    settings.push_back({std::move(key), std::string(variable.substr(equals + 1)), std::string(name)});
  }
  return settings;
}

Result<Config> load_config(const std::optional<std::string>& file, const std::vector<Setting>& settings) {
  Config config;
  std::vector<Complaint> complaints;
  if (file) read_file(*file, config, complaints);
  for (const Setting& setting : settings) {
    SettingVisitor visitor(setting, complaints);
    describe_keys(visitor, config);
    visitor.finish();
  }
  if (config.limits.min_side > config.limits.max_side) {
    complaints.push_back({"limits.min_side", fmt::format("is {}, more than limits.max_side, which is {}",
                                                         config.limits.min_side, config.limits.max_side)});
  }
  if (config.http.tls_certificate.empty() != config.http.tls_key.empty()) {
    complaints.push_back({"http.tls_certificate", "and http.tls_key must be given together"});
  }
  if (!complaints.empty()) return tl::unexpected(as_error(complaints));
  return config;
}

std::string example_config() {
  ExampleVisitor visitor;
  visitor.comment(
      "Darkroom's settings: every key with its default. Each can also be set in the environment:\n"
      "DARKROOM_LIMITS__MIN_SIDE=64 is min_side in [limits]. Unknown keys are errors.");
  const Config defaults;
  describe_keys(visitor, defaults);
  return visitor.take();
}

}  // namespace darkroom
