// The tables, as a list of steps: the first i of them make schema version i. A step that was released never changes.
// Kept to what SQLite 3.40 and PostgreSQL 15 share. Times are microseconds since 1970.
#pragma once

#include <array>

namespace darkroom {

inline constexpr std::array<const char*, 2> kMigrations = {R"sql(
-- Narrow and hot: what is looked at to choose, count and finish.
CREATE TABLE jobs (
  id           TEXT PRIMARY KEY,
  caller       TEXT NOT NULL,          -- the API key's id
  class        INTEGER NOT NULL,       -- Priority
  band         INTEGER NOT NULL,       -- 0: was started before; 1: not yet
  start_tag    DOUBLE PRECISION NOT NULL,
  span         DOUBLE PRECISION NOT NULL,  -- of its flow's virtual time
  cost         DOUBLE PRECISION NOT NULL,  -- predicted
  model        TEXT NOT NULL,
  batch_class  TEXT NOT NULL,
  state        TEXT NOT NULL,          -- JobStatus
  attempt      INTEGER NOT NULL,
  crashes      INTEGER NOT NULL,
  owner_node   TEXT,                   -- while running
  owner_worker INTEGER,
  cancel       INTEGER NOT NULL,
  created      BIGINT NOT NULL,
  started      BIGINT,
  finished     BIGINT,
  timeout      INTEGER NOT NULL,       -- seconds
  seed         BIGINT NOT NULL,        -- its 64 bits
  fingerprint  TEXT NOT NULL
);
CREATE INDEX jobs_by_model ON jobs (model, band, start_tag, id) WHERE state = 'queued';
CREATE INDEX jobs_by_tag ON jobs (band, start_tag, id, state) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (start_tag) WHERE state = 'running';
CREATE INDEX jobs_unfinished ON jobs (caller, state) WHERE finished IS NULL;
CREATE INDEX jobs_finished ON jobs (finished, id) WHERE finished IS NOT NULL;
CREATE INDEX jobs_by_time ON jobs (created, id);
CREATE INDEX jobs_by_caller ON jobs (caller, created, id);
CREATE INDEX jobs_by_fingerprint ON jobs (fingerprint, created, id);

-- Wide, written once. What is read often comes first.
CREATE TABLE specs (
  job            TEXT PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
  tags           TEXT NOT NULL,        -- JSON
  warnings       TEXT NOT NULL,        -- JSON
  webhook_url    TEXT NOT NULL,
  webhook_secret TEXT NOT NULL,
  echo           TEXT NOT NULL,
  spec           TEXT NOT NULL         -- the protocol's data of an inference_request
);
CREATE TABLE crashes (
  job     TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
  attempt INTEGER NOT NULL,
  cause   TEXT NOT NULL,
  PRIMARY KEY (job, attempt)
);
CREATE TABLE results (
  job      TEXT PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
  response TEXT NOT NULL               -- the protocol's response, without the pictures
);
CREATE TABLE pictures (
  job    TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
  kind   INTEGER NOT NULL,             -- 0: a picture; 1: a control map
  place  INTEGER NOT NULL,
  blob   TEXT NOT NULL UNIQUE,
  sha256 TEXT NOT NULL,
  bytes  BIGINT NOT NULL,
  format TEXT NOT NULL,
  seed   BIGINT NOT NULL,
  width  INTEGER NOT NULL,
  height INTEGER NOT NULL,
  saved  TEXT NOT NULL,
  PRIMARY KEY (job, kind, place)
);
CREATE INDEX pictures_bytes ON pictures (bytes);

CREATE VIEW job_rows AS
  SELECT j.id, j.state, j.caller, j.class, j.timeout, s.tags, j.model, j.seed, j.fingerprint, j.cancel, j.attempt,
         j.crashes, j.created, j.started, j.finished, s.warnings, r.response
  FROM jobs j JOIN specs s ON s.job = j.id LEFT JOIN results r ON r.job = j.id;

-- Fairness: when each flow's jobs so far will have had their share.
CREATE TABLE flows (
  caller TEXT NOT NULL,
  class  INTEGER NOT NULL,
  finish DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (caller, class)
);
CREATE INDEX flows_finish ON flows (finish);
-- What waits for each model; kept along so that nothing needs counting.
CREATE TABLE backlogs (
  model TEXT PRIMARY KEY,
  jobs  INTEGER NOT NULL,
  cost  DOUBLE PRECISION NOT NULL
);

CREATE TABLE idempotency (
  caller TEXT NOT NULL,
  token  TEXT NOT NULL,
  job    TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
  PRIMARY KEY (caller, token)
);
CREATE INDEX idempotency_job ON idempotency (job);
CREATE TABLE usage (
  caller         TEXT NOT NULL,
  day            INTEGER NOT NULL,     -- since 1970, UTC
  jobs           INTEGER NOT NULL,
  pictures       INTEGER NOT NULL,
  device_seconds DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (caller, day)
);
CREATE TABLE nodes (
  id          TEXT PRIMARY KEY,
  lease_until BIGINT NOT NULL
);
CREATE TABLE outbox (
  id        TEXT PRIMARY KEY,
  url       TEXT NOT NULL,
  secret_id TEXT NOT NULL,
  body      TEXT NOT NULL,
  attempts  INTEGER NOT NULL,
  next_try  BIGINT NOT NULL
);
CREATE INDEX outbox_due ON outbox (next_try);
CREATE TABLE measures (
  name  TEXT PRIMARY KEY,
  value DOUBLE PRECISION NOT NULL
);
)sql",
                                                           R"sql(
-- Of which those can be worked on together that have one class and took no worker with them.
CREATE INDEX jobs_by_class ON jobs (batch_class, band, start_tag, id) WHERE state = 'queued' AND crashes = 0;
)sql"};

}  // namespace darkroom
