#include "service/store/webhook_message.h"

#include <nlohmann/json.hpp>

namespace darkroom {
namespace {

using nlohmann::json;

double seconds_since_1970(WallTime time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }

}  // namespace

std::string webhook_body(const JobView& job) {
  DR_ASSERT(job.finished.has_value());
  json pictures = json::array();
  for (const Picture& picture : job.pictures) {
    pictures.push_back({{"sha256", picture.sha256},
                        {"bytes", picture.bytes},
                        {"format", name_of(picture.format)},
                        {"seed", picture.seed},
                        {"width", picture.width},
                        {"height", picture.height}});
  }
  json data = {{"id", job.id},
               {"status", name_of(job.status)},
               {"tags", job.options.tags},
               {"attempt", job.attempt},
               {"created", seconds_since_1970(job.created)},
               {"finished", seconds_since_1970(*job.finished)},
               {"pictures", std::move(pictures)},
               {"warnings", job.warnings}};
  if (job.failure) {
    data["error"] = {{"code", name_of(job.failure->error.code)}, {"message", job.failure->error.message}};
  }
  // What a worker says may hold bytes that are no UTF-8; they are shown as the replacement character.
  return json{{"id", job.id},
              {"type", fmt::format("job.{}", name_of(job.status))},
              {"timestamp", seconds_since_1970(*job.finished)},
              {"data", std::move(data)}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace darkroom
