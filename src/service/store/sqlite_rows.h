// Between rows and structs. Everything here runs inside a transaction.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "service/store/job_store.h"
#include "service/store/sqlite_database.h"

namespace darkroom {

std::int64_t to_column(WallTime time);
WallTime to_time(std::int64_t column);
// Days since 1970, UTC.
std::int64_t day_of(WallTime time);

std::string write_texts(const std::vector<std::string>& texts);

// A row of job_rows; pictures are another table's.
JobView read_view(Query& row);
std::optional<JobView> find_job(SqliteConnection& connection, std::string_view job);
void read_pictures(SqliteConnection& connection, JobView& view);

Result<StoredRequest> find_request(SqliteConnection& connection, std::string_view job);

// What is kept of an attempt's end beside the pictures.
std::string write_result(const Ending& ending);

}  // namespace darkroom
