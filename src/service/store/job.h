// A job as all of the service sees it: what was submitted, how far it is, what came of it.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/enum_names.h"
#include "base/error.h"
#include "protocol/messages.h"
#include "spec/generation_spec.h"

namespace darkroom {

using WallTime = std::chrono::system_clock::time_point;

enum class JobStatus : std::uint8_t { queued, running, storing, succeeded, failed, cancelled };

constexpr auto enum_names(JobStatus) {
  using enum JobStatus;
  return std::to_array<EnumName<JobStatus>>({{"queued", queued},
                                             {"running", running},
                                             {"storing", storing},
                                             {"succeeded", succeeded},
                                             {"failed", failed},
                                             {"cancelled", cancelled}});
}

constexpr bool is_finished(JobStatus status) { return status >= JobStatus::succeeded; }

// Who asks. The weight is the share that a key has of the workers beside other keys that ask at the same time.
struct Caller {
  std::string key;      // the API key's id, "": an open service's only caller
  double weight = 1.0;  // more than 0
};

// Where to tell that a job has ended.
struct Webhook {
  std::string url;        // "": nowhere
  std::string secret_id;  // which secret signs the message; "": it is not signed
};

// What a key's quotas still allow; held where the job is admitted, so that many requests at once cannot pass together.
struct Allowance {
  std::optional<int> unfinished;  // jobs of this caller that are not finished, this one included
  std::optional<int> pictures;    // of this job
};

struct Submission {
  GenerationSpec spec;                // names unresolved; the seed is fixed
  JobOptions options;                 // Priority is the class: high, normal and low share 16 : 4 : 1
  std::vector<std::string> warnings;  // of decoding: they come before the worker's in JobView::warnings
  Caller caller;
  Allowance allowance;
  // The same token of the same key answers with the job that it made first. "": none.
  std::string idempotency_token;
  Webhook webhook;
  // The request as the client sent it, without pictures and secrets: for answers that repeat it, and what decides
  // whether two requests are the same. "": the spec decides.
  std::string echo;
};

struct Picture {
  std::string blob;    // its id in the BlobStore
  std::string sha256;  // hexadecimal; also its entity tag
  std::uint64_t bytes = 0;
  ImageFormat format = ImageFormat::png;
  std::uint64_t seed = 0;
  int width = 0;  // pixels
  int height = 0;
  std::string saved;  // where it also lies, for the request's save_path; "": nowhere
};

struct JobView {
  std::string id;  // 128 random bits, hexadecimal
  JobStatus status = JobStatus::queued;
  std::string key;
  JobOptions options;
  std::string model;
  std::uint64_t seed = 0;   // of the first picture
  std::string fingerprint;  // equal for equal requests (Submission::echo)
  bool cancel_asked = false;
  int attempt = 0;  // how often it was started
  int crashes = 0;  // how many of these took the worker with them
  WallTime created;
  std::optional<WallTime> started;  // the last attempt
  std::optional<WallTime> finished;

  std::optional<int> position;  // while queued, as far as asked for: jobs before it
  Progress progress;            // while running; with the last preview, but in events

  std::optional<Refusal> failure;  // failed or cancelled
  std::vector<std::string> warnings;
  std::vector<Picture> pictures;  // succeeded
  // The control pictures as preprocessed, if that was asked for (OutputChoice::save_control_maps): always PNG.
  std::vector<Picture> control_maps;
  ProcessingMetrics metrics;  // succeeded
};

// What a job was made from, as it was admitted.
struct StoredRequest {
  GenerationSpec spec;
  JobOptions options;
  std::string echo;
};

struct JobFilter {
  std::optional<std::string> key;
  std::optional<JobStatus> status;
  std::optional<std::string> fingerprint;
};

// Newest first.
struct JobPage {
  std::vector<JobView> jobs;
  std::string next;  // the cursor of the page after this one; "": there is none
};

}  // namespace darkroom
