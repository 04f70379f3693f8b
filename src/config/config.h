// The settings: darkroom.toml, over it the environment, over that the command line. Each key is described once, in
// config.cpp; config/darkroom.example.toml is written from there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "spec/limits.h"

namespace darkroom {

struct ModelsConfig {
  std::vector<std::string> directories = {"models"};
  int look_every = 10;  // seconds, of the service
  std::string hashes;   // "": none are known
};

struct OutputsConfig {
  std::string directory = "outputs";
};

struct WorkerConfig {
  std::string device = "cpu";
  int threads = 0;                        // 0: one a core
  std::uint64_t cache_bytes = 0;          // of loaded models; 0: half of the machine's memory
  std::uint64_t memory_bytes = 0;         // that a job may need in all; 0: what is free when it starts
  std::uint64_t line_bytes = 64'000'000;  // of one message
  int queue = 16;                         // jobs that wait
  int batch = 1;                          // jobs that may share passes
  bool sandbox = true;                    // no network, no programs, once started
};

struct ServiceConfig {
  std::string data = "data";
  std::string model;           // "": the first by name
  bool strict_models = false;  // of OpenAI's API
  int workers = 1;
  int queue = 10'000;                         // jobs that wait
  int keep_days = 30;                         // of finished jobs; 0: forever
  std::uint64_t keep_bytes = 20'000'000'000;  // of pictures; 0: any
  int heartbeat = 10;                         // seconds
  int patience = 120;                         // seconds
  int restart = 60;                           // seconds, at most
  int webhook_attempts = 12;
  bool webhook_private = false;
  int drain = 60;  // seconds
};

struct HttpConfig {
  std::string listen = "127.0.0.1:7860";
  bool insecure_no_auth = false;
  std::string tls_certificate;
  std::string tls_key;
  std::string path_prefix;
  std::string public_url;
  std::vector<std::string> hosts;
  std::vector<std::string> cors_origins;
  std::vector<std::string> trusted_proxies;
  std::uint64_t body_bytes = 67'108'864;
  std::uint64_t header_bytes = 32'768;
  std::uint64_t buffered_bytes = 1'073'741'824;
  int connections = 1024;
  int connections_per_address = 128;
  int header_time = 10;  // seconds, and so on
  int body_time = 120;
  int write_time = 30;
  int idle_time = 75;
  int longest_wait = 600;
  int threads = 2;
  int handler_threads = 8;
  std::string log_level = "info";
};

struct Config {
  Limits limits;
  ModelsConfig models;
  OutputsConfig outputs;
  WorkerConfig worker;
  ServiceConfig service;
  HttpConfig http;
};

// One value from outside the file, for the dotted name of a key; a list is separated by colons, as in PATH.
struct Setting {
  std::string key;     // "limits.min_side"
  std::string value;   // "64"
  std::string source;  // what messages call it: "DARKROOM_LIMITS__MIN_SIDE", "--threads"
};

// DARKROOM_LIMITS__MIN_SIDE=64 is limits.min_side; DARKROOM_MODELS is short for models.directories. Other variables,
// without two underscores, are none of ours.
std::vector<Setting> settings_from_environment(const char* const* environment);

// Later settings win over earlier ones, and all over the file. All mistakes are in one error: unknown keys (with near
// matches), wrong types and ranges, a file that is not TOML.
Result<Config> load_config(const std::optional<std::string>& file, const std::vector<Setting>& settings);

// The text of darkroom.example.toml: every key, what it means, its default.
std::string example_config();

}  // namespace darkroom
