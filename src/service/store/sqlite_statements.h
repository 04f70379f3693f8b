// The statements that run for every claim: they must not scan, which the tests ask SQLite's planner about.
#pragma once

namespace darkroom {

// One row a model; the first of its jobs through the index.
inline constexpr char kQueuesSql[] = R"sql(
  SELECT b.model,
    (SELECT j.band FROM jobs j WHERE j.state = 'queued' AND j.model = b.model
     ORDER BY j.band, j.start_tag, j.id LIMIT 1),
    (SELECT j.start_tag FROM jobs j WHERE j.state = 'queued' AND j.model = b.model
     ORDER BY j.band, j.start_tag, j.id LIMIT 1),
    b.jobs, b.cost
  FROM backlogs b)sql";

inline constexpr char kClaimSql[] = R"sql(
  UPDATE jobs SET state = 'running', attempt = attempt + 1, owner_node = ?, owner_worker = ?, started = ?
  WHERE id = (SELECT id FROM jobs WHERE state = 'queued' AND model = ? ORDER BY band, start_tag, id LIMIT 1)
    AND state = 'queued'
  RETURNING id, cost)sql";

inline constexpr char kVirtualNowSql[] = R"sql(
  SELECT COALESCE(
    (SELECT start_tag FROM jobs WHERE state = 'queued' AND band = 1 ORDER BY band, start_tag LIMIT 1),
    (SELECT MAX(start_tag) FROM jobs WHERE state = 'running'),
    (SELECT MAX(start_tag) FROM jobs WHERE state = 'queued' AND band = 0),
    (SELECT MAX(finish) FROM flows),
    0.0))sql";

inline constexpr char kPositionSql[] =
    "SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND (band, start_tag, id) < (?, ?, ?)";

}  // namespace darkroom
