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

// The first job of a model, and with it the next of its class, the first included; those that took a worker with them
// are in no such company.
inline constexpr char kClaimSql[] = R"sql(
  WITH first AS (SELECT id, batch_class, crashes FROM jobs WHERE state = 'queued' AND model = ?4
                 ORDER BY band, start_tag, id LIMIT 1)
  UPDATE jobs SET state = 'running', attempt = attempt + 1, owner_node = ?1, owner_worker = ?2, started = ?3
  WHERE state = 'queued' AND id IN (
    SELECT id FROM first
    UNION ALL
    SELECT id FROM (
      SELECT id FROM jobs WHERE state = 'queued' AND crashes = 0 AND model = ?4
        AND batch_class = (SELECT batch_class FROM first WHERE crashes = 0 AND batch_class <> '')
      ORDER BY band, start_tag, id LIMIT ?5))
  RETURNING id, cost, band, start_tag)sql";

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
