#include "service/store/sqlite_rows.h"

#include <limits>

#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "protocol/codec.h"

namespace darkroom {
namespace {

// A stored spec was checked when it was admitted; limits that were tightened since do not touch it.
Limits no_limits() {
  constexpr int kAny = 1 << 30;
  constexpr float kAnyFloat = 1e30F;
  return {.min_side = 1,
          .max_side = kAny,
          .side_multiple = 1,
          .max_steps = kAny,
          .min_guidance = -kAnyFloat,
          .max_guidance = kAnyFloat,
          .max_batch = kAny,
          .max_lora_weight = kAnyFloat,
          .max_loras = kAny,
          .max_controlnets = kAny,
          .max_embeddings = kAny,
          .prompt_bytes = std::numeric_limits<std::size_t>::max(),
          .picture_bytes = std::numeric_limits<std::size_t>::max(),
          .max_timeout = kAny};
}

std::vector<std::string> read_texts(const std::string& column) {
  const Result<nlohmann::json> list = parse_json(column);
  DR_ASSERT(list && list->is_array());
  std::vector<std::string> texts;
  for (const nlohmann::json& text : *list) texts.push_back(text.get<std::string>());
  return texts;
}

// The result into the view. One that cannot be read any more, after a downgrade, is said and not invented.
void read_result(const std::string& column, JobView& view) {
  Result<WorkerMessage> message = decode_worker_message(column);
  if (!message || !std::holds_alternative<Response>(*message)) {
    view.warnings.emplace_back("the details of this result were written by another version and cannot be read");
    return;
  }
  auto& response = std::get<Response>(*message);
  view.warnings.insert(view.warnings.end(), response.warnings.begin(), response.warnings.end());
  view.failure = std::move(response.refusal);
  if (auto* generated = std::get_if<Generated>(&response.data)) view.metrics = std::move(generated->processing_metrics);
}

}  // namespace

std::int64_t to_column(WallTime time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

WallTime to_time(std::int64_t column) { return WallTime(std::chrono::microseconds(column)); }

std::int64_t day_of(WallTime time) { return std::chrono::floor<std::chrono::days>(time).time_since_epoch().count(); }

std::string write_texts(const std::vector<std::string>& texts) { return nlohmann::json(texts).dump(); }

JobView read_view(Query& row) {
  const auto time = [&](int column) {
    return row.is_null(column) ? std::nullopt : std::optional(to_time(row.integer(column)));
  };
  JobView view;
  view.id = row.text(0);
  const std::optional<JobStatus> status = value_of<JobStatus>(row.text(1));
  DR_ASSERT(status.has_value());
  view.status = *status;
  view.key = row.text(2);
  view.options = {.priority = static_cast<Priority>(row.integer(3)),
                  .timeout = static_cast<int>(row.integer(4)),
                  .tags = read_texts(row.text(5))};
  view.model = row.text(6);
  view.seed = static_cast<std::uint64_t>(row.integer(7));
  view.fingerprint = row.text(8);
  view.cancel_asked = row.integer(9) != 0;
  view.attempt = static_cast<int>(row.integer(10));
  view.crashes = static_cast<int>(row.integer(11));
  view.created = to_time(row.integer(12));
  view.started = time(13);
  view.finished = time(14);
  view.warnings = read_texts(row.text(15));
  if (!row.is_null(16)) read_result(row.text(16), view);
  return view;
}

std::optional<JobView> find_job(SqliteConnection& connection, std::string_view job) {
  std::optional<JobView> view;
  {
    Query row(connection, "SELECT * FROM job_rows WHERE id = ?", job);
    if (row.next()) view = read_view(row);
  }
  if (view) read_pictures(connection, *view);
  return view;
}

void read_pictures(SqliteConnection& connection, JobView& view) {
  Query row(connection,
            "SELECT blob, sha256, bytes, format, seed, width, height, saved FROM pictures WHERE job = ? ORDER BY place",
            view.id);
  while (row.next()) {
    const std::optional<ImageFormat> format = value_of<ImageFormat>(row.text(3));
    DR_ASSERT(format.has_value());
    view.pictures.push_back({.blob = row.text(0),
                             .sha256 = row.text(1),
                             .bytes = static_cast<std::uint64_t>(row.integer(2)),
                             .format = *format,
                             .seed = static_cast<std::uint64_t>(row.integer(4)),
                             .width = static_cast<int>(row.integer(5)),
                             .height = static_cast<int>(row.integer(6)),
                             .saved = row.text(7)});
  }
}

Result<StoredRequest> find_request(SqliteConnection& connection, std::string_view job) {
  Query row(connection, "SELECT spec, echo FROM specs WHERE job = ?", job);
  if (!row.next()) return fail(ErrorCode::not_found, "there is no job {}", job);
  const Result<nlohmann::json> data = parse_json(row.text(0));
  if (!data) return fail(ErrorCode::corrupt_data, "the stored request of job {}: {}", job, data.error().message);
  auto request = decode_generation(*data, no_limits());
  if (!request) {
    return fail(ErrorCode::corrupt_data, "the stored request of job {}: {}", job, as_error(request.error()).message);
  }
  return StoredRequest{std::move(request->spec), std::move(request->job), row.text(1)};
}

std::string write_result(const Ending& ending) {
  Response response{.request_id = ending.job, .refusal = ending.failure, .warnings = ending.warnings};
  if (!ending.failure) response.data = Generated{.processing_metrics = ending.metrics};
  return encode(response);
}

}  // namespace darkroom
